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
#include "heaps/finalise.h"
#include "heaps/finaliser_thread.h"
#include "heaps/heap.h"
#include "heaps/limit.h"
#include "heaps/mark_check.h"
#include "heaps/mark_team.h"
#include "heaps/memcheck.h"
#include "heaps/minor.h"
#include "heaps/pace.h"
#include "heaps/pace_minor.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "heaps/span_walk.h"
#include "heaps/sweep.h"
#include "heaps/weak_link.h"
#include "lib/check.h"
#include "threads/gang.h"
#include "threads/gc_mutex.h"
#include "threads/named_roots.h"
#include "threads/registry.h"
#include "threads/static_roots.h"

#define SWEEP_ALL_ROUNDS 64 /* of finalisers that make objects with finalisers */

static struct {
    struct sh_span *dead; /* wholly dead spans, by `next` */
    bool locked;          /* the heap's locks are held, from the mark map on */
} collection;

/* Calls of gc_collect_start that did nothing, inside gc_lock. */
static SH_TLS unsigned ignored;

/* Why this thread collects. For pacing's sake it does not wait for gc_lock holders, */
static SH_TLS enum gc_cause cause;

/* and not where another thread has collected since this epoch. */
static SH_TLS uint32_t paced_in;

void sh_collect_init(void)
{
    sh_roots_exclude(&collection, &collection + 1);
    sh_event_init();
    sh_mark_init();
}

/* ---- Preparing ---- */

static void each_cache(void (*visit)(struct sh_cache *cache))
{
    visit(&sh_shared_cache);
    for (struct sh_cache *cache = sh_cache_first(); cache; cache = cache->next)
        visit(cache);
}

/*
 * A thread without a record is not stopped; it works on the shared cache and on areas
 * under these locks. Nothing is called out to, and nothing else is locked, under them
 * but the markers' pool and metadata memory.
 */
static void lock_heap(void)
{
    sh_lock_acquire(&sh_shared_lock);
    sh_lock_acquire(&sh_callback_lock);
    sh_lock_acquire(&sh_heap_lock);
}

static void unlock_heap(void)
{
    sh_lock_release(&sh_heap_lock);
    sh_lock_release(&sh_callback_lock);
    sh_lock_release(&sh_shared_lock);
}

/*
 * Inboxes are left alone. They could be emptied: a stopped thread's late store changes
 * the state of the one cell that it is handing out or freeing, never of a REMOTE one. But
 * what is live is exact without, the pause is the shorter, and lists stay their owner's.
 * Spans of collected kinds that are still due are swept, which takes theirs.
 */
static void prepare(bool minor)
{
    sh_event_stopped(cause);
    lock_heap();
    each_cache(sh_pace_flush);
    sh_mark_begin(minor);
    sh_event.minor = sh_minor;
    unlock_heap();
    collection.dead = NULL;
    sh_event_marking(sh_pace_taken_bytes());
}

/* ---- Roots ---- */

/* What need not stay as it is. */
static void mark_root(void *unused, const void *start, const void *end)
{
    (void)unused;
    sh_event_roots((uintptr_t)end - (uintptr_t)start);
    if (collection.locked) {
        sh_mark_root_now(start, end);
        return;
    }
    lock_heap();
    sh_mark_root_now(start, end);
    unlock_heap();
}

/* What stays until the world resumes. */
static void add_root(void *unused, const void *start, const void *end)
{
    if (sh_mark_add_root(start, end))
        sh_event_roots((uintptr_t)end - (uintptr_t)start);
    else
        mark_root(unused, start, end);
}

static void mark(void)
{
    sh_scan_named_roots(mark_root, NULL, sh_mark_first());
    sh_callback_add_roots();
    sh_mark_add_spans();
    sh_mark_complete();
    sh_callback_gather();
}

/* ---- Freeing ---- */

/* What may be allocated before the heap's limit is reached, if cells of all that is dead
 * serve again. */
static size_t room_left(const struct sh_burial *burial)
{
    size_t left = sh_limit_left();
    if (left > SIZE_MAX / 2 / SH_PAGE_SIZE)
        return SIZE_MAX;
    return (left + burial->pages) * SH_PAGE_SIZE - burial->bytes;
}

static void bury(void *burials, unsigned member, struct sh_span *span)
{
    sh_bury_span((struct sh_burial *)burials + member, span);
}

static void prepare_minor(void)
{
    uint64_t since = sh_os_now_ns();
    if (sh_minor_guard(sh_mark_is_plain()))
        sh_minor_paid(sh_os_now_ns() - since);
    else
        sh_pace_no_minor();
}

