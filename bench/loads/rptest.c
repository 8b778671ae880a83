/* SPDX-License-Identifier: MIT */
/*
 * rptest: each thread replaces, in turn, objects of 8 B to 16 KB, and every second time
 * round sends a bag of new ones to the next thread, which frees them.
 *
 *     thread 0 --bags--> thread 1 --bags--> ... --bags--> thread 0
 *
 * A mailbox is a stack that its owner empties as a whole. Who finds one full frees the
 * bag himself, so that memory does not depend on who runs when.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

enum {
    LIVE = 2000,
    STRIDE = 100, /* objects freed, then made, at a time; and in a bag */
    SIZE_LEAST = 8,
    SIZE_MOST = 16000,
    BAGS_MAX = 16,
    CACHE_LINE = 64,
};

struct bag {
    struct bag *next;
    struct item *items[STRIDE];
};

static struct mailbox {
    alignas(CACHE_LINE) _Atomic(struct bag *) first;
    _Atomic unsigned bags;
} mailboxes[TEAM_MAX];

struct plan {
    unsigned threads;
    uint64_t rounds;
};

/* Falls off linearly from SIZE_LEAST: the smaller of two numbers. */
static struct item *make(uint64_t random)
{
    unsigned one = (unsigned)(random >> 16) % (SIZE_MOST - SIZE_LEAST + 1);
    unsigned other = (unsigned)(random >> 32) % (SIZE_MOST - SIZE_LEAST + 1);

    return item_make(SIZE_LEAST + (one < other ? one : other), random);
}

static uint64_t bag_free(struct bag *bag)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < STRIDE; i++)
        sum += item_free(bag->items[i]);
    free(bag);
    return sum;
}

static uint64_t send(struct mailbox *box, struct bag *bag)
{
    if (atomic_fetch_add_explicit(&box->bags, 1, memory_order_relaxed) >= BAGS_MAX) {
        atomic_fetch_sub_explicit(&box->bags, 1, memory_order_relaxed);
        return bag_free(bag);
    }
    bag->next = atomic_load_explicit(&box->first, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&box->first, &bag->next, bag,
        memory_order_release, memory_order_relaxed)) /* pairs with receive */
        continue;
    return 0;
}

static uint64_t receive(struct mailbox *box)
{
    struct bag *bag = atomic_exchange_explicit(&box->first, NULL, memory_order_acquire);
    uint64_t sum = 0;

    while (bag != NULL) {
        struct bag *next = bag->next;
        sum += bag_free(bag);
        atomic_fetch_sub_explicit(&box->bags, 1, memory_order_relaxed);
        bag = next;
    }
    return sum;
}

static struct bag *bag_make(uint64_t *state)
{
    struct bag *bag = bench_malloc(sizeof(*bag));

    for (size_t i = 0; i < STRIDE; i++)
        bag->items[i] = make(bench_random(state));
    return bag;
}

static uint64_t work(unsigned number, void *shared)
{
    const struct plan *plan = shared;
    struct mailbox *mine = &mailboxes[number];
    struct mailbox *next = &mailboxes[(number + 1) % plan->threads];
    uint64_t rounds = team_share(plan->rounds, plan->threads, number);
    uint64_t state = bench_seed(number);
    struct item *live[LIVE] = {NULL};
    uint64_t sum = 0;

    for (uint64_t round = 0; round < rounds; round++) {
        struct item **part = &live[round % (LIVE / STRIDE) * STRIDE];
        for (size_t i = 0; i < STRIDE; i++)
            sum += item_free(part[i]);
        for (size_t i = 0; i < STRIDE; i++)
            part[i] = make(bench_random(&state));
        if (round % 2 == 0)
            sum += send(next, bag_make(&state));
        sum += receive(mine);
    }
    for (size_t i = 0; i < LIVE; i++)
        sum += item_free(live[i]);
    return sum;
}

uint64_t load_rptest(unsigned scale, unsigned threads)
{
    struct plan plan = {threads, (uint64_t)scale * 800};
    uint64_t sum = team_run(threads, work, &plan);

    for (unsigned i = 0; i < threads; i++)
        sum += receive(&mailboxes[i]); /* what came when its owner had ended */
    return sum;
}
