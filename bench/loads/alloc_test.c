/* SPDX-License-Identifier: MIT */
/*
 * alloc-test: a large live set, visited by Pareto's law: a fifth of the places gets four
 * fifths of the visits. A visit frees what is there, or makes an object where nothing
 * is, of a size by Pareto's law as well: half are below 32 bytes, one of a thousand
 * is above 10 KiB. Each thread has a part of the set for itself.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <stddef.h>

enum { PLACES = 1 << 19, SIZE_LEAST = 16, SIZE_MOST = 32768 };

static struct item *places[PLACES];

struct plan {
    unsigned threads;
    uint64_t visits;
};

/* SIZE_LEAST divided by what is uniform between SIZE_LEAST / SIZE_MOST and 1. */
static size_t pareto_size(uint64_t random)
{
    uint64_t part = (random & 0xffffff) + (0x1000000u / (SIZE_MOST / SIZE_LEAST));

    return SIZE_LEAST + (size_t)((uint64_t)SIZE_LEAST * 0x1000000u / part);
}

/* The seventh power of what is uniform between 0 and 1: a fifth has 0.8 of it. */
static size_t pareto_place(uint64_t random, size_t places_count)
{
    double x = (double)(random >> 11) / 9007199254740992.0;
    double cube = x * x * x;

    return (size_t)(cube * cube * x * (double)places_count);
}

static uint64_t visit(struct item **place, uint64_t random)
{
    uint64_t sum = item_free(*place);

    *place = *place != NULL ? NULL : item_make(pareto_size(random), random);
    return sum;
}

static uint64_t work(unsigned number, void *shared)
{
    const struct plan *plan = shared;
    size_t count = PLACES / plan->threads;
    struct item **mine = &places[count * number];
    uint64_t visits = team_share(plan->visits, plan->threads, number);
    uint64_t state = bench_seed(number);
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i += 2)
        sum += visit(&mine[i], bench_random(&state));
    while (visits-- > 0) {
        size_t place = pareto_place(bench_random(&state), count);
        sum += visit(&mine[place], bench_random(&state));
    }
    for (size_t i = 0; i < count; i++)
        sum += item_free(mine[i]);
    return sum;
}

uint64_t load_alloc_test(unsigned scale, unsigned threads)
{
    struct plan plan = {threads, (uint64_t)scale * 400000};

    return team_run(threads, work, &plan);
}
