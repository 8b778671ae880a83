/* SPDX-License-Identifier: MIT */
/*
 * trees-down and trees-up: binary trees, many short-lived ones of every depth beside one
 * that stays; each node is made before its children, or after them.
 *
 * For each depth 4, 6, ... DEPTH there are 2^(DEPTH - depth + 4) trees, one after the
 * other, and the nodes of each are counted. DEPTH is 20 at the scale of 100, and one less
 * for each half of that.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/tree.h"
#include "bench/measure.h"

enum { DEPTH = 20, LEAST = 4 };

static struct node *make_up(unsigned depth)
{
    struct node *left = depth > 0 ? make_up(depth - 1) : NULL;
    struct node *right = depth > 0 ? make_up(depth - 1) : NULL;
    struct node *node = mem_new(sizeof(*node));

    node->left = left;
    node->right = right;
    return node;
}

/* The number of nodes; every inner one must have two children. */
static uint64_t count_nodes(const struct node *node)
{
    if (node->left == NULL && node->right == NULL)
        return 1;
    if (node->left == NULL || node->right == NULL)
        bench_fail("a tree is damaged");
    return 1 + count_nodes(node->left) + count_nodes(node->right);
}

static uint64_t count(const struct node *tree, unsigned depth)
{
    uint64_t found = count_nodes(tree);

    if (found != ((uint64_t)2 << depth) - 1)
        bench_fail("a tree has lost nodes");
    return found;
}

static uint64_t make_and_count(struct node *(*make)(unsigned depth), unsigned depth)
{
    struct node *tree = make(depth);
    uint64_t found = count(tree, depth);

    tree_drop(tree);
    return found;
}

static unsigned deepest_of(unsigned scale)
{
    unsigned depth = LEAST;

    while (depth < 30 && (uint64_t)100 << (depth + 1) <= (uint64_t)scale << DEPTH)
        depth++;
    return depth;
}

static uint64_t run(struct node *(*make)(unsigned depth), unsigned deepest)
{
    uint64_t seen = 0, sum = make_and_count(make, deepest + 1);
    struct node *lasting = make(deepest);

    for (unsigned depth = LEAST; depth <= deepest; depth += 2) {
        uint64_t trees = (uint64_t)1 << (deepest - depth + 4);
        for (uint64_t i = 0; i < trees; i++) {
            sum += make_and_count(make, depth);
            if (verify_due(&seen))
                count(lasting, deepest);
        }
        verify_collect();
    }
    sum += count(lasting, deepest);
    census(((uint64_t)2 << deepest) - 1, mem_cost(sizeof(*lasting)) * (2u << deepest));
    sum += count(lasting, deepest);
    tree_drop(lasting);
    return sum;
}

uint64_t load_trees_down(unsigned scale, unsigned threads)
{
    (void)threads;
    return run(tree_make, deepest_of(scale));
}

uint64_t load_trees_up(unsigned scale, unsigned threads)
{
    (void)threads;
    return run(make_up, deepest_of(scale));
}

uint64_t live_trees(unsigned scale, unsigned threads)
{
    (void)threads;
    return mem_cost(sizeof(struct node)) << (deepest_of(scale) + 2);
}
