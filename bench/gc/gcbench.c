/* SPDX-License-Identifier: MIT */
/*
 * gcbench: after the classic collector's benchmark. Each thread has a lasting tree and a
 * lasting array of numbers; then it makes trees of depth 4, 6, ..., top-down and bottom-up
 * in turn, and drops them. Between two nodes there is a hole: an object that dies sixteen
 * nodes later, whose size goes by a power law, so that what lives is never packed.
 *
 * The work and the live data are the same as a whole whatever the number of threads is.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <string.h>

enum {
    LASTING_NODES = 1 << 20, /* of all threads together, at the scale of 100 */
    LASTING_NUMBERS = 1 << 20,
    LEAST = 4,
    MOST_BELOW = 4, /* trees that die are at least so many levels lower */
    TURNS = 4,      /* as many nodes of each depth as lasting ones, so many times */
    HOLES = 16,
    HOLE_LEAST = 8,
    HOLE_MOST = 4096,
};

struct node {
    struct node *left;
    struct node *right;
    uint64_t depth;
    uint64_t tag;
};

struct plan {
    unsigned depth; /* of a thread's lasting tree */
    size_t numbers;
};

/* What a thread has. */
struct maker {
    uint64_t random;
    unsigned at;
    void *holes[HOLES];
};

/* P(size > s) falls as 1/s. */
static void make_hole(struct maker *maker)
{
    uint64_t random = bench_random(&maker->random);
    size_t size = (size_t)HOLE_LEAST * 65536 / ((random >> 20) % 65536 + 1);
    void **place = &maker->holes[maker->at++ % HOLES];

    if (*place != NULL)
        mem_free(*place);
    *place = mem_leaf(size < HOLE_MOST ? size : HOLE_MOST);
}

static struct node *make_node(
    struct maker *maker, uint64_t depth, struct node *left, struct node *right)
{
    make_hole(maker);
    struct node *node = mem_new(sizeof(*node));
    *node = (struct node){.left = left, .right = right, .depth = depth, .tag = ~depth};
    return node;
}

static struct node *make_up(struct maker *maker, unsigned depth)
{
    if (depth == 0)
        return make_node(maker, 0, NULL, NULL);
    struct node *left = make_up(maker, depth - 1);
    struct node *right = make_up(maker, depth - 1);
    return make_node(maker, depth, left, right);
}

static void fill_down(struct maker *maker, struct node *node)
{
    if (node->depth == 0)
        return;
    node->left = make_node(maker, node->depth - 1, NULL, NULL);
    node->right = make_node(maker, node->depth - 1, NULL, NULL);
    fill_down(maker, node->left);
    fill_down(maker, node->right);
}

static struct node *make_down(struct maker *maker, unsigned depth)
{
    struct node *node = make_node(maker, depth, NULL, NULL);

    fill_down(maker, node);
    return node;
}

/* The number of nodes; each must be the one that was put there. */
static uint64_t count(const struct node *node, uint64_t depth)
{
    if (node == NULL || node->depth != depth || node->tag != ~depth)
        bench_fail("a tree is damaged");
    return depth > 0 ? 1 + count(node->left, depth - 1) + count(node->right, depth - 1)
                     : 1;
}

static void drop(struct node *node)
{
    if (!MEM_FREES)
        return;
    if (node->left != NULL) {
        drop(node->left);
        drop(node->right);
    }
    mem_free(node);
}

static uint64_t sum_of(const double *numbers, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += numbers[i];
    return (uint64_t)sum;
}

static uint64_t check(
    const struct node *tree, const double *numbers, const struct plan *plan)
{
    return count(tree, plan->depth) + sum_of(numbers, plan->numbers);
}

static uint64_t work(unsigned number, void *shared)
{
    const struct plan *plan = shared;
    struct maker maker = {.random = bench_seed(number)};
    struct node *lasting = make_down(&maker, plan->depth);
    double *numbers = mem_leaf(plan->numbers * sizeof(*numbers));
    uint64_t seen = 0, sum = 0;

    for (size_t i = 0; i < plan->numbers; i++)
        numbers[i] = (double)(i % 1000);
    uint64_t right = check(lasting, numbers, plan);
    for (unsigned depth = LEAST; depth + MOST_BELOW <= plan->depth; depth += 2) {
        uint64_t trees = (uint64_t)TURNS << (plan->depth - depth);
        for (uint64_t i = 0; i < trees; i++) {
            struct node *tree =
                i % 2 == 0 ? make_down(&maker, depth) : make_up(&maker, depth);
            sum += count(tree, depth);
            drop(tree);
            if (verify_due(&seen) && check(lasting, numbers, plan) != right)
                bench_fail("lasting numbers are damaged");
        }
        verify_collect();
    }
    if (check(lasting, numbers, plan) != right)
        bench_fail("lasting numbers are damaged");
    drop(lasting);
    mem_free(numbers);
    for (unsigned i = 0; i < HOLES; i++)
        mem_free(maker.holes[i]);
    return sum + right;
}

static struct plan plan_of(unsigned scale, unsigned threads)
{
    uint64_t nodes = (uint64_t)LASTING_NODES * scale / 100 / threads;
    struct plan plan = {.depth = LEAST + MOST_BELOW,
        .numbers = (size_t)LASTING_NUMBERS * scale / 100 / threads + 1};

    while ((uint64_t)2 << (plan.depth + 1) <= nodes)
        plan.depth++;
    return plan;
}

uint64_t load_gcbench(unsigned scale, unsigned threads)
{
    struct plan plan = plan_of(scale, threads);

    return team_run(threads, work, &plan);
}

uint64_t live_gcbench(unsigned scale, unsigned threads)
{
    struct plan plan = plan_of(scale, threads);
    uint64_t nodes =
        ((uint64_t)2 << plan.depth) + ((uint64_t)2 << (plan.depth - MOST_BELOW));

    return threads * (nodes * mem_cost(sizeof(struct node)) +
                         mem_cost(plan.numbers * sizeof(double)));
}
