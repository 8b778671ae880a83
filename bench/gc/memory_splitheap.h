/* SPDX-License-Identifier: MIT */
/* See bench/gc/memory.h. */
#ifndef BENCH_GC_MEMORY_SPLITHEAP_H
#define BENCH_GC_MEMORY_SPLITHEAP_H

#include <splitheap/gc.h>

enum { MEM_FREES = 0, MEM_COLLECTS = 1 };

static inline void *mem_try_new(size_t size)
{
    return gc_alloc(size, 0);
}

static inline void *mem_try_zeroed(size_t size)
{
    return gc_alloc(size, 0);
}

static inline void *mem_try_leaf(size_t size)
{
    return gc_alloc(size, GC_ALLOC_FLAG_LEAF);
}

static inline void mem_free(void *object)
{
    (void)object;
}

#endif /* BENCH_GC_MEMORY_SPLITHEAP_H */
