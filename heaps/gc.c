/* SPDX-License-Identifier: MIT */
/*
 * The face of gc.h: the seed's functions and ours.
 *
 * While a thread is inside gc_lock its fast paths run on the empty cache, so that they
 * miss and the slow paths here see the lock: no fast path asks for it.
 */
#include <splitheap/gc.h>

#include <errno.h>
#include <string.h>

#include "heaps/cache.h"
#include "heaps/collect.h"
#include "heaps/deferred.h"
#include "heaps/heap.h"
#include "heaps/limit.h"
#include "heaps/mark_team.h"
#include "heaps/misuse.h"
#include "heaps/pace.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "heaps/weak_link.h"
#include "heaps/word.h"
#include "lib/check.h"
#include "threads/gc_mutex.h"
#include "threads/named_roots.h"
#include "threads/registry.h"
#include "threads/stacks.h"
#include "threads/static_roots.h"

/* ---- The heap's memory ---- */

static bool is_addable(const char *call, void *start, void *end)
{
    uintptr_t low = sh_round_up((uintptr_t)start, SH_PAGE_SIZE);
    uintptr_t high = sh_round_down((uintptr_t)end, SH_PAGE_SIZE);
    if (!start || start >= end || low >= high || low < (uintptr_t)start)
        sh_misused("%s(%p, %p): no whole page of %zu bytes lies between; give start < "
                   "end and two pages at least",
            call, start, end, SH_PAGE_SIZE);
    else if ((high - 1) >> SH_ADDRESS_BITS)
        sh_misused("%s(%p, %p): beyond the %d-bit addresses that the heap can map",
            call, start, end, SH_ADDRESS_BITS);
    else
        return true;
    return false;
}

static void add_area(const char *call, void *start, void *end)
{
    if (!is_addable(call, start, end))
        return;
    sh_critical_enter();
    int error = sh_area_add(sh_round_up((uintptr_t)start, SH_PAGE_SIZE),
        sh_round_down((uintptr_t)end, SH_PAGE_SIZE), true);
    sh_critical_leave();
    if (error == EEXIST)
        sh_misused(
            "%s(%p, %p): the heap has some of this memory already", call, start, end);
    else if (error)
        sh_fatal("%s(%p, %p): no memory for the tables", call, start, end);
}

SH_PUBLIC void gc_init(void *start, void *end)
{
    sh_heap_init();
    sh_stop_prepare();
    if (start || end)
        add_area("gc_init", start, end);
}

SH_PUBLIC void gc_add(void *start, void *end)
{
    sh_heap_init();
    add_area("gc_add", start, end);
}

/* ---- Locking ---- */

SH_PUBLIC void gc_lock(void)
{
    sh_heap_init();
    sh_gc_mutex_lock();
    if (sh_tls.self)
        sh_cache_select(sh_tls.self);
}

SH_PUBLIC void gc_unlock(void)
{
    struct sh_thread *self = sh_tls.self;
    bool last = self && self->lock_depth == 1 && !self->collecting;
    /* Before the lock goes: a collection would take what was only put off. */
    if (last)
        sh_deferred_free(self);
    sh_gc_mutex_unlock();
    if (self)
        sh_cache_select(self);
}

SH_PUBLIC bool gc_is_locked(void)
{
    return sh_gc_mutex_is_locked();
}

/* ---- Collecting ---- */

SH_PUBLIC void gc_collect_start(void)
{
    sh_collect_start();
}

SH_PUBLIC void gc_collect_root(void **ptrs, size_t len)
{
    sh_collect_root(ptrs, len);
}

SH_PUBLIC void gc_collect_end(void)
{
    sh_collect_end();
}

SH_PUBLIC void gc_sweep_all(void)
{
    sh_collect_everything();
}

SH_PUBLIC bool gc_set_auto_collect(bool on)
{
    return sh_pace_set_auto(on);
}

SH_PUBLIC bool gc_set_generations(bool on)
{
    sh_heap_init();
    return sh_pace_set_minor(on);
}

SH_PUBLIC size_t gc_set_threshold(size_t n_bytes)
{
    return sh_pace_set_threshold(n_bytes);
}

SH_PUBLIC unsigned gc_set_markers(unsigned markers)
{
    sh_heap_init();
    return sh_mark_set_markers(markers);
}

SH_PUBLIC size_t gc_set_max_heap(size_t bytes)
{
    sh_heap_init();
    size_t before = sh_limit_set(bytes);
    if (bytes)
        sh_pace_limited(sh_limit_left() * SH_PAGE_SIZE);
    return before;
}

/* ---- Weak references ---- */

