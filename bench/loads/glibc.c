/* SPDX-License-Identifier: MIT */
/* glibc-simple and glibc-thread: what the C library's own benchmarks do. */
#include "bench/loads/loads.h"
#include "bench/loads/object.h"
#include "bench/loads/team.h"

#include <stddef.h>

/* ---- glibc-simple: one size, so many alive, freed in the order of allocation ------- */

static uint64_t in_order(size_t size, size_t count)
{
    enum { MOST = 1600 };
    static struct object live[MOST];
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++)
        live[i] = object_make(size, i);
    for (size_t i = 0; i < count; i++)
        sum += object_free(live[i]);
    return sum;
}

uint64_t load_glibc_simple(unsigned scale)
{
    static const size_t sizes[] = {8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
    static const size_t counts[] = {25, 100, 400, 1600};
    enum { ALLOCATIONS = 6400 }; /* of each size and count, in a unit of scale */
    uint64_t sum = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(counts) / sizeof(counts[0]); j++) {
            for (size_t n = scale * (ALLOCATIONS / counts[j]); n > 0; n--)
                sum += in_order(sizes[i], counts[j]);
        }
    }
    return sum;
}

/* ---- glibc-thread: mixed sizes, replaced at random on all threads ------------------ */

struct plan {
    unsigned threads;
    uint64_t turns;
};

static uint64_t replace(unsigned number, void *shared)
{
    enum { LIVE = 1024, SIZE_LEAST = 4, DOUBLINGS = 13 }; /* 4 B to 32 KiB */
    const struct plan *plan = shared;
    uint64_t turns = team_share(plan->turns, plan->threads, number);
    uint64_t state = bench_seed(number);
    struct object live[LIVE] = {0};
    uint64_t sum = 0;

    while (turns-- > 0) {
        uint64_t random = bench_random(&state);
        struct object *slot = &live[(random >> 8) % LIVE];
        sum += object_free(*slot);
        *slot = object_make(bench_octave(random, SIZE_LEAST, DOUBLINGS), random);
    }
    for (size_t i = 0; i < LIVE; i++)
        sum += object_free(live[i]);
    return sum;
}

uint64_t load_glibc_thread(unsigned scale, unsigned threads)
{
    struct plan plan = {threads, (uint64_t)scale * 400000};

    return team_run(threads, replace, &plan);
}
