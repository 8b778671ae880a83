/* SPDX-License-Identifier: MIT */
/*
 * The option stats_signal, while threads are anywhere in the heap: no signal is the end
 * of one, and what is written is whole. The program runs itself again with it set.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "lib/options.h"
#include "tests/child.h"
#include "tests/heap.h"

#define WORKERS 3
#define SIGNALS 200

static _Atomic bool stop;
static _Atomic uint32_t running;

/* Small, large and huge ones: most of the time is spent under locks. */
static void *work(void *arg)
{
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    void *held[64] = {NULL};
    sh_free(sh_malloc(1));
    sh_add_seq_cst(&running, 1);
    for (unsigned i = 0; !sh_load_relaxed(&stop); i++) {
        seed = seed * 1103515245 + 12345;
        size_t bytes = (size_t)16 << (seed >> 16) % 16;
        void **slot = &held[(seed >> 8) % 64];
        sh_free(*slot);
        *slot = i % 1000 == 0 ? sh_malloc((size_t)33 << 20) : sh_malloc(bytes);
        if (i % 50 == 0)
            gc_alloc(bytes, 0);
        if (i % 5000 == 0)
            gc_collect();
    }
    for (size_t i = 0; i < 64; i++)
        sh_free(held[i]);
    return NULL;
}

static void signal_them_all(void *file)
{
    char conf[200];
    sh_format(conf, sizeof conf,
        "stats_at_exit:json,stats_signal:USR1,stats_signal_json:true,stats_file:%s",
        (const char *)file);
    setenv("SPLITHEAP_CONF", conf, 1);
    execl("/proc/self/exe", "api_stats_signal", "work", NULL);
    _exit(99);
}

static int run_workers(void)
{
    pthread_t workers[WORKERS];
    sh_heap_init();
    for (uintptr_t i = 0; i < WORKERS; i++)
        workers[i] = start(work, (void *)(i + 1));
    while (sh_load_seq_cst(&running) < WORKERS)
        sleep_us(100);
    for (unsigned i = 0; i < SIGNALS; i++) {
        MUST(pthread_kill(workers[i % WORKERS], SIGUSR1) == 0);
        sleep_us(i % 8 * 100);
        if (i % 10 == 0)
            raise(SIGUSR1);
    }
    sh_store_relaxed(&stop, true);
    for (size_t i = 0; i < WORKERS; i++)
        join(workers[i]);
    return 0;
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static char text[8 << 20];

/* One may be written for several signals that came at once, and one more at exit. */
static void threads_survive_it(void **unused)
{
    char path[] = "/tmp/splitheap-stats-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    struct child child;
    child_run(&child, signal_them_all, path);
    ssize_t len = read(file, text, sizeof text - 1);
    close(file);
    unlink(path);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
    assert_string_equal(child.text, "");
    assert_true(len > 0);
    size_t begun = count(text, "{\"process\": "), ended = count(text, "]}\n");
    assert_true(begun > 2);
    assert_true(begun <= SIGNALS + SIGNALS / 10 + 1);
    assert_int_equal(begun, ended);
    assert_int_equal(count(text, "\"allocated\": "), begun);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return run_workers();
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_survive_it)};
    return run_on_clean_stack(tests, NULL, NULL);
}
