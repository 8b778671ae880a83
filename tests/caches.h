/* SPDX-License-Identifier: MIT */
/* Tests that look at the cache of the thread that they run in, a thread of their own. */
#ifndef SH_TESTS_CACHES_H
#define SH_TESTS_CACHES_H

#include <stddef.h>
#include <stdint.h>

#include "heaps/cache.h"
#include "heaps/page_map.h"
#include "tests/heap.h"

static inline struct sh_cache *cache(void)
{
    return sh_tls.self->cache;
}

static inline unsigned class_of(size_t size)
{
    return sh_size_class_of(size);
}

static inline struct sh_bin *bin_of(enum sh_kind kind, size_t size)
{
    return &cache()->bins[kind][class_of(size)];
}

static inline struct sh_depot *depot_of(enum sh_kind kind, size_t size)
{
    return &cache()->depots[kind][class_of(size)];
}

static inline struct sh_span *span_of(const void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    MUST(span);
    return span;
}

static inline sh_cell_byte *byte_of(const void *p)
{
    struct sh_span *span = span_of(p);
    return &span->states[sh_span_cell_of(span, (uintptr_t)p)];
}

static inline uint8_t state_of(const void *p)
{
    return sh_load_relaxed(byte_of(p));
}

/* A bin that was not used yet is as the empty cache's. */
static inline size_t rounds(enum sh_kind kind, size_t size)
{
    struct sh_bin *bin = bin_of(kind, size), *unused = &sh_empty_cache.bins[0][0];
    return bin->top == unused->top
               ? 0
               : (size_t)(bin->top - depot_of(kind, size)->magazine);
}

static inline size_t limit(enum sh_kind kind, size_t size)
{
    return (size_t)(bin_of(kind, size)->limit - depot_of(kind, size)->magazine);
}

/* Rounds go back to their spans, but the newest; empty spans to the heap. */
static inline void unload(enum sh_kind kind, size_t size, size_t keep)
{
    sh_critical_enter();
    sh_cache_unload(cache(), kind, class_of(size), keep);
    sh_cache_give_back(sh_cache_detach_dead(cache()));
    sh_critical_leave();
}

static inline void *run_with_cache(void *test)
{
    take_cache();
    (*(void (**)(void))test)();
    return NULL;
}

/* Runs it in a new thread, whose cache is fresh. */
static inline void with_fresh_cache(void (*test)(void))
{
    in_thread(run_with_cache, &test);
}

#endif /* SH_TESTS_CACHES_H */
