/* SPDX-License-Identifier: MIT */
/*
 * Where the objects of the collector's workloads come from: one of three back ends,
 * chosen when a workload is compiled.
 *
 *     GC_ON_SPLITHEAP   gc_alloc of <splitheap/gc.h>
 *     GC_ON_BDWGC       GC_MALLOC of bdwgc
 *     GC_ON_MALLOC      malloc and free, of the malloc that the loader finds
 *
 * A workload allocates by mem_new and its like, says by mem_free what it no longer needs
 * where it knows that (the collectors do nothing with it), and ends where there is no
 * memory. What differs is in memory_*.h; what they have in common is here.
 */
#ifndef BENCH_GC_MEMORY_H
#define BENCH_GC_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(GC_ON_SPLITHEAP)
#include "bench/gc/memory_splitheap.h"
#elif defined(GC_ON_BDWGC)
#include "bench/gc/memory_bdwgc.h"
#elif defined(GC_ON_MALLOC)
#include "bench/gc/memory_malloc.h"
#else
#error "compile with -DGC_ON_SPLITHEAP, -DGC_ON_BDWGC or -DGC_ON_MALLOC"
#endif

/*
 * The back end defines, inline where it is on the fast path:
 *
 *     enum { MEM_FREES, MEM_COLLECTS };            what of it the back end does
 *     void *mem_try_new(size_t size);              scanned; whoever asks sets every field
 *     void *mem_try_zeroed(size_t size);           scanned and cleared
 *     void *mem_try_leaf(size_t size);             never scanned, not cleared
 *     void mem_free(void *object);
 */

/** Starts the back end; `limit` is the most that its heap may take in bytes, 0: any. */
void mem_start(size_t limit);

/** The back end's settings in words, for the report. */
const char *mem_settings(void);

/** Collects now. */
void mem_collect(void);

/* ---- Weak references and finalisers: collectors only -------------------------------- */

/** What an object that is weakly referenced begins with; the back end's. */
struct mem_weak {
    void **slot;
};

/** Sets `*slot`, which no collector scans, to the object until that is found dead. */
void mem_weak_set(void **slot, struct mem_weak *object);

/** A reference that is an object of its own, and does not keep what it leads to. */
struct mem_ref;

struct mem_ref *mem_ref_new(void *object);

/** The object, from here on kept, or NULL when it is gone. */
void *mem_ref_get(struct mem_ref *ref);

/** What an object with a finaliser begins with; the back end's. */
struct mem_final {
    const void *type;
};

/** The finaliser of all objects of mem_final_new. */
void mem_final_set(void (*finalise)(void *object));

/** An object that begins with a struct mem_final; what follows is cleared. */
struct mem_final *mem_final_new(size_t size);

/* ---- For workloads -------------------------------------------------------------------- */

/** Ends the program as one that found no memory, with status MEM_EXIT_NONE. */
_Noreturn void mem_none(void);

enum { MEM_EXIT_NONE = 3 };

static inline void *mem_new(size_t size)
{
    void *object = mem_try_new(size);

    if (__builtin_expect(object == NULL, 0))
        mem_none();
    return object;
}

static inline void *mem_zeroed(size_t size)
{
    void *object = mem_try_zeroed(size);

    if (__builtin_expect(object == NULL, 0))
        mem_none();
    return object;
}

static inline void *mem_leaf(size_t size)
{
    void *object = mem_try_leaf(size);

    if (__builtin_expect(object == NULL, 0))
        mem_none();
    return object;
}

/** The bytes that an object takes at least: what live sizes are reckoned in. */
static inline uint64_t mem_cost(size_t size)
{
    return (size + 15) / 16 * 16;
}

#endif /* BENCH_GC_MEMORY_H */
