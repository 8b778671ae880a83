/* SPDX-License-Identifier: MIT */
/*
 * Threads that work in bursts and then wait, with a decay of next to nothing, so that
 * their caches are visited (heaps/reclaim.c) all the time: while they wait, as they
 * begin again, end, fork, and while the world is stopped. What is live must stay as it
 * was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "heaps/reclaim.h"
#include "lib/options.h"
#include "tests/stress.h"

enum { THREADS = 4, TRIMMERS = 3, SLOTS = 4000, BURST = 3000 };

struct object {
    unsigned char *bytes;
    size_t size;
    unsigned seed;
};

/* Anybody's, one at a time. */
static struct object slots[SLOTS];
static _Atomic uint32_t taken[SLOTS];
static _Atomic uint64_t verified, bursts;

static unsigned below(struct random *random, unsigned bound)
{
    return (unsigned)random_below(random, bound);
}

static size_t any_size(struct random *random)
{
    unsigned log = below(random, 12) + 4;
    return ((size_t)1 << log) + below(random, 1u << log);
}

static void put_another(struct object *object, struct random *random)
{
    if (object->bytes) {
        MUST(filled(object->bytes, object->size, object->seed));
        sh_add_relaxed(&verified, 1u);
        sh_free(object->bytes);
    }
    object->bytes = NULL;
    if (below(random, 3) == 0)
        return;
    object->size = any_size(random);
    object->seed = below(random, 1000000);
    object->bytes = sh_malloc(object->size);
    MUST(object->bytes);
    fill(object->bytes, object->size, object->seed);
}

static void work(struct random *random)
{
    unsigned count = below(random, BURST);
    /* All slots, or few of them again and again. */
    unsigned range = below(random, 2) ? SLOTS : 50;
    unsigned first = below(random, SLOTS - range + 1);
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = first + below(random, range);
        if (sh_exchange_acquire(&taken[slot], 1u))
            continue;
        put_another(&slots[slot], random);
        sh_store_release(&taken[slot], 0u);
    }
    sh_add_relaxed(&bursts, 1u);
}

static void *work_in_bursts(void *unused)
{
    struct random random = {.state = next_seed()};
    unsigned rounds = below(&random, 200) + 1;
    for (unsigned i = 0; i < rounds && !sh_load_relaxed(&over); i++) {
        work(&random);
        sleep_us(below(&random, 4) ? below(&random, 20000) : 0);
    }
    return NULL;
}

static void *come_and_work(void *unused)
{
    have_threads(work_in_bursts);
    return NULL;
}

/* What malloc_trim does, at any time. */
static void *trim(void *unused)
{
    struct random random = {.state = next_seed()};
    while (!sh_load_relaxed(&over)) {
        sh_heap_trim();
        sleep_us(below(&random, 2000));
    }
    return NULL;
}

static void *collect(void *unused)
{
    struct random random = {.state = next_seed()};
    while (!sh_load_relaxed(&over)) {
        for (unsigned i = 0; i < 1000; i++)
            MUST(gc_alloc(any_size(&random), 0));
        gc_collect();
        sleep_us(below(&random, 20000));
    }
    return NULL;
}

static void *take_and_give(void *unused)
{
    struct random random = {.state = next_seed()};
    void *taken_here[BURST];
    for (unsigned i = 0; i < BURST; i++)
        MUST((taken_here[i] = sh_malloc(any_size(&random))));
    for (unsigned i = 0; i < BURST; i++)
        sh_free(taken_here[i]);
    return NULL;
}

/* The child has the caches as they were, some of them in the midst of a visit. */
static void in_a_child(void)
{
    struct random random = {.state = next_seed()};
    for (unsigned i = 0; i < SLOTS; i++)
        if (!sh_load_relaxed(&taken[i]))
            put_another(&slots[i], &random);
    sh_heap_trim();
    gc_collect();
    in_thread(take_and_give, NULL);
    _exit(0);
}

static void visits_are_not_noticed(void **unused)
{
    uint64_t seconds = begin_stress();
    sh_heap_init();
    sh_options.decay_ms = 1;
    pthread_t threads[THREADS + TRIMMERS + 1];
    for (int i = 0; i < THREADS; i++)
        threads[i] = start(come_and_work, NULL);
    for (int i = 0; i < TRIMMERS; i++)
        threads[THREADS + i] = start(trim, NULL);
    threads[THREADS + TRIMMERS] = start(collect, NULL);
    uint64_t end = sh_os_now_ns() + seconds * 1000000000;
    while (sh_os_now_ns() < end) {
        sleep_us(20000);
        if (SH_TSAN || !SH_INTERPOSE)
            continue;
        int status = -1;
        pid_t pid = fork();
        if (pid == 0)
            in_a_child();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    sh_store_relaxed(&over, true);
    for (int i = 0; i < THREADS + TRIMMERS + 1; i++)
        join(threads[i]);
    printf("%llu bursts, %llu objects verified\n",
        (unsigned long long)sh_load_relaxed(&bursts),
        (unsigned long long)sh_load_relaxed(&verified));
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].bytes)
            MUST(filled(slots[i].bytes, slots[i].size, slots[i].seed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(visits_are_not_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
