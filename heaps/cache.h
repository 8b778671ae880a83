/* SPDX-License-Identifier: MIT */
/*
 * A thread's cache: for each kind and size class a bin that hands out cells.
 *
 * A bin has a magazine (Bonwick and Adams, 2001): a stack of rounds, each a cell that is
 * free and may be handed out. free pushes one, malloc pops one, so that what was freed
 * last, which is warm, is handed out first. An empty magazine is refilled from the
 * current span, and of a full one the older half goes back to the spans.
 *
 *   bin      top --> [ round n: cell, state  ]        limit: where top is when full
 *                    [ ...                   ]
 *                    [ round 1               ]
 *                    [ round 0: cell is NULL ]        an empty magazine's top
 *
 *   malloc   p = top->cell; none, or not HELD? slow; top--; barrier; state = LIVE
 *   free     span = map[p]; owner == me? cell = (p - base) / size exactly; LIVE?
 *            top == limit? slow; state = HELD; barrier; *++top = {p, &state}
 *
 * The states alone say what is handed out, with no look at any bin. Only the owner
 * changes them, but for what others free, by compare-and-swap: from LIVE to REMOTE, and
 * they tell the owner through its inbox (heaps/remote.h); or from LIVE to HELD, and they
 * keep the cell in their own magazine, to be handed out there. Should the owner and another thread free one cell in the
 * same instant, a double free, both may get a round of it; so malloc asks whether the
 * cell is still HELD, and who hands it out or unloads it second says so.
 *
 * A thread can be stopped anywhere in these, and the collector relies on:
 *   - in free p is in a register until the state is HELD, so the cell is live, and its
 *     span not released; and in malloc before it is LIVE.
 *   - a cell is HELD before its round is there, and until after it is gone. So a span
 *     stays while a thread is about to push a round of it or to hand out what it popped.
 *   - cells that are not live when a collection begins have their mark at its end, so
 *     that what was handed out since, or was about to be, survives the sweep.
 *
 * A handler of the program's that leaves malloc or free by longjmp loses a cell at most:
 * one that is HELD without a round.
 *
 * `used` counts cells that are not FREE. When slow paths let go of some and it falls to
 * `wake`, the span changes its list: for a full span a sixteenth less than all, for an
 * available one 0, for a current one never.
 *
 * A cache outlives its thread: the next one to need a cache takes it as it is, with its
 * spans and what lies in its magazines. Until then it is idle, and belongs to whoever
 * holds SH_RANK_SHARED; other threads adopt spans from it one by one.
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
#include "lib/check.h"
#include "lib/lock.h"
#include "threads/thread.h"

struct sh_round {
    uintptr_t cell;
    sh_cell_byte *state; /* the cell's */
};

struct sh_bin {
    struct sh_round *top;
    struct sh_round *limit; /* what top is in a full magazine */
};

/* What a bin's slow paths need. Doubly linked lists of the spans not current. */
struct sh_depot {
    struct sh_span *current;             /* the one that refills take from, or NULL */
    struct sh_round *magazine;           /* round 0, or NULL: none was needed yet */
    struct sh_span *head[SH_LIST_COUNT]; /* by enum sh_span_list; NONE is unused */
    uint32_t epoch; /* of the last collection after which full spans were looked at */
    uint32_t overflows; /* of the magazine, since it was last refilled */
};

/* Rounds of visits (heaps/reclaim.c): to who is idle, and to all. */
enum sh_cache_round { SH_CACHE_ROUND_BY_TIME, SH_CACHE_ROUND_AT_ONCE, SH_CACHE_ROUNDS };

