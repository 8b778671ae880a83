/* SPDX-License-Identifier: MIT */
/*
 * A graph with random edges: vertices of 48 to 144 bytes, each with four edges. The first
 * two, or one, or none, make a tree over all of them in random order; the others lead
 * anywhere. What follows the edges are small numbers, as many as the vertex's number says.
 */
#ifndef BENCH_GC_GRAPH_H
#define BENCH_GC_GRAPH_H

#include <stddef.h>
#include <stdint.h>

enum { GRAPH_EDGES = 4 };

struct vertex {
    struct vertex *edge[GRAPH_EDGES];
    uint64_t number;
    uint64_t data[];
};

struct graph {
    struct vertex *first;
    struct vertex **index; /* by number; NULL once it was dropped */
    uint64_t count;
};

/** How many vertices take so many bytes. */
uint64_t graph_count(uint64_t bytes);

/** Makes it, with its index: a collected object, too. */
struct graph graph_make(uint64_t count);

/** Looks at every vertex and returns a sum over them. */
uint64_t graph_check(const struct graph *graph);

/** The bytes of one vertex. */
size_t graph_size(uint64_t number);

/** The bytes of all vertices, as mem_cost reckons them. */
uint64_t graph_cost(uint64_t count);

/** Frees it, where objects are freed. */
void graph_drop(struct graph *graph);

#endif /* BENCH_GC_GRAPH_H */
