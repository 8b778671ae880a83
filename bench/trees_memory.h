/* SPDX-License-Identifier: MIT */
/* Where the nodes of trees.c come from: one of three, chosen when it is compiled. */
#ifndef BENCH_TREES_MEMORY_H
#define BENCH_TREES_MEMORY_H

#include <stddef.h>

struct node {
    struct node *left;
    struct node *right;
};

#if defined(TREES_ON_SPLITHEAP)

#include <splitheap/gc.h>

enum { NODES_ARE_FREED = 0 };

static inline void memory_start(void)
{
    gc_init(NULL, NULL);
}

static inline struct node *node_alloc(void)
{
    return gc_alloc(sizeof(struct node), 0);
}

static inline void node_free(struct node *node)
{
    (void)node;
}

#elif defined(TREES_ON_BDWGC)

#define GC_THREADS
#include <gc.h>

enum { NODES_ARE_FREED = 0 };

static inline void memory_start(void)
{
    GC_INIT();
}

static inline struct node *node_alloc(void)
{
    return GC_MALLOC(sizeof(struct node));
}

static inline void node_free(struct node *node)
{
    (void)node;
}

#elif defined(TREES_ON_MALLOC)

#include <stdlib.h>

enum { NODES_ARE_FREED = 1 };

static inline void memory_start(void)
{
}

static inline struct node *node_alloc(void)
{
    return malloc(sizeof(struct node));
}

static inline void node_free(struct node *node)
{
    free(node);
}

#else
#error "compile with -DTREES_ON_SPLITHEAP, -DTREES_ON_BDWGC or -DTREES_ON_MALLOC"
#endif

#endif /* BENCH_TREES_MEMORY_H */