/* From here on spans of collected kinds are due to be swept, in which something died. */
static void end_epoch(void)
{
    struct sh_burial burials[SH_GANG_MAX] = {{.dead = NULL}}, *all = &burials[0];
    sh_event_marked();
    if (SH_CHECKS >= 3)
        sh_mark_check();
    sh_span_walk(bury, burials, sh_mark_helpers());
    for (unsigned i = 1; i < SH_GANG_MAX; i++)
        sh_bury_join(all, &burials[i]);
    collection.dead = sh_bury_condemn(all);
    sh_add_relaxed(&sh_epoch, 1u);
    sh_event.marked_objects = all->objects;
    sh_event.marked_bytes = all->bytes;
    sh_event.markers = sh_mark_end();
    sh_event.pause_ns = sh_os_now_ns() - sh_event.began; /* so far */
    sh_pace_collected(&sh_event, sh_callback_gathered(), room_left(all));
    if (sh_pace_wants_minor())
        prepare_minor();
    sh_minor = false;
}

/* ---- The phases ---- */

static bool is_still_wanted(void)
{
    return cause != GC_CAUSE_PACING || sh_load_relaxed(&sh_epoch) == paced_in;
}

void sh_collect_start(void)
{
    sh_heap_init();
    struct sh_thread *self = sh_thread_enter();
    sh_event_begin(cause);
    if (self && !self->lock_depth && cause != GC_CAUSE_MEMORY)
        sh_mark_prepare_helpers();
    if (!self || self->lock_depth ||
        !sh_world_stop_to_collect(
            cause != GC_CAUSE_PACING, cause != GC_CAUSE_EXPLICIT, is_still_wanted)) {
        ignored++;
        return;
    }
    sh_cache_select(self);
    prepare(cause == GC_CAUSE_PACING && sh_pace_wants_minor());
    sh_memcheck_scan_begin();
    sh_scan_stopped_threads(add_root, NULL);
}

void sh_collect_root(void **words, size_t count)
{
    if (!ignored)
        mark_root(NULL, words, words + count);
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
    /* First: it says which of the announced stacks the collector is on. */
    sh_scan_self(mark_root, NULL);
    sh_roots_enter();
    sh_scan_static_roots(add_root, NULL);
    lock_heap();
    collection.locked = true;
    sh_mark_map();
    mark();
    sh_memcheck_scan_end(&collection, sizeof collection);
    end_epoch();
    collection.locked = false;
    unlock_heap();
    sh_roots_leave();
    /* A callback that collects means it. */
    enum gc_cause was = cause;
    cause = GC_CAUSE_EXPLICIT;
    resume();
    sh_finalise_collected();
    cause = was;
}

/* ---- When allocation wants one ---- */

void sh_collect_if_unlocked(uint32_t seen)
{
    struct sh_thread *self = sh_thread_enter();
    if (!self || self->lock_depth || cause != GC_CAUSE_EXPLICIT)
        return;
    cause = GC_CAUSE_PACING;
    paced_in = seen;
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
    prepare(false);
    lock_heap();
    sh_memcheck_scan_begin();
    sh_mark_map();
    sh_callback_add_roots();
    sh_mark_complete();
    sh_weak_all_live = true;
    if (gather) {
        sh_callback_gather();
    } else {
        sh_callback_drop_all();
        sh_weak_clear_rest(false);
    }
    sh_weak_all_live = false;
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
    sh_callback_none_running(); /* one may have been left by an exception, or longjmp */
    /* The library's own thread runs finalisers between the collections only. */
    for (unsigned round = 0; round < SWEEP_ALL_ROUNDS; round++) {
        sh_finaliser_thread_hold();
        size_t taken = sh_callback_taken();
        collect_without_roots(true);
        sh_finaliser_thread_let_go();
        if (!sh_finalise_all() && sh_callback_taken() == taken)
            break;
    }
    sh_finaliser_thread_hold();
    collect_without_roots(false);
    sh_finaliser_thread_let_go();
}

void sh_collect_finalise_all(void)
{
    struct sh_thread *self = sh_thread_enter();
    if (!self || self->lock_depth)
        return;
    sh_callback_none_running();
    unsigned round = 0;
    size_t taken;
    do {
        sh_finaliser_thread_hold();
        taken = sh_callback_taken();
        sh_critical_enter();
        sh_lock_acquire(&sh_callback_lock);
        sh_lock_acquire(&sh_heap_lock);
        sh_callback_queue_all();
        sh_lock_release(&sh_heap_lock);
        sh_lock_release(&sh_callback_lock);
        sh_critical_leave();
        sh_finaliser_thread_let_go();
    } while ((sh_finalise_all() || sh_callback_taken() != taken) &&
             ++round < SWEEP_ALL_ROUNDS);
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
