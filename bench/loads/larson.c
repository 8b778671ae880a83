/* SPDX-License-Identifier: MIT */
/*
 * larson: a server replaces objects of 8 to 1000 bytes at random in a live set of 5000,
 * then starts its successor, which goes on with the same set, and ends.
 *
 *     main --makes and shuffles--> set 0: server --> server --> server ...
 *                                  set 1: server --> server --> server ...
 *
 * So a server frees what main, another set's maker and its dead predecessors allocated.
 * A successor joins its predecessor first.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>

enum { LIVE = 5000, SIZE_LEAST = 8, SIZE_MOST = 1000, TURNS = 20000 };

struct set {
    struct item *items[LIVE];
    uint64_t state;
    uint64_t turns; /* still to do */
    uint64_t sum;
    pthread_t predecessor; /* where there is one */
    bool inherited;
};

static struct set sets[TEAM_MAX];
static sem_t finished;

static struct item *make(uint64_t random)
{
    return item_make(
        SIZE_LEAST + (random >> 40) % (SIZE_MOST - SIZE_LEAST + 1), random);
}

static void *serve(void *arg);

static void hand_over(struct set *set)
{
    pthread_t successor;

    set->predecessor = pthread_self();
    set->inherited = true;
    if (set->turns == 0)
        sem_post(&finished);
    else if (pthread_create(&successor, NULL, serve, set) != 0)
        bench_fail("pthread_create failed");
}

static void *serve(void *arg)
{
    struct set *set = arg;
    uint64_t turns = set->turns < TURNS ? set->turns : TURNS;

    if (set->inherited)
        pthread_join(set->predecessor, NULL);
    set->turns -= turns;
    while (turns-- > 0) {
        uint64_t random = bench_random(&set->state);
        struct item **slot = &set->items[(random >> 8) % LIVE];
        set->sum += item_free(*slot);
        *slot = make(random);
    }
    hand_over(set);
    return NULL;
}

/* Makes all sets' objects, and shuffles them across the sets. */
static void make_sets(unsigned count, uint64_t turns)
{
    uint64_t state = bench_seed(0);

    for (unsigned i = 0; i < count; i++) {
        sets[i].state = bench_seed(i + 1);
        sets[i].turns = team_share(turns, count, i);
        for (size_t j = 0; j < LIVE; j++)
            sets[i].items[j] = make(bench_random(&state));
    }
    for (size_t i = 0; i < (size_t)count * LIVE; i++) {
        uint64_t random = bench_random(&state);
        struct item **one = &sets[i / LIVE].items[i % LIVE];
        struct item **other = &sets[random % count].items[(random >> 32) % LIVE];
        struct item *item = *one;
        *one = *other;
        *other = item;
    }
}

uint64_t load_larson(unsigned scale, unsigned threads)
{
    pthread_t first;
    uint64_t sum = 0;

    make_sets(threads, (uint64_t)scale * 500000);
    sem_init(&finished, 0, 0);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&first, NULL, serve, &sets[i]) != 0)
            bench_fail("pthread_create failed");
    }
    for (unsigned i = 0; i < threads; i++) {
        while (sem_wait(&finished) != 0)
            continue;
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(sets[i].predecessor, NULL);
        sum += sets[i].sum;
        for (size_t j = 0; j < LIVE; j++)
            sum += item_free(sets[i].items[j]);
    }
    return sum;
}
