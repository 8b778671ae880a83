/* SPDX-License-Identifier: MIT */
/*
 * The collector's workloads, a file for each idea. Each returns a checksum of what it
 * read back, which its scale and number of threads alone decide, whatever the back end;
 * each looks at its live data and ends the program where they are damaged.
 *
 * `scale` is the size of the live data and of the work: at 100 they are what is named
 * here. What has a `live` function tells by it the bytes of the objects that live at the
 * most, each rounded up to 16: what a limit of the heap is a multiple of.
 */
#ifndef BENCH_GC_LOADS_H
#define BENCH_GC_LOADS_H

#include <stdint.h>

/** trees.c: binary trees of depth 4 to 20, made and dropped beside a lasting one. */
uint64_t load_trees_down(unsigned scale, unsigned threads);
uint64_t load_trees_up(unsigned scale, unsigned threads);
uint64_t live_trees(unsigned scale, unsigned threads);

/** gcbench.c: each thread's lasting tree and array, trees that die, holes between nodes. */
uint64_t load_gcbench(unsigned scale, unsigned threads);
uint64_t live_gcbench(unsigned scale, unsigned threads);

/** quad.c: a lasting quad tree of 1.2 million nodes, of which parts are replaced. */
uint64_t load_quad(unsigned scale, unsigned threads);
uint64_t live_quad(unsigned scale, unsigned threads);

/** list.c: ten million nodes in a row, and as many that die. */
uint64_t load_list(unsigned scale, unsigned threads);
uint64_t live_list(unsigned scale, unsigned threads);

/** strings.c: a hash table of strings, inserted and removed at random. */
uint64_t load_strings(unsigned scale, unsigned threads);
uint64_t live_strings(unsigned scale, unsigned threads);

/** lru.c: threads share a cache of the 100,000 values used last. */
uint64_t load_lru(unsigned scale, unsigned threads);
uint64_t live_lru(unsigned scale, unsigned threads);

/** graph.c: one GiB of vertices, their edges at random. */
uint64_t load_graph(unsigned scale, unsigned threads);
uint64_t live_graph(unsigned scale, unsigned threads);

/** arrays.c: four arrays of a million pointers, replaced one by one and all at once. */
uint64_t load_arrays(unsigned scale, unsigned threads);
uint64_t live_arrays(unsigned scale, unsigned threads);

/** weak.c: a cache by weak references, 100,000 of its objects in use. */
uint64_t load_weak(unsigned scale, unsigned threads);

/** references.c: a million objects, each with a weak reference, replaced at random. */
uint64_t load_references(unsigned scale, unsigned threads);

/** finalisers.c: a million objects with finalisers, 100,000 at a time. */
uint64_t load_finalisers(unsigned scale, unsigned threads);

/** idle.c: a hundred threads for each of `threads` sleep while one works. */
uint64_t load_idle(unsigned scale, unsigned threads);

#endif /* BENCH_GC_LOADS_H */
