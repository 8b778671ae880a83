/* SPDX-License-Identifier: MIT */
/* What the tests of threads/ share: CMocka's assertions are the main thread's alone. */
#ifndef SH_TESTS_WORKERS_H
#define SH_TESTS_WORKERS_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/os.h"
#include "threads/registry.h"
#include "threads/static_roots.h"
#include "threads/gc_mutex.h"
#include "threads/stop.h"

#define MUST(condition)                                                                \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
            abort();                                                                   \
        }                                                                              \
    } while (0)

static inline void sleep_us(unsigned us)
{
    _Atomic uint32_t word = 0;
    uint64_t end = sh_os_now_ns() + (uint64_t)us * 1000;
    for (uint64_t now = sh_os_now_ns(); now < end; now = sh_os_now_ns())
        sh_os_wait(&word, 0, end - now);
}

static inline pthread_t start(void *(*routine)(void *), void *arg)
{
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, routine, arg) == 0);
    return thread;
}

static inline void *join(pthread_t thread)
{
    void *result;
    MUST(pthread_join(thread, &result) == 0);
    return result;
}

/* The other thread is met as closely as can be, so nobody sleeps; not for ever, though,
 * where there is one processor. */
static inline void await_round(_Atomic uint32_t *flag, uint32_t round)
{
    for (uint32_t i = 0; sh_load_seq_cst(flag) != round; i++)
        if (i > 10000)
            sched_yield();
}

/*
 * Flags from one thread to another; slept on, so that two cores do for many threads.
 * With an end, for the thread sanitizer puts off signals in a call that it does not know.
 */
static inline void set_flag(_Atomic uint32_t *flag, uint32_t value)
{
    sh_store_seq_cst(flag, value);
    sh_os_wake(flag, INT32_MAX);
}

static inline void await_flag(_Atomic uint32_t *flag, uint32_t value)
{
    uint32_t seen;
    while ((seen = sh_load_acquire(flag)) != value)
        sh_os_wait(flag, seen, 10000000);
}

static inline void stop_to_collect(void)
{
    MUST(sh_world_stop_to_collect(true, false, NULL));
}

static inline void resume(void)
{
    sh_world_resume();
    sh_critical_leave();
    sh_gc_mutex_collect_end();
}

#endif /* SH_TESTS_WORKERS_H */
