/* SPDX-License-Identifier: MIT */
/* Plain binary trees, for the workloads that make many. */
#ifndef BENCH_GC_TREE_H
#define BENCH_GC_TREE_H

#include "bench/gc/memory.h"

struct node {
    struct node *left;
    struct node *right;
};

/** A full tree of that depth (0: one node), each node made before its children. */
static inline struct node *tree_make(unsigned depth)
{
    struct node *node = mem_new(sizeof(*node));

    node->left = depth > 0 ? tree_make(depth - 1) : NULL;
    node->right = depth > 0 ? tree_make(depth - 1) : NULL;
    return node;
}

/** Frees its nodes, where the back end frees. */
static inline void tree_drop(struct node *node)
{
    if (!MEM_FREES)
        return;
    if (node->left != NULL) {
        tree_drop(node->left);
        tree_drop(node->right);
    }
    mem_free(node);
}

#endif /* BENCH_GC_TREE_H */
