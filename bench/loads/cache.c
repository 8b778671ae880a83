/* SPDX-License-Identifier: MIT */
/*
 * cache-thrash and cache-scratch: threads write often to small objects. They slow each
 * other down where the allocator puts objects of two threads into one cache line.
 *
 *     thrash   active: it gives them neighbours       malloc, write, free, and again
 *     scratch  passive: main gave them neighbours,    free what main gave; then as above
 *              and a thread gets again what it freed
 */
#include "bench/loads/loads.h"
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <stddef.h>

enum { SIZE = 8, OBJECTS = 100 }; /* of each thread, one after the other */

struct plan {
    unsigned threads;
    uint64_t writes; /* to each object, by all threads together */
    unsigned char *given[TEAM_MAX];
};

/* Adds one to each byte in turn, so that every one is loaded and stored. */
static uint64_t write_often(volatile unsigned char *bytes, uint64_t writes)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)i;
    for (uint64_t n = 0; n < writes; n++)
        bytes[n % SIZE] = (unsigned char)(bytes[n % SIZE] + 1);
    for (size_t i = 0; i < SIZE; i++)
        sum = sum << 8 | bytes[i];
    return sum;
}

static uint64_t work(unsigned number, void *shared)
{
    struct plan *plan = shared;
    uint64_t writes = team_share(plan->writes, plan->threads, number);
    uint64_t sum = 0;

    free(plan->given[number]);
    for (unsigned i = 0; i < OBJECTS; i++) {
        unsigned char *object = bench_malloc(SIZE);
        sum += write_often(object, writes);
        free(object);
    }
    return sum;
}

uint64_t load_cache_thrash(unsigned scale, unsigned threads)
{
    struct plan plan = {.threads = threads, .writes = (uint64_t)scale * 400000};

    return team_run(threads, work, &plan);
}

uint64_t load_cache_scratch(unsigned scale, unsigned threads)
{
    struct plan plan = {.threads = threads, .writes = (uint64_t)scale * 400000};

    for (unsigned i = 0; i < threads; i++)
        plan.given[i] = bench_malloc(SIZE);
    return team_run(threads, work, &plan);
}
