/* SPDX-License-Identifier: MIT */
/*
 * trees - binary trees: many short-lived ones of every depth, and one that stays.
 *
 *     trees [DEPTH]
 *
 * One source, three programs; trees_memory.h says where nodes come from:
 *   trees-splitheap   gc_alloc, collected
 *   trees-bdwgc       GC_MALLOC, collected
 *   trees-malloc      malloc and free, of the malloc that the loader finds
 *
 * For each depth 4, 6, ... DEPTH it makes 2^(DEPTH - depth + 4) trees, one after the
 * other, and counts each one's nodes. DEPTH is 18 where it is not given.
 */
#include "bench/measure.h"
#include "bench/trees_memory.h"

#include <stdbool.h>
#include <stdio.h>

static struct node *tree_make(unsigned depth)
{
    struct node *node = node_alloc();

    if (node == NULL)
        bench_fail("no memory for a node");
    node->left = depth > 0 ? tree_make(depth - 1) : NULL;
    node->right = depth > 0 ? tree_make(depth - 1) : NULL;
    return node;
}

/* The number of nodes; every inner one must have two children. */
static uint64_t tree_count(const struct node *node)
{
    if (node->left == NULL && node->right == NULL)
        return 1;
    if (node->left == NULL || node->right == NULL)
        bench_fail("a tree is damaged");
    return 1 + tree_count(node->left) + tree_count(node->right);
}

static void tree_drop(struct node *node)
{
    if (!NODES_ARE_FREED)
        return;
    if (node->left != NULL) {
        tree_drop(node->left);
        tree_drop(node->right);
    }
    node_free(node);
}

static uint64_t make_and_count(unsigned depth)
{
    struct node *tree = tree_make(depth);
    uint64_t count = tree_count(tree);

    if (count != ((uint64_t)2 << depth) - 1)
        bench_fail("a tree has lost nodes");
    tree_drop(tree);
    return count;
}

static uint64_t run(unsigned deepest)
{
    uint64_t sum = make_and_count(deepest + 1);
    struct node *lasting = tree_make(deepest);

    for (unsigned depth = 4; depth <= deepest; depth += 2) {
        uint64_t trees = (uint64_t)1 << (deepest - depth + 4);
        for (uint64_t i = 0; i < trees; i++)
            sum += make_and_count(depth);
    }
    if (tree_count(lasting) != ((uint64_t)2 << deepest) - 1)
        bench_fail("the lasting tree has lost nodes");
    sum += tree_count(lasting);
    tree_drop(lasting);
    return sum;
}

int main(int argc, char **argv)
{
    unsigned long depth = argc > 1 ? strtoul(argv[1], NULL, 10) : 18;

    if (depth < 4 || depth > 30) {
        fprintf(stderr, "usage: trees [DEPTH], from 4 to 30\n");
        return 2;
    }
    memory_start();
    double start = bench_now();
    uint64_t checksum = run((unsigned)depth);
    bench_report("trees", bench_now() - start, checksum);
    return 0;
}