SH_PUBLIC void gc_weakref_mark(void *ptr)
{
    struct sh_cell cell;
    sh_critical_enter();
    bool live = sh_cell_find(ptr, &cell) == SH_FOUND_LIVE;
    bool done = !live || sh_weak_hook(cell);
    sh_critical_leave();
    SH_KEEP(ptr);
    if (!done)
        sh_fatal("gc_weakref_mark(%p): no memory for the table", ptr);
}

/* ---- Objects ---- */

/* Whole granules with 16-byte stores, which the compiler is kept from turning into a
 * call: cells are small. */
SH_INLINE void *clear_cell(void *cell, size_t bytes)
{
    typedef long long granule __attribute__((vector_size(16), may_alias));
    if (SH_UNLIKELY(bytes > 512))
        return memset(cell, 0, bytes);
    char *at = cell, *end = at + bytes;
    do {
        *(granule *)(void *)at = (granule){0, 0};
        __asm__ volatile("" ::: "memory");
        at += sizeof(granule);
    } while (at < end);
    return cell;
}

static void *alloc_final(const struct sh_request *request)
{
    void *p = sh_heap_alloc(request);
    if (!p)
        return NULL;
    *(void **)p = NULL;
    if (sh_object_set_final(p))
        return p;
    sh_heap_free(p, "gc_alloc");
    errno = ENOMEM;
    return NULL;
}

/* From the current span of a thread that is on its own cache, while no collection is due
 * nor anything to be swept; it locks nothing. */
static void *reload(enum sh_kind kind, size_t n_bytes)
{
    struct sh_cache *cache = sh_my_cache;
    if (n_bytes > SH_SMALL_MAX || cache == &sh_empty_cache || sh_pace_due(n_bytes))
        return NULL;
    unsigned c = sh_size_class_of(n_bytes);
    void *p = NULL;
    sh_critical_enter();
    sh_cache_enter(cache);
    struct sh_span *current = cache->depots[kind][c].current;
    if (current && !sh_span_sweep_due(current))
        p = sh_cache_reload(cache, kind, c);
    sh_cache_leave(cache);
    sh_critical_leave();
    if (p && sh_kind_is_cleared(kind))
        clear_cell(p, sh_size_classes[c].size);
    return p;
}

static enum sh_kind kind_of(unsigned flags)
{
    if (flags & GC_ALLOC_FLAG_TYPED)
        return SH_KIND_TYPED;
    return flags & GC_ALLOC_FLAG_LEAF ? SH_KIND_LEAF : SH_KIND_SCAN;
}

/* NULL: the slow path. */
static void *take_typed(size_t n_bytes)
{
    sh_critical_enter();
    void *p = sh_bin_take_as(sh_bin_of(SH_KIND_TYPED, n_bytes), SH_KIND_TYPED);
    sh_critical_leave();
    if (p)
        clear_cell(p, sh_size_classes[sh_size_class_of(n_bytes)].size);
    return p;
}

static SH_NOINLINE void *alloc_slow(size_t n_bytes, unsigned flags)
{
    enum sh_kind kind = kind_of(flags);
    struct sh_request request = {
        .bytes = n_bytes,
        .kind = kind,
        .zero = sh_kind_is_cleared(kind),
    };
    if (n_bytes == 0 || gc_is_locked())
        return NULL;
    if (flags & GC_ALLOC_FLAG_HAS_FINALISER)
        return alloc_final(&request);
    void *p = reload(request.kind, n_bytes);
    return p ? p : sh_heap_alloc(&request);
}

static SH_NOINLINE void *alloc_typed(size_t n_bytes)
{
    void *p = take_typed(n_bytes);
    return p ? p : alloc_slow(n_bytes, GC_ALLOC_FLAG_TYPED);
}

/* Calls at the end only, so that no register has to be saved. */
SH_PUBLIC void *gc_alloc(size_t n_bytes, unsigned alloc_flags)
{
    if (SH_UNLIKELY(n_bytes - 1 >= SH_SMALL_MAX))
        return alloc_slow(n_bytes, alloc_flags);
    if (SH_LIKELY(alloc_flags == 0)) {
        unsigned c = sh_size_class_of(n_bytes);
        void *p = sh_bin_take(&sh_my_cache->bins[SH_KIND_SCAN][c]);
        if (SH_LIKELY(p != NULL))
            return clear_cell(p, sh_size_classes[c].size);
    } else if (alloc_flags == GC_ALLOC_FLAG_LEAF) {
        void *p = sh_cache_take(SH_KIND_LEAF, n_bytes);
        if (SH_LIKELY(p != NULL))
            return p;
    } else if (alloc_flags == GC_ALLOC_FLAG_TYPED) {
        return alloc_typed(n_bytes);
    }
    return alloc_slow(n_bytes, alloc_flags);
}