struct sh_cache {
    struct sh_bin bins[SH_KIND_COUNT][SH_CLASS_COUNT];
    struct sh_depot depots[SH_KIND_COUNT][SH_CLASS_COUNT];
    uint64_t in_use[SH_KIND_COUNT][SH_CLASS_WORDS]; /* bins that have a magazine */
    bool lost;                                      /* a fork left it as it was */
    struct sh_span *dead; /* empty spans, by `next`, to be given back without a lock */
    size_t taken; /* bytes of collected kinds handed out, not yet told to the pacer */
    uint32_t
        passed_over; /* refills that left the inbox as it was, since it was drained */
    struct sh_cache *next;    /* of all caches in use, under SH_RANK_SHARED */
    _Atomic uint32_t busy;    /* its thread is in a slow path */
    _Atomic uint32_t visited; /* another is: see heaps/reclaim.c */
    _Atomic uint32_t entered; /* slow paths so far; its thread */
    /* Under SH_RANK_SHARED. */
    uint64_t since; /* when it was last seen in use, on sh_purge_clock */
    uint32_t seen;  /* what `entered` then was */
    uint8_t done;   /* of what visitors do, since then */
    uint64_t rounds[SH_CACHE_ROUNDS]; /* of visits, the latest of each kind so far */
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
    struct sh_round *round = bin->top;
    uintptr_t cell = round->cell;
    if (SH_UNLIKELY(cell == 0))
        return NULL;
    sh_cell_byte *state = round->state;
    if (SH_UNLIKELY(sh_load_relaxed(state) != SH_CELL_HELD))
        return NULL;
    SH_KEEP(cell);
    bin->top = round - 1;
    SH_BARRIER();
    sh_store_relaxed(state, (uint8_t)SH_CELL_LIVE);
    return (void *)cell;
}

/* The same, of whatever kind; in a critical section where it may be a typed one. What such
 * a cell held when it was freed is no type: that goes before it is LIVE, so that no collection
 * finds it, nor the child of a fork by another thread. */
SH_INLINE void *sh_bin_take_as(struct sh_bin *bin, enum sh_kind kind)
{
    const struct sh_round *round = bin->top;
    if (kind == SH_KIND_TYPED && round->cell &&
        sh_load_relaxed(round->state) == SH_CELL_HELD)
        *(void *volatile *)round->cell = NULL;
    SH_BARRIER();
    return sh_bin_take(bin);
}

/* The LIVE cell becomes a round. False: the magazine is full. */
SH_INLINE bool sh_bin_put(struct sh_bin *bin, void *p, sh_cell_byte *state)
{
    struct sh_round *round = bin->top;
    if (SH_UNLIKELY(round == bin->limit))
        return false;
    sh_store_relaxed(state, (uint8_t)SH_CELL_HELD);
    SH_KEEP(p);
    SH_BARRIER();
    round[1] = (struct sh_round){(uintptr_t)p, state};
    bin->top = round + 1;
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
    struct sh_cache *cache = sh_my_cache;
    if (SH_UNLIKELY(sh_load_relaxed(&span->owner) != (uintptr_t)cache))
        return false;
    bool exact;
    uint32_t cell = sh_divide((uintptr_t)p - span->base, span->reciprocal, &exact);
    if (SH_UNLIKELY(!exact))
        return false;
    sh_cell_byte *state = &span->states[cell];
    if (SH_UNLIKELY(sh_load_relaxed(state) != SH_CELL_LIVE))
        return false;
    struct sh_bin *bin = (struct sh_bin *)(void *)((char *)cache + span->bin_offset);
    return SH_LIKELY(sh_bin_put(bin, p, state));
}

/* ---- Slow paths; the caller is in a critical section ---- */

/* Waits for a visitor to leave; busy is then set. */
SH_COLD void sh_cache_await_visitor(struct sh_cache *cache);

/*
 * Around what a thread does to its cache but for the fast paths: meanwhile nobody else
 * touches it. Do not nest. Between the store and the load there is no fence: visitors
 * see to that (heaps/reclaim.c). The acquire and the release pair with theirs.
 */
SH_INLINE void sh_cache_enter(struct sh_cache *cache)
{
    SH_CHECK2(!sh_load_relaxed(&cache->busy));
    sh_store_relaxed(&cache->busy, 1u);
    SH_BARRIER();
    if (SH_UNLIKELY(sh_load_acquire(&cache->visited)))
        sh_cache_await_visitor(cache);
    sh_store_relaxed(&cache->entered, sh_load_relaxed(&cache->entered) + 1);
}

SH_INLINE void sh_cache_leave(struct sh_cache *cache)
{
    sh_store_release(&cache->busy, 0u);
}

