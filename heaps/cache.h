/* SPDX-License-Identifier: MIT */
/*
 * A thread's cache: for each kind and size class a bin that hands out cells.
 *
 * A bin hands out from the window: one word of its current span's table, of which it
 * holds the cells that were free when the window was opened. To hand out a cell is to
 * take it from the bin and to set its alloc bit, so `alloc` alone says what is handed
 * out, with no look at any bin. Only the owner writes alloc words; other threads free by
 * `remote` and tell the owner through its inbox (heaps/remote.h).
 *
 * What is freed in the window's word does not go back into the bin, for then each malloc
 * would wait for the free before it (13 ns for a pair, where this takes 6). When the
 * bin is empty and much of the word is free again, the same window is opened again:
 * those cells are warm.
 *
 *   malloc   c = bin.cells; none? slow; p = base + ctz(c) * size; barrier;
 *            bin.word->alloc |= lowest bit of c; bin.cells = c & (c - 1)
 *   free     span = map[p]; owner == me? cell = (p - base) / size exactly; live?
 *            --used == wake? slow; w->alloc = a & ~bit; keep p
 *
 * A thread can be stopped anywhere in these, and the collector relies on:
 *   - p is in a register before bin and alloc are stored, and, in free, until after the
 *     last access to the descriptor: its cell is live, so its span is not released.
 *   - free cells of windows are marked at the end of a collection, so that what was
 *     handed out of a window since, or was about to be, survives the sweep.
 *   - a stopped store that comes late can only bring dead cells of its word back,
 *     until the next collection.
 *
 * `used` counts the live cells, and those in the bin as if they were. `wake` is the value at which free
 * takes its slow path: for a full span a sixteenth less than all, for an available one
 * 0, for a current one never.
 *
 * The shared cache serves threads that have none (not yet, or no longer registered),
 * under SH_RANK_SHARED, and owns the spans of threads that ended until another thread
 * adopts them. The empty cache is what every thread starts with: each bin misses.
 */
#ifndef SH_HEAPS_CACHE_H
#define SH_HEAPS_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/page_map.h"
#include "heaps/span.h"
#include "lib/lock.h"
#include "threads/thread.h"

struct sh_bin {
    uint64_t cells;       /* of the window, to be handed out; their alloc bits are 0 */
    struct sh_word *word; /* the window, where cells is not 0 */
    uintptr_t base;       /* of the window's first cell */
    size_t cell_size;
    struct sh_span *span; /* the current one, or NULL */
};

/* What a bin's slow paths need. Doubly linked lists of the spans not current. */
struct sh_bin_lists {
    struct sh_span *head[SH_LIST_COUNT]; /* by enum sh_span_list; NONE is unused */
    uint32_t epoch; /* of the last collection after which full spans were looked at */
};

struct sh_cache {
    struct sh_bin bins[SH_KIND_COUNT][SH_CLASS_COUNT];
    struct sh_bin_lists lists[SH_KIND_COUNT][SH_CLASS_COUNT];
    struct sh_span *dead; /* empty spans, by `next`, to be given back without a lock */
    size_t taken; /* bytes of collected kinds handed out, not yet told to the pacer */
    struct sh_cache *next; /* of all caches in use, under SH_RANK_SHARED */
    SH_ALIGNED(SH_CACHE_LINE) _Atomic(struct sh_span *) inbox;
};

extern struct sh_cache sh_empty_cache;
extern struct sh_cache sh_shared_cache;
extern struct sh_lock sh_shared_lock;

/* The running thread's; never NULL. */
extern SH_TLS struct sh_cache *sh_my_cache;

/* The number of collections ended so far: a collected span whose epoch is another has
 * to be swept before anything is handed out of it. */
extern _Atomic uint32_t sh_epoch;

/* ---- Fast paths ---- */

SH_INLINE void *sh_bin_take(struct sh_bin *bin)
{
    uint64_t cells = bin->cells;
    if (SH_UNLIKELY(cells == 0))
        return NULL;
    uintptr_t cell = bin->base + sh_ctz64_fast(cells) * bin->cell_size;
    SH_KEEP(cell);
    uint64_t rest = cells & (cells - 1);
    /* In this order: a sweep that comes between counts the cell twice, not never. */
    sh_bits_set(&bin->word->alloc, cells ^ rest);
    SH_BARRIER();
    bin->cells = rest;
    if (cell == 0)
        __builtin_unreachable(); /* so that callers need not ask again */
    return (void *)cell;
}

/* Of the free cells of a word, those that a bin takes at once: the lowest. */
SH_INLINE uint64_t sh_window_cells(const struct sh_span *span, uint64_t free)
{
    unsigned most = sh_size_classes[span->class_index].window;
    if (most >= 64)
        return free;
    uint64_t rest = free;
    for (unsigned i = 0; rest && i < most; i++)
        rest &= rest - 1;
    return free ^ rest;
}

