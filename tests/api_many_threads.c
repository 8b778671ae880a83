/* SPDX-License-Identifier: MIT */
/* Many threads alive, and many that come and go, on small stacks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

#define ALIVE (SH_INTERPOSE ? 5000 : 300) /* a sanitizer has limits of its own */
#define STACK ((size_t)64 << 10)

static pthread_attr_t attr;
static _Atomic uint32_t ready, go;
static pthread_t threads[ALIVE];
static uintptr_t hidden[ALIVE];

static int start_small(pthread_t *thread, void *(*routine)(void *), void *arg)
{
    return pthread_create(thread, &attr, routine, arg);
}

static void *hold(void *at)
{
    void *volatile p = gc_alloc(100, 0);
    MUST(p);
    fill(p, 100, 1);
    *(uintptr_t *)at = hide(p);
    sh_add_seq_cst(&ready, 1u);
    while (!sh_load_acquire(&go))
        sh_os_wait(&go, 0, 0);
    MUST(filled(p, 100, 1) && gc_nbytes(p) >= 100);
    return NULL;
}

static SH_NOINLINE bool all_live(size_t count)
{
    bool live = true;
    for (size_t i = 0; i < count; i++)
        live = live && gc_nbytes(reveal(hidden[i])) >= 100;
    return live;
}

static int by_size(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

#define STOPS 11

/* For docs/threads.md: with all asleep. */
static void time_stops(size_t count)
{
    uint64_t stop[STOPS], go_on[STOPS];
    for (int i = 0; i < STOPS; i++) {
        sleep_us(1000);
        uint64_t began = sh_os_now_ns();
        stop_to_collect();
        uint64_t stopped = sh_os_now_ns();
        resume();
        stop[i] = stopped - began;
        go_on[i] = sh_os_now_ns() - stopped;
    }
    qsort(stop, STOPS, sizeof *stop, by_size);
    qsort(go_on, STOPS, sizeof *go_on, by_size);
    printf("%zu threads: stopped in %u us, let go in %u us (medians of %d)\n", count,
        (unsigned)(stop[STOPS / 2] / 1000), (unsigned)(go_on[STOPS / 2] / 1000), STOPS);
}

static size_t start_holders(size_t from, size_t to)
{
    while (from < to && start_small(&threads[from], hold, &hidden[from]) == 0)
        from++;
    while (sh_load_acquire(&ready) < from)
        sleep_us(1000);
    return from;
}

static void thousands_are_stopped_and_scanned(void **unused)
{
    static const size_t steps[] = {10, 50, 200, 1000, 5000};
    size_t count = 0;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        count = start_holders(count, sh_min(steps[i], ALIVE));
        time_stops(count);
    }
    assert_in_range(count, 100, ALIVE);
    for (int i = 0; i < 3; i++) {
        uint64_t began = sh_os_now_ns();
        gc_collect();
        printf("%zu threads: collected in %u us\n", count,
            (unsigned)((sh_os_now_ns() - began) / 1000));
    }
    assert_true(all_live(count));
    set_flag(&go, 1);
    for (size_t i = 0; i < count; i++)
        join(threads[i]);
}

static _Atomic bool over;
static _Atomic size_t made, born;

#define AT_ONCE 500 /* however slowly they go */

static void *live_briefly(void *unused)
{
    void *volatile p = gc_alloc(200, 0);
    fill(p, 200, 2);
    sh_free(sh_malloc(300));
    MUST(filled(p, 200, 2) && gc_nbytes(p) >= 200);
    sh_add_relaxed(&born, 1u);
    return NULL;
}

static void *beget(void *detached)
{
    while (!sh_load_relaxed(&over)) {
        pthread_t thread;
        if (sh_load_relaxed(&made) - sh_load_relaxed(&born) > AT_ONCE) {
            sleep_us(100);
            continue;
        }
        int error = start_small(&thread, live_briefly, NULL);
        MUST(error == 0 || error == EAGAIN);
        if (!error)
            sh_add_relaxed(&made, (size_t)1);
        if (!error && detached)
            pthread_detach(thread);
        else if (!error)
            join(thread);
    }
    return NULL;
}

static void thousands_come_and_go(void **unused)
{
    pthread_t parents[4];
    over = false;
    for (uintptr_t i = 0; i < 4; i++)
        parents[i] = start(beget, (void *)(i % 2));
    uint64_t began = sh_os_now_ns();
    size_t collections = 0;
    while (sh_os_now_ns() - began < 700000000u || born < 100) {
        gc_collect();
        collections++;
        sleep_us(1000);
    }
    over = true;
    for (int i = 0; i < 4; i++)
        join(parents[i]);
    printf("%zu threads born in %u ms, %zu collections\n", (size_t)born,
        (unsigned)((sh_os_now_ns() - began) / 1000000), collections);
    assert_true(collections > 0);
    while (sh_registry_count() > 1)
        sleep_us(1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thousands_are_stopped_and_scanned),
        cmocka_unit_test(thousands_come_and_go),
    };
    pthread_attr_init(&attr);
    MUST(pthread_attr_setstacksize(&attr, STACK) == 0);
    MUST(gc_thread_register() == 0);
    return run_on_clean_stack(tests, NULL, NULL);
}
