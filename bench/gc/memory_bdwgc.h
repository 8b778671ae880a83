/* SPDX-License-Identifier: MIT */
/* See bench/gc/memory.h. Meson has every file see gc.h, which redirects pthread_create. */
#ifndef BENCH_GC_MEMORY_BDWGC_H
#define BENCH_GC_MEMORY_BDWGC_H

#include <gc.h>

enum { MEM_FREES = 0, MEM_COLLECTS = 1 };

static inline void *mem_try_new(size_t size)
{
    return GC_MALLOC(size);
}

static inline void *mem_try_zeroed(size_t size)
{
    return GC_MALLOC(size);
}

static inline void *mem_try_leaf(size_t size)
{
    return GC_MALLOC_ATOMIC(size);
}

static inline void mem_free(void *object)
{
    (void)object;
}

#endif /* BENCH_GC_MEMORY_BDWGC_H */