void sh_cache_init(struct sh_cache *cache);

/* A cache for a thread: that of one that ended, or a new one; NULL: no memory. */
struct sh_cache *sh_cache_new(void);

/* Chooses what the calling thread's fast paths use: its cache, or, inside gc_lock and
 * while it collects, or where cells are filled (heaps/fill.h), the empty one, so that
 * they miss. */
void sh_cache_select(struct sh_thread *self);

/* The thread of the cache, which it has entered, ends: the cache is kept as it is for the
 * next one, but if many are, the one that has been idle longest hands its spans to the
 * shared cache. Returns empty spans, to be given back without a lock. */
struct sh_span *sh_cache_retire(struct sh_cache *cache);

/* Hands the spans of all idle caches, or of those that became so by then, to the shared
 * cache. Returns the empty ones among them, and of the shared cache's, to be given back
 * without a lock. */
struct sh_span *sh_cache_dissolve_idle(void);
struct sh_span *sh_cache_dissolve_idle_by(uint64_t then);

/* There are idle caches, about. */
bool sh_cache_any_idle(void);

/* Caches in use, by `next`, the shared one not among them. Under SH_RANK_SHARED, or
 * with the world stopped. */
struct sh_cache *sh_cache_first(void);

/* Refills the bin's magazine and takes a cell of it. NULL: the heap has no run. `tiny`
 * lets it make do with as small a run as there is. */
void *sh_cache_refill(
    struct sh_cache *cache, enum sh_kind kind, unsigned class_index, bool tiny);

/* The quick way, where the current span is not due to be swept: from it, or NULL. */
void *sh_cache_reload(struct sh_cache *cache, enum sh_kind kind, unsigned class_index);

/* Frees the live cell, of which the cache is the owner; false: another thread freed it
 * just now. */
bool sh_cache_free_own(struct sh_cache *cache, struct sh_span *span, uint32_t cell);

/* A cell of another cache's found the magazine full, and is to go home. When that happens
 * again and again, the magazine shrinks and others go home too. */
void sh_cache_overflow(struct sh_cache *cache, enum sh_kind kind, unsigned class_index);

/* Takes back what others freed in the span, and puts it where it then belongs. */
void sh_cache_take_back(struct sh_cache *cache, struct sh_span *span);

/* Gives back the spans that became empty. Without a lock; of the shared cache, under
 * its lock detach them first. */
struct sh_span *sh_cache_detach_dead(struct sh_cache *cache);
void sh_cache_give_back(struct sh_span *dead);

/* Rounds go back to their spans, the oldest first, until at most `keep` are left. */
void sh_cache_unload(
    struct sh_cache *cache, enum sh_kind kind, unsigned class_index, size_t keep);

/* Where memory is wanted back: all rounds go to their spans, and no span stays for being
 * current. The caller gives back the dead. */
void sh_cache_put_away(struct sh_cache *cache);

/* A visitor comes, which counts once sh_os_fence_threads was called and `busy` then is 0;
 * the thread is waiting for it; it leaves. The visitor is in a critical section. */
void sh_cache_visit(struct sh_cache *cache);
bool sh_cache_is_wanted(struct sh_cache *cache);
void sh_cache_end_visit(struct sh_cache *cache);

/* Of a visited cache, what its thread's fast paths do not need: takes back what others
 * freed, and gives up current spans that are empty. The caller gives back the dead. */
void sh_cache_tidy(struct sh_cache *cache);

/* Calls visit for the spans of malloc's kind from which the cache would allocate, until
 * it says false: the cache may then be its thread's again. */
void sh_cache_each_available(struct sh_cache *cache,
    bool (*visit)(void *context, struct sh_span *span), void *context);

/* Takes a span that is not current off its list. */
void sh_cache_unlist(struct sh_cache *cache, struct sh_span *span);

/* In the child of a fork, under the shared and heap locks: takes over the spans of
 * caches that are not `mine` from the list of all spans, relying on nothing else that
 * their threads left behind. */
void sh_cache_fork_child(struct sh_cache *mine);

#endif /* SH_HEAPS_CACHE_H */