/*
 * Opens the bin's window again if that many of its cells are free, but a quarter of the
 * word will do; the bin is empty. Not for collected kinds, of which what is handed out
 * is counted.
 */
#define SH_WARM_CELLS 16

SH_INLINE bool sh_window_is_warm(const struct sh_span *span, uint64_t free)
{
    unsigned most = sh_size_classes[span->class_index].window;
    return free && sh_popcount64(free) >= sh_min(SH_WARM_CELLS, most);
}

SH_INLINE bool sh_bin_reopen(struct sh_bin *bin)
{
    struct sh_span *span = bin->span;
    if (!span || !span->window)
        return false;
    uint64_t free = ~sh_load_relaxed(&bin->word->alloc);
    if (!sh_window_is_warm(span, free))
        return false;
    bin->cells = sh_window_cells(span, free);
    span->used += sh_popcount64(bin->cells);
    return true;
}

SH_INLINE struct sh_bin *sh_bin_of(enum sh_kind kind, size_t bytes)
{
    struct sh_bin *bin = &sh_my_cache->bins[kind][sh_size_class_of(bytes)];
    __asm__("" : "+r"(bin)); /* one register, not its parts again and again */
    return bin;
}

/* NULL: the slow path, sh_heap_alloc. `bytes` is at most SH_SMALL_MAX. */
SH_INLINE void *sh_cache_take(enum sh_kind kind, size_t bytes)
{
    return sh_bin_take(sh_bin_of(kind, bytes));
}

/* Frees a cell of the running thread's; false: sh_remote_give, then sh_heap_free. */
SH_INLINE bool sh_cache_give(void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    if (SH_UNLIKELY(!span))
        return false;
    if (SH_UNLIKELY(sh_load_relaxed(&span->owner) != (uintptr_t)sh_my_cache))
        return false;
    bool exact;
    uint32_t cell = sh_divide((uintptr_t)p - span->base, span->reciprocal, &exact);
    if (SH_UNLIKELY(!exact))
        return false;
    struct sh_word *word = sh_span_word_of(span, cell);
    uint64_t alloc = sh_load_relaxed(&word->alloc);
    if (SH_UNLIKELY(!sh_bit_clear(&alloc, cell)) ||
        SH_UNLIKELY(sh_bit_test(sh_load_relaxed(&word->remote), cell)))
        return false;
    uint32_t used = span->used - 1;
    if (SH_UNLIKELY(used == span->wake))
        return false;
    span->used = used;
    SH_BARRIER();
    sh_store_relaxed(&word->alloc, alloc);
    SH_KEEP(p);
    return true;
}

/* ---- Slow paths; the caller is in a critical section ---- */

void sh_cache_init(struct sh_cache *cache);

/* A new cache in use, or NULL: no memory. */
struct sh_cache *sh_cache_new(void);

/* Chooses what the calling thread's fast paths use: its cache, or, inside gc_lock and
 * while it collects, or where cells are filled (heaps/fill.h), the empty one, so that
 * they miss. */
void sh_cache_select(struct sh_thread *self);

/* Hands a cache's spans to the shared cache and forgets it. Returns those that are
 * empty, to be given back without a lock. */
struct sh_span *sh_cache_retire(struct sh_cache *cache);

/* Caches in use, by `next`, the shared one not among them. Under SH_RANK_SHARED, or
 * with the world stopped. */
struct sh_cache *sh_cache_first(void);

/* Finds the bin a new window and takes a cell of it. NULL: the heap has no run. `tiny`
 * lets it make do with as small a run as there is. */
void *sh_cache_refill(
    struct sh_cache *cache, enum sh_kind kind, unsigned class_index, bool tiny);

/* Frees the live cell, of which the cache is the owner. */
void sh_cache_free_own(struct sh_cache *cache, struct sh_span *span, uint32_t cell);

/* Takes back what others freed in the span, and puts it where it then belongs. */
void sh_cache_take_back(struct sh_cache *cache, struct sh_span *span);

/* Gives back the spans that became empty. Without a lock; of the shared cache, under
 * its lock detach them first. */
struct sh_span *sh_cache_detach_dead(struct sh_cache *cache);
void sh_cache_give_back(struct sh_span *dead);

/* Spans that became empty while they were current are put with the dead ones. */
void sh_cache_tidy(struct sh_cache *cache);

/* What the bin holds goes back to its span; the bin then misses. */
void sh_cache_close_window(struct sh_bin *bin);

/* Takes a span that is not current off its list. */
void sh_cache_unlist(struct sh_cache *cache, struct sh_span *span);

/* In the child of a fork, under the shared and heap locks: takes over the spans of
 * caches that are not `mine` from the list of all spans, relying on nothing else that
 * their threads left behind. */
void sh_cache_fork_child(struct sh_cache *mine);

#endif /* SH_HEAPS_CACHE_H */
