/* SPDX-License-Identifier: MIT */
/*
 * list: ten million nodes, each leading to the next alone, so that nothing can be marked
 * before what leads to it; then as many that are dropped at once.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

enum { NODES = 10000000, STEPS = 64 };

struct node {
    struct node *next;
    uint64_t number;
};

static struct node *push(struct node *list, uint64_t number)
{
    struct node *node = mem_new(sizeof(*node));

    node->next = list;
    node->number = number;
    return node;
}

/* `length` nodes, numbered down to 0. */
static uint64_t check(const struct node *list, uint64_t length)
{
    uint64_t sum = 0;

    for (; list != NULL; list = list->next) {
        if (length == 0 || list->number != --length)
            bench_fail("the list is damaged");
        sum += list->number;
    }
    if (length != 0)
        bench_fail("the list has lost nodes");
    return sum;
}

static void drop(struct node *list)
{
    while (MEM_FREES && list != NULL) {
        struct node *next = list->next;
        mem_free(list);
        list = next;
    }
}

static uint64_t length_of(unsigned scale)
{
    return (uint64_t)NODES * scale / 100;
}

uint64_t load_list(unsigned scale, unsigned threads)
{
    uint64_t length = length_of(scale), seen = 0, sum = 0;
    struct node *list = NULL;

    (void)threads;
    for (uint64_t i = 0; i < length; i++) {
        list = push(list, i);
        if (verify_due(&seen))
            check(list, i + 1);
    }
    verify_collect();
    sum += check(list, length);
    for (unsigned step = 0; step < STEPS; step++) {
        struct node *dropped = NULL;
        for (uint64_t i = 0; i < length / STEPS; i++)
            dropped = push(dropped, i);
        sum += check(dropped, length / STEPS);
        drop(dropped);
        if (verify_due(&seen))
            check(list, length);
    }
    sum += check(list, length);
    census(length, length * mem_cost(sizeof(*list)));
    sum += check(list, length);
    drop(list);
    return sum;
}

uint64_t live_list(unsigned scale, unsigned threads)
{
    (void)threads;
    return length_of(scale) * (STEPS + 1) / STEPS * mem_cost(sizeof(struct node));
}
