/* SPDX-License-Identifier: MIT */
/*
 * mstress: phases. In each, new threads make objects of many sizes and lives: some are
 * freed at once, some at the end of the phase, and some migrate: they are exchanged for
 * what lies in a place that all threads share, and whoever finds them frees them. What
 * lies there at the end of a phase stays for the next, but for each second one.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <stdatomic.h>
#include <stddef.h>

enum { PLACES = 1000, KEPT = 4000, TURNS = 160000 };

static _Atomic(struct item *) places[PLACES];

struct phase {
    unsigned number;
    unsigned threads;
};

static struct item *migrate(struct item *item, uint64_t random)
{
    return atomic_exchange_explicit(
        &places[random % PLACES], item, memory_order_acq_rel);
}

/* Mostly small; one of 64 is up to 16 KiB and one of 4096 up to 256 KiB. */
static size_t size_of(uint64_t random)
{
    size_t most = random % 4096 == 0 ? 262144 : random % 64 == 0 ? 16384 : 256;

    return ITEM_MIN + (random >> 40) % (most - ITEM_MIN);
}

static uint64_t work(unsigned number, void *shared)
{
    const struct phase *phase = shared;
    struct item **kept = bench_malloc(KEPT * sizeof(*kept));
    uint64_t state = bench_seed((uint64_t)phase->number << 8 | number);
    uint64_t sum = 0;

    for (size_t i = 0; i < KEPT; i++)
        kept[i] = NULL;
    for (uint64_t turns = team_share(TURNS, phase->threads, number); turns > 0;
         turns--) {
        uint64_t random = bench_random(&state);
        struct item *item = item_make(size_of(random), random);
        struct item **slot = &kept[(random >> 12) % KEPT];
        switch (random >> 32 & 7) {
        case 0:
        case 1:
            sum += item_free(item);
            break;
        case 2:
        case 3:
            sum += item_free(migrate(item, random >> 16));
            break;
        case 4: /* one that migrated is kept in place of one that was */
            sum += item_free(*slot);
            *slot = migrate(item, random >> 16);
            break;
        default:
            sum += item_free(*slot);
            *slot = item;
        }
    }
    for (size_t i = 0; i < KEPT; i++)
        sum += item_free(kept[i]);
    free(kept);
    return sum;
}

static uint64_t empty_places(size_t step)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < PLACES; i += step)
        sum += item_free(migrate(NULL, i));
    return sum;
}

uint64_t load_mstress(unsigned scale, unsigned threads)
{
    struct phase phase = {.threads = threads};
    uint64_t sum = 0;

    for (; phase.number < scale; phase.number++) {
        sum += team_run(threads, work, &phase);
        sum += empty_places(2);
    }
    return sum + empty_places(1);
}
