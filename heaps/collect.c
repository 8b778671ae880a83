/* SPDX-License-Identifier: MIT */
/*
 * The phases of a collection. See heaps/collect.h.
 *
 * From sh_world_stop to sh_world_resume every other registered thread stands outside
 * critical sections: its cache's lists are whole, it holds no lock of the heap, and it
 * is not inside a remote free; but it may be in the middle of a fast path, whose store
 * comes when it goes on. The collecting thread is in a critical section.
 */
#include "heaps/collect.h"

#include <splitheap/gc.h>

#include "heaps/bury.h"
#include "heaps/cache.h"
#include "heaps/callback.h"
#include "heaps/event.h"
#include "heaps/heap.h"
#include "heaps/limit.h"
#include "heaps/mark.h"
#include "heaps/memcheck.h"
#include "heaps/pace.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/check.h"
#include "threads/gc_mutex.h"
#include "threads/registry.h"
#include "threads/static_roots.h"

#define SWEEP_ALL_ROUNDS 64 /* of finalisers that make objects with finalisers */

static struct {
    struct sh_marker marker;
    struct sh_span *dead; /* wholly dead spans, by `next` */
} collection;

/* Calls of gc_collect_start that did nothing, inside gc_lock. */
static SH_TLS unsigned ignored;

/* Why this thread collects. For pacing's sake it does not wait for gc_lock holders. */
static SH_TLS enum gc_cause cause;

void sh_collect_init(void)
{
    sh_roots_exclude(&collection, &collection + 1);
    sh_event_init();
}

/* ---- Preparing ---- */

static void each_cache(void (*visit)(struct sh_cache *cache))
{
    visit(&sh_shared_cache);
    for (struct sh_cache *cache = sh_cache_first(); cache; cache = cache->next)
        visit(cache);
}

/* The bounds go straight where no root is looked for: they are cells' addresses. */
static void find_bounds(struct sh_marker *marker)
{
    for (struct sh_area *area = sh_area_first(); area; area = area->next) {
        if (marker->high == 0 || area->start < marker->low)
            marker->low = area->start;
        marker->high = sh_max(marker->high, area->end);
    }
}

/*
 * A thread without a record is not stopped; it works on the shared cache and on areas
 * under these locks. Nothing is called out to, and nothing else is locked, under them
 * but metadata memory.
 */
static void lock_heap(void)
{
    sh_lock_acquire(&sh_shared_lock);
    sh_lock_acquire(&sh_heap_lock);
}

static void unlock_heap(void)
{
    sh_lock_release(&sh_heap_lock);
    sh_lock_release(&sh_shared_lock);
}

/*
 * Inboxes are left alone. They could be emptied: a stopped thread's late store changes
 * the state of the one cell that it is handing out or freeing, never of a REMOTE one. But
 * what is live is exact without, the pause is the shorter, and lists stay their owner's.
 * Spans of collected kinds that are still due are swept, which takes theirs.
 */
static void prepare(void)
{
    sh_event_stopped(cause);
    lock_heap();
    each_cache(sh_pace_flush);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span))
            sh_span_prepare(span);
    sh_marker_init(&collection.marker);
    find_bounds(&collection.marker);
    unlock_heap();
    collection.dead = NULL;
    sh_event_marking(sh_pace_taken_bytes());
}

/* ---- Roots ---- */

static bool contains(const struct sh_area *area, const void *start, const void *end)
{
    return area->start <= (uintptr_t)start && (uintptr_t)end <= area->end;
}

/*
 * The user's area that begins first of those that reach into [at, end), or NULL. Not one
 * that the whole root, from `start`, lies in: that is a cell or a stack in a cell.
 */
static struct sh_area *first_user_area(
    const void *start, const void *at, const void *end)
{
    struct sh_area *best = NULL;
    for (struct sh_area *area = sh_area_users(); area; area = area->user_next)
        if (area->start < (uintptr_t)end && area->end > (uintptr_t)at &&
            !contains(area, start, end) && (!best || area->start < best->start))
            best = area;
    return best;
}

/* A user's area may lie in a data segment, or in memory of another area: it is no root
 * for that. */
static void mark_outside_areas(
    struct sh_marker *marker, const void *start, const void *end)
{
    const void *at = start;
    struct sh_area *area;
    while ((area = first_user_area(start, at, end))) {
        sh_mark_range(marker, at, (const void *)area->start);
        at = (const void *)area->end;
        if (at >= end)
            return;
    }
    sh_mark_range(marker, at, end);
}

static void mark_range(void *context, const void *start, const void *end)
{
    sh_event_roots((uintptr_t)end - (uintptr_t)start);
    mark_outside_areas(context, start, end);
    sh_mark_drain(context);
}

static void mark_live_cells(struct sh_marker *marker, struct sh_span *span)
{
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t live = sh_span_word(span, w, SH_CELL_LIVE);
        sh_event_roots(sh_popcount64(live) * span->cell_size);
        for (; live; live &= live - 1) {
            const char *start =
                (const char *)sh_span_cell(span, w * 64 + sh_ctz64(live));
            mark_outside_areas(marker, start, start + span->cell_size);
        }
    }
    sh_mark_drain(marker);
}

/* All malloc'd memory is a root. */
static void mark_explicit(struct sh_marker *marker)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (span->kind == SH_KIND_EXPLICIT)
            mark_live_cells(marker, span);
}

