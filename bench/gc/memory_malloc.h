/* SPDX-License-Identifier: MIT */
/* See bench/gc/memory.h. Plain C on purpose: the malloc to measure is preloaded. */
#ifndef BENCH_GC_MEMORY_MALLOC_H
#define BENCH_GC_MEMORY_MALLOC_H

#include <stdlib.h>

enum { MEM_FREES = 1, MEM_COLLECTS = 0 };

static inline void *mem_try_new(size_t size)
{
    return malloc(size);
}

static inline void *mem_try_zeroed(size_t size)
{
    return calloc(1, size);
}

static inline void *mem_try_leaf(size_t size)
{
    return malloc(size);
}

static inline void mem_free(void *object)
{
    free(object);
}

#endif /* BENCH_GC_MEMORY_MALLOC_H */