static SH_NOINLINE void free_slow(void *ptr)
{
    if (!ptr)
        return;
    if (SH_UNLIKELY(gc_is_locked()) && sh_deferred_add(ptr))
        return;
    if (!sh_remote_give(ptr))
        sh_heap_free(ptr, "gc_free");
}

SH_PUBLIC void gc_free(void *ptr)
{
    if (SH_UNLIKELY(!sh_cache_give(ptr)))
        free_slow(ptr);
}

/* Only the address counts: by way of an integer, so that the compiler sees that too. Of a
 * stale pointer, what is looked up may be changing, as in sh_cell_find. */
SH_NO_SANITIZE SH_PUBLIC size_t gc_nbytes(const void *ptr)
{
    struct sh_cell cell;
    uintptr_t address = (uintptr_t)ptr;
    __asm__("" : "+r"(address));
    bool live = sh_cell_find((const void *)address, &cell) == SH_FOUND_LIVE;
    size_t bytes = live ? cell.span->cell_size : 0;
    SH_KEEP(address);
    return bytes;
}

SH_PUBLIC void *gc_realloc(void *ptr, size_t n_bytes, bool allow_move)
{
    if (!ptr)
        return gc_alloc(n_bytes, 0);
    if (n_bytes == 0) {
        gc_free(ptr);
        return NULL;
    }
    if (gc_is_locked())
        return NULL;
    return sh_heap_resize(ptr, n_bytes, allow_move, "gc_realloc");
}

/* ---- Roots and threads ---- */

SH_PUBLIC int gc_add_roots(void *start, void *end)
{
    sh_critical_enter();
    int error = sh_roots_add(start, end);
    sh_critical_leave();
    return error;
}

SH_PUBLIC int gc_remove_roots(void *start, void *end)
{
    sh_critical_enter();
    int error = sh_roots_remove(start, end);
    sh_critical_leave();
    return error;
}

SH_PUBLIC int gc_add_root_slot(void **slot)
{
    return sh_root_slot_add(slot);
}

SH_PUBLIC int gc_remove_root_slot(void **slot)
{
    return sh_root_slot_remove(slot);
}

SH_PUBLIC int gc_add_root_callback(gc_root_callback_fn *callback, void *context)
{
    return sh_root_callback_add(callback, context);
}

SH_PUBLIC int gc_remove_root_callback(gc_root_callback_fn *callback, void *context)
{
    return sh_root_callback_remove(callback, context);
}

SH_PUBLIC void gc_mark_pointer(struct gc_marker *marker, const void *pointer)
{
    sh_mark_word((struct sh_marker *)marker, (uintptr_t)pointer);
}

SH_PUBLIC void gc_mark_words(struct gc_marker *marker, void **ptrs, size_t len)
{
    sh_mark_range((struct sh_marker *)marker, ptrs, ptrs + len);
}

SH_PUBLIC bool gc_set_scan_data_segments(bool on)
{
    return sh_roots_scan_segments(on);
}

SH_PUBLIC bool gc_set_scan_stacks(bool on)
{
    return sh_scan_set_stacks(on);
}

SH_PUBLIC bool gc_set_scan_malloc(bool on)
{
    return sh_mark_set_scan_explicit(on);
}

SH_PUBLIC uintptr_t gc_set_pointer_tags(uintptr_t tags)
{
    return sh_word_set_tags(tags);
}

SH_PUBLIC gc_word_decoder_fn *gc_set_word_decoder(gc_word_decoder_fn *decoder)
{
    return sh_word_set_decoder(decoder);
}

SH_PUBLIC int gc_thread_register(void)
{
    sh_heap_init();
    return sh_thread_enter() ? 0 : ENOMEM;
}

SH_PUBLIC void gc_thread_unregister(void)
{
    sh_thread_leave(false);
}

SH_PUBLIC int gc_set_stop_signal(int signal)
{
    return sh_stop_set_signal(signal);
}

SH_PUBLIC SH_NOINLINE void gc_blocking_begin(void)
{
    sh_blocking_begin(__builtin_frame_address(0));
}

SH_PUBLIC void gc_blocking_end(void)
{
    sh_blocking_end();
}

SH_PUBLIC struct gc_stack *gc_stack_add(void *start, void *end)
{
    sh_heap_init();
    return sh_stacks_add(start, end);
}

SH_PUBLIC SH_NOINLINE void gc_stack_switch(struct gc_stack *from, struct gc_stack *to)
{
    sh_stacks_switch(from, to, (uintptr_t)__builtin_frame_address(0));
}

SH_PUBLIC void gc_stack_remove(struct gc_stack *stack)
{
    if (stack)
        sh_stacks_remove(stack);
}