/* Roots that belong to threads and loaded objects. */
static void mark_outer_roots(struct sh_marker *marker)
{
    sh_scan_self(mark_range, marker);
    sh_scan_static_roots(mark_range, marker);
}

/* Roots in the heap itself. */
static void mark_inner_roots(struct sh_marker *marker)
{
    mark_explicit(marker);
    sh_callback_mark_queued(marker);
}

/* ---- Freeing ---- */

/* What may be allocated before the heap's limit is reached, if cells of all that is dead
 * serve again. */
static size_t room_left(const struct sh_burial *burial)
{
    size_t bytes = (sh_limit_left() + burial->pages) * SH_PAGE_SIZE;
    return sh_limit_most() == SH_NO_LIMIT ? SIZE_MAX : bytes - burial->bytes;
}

/* From here on spans of collected kinds are due to be swept. */
static void end_epoch(void)
{
    struct sh_burial burial = {.dead = NULL};
    sh_event_marked();
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        sh_bury_span(&burial, span);
    collection.dead = sh_bury_condemn(&burial);
    sh_add_relaxed(&sh_epoch, 1u);
    sh_event.marked_objects = burial.objects;
    sh_event.marked_bytes = burial.bytes;
    sh_pace_collected(&sh_event, room_left(&burial));
    sh_marker_finish(&collection.marker);
}

/* ---- The phases ---- */

void sh_collect_start(void)
{
    sh_heap_init();
    struct sh_thread *self = sh_thread_enter();
    sh_event_begin(cause);
    if (!self || self->lock_depth ||
        !sh_world_stop_to_collect(cause != GC_CAUSE_PACING)) {
        ignored++;
        return;
    }
    sh_cache_select(self);
    prepare();
    sh_memcheck_scan_begin();
    sh_scan_stopped_threads(mark_range, &collection.marker);
}

void sh_collect_root(void **words, size_t count)
{
    if (!ignored)
        mark_range(&collection.marker, words, words + count);
}

/* Lets the threads go on, and gives back the condemned spans. */
static void resume(void)
{
    struct sh_span *dead = collection.dead;
    collection.dead = NULL;
    sh_world_resume();
    sh_event_resumed();
    sh_cache_give_back(dead);
    struct gc_collection event = sh_event_end();
    sh_critical_leave();
    sh_gc_mutex_collect_end();
    sh_cache_select(sh_tls.self);
    sh_event_tell(&event);
}

void sh_collect_end(void)
{
    if (ignored) {
        ignored--;
        return;
    }
    mark_outer_roots(&collection.marker);
    lock_heap();
    mark_inner_roots(&collection.marker);
    sh_callback_gather(&collection.marker);
    sh_memcheck_scan_end(&collection, sizeof collection);
    end_epoch();
    unlock_heap();
    /* A callback that collects means it. */
    enum gc_cause was = cause;
    cause = GC_CAUSE_EXPLICIT;
    resume();
    sh_callback_run();
    cause = was;
}

/* ---- When allocation wants one ---- */

void sh_collect_if_unlocked(void)
{
    struct sh_thread *self = sh_thread_enter();
    if (!self || self->lock_depth || cause != GC_CAUSE_EXPLICIT)
        return;
    cause = GC_CAUSE_PACING;
    gc_collect();
    cause = GC_CAUSE_EXPLICIT;
}

bool sh_collect_for_memory(void)
{
    struct sh_thread *self = sh_thread_enter();
    if (!self || self->lock_depth || !sh_pace_anything())
        return false;
    enum gc_cause was = cause;
    cause = GC_CAUSE_MEMORY;
    gc_collect();
    cause = was;
    return true;
}

/* ---- Everything ---- */

/* A collection with no roots; `gather`: what has a finaliser lives on for it. */
static void collect_without_roots(bool gather)
{
    sh_event_begin(cause);
    sh_gc_mutex_collect_begin();
    sh_critical_enter();
    sh_world_stop();
    prepare();
    lock_heap();
    sh_memcheck_scan_begin();
    sh_callback_mark_queued(&collection.marker);
    if (gather)
        sh_callback_gather(&collection.marker);
    sh_memcheck_scan_end(&collection, sizeof collection);
    end_epoch();
    unlock_heap();
    resume();
}

void sh_collect_everything(void)
{
    sh_heap_init();
    struct sh_thread *self = sh_thread_enter();
    if (!self || self->lock_depth)
        return;
    for (unsigned round = 0; round < SWEEP_ALL_ROUNDS; round++) {
        collect_without_roots(true);
        if (!sh_callback_run())
            break;
    }
    collect_without_roots(false);
}

/* ---- Looking ---- */

void sh_with_world_stopped(void (*visit)(void *context), void *context)
{
    sh_heap_init();
    struct sh_thread *self = sh_thread_enter();
    bool collecting = self && self->collecting;
    bool stop = self && !self->lock_depth;
    if (stop)
        sh_gc_mutex_collect_begin();
    sh_critical_enter();
    if (stop)
        sh_world_stop();
    if (!collecting)
        sh_lock_acquire(&sh_heap_lock);
    visit(context);
    if (!collecting)
        sh_lock_release(&sh_heap_lock);
    if (stop)
        sh_world_resume();
    sh_critical_leave();
    if (stop)
        sh_gc_mutex_collect_end();
}
