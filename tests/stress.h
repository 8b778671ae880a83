/* SPDX-License-Identifier: MIT */
/*
 * What the stress tests share: how long they run, and where their chance begins.
 *
 *   STRESS_SECONDS   how long (5)
 *   STRESS_SEED      what to begin with (the clock)
 */
#ifndef SH_TESTS_STRESS_H
#define SH_TESTS_STRESS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/heap.h"

static _Atomic bool over;
static _Atomic uint64_t seeds;

static inline uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static inline uint64_t next_seed(void)
{
    return sh_add_relaxed(&seeds, 0x9e3779b97f4a7c15u) | 1;
}

/* Returns for how many seconds. */
static inline uint64_t begin_stress(void)
{
    uint64_t seed = setting("STRESS_SEED", sh_os_now_ns());
    printf("STRESS_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    sh_store_relaxed(&seeds, seed);
    return setting("STRESS_SECONDS", 5);
}

/* However long it takes, within reason, where others leave little of the machine. */
#define MORE_SECONDS 100

static inline void run_until_over(uint64_t seconds, bool (*has_done_enough)(void))
{
    sleep_us((unsigned)seconds * 1000000);
    for (unsigned i = 0; i < MORE_SECONDS * 100 && !has_done_enough(); i++)
        sleep_us(10000);
    over = true;
}

/* Waits for one thread and has the next, which finds the cache that it left. */
static inline void have_threads(void *(*routine)(void *))
{
    while (!sh_load_relaxed(&over))
        join(start(routine, NULL));
}

#endif /* SH_TESTS_STRESS_H */
