/* SPDX-License-Identifier: MIT */
/*
 * quad: a quad tree of 1.2 million nodes lives to the end, while smaller ones are made,
 * counted and dropped, and each time a branch of the lasting one is replaced.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

enum { NODES = 1200000, TURNS = 3000, SMALL = 4096, LEVEL = 5, LOOKS = 4 };

struct node {
    struct node *child[4];
    uint64_t size; /* nodes from here down */
};

/* Of `size` nodes, as evenly as it goes; NULL of none. */
static struct node *make(uint64_t size)
{
    if (size == 0)
        return NULL;
    struct node *node = mem_new(sizeof(*node));
    *node = (struct node){.size = size};
    for (unsigned i = 0; i < 4; i++)
        node->child[i] = make((size - 1 + i) / 4);
    return node;
}

/* The number of nodes; each must know its own. */
static uint64_t count(const struct node *node)
{
    if (node == NULL)
        return 0;
    uint64_t found = 1;
    for (unsigned i = 0; i < 4; i++)
        found += count(node->child[i]);
    if (found != node->size)
        bench_fail("a quad tree is damaged");
    return found;
}

static void drop(struct node *node)
{
    if (!MEM_FREES || node == NULL)
        return;
    for (unsigned i = 0; i < 4; i++)
        drop(node->child[i]);
    mem_free(node);
}

static void replace_branch(struct node *node, uint64_t random)
{
    for (unsigned level = 1; level < LEVEL && node->size > 64; level++, random /= 4)
        node = node->child[random % 4];
    struct node **place = &node->child[random % 4];
    uint64_t size = count(*place);
    drop(*place);
    *place = NULL;
    *place = make(size);
}

static uint64_t size_of(unsigned scale)
{
    return (uint64_t)NODES * scale / 100;
}

uint64_t load_quad(unsigned scale, unsigned threads)
{
    uint64_t turns = (uint64_t)TURNS * scale / 100 + LOOKS;
    uint64_t random = bench_seed(1), seen = 0, sum = 0;
    struct node *lasting = make(size_of(scale));

    (void)threads;
    for (uint64_t turn = 0; turn < turns; turn++) {
        struct node *small = make(SMALL);
        sum += count(small);
        drop(small);
        replace_branch(lasting, bench_random(&random));
        if (turn % (turns / LOOKS) == 0)
            sum += count(lasting);
        if (verify_due(&seen))
            count(lasting);
    }
    verify_collect();
    sum += count(lasting);
    census(size_of(scale), size_of(scale) * mem_cost(sizeof(*lasting)));
    sum += count(lasting);
    drop(lasting);
    return sum;
}

uint64_t live_quad(unsigned scale, unsigned threads)
{
    (void)threads;
    return (size_of(scale) + SMALL) * mem_cost(sizeof(struct node));
}
