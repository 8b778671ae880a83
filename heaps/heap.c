/* SPDX-License-Identifier: MIT */
/*
 * Allocating, freeing and resizing below the two faces.
 *
 * A thread's own cache serves it; a thread without one (it is being registered, or past
 * its end, or the loader runs it early) is served from the shared cache, under its lock.
 */
#include "heaps/heap.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <splitheap/gc.h>

#include "heaps/background.h"
#include "heaps/cache.h"
#include "heaps/callback.h"
#include "heaps/collect.h"
#include "heaps/deferred.h"
#include "heaps/fill.h"
#include "heaps/finaliser_thread.h"
#include "heaps/fork.h"
#include "heaps/huge.h"
#include "heaps/limit.h"
#include "heaps/mark_team.h"
#include "heaps/memcheck.h"
#include "heaps/misuse.h"
#include "heaps/pace.h"
#include "heaps/purge.h"
#include "heaps/reclaim.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "heaps/stats.h"
#include "heaps/sweep.h"
#include "heaps/tables.h"
#include "heaps/weak_link.h"
#include "lib/check.h"
#include "lib/options.h"
#include "threads/gang.h"
#include "threads/gc_mutex.h"
#include "threads/registry.h"
#include "threads/static_roots.h"

/* ---- Beginning ---- */

static _Atomic bool ready;

static void thread_ending(struct sh_thread *self)
{
    struct sh_cache *cache = self->cache;
    self->cache = NULL;
    self->deferred = NULL;
    sh_cache_select(self);
    if (!cache)
        return;
    sh_cache_enter(cache);
    self->deferred = sh_cache_retire(cache);
}

static void thread_ended(struct sh_thread *self)
{
    sh_cache_give_back(self->deferred);
}

/* A stack that lies in one of our cells is scanned as that cell. */
static bool holds(uintptr_t address)
{
    struct sh_span *span = sh_page_map_lookup(address);
    if (!span || span->state == SH_SPAN_FREE)
        return false;
    if (span->kind == SH_KIND_EXPLICIT)
        return sh_mark_scans_explicit();
    return span->kind != SH_KIND_LEAF;
}

/* The threads of our own. */
static void end_helpers(void)
{
    sh_finaliser_thread_end();
    sh_background_end();
    sh_gang_end();
}

static const struct sh_thread_hooks hooks = {
    .leaving = sh_deferred_free,
    .ending = thread_ending,
    .ended = thread_ended,
    .none_left = end_helpers,
    .fork_prepare = sh_heap_fork_prepare,
    .fork_parent = sh_heap_fork_parent,
    .fork_child = sh_heap_fork_child,
    .holds = holds,
};

/* Before there are threads: a fork beside the first use of the heap has to find them. */
__attribute__((constructor(101))) static void set_hooks(void)
{
    sh_registry_set_hooks(&hooks);
}

/* Tables of ours in the data segment that hold no object's address. */
static void exclude_tables(void)
{
    static _Atomic bool done;
    if (sh_exchange_seq_cst(&done, true))
        return;
    sh_roots_init();
    sh_roots_exclude(sh_page_map_root, sh_page_map_root + SH_ROOT_ENTRIES);
    sh_roots_exclude(&sh_shared_cache, &sh_shared_cache + 1);
    sh_collect_init();
}

/* Who comes at the same time as another reads the same options, and is not heard. */
static void init_once(void)
{
    struct sh_options options;
    sh_options_read(&options);
    sh_critical_enter();
    exclude_tables();
    sh_lock_acquire(&sh_heap_lock);
    bool first = !sh_load_relaxed(&ready);
    if (first) {
        sh_options = options;
        sh_limit_set(options.max_heap);
        sh_pace_init();
        sh_memcheck_init();
        sh_fill_init();
        sh_size_class_init();
        set_hooks(); /* there is a constructor that came before */
        /* Pairs with sh_heap_init. */
        sh_store_release(&ready, true);
    }
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
    if (first) {
        sh_options_tell();
        sh_stats_prepare();
    }
}

void sh_heap_init(void)
{
    if (SH_UNLIKELY(!sh_load_acquire(&ready)))
        init_once();
}

/* ---- Whose cache ---- */

/* A thread gets its cache when it first needs one: the one that its predecessor left. */
static bool has_cache(struct sh_thread *self)
{
    if (SH_LIKELY(self->cache != NULL))
        return true;
    self->cache = sh_cache_new();
    sh_cache_select(self);
    return self->cache != NULL;
}

/* The cache to allocate from, in a critical section until leave_cache. */
/* A lock may be held here, by the very thread that would wait for it. */
static SH_COLD void entered_again(void)
{
    sh_fatal("the heap is entered from a signal handler that interrupted it; a handler "
             "may call nothing that allocates or frees");
}

static struct sh_cache *enter_cache(void)
{
    if (SH_UNLIKELY(sh_tls.critical > 0))
        entered_again();
    struct sh_thread *self = sh_thread_enter();
    sh_critical_enter();
    if (SH_LIKELY(self && has_cache(self))) {
        sh_cache_enter(self->cache);
        return self->cache;
    }
    sh_lock_acquire(&sh_shared_lock);
    return &sh_shared_cache;
}

static void leave_cache(struct sh_cache *cache)
{
    struct sh_span *dead = sh_cache_detach_dead(cache);
    if (cache == &sh_shared_cache)
        sh_lock_release(&sh_shared_lock);
    else
        sh_cache_leave(cache);
    sh_cache_give_back(dead);
    sh_critical_leave();
}

/* ---- Allocating ---- */

/* The class whose cells hold the request and lie as it wants, or SH_CLASS_COUNT. */
static unsigned class_for(const struct sh_request *request)
{
    size_t align = request->align;
    size_t bytes = sh_max(request->bytes, 1);
    if (align > SH_GRANULE) {
        if (align > SH_PAGE_SIZE)
            return SH_CLASS_COUNT;
        bytes = sh_round_up(bytes, align);
    }
    if (bytes > SH_SMALL_MAX)
        return SH_CLASS_COUNT;
    unsigned c = sh_size_class_of(bytes);
    while (c < SH_CLASS_COUNT && align > SH_GRANULE && sh_size_classes[c].size % align)
        c++;
    return c;
}

/* The next class whose cells do for the request; false: there is none. */
static bool next_class(const struct sh_request *request, unsigned *c)
{
    do
        ++*c;
    while (*c < SH_CLASS_COUNT && request->align > SH_GRANULE &&
           sh_size_classes[*c].size % request->align);
    return *c < SH_CLASS_COUNT;
}

/* What may serve a request, where memory is short. */
enum thrift {
    FITTING, /* cells of its class */
    WIDER,   /* and up to twice as large ones */
    SCRAPS,  /* and any, in spans of as little as one page */
};

static bool may_try(enum thrift thrift, size_t wanted, size_t size)
{
    return thrift == SCRAPS || (thrift == WIDER && size <= 2 * wanted);
}

static void *alloc_small(
    const struct sh_request *request, unsigned c, enum thrift thrift)
{
    struct sh_cache *cache = enter_cache();
    size_t wanted = sh_size_classes[c].size;
    void *p;
    do {
        p = sh_bin_take_as(&cache->bins[request->kind][c], request->kind);
        if (!p)
            p = sh_cache_refill(cache, request->kind, c, thrift == SCRAPS);
        /* In a tiny heap, or near its limit, a larger class may have the last cells. */
    } while (!p && thrift != FITTING && next_class(request, &c) &&
             may_try(thrift, wanted, sh_size_classes[c].size));
    leave_cache(cache);
    if (p && request->zero)
        memset(p, 0, sh_size_classes[c].size);
    return p;
}

/* Hands out the one cell of a large or huge span. */
static void *hand_out(struct sh_span *span, const struct sh_request *request)
{
    void *p = (void *)span->base;
    bool zeroed = span->zeroed;
    size_t bytes = span->cell_size;
    span->touched = 1;
    span->epoch = sh_load_relaxed(&sh_epoch);
    if (request->kind == SH_KIND_TYPED) /* as in sh_bin_take_as */
        *(void *volatile *)p = NULL;
    SH_BARRIER();
    sh_cell_set(span, 0, SH_CELL_LIVE);
    if (request->kind != SH_KIND_EXPLICIT)
        sh_pace_taken_large(bytes);
    sh_critical_leave();
    if (request->zero && !zeroed)
        memset(p, 0, bytes);
    return p;
}

static size_t pages_of(size_t bytes)
{
    return (bytes + SH_PAGE_SIZE - 1) / SH_PAGE_SIZE;
}

static void *alloc_large(const struct sh_request *request)
{
    struct sh_run_want want = {
        .pages = pages_of(sh_max(request->bytes, 1)),
        .align = sh_max(request->align, SH_PAGE_SIZE),
        .kind = (uint8_t)request->kind,
        .state = SH_SPAN_LARGE,
    };
    want.min_pages = want.pages;
    sh_critical_enter();
    struct sh_span *span = sh_run_take(&want);
    if (span)
        return hand_out(span, request);
    sh_critical_leave();
    return NULL;
}

static void *alloc_huge(const struct sh_request *request)
{
    size_t bytes = sh_round_up(request->bytes, SH_SLOT_BYTES);
    if (sh_heap_may_map(bytes) < bytes)
        return alloc_large(request);
    sh_critical_enter();
    struct sh_span *span = sh_huge_map(bytes, request->align, (uint8_t)request->kind);
    if (span)
        return hand_out(span, request);
    sh_critical_leave();
    return alloc_large(request);
}

/* One try with the memory that there is. */
static void *try_alloc(const struct sh_request *request, enum thrift thrift)
{
    unsigned c = class_for(request);
    if (c < SH_CLASS_COUNT)
        return alloc_small(request, c, thrift);
    if (request->bytes >= SH_HUGE_MIN)
        return alloc_huge(request);
    return alloc_large(request);
}

/* What this thread keeps for its next allocations, others for theirs, and threads that
 * ended for others, goes back to the system. True: there were dirty pages. */
static bool put_away(void)
{
    struct sh_cache *cache = enter_cache();
    sh_cache_put_away(cache);
    leave_cache(cache);
    sh_critical_enter();
    sh_cache_give_back(sh_cache_dissolve_idle());
    sh_critical_leave();
    sh_reclaim_idle();
    sh_critical_enter();
    bool any = sh_purge_dirty();
    sh_critical_leave();
    return any;
}

/* Pages that a new area needs to serve the request. */
static size_t pages_to_grow(const struct sh_request *request)
{
    unsigned c = class_for(request);
    if (c < SH_CLASS_COUNT)
        return sh_size_classes[c].pages;
    size_t align = request->align > SH_PAGE_SIZE ? request->align : 0;
    return pages_of(request->bytes) + pages_of(align);
}

/* The heap as it is, then a larger one. */
static void *alloc_or_grow(const struct sh_request *request)
{
    for (;;) {
        uint32_t seen = sh_load_relaxed(&sh_heap_counts.areas);
        void *p = try_alloc(request, FITTING);
        if (p)
            return p;
        if (!sh_heap_grow(pages_to_grow(request), seen))
            return NULL;
    }
}

/* Rather than fail: a leaf may lie in a cell that is scanned. */
static void *alloc_thriftily(const struct sh_request *request, enum thrift thrift)
{
    void *p = try_alloc(request, thrift);
    if (p || request->kind != SH_KIND_LEAF || request->bytes > SH_SMALL_MAX)
        return p;
    struct sh_request scanned = *request;
    scanned.kind = SH_KIND_SCAN;
    return try_alloc(&scanned, thrift);
}

/* The heap as it is, then a larger one; then what nearly fits; then with all given back
 * that can be, so that the system has it for another size, or runs join; then any scrap. */
static void *alloc_somehow(const struct sh_request *request)
{
    void *p = alloc_or_grow(request);
    if (!p)
        p = alloc_thriftily(request, WIDER);
    if (p)
        return p;
    put_away();
    p = alloc_or_grow(request);
    return p ? p : alloc_thriftily(request, SCRAPS);
}

/* Something that can be collected is wanted. */
static void before_collected(size_t bytes)
{
    if (SH_UNLIKELY(!sh_pace_anything()))
        sh_stop_prepare();
    uint32_t seen = sh_load_relaxed(&sh_epoch);
    if (sh_pace_due(bytes))
        sh_collect_if_unlocked(seen);
}

/* After a slow path: what is to be done from time to time, by who comes by. */
static void look_around(void)
{
    sh_critical_enter();
    sh_purge_tick();
    sh_reclaim_tick();
    sh_critical_leave();
    sh_background_start_if_wanted(false);
}

/*
 * After two collections in vain there is no memory: what was finalised by the first is
 * freed by the second. Those do not count after which others took what was freed before
 * this thread came to it, or collected themselves. Where somebody did since the epoch was
 * `seen`, this thread need not, but waits until all of it is given back.
 */
#define COLLECT_TRIES 16

static void *collect_and_alloc(const struct sh_request *request, uint32_t seen)
{
    void *p = NULL;
    unsigned vain = 0;
    for (unsigned tries = 0; !p && vain < 2 && tries < COLLECT_TRIES; tries++) {
        uint32_t before = sh_load_relaxed(&sh_epoch);
        bool done = before != seen;
        if (done)
            sh_gc_mutex_await(SH_GC_COLLECTING);
        else if (!sh_collect_for_memory())
            break;
        seen = sh_load_relaxed(&sh_epoch);
        p = alloc_somehow(request);
        uint32_t now = sh_load_relaxed(&sh_epoch);
        if (!done && now == before)
            break; /* a thread did not stop: nothing was collected */
        vain += !done && now - before <= 1 && sh_pace_taken_bytes() == 0;
    }
    return p;
}

/* No collection would help. */
static bool is_out_of_reach(const struct sh_request *request)
{
    return request->bytes > PTRDIFF_MAX || request->align > PTRDIFF_MAX / 2 ||
           request->bytes + request->align > PTRDIFF_MAX ||
           pages_of(request->bytes) > sh_limit_most();
}

static void *alloc(const struct sh_request *request)
{
    int saved = errno;
    if (is_out_of_reach(request)) {
        errno = ENOMEM;
        return NULL;
    }
    if (request->kind != SH_KIND_EXPLICIT)
        before_collected(request->bytes);
    uint32_t seen = sh_load_relaxed(&sh_epoch);
    void *p = alloc_somehow(request);
    if (SH_UNLIKELY(!p))
        p = collect_and_alloc(request, seen);
    look_around();
    errno = p ? saved : ENOMEM;
    return p;
}

static SH_COLD void *alloc_checked(const struct sh_request *request)
{
    struct sh_request wider;
    if (!sh_memcheck_widen(request, &wider))
        return NULL;
    void *cell = alloc(&wider);
    return cell ? sh_memcheck_new(request, cell) : NULL;
}

static SH_COLD void *alloc_filled(const struct sh_request *request)
{
    if (sh_memcheck_on())
        return alloc_checked(request);
    struct sh_request filled = *request;
    filled.zero |= sh_fill_clears();
    void *p = alloc(&filled);
    if (p && !filled.zero)
        sh_fill_new(p, sh_page_map_lookup((uintptr_t)p)->cell_size);
    return p;
}

void *sh_heap_alloc(const struct sh_request *request)
{
    sh_heap_init();
    if (SH_UNLIKELY(sh_load_relaxed(&sh_fill_on)))
        return alloc_filled(request);
    return alloc(request);
}

/* ---- Finding ---- */

SH_INLINE enum sh_found find(const void *p, struct sh_cell *cell)
{
    uintptr_t address = (uintptr_t)p;
    struct sh_span *span = sh_page_map_lookup(address);
    if (!span || span->state == SH_SPAN_FREE)
        return SH_FOUND_NOWHERE;
    bool exact;
    uint32_t index = sh_divide(address - span->base, span->reciprocal, &exact);
    if (span->reciprocal == 0)
        exact = address == span->base;
    *cell = (struct sh_cell){.span = span, .index = index};
    if (!exact && !(sh_memcheck_on() && sh_memcheck_begins(p, *cell)))
        return SH_FOUND_INTERIOR;
    return sh_cell_is_live(span, index) ? SH_FOUND_LIVE : SH_FOUND_DEAD;
}

/* Any word may be looked up: also one of whose memory another thread is just making
 * something else, which the thread sanitizer minds. */
SH_NO_SANITIZE enum sh_found sh_cell_find(const void *p, struct sh_cell *cell)
{
    return find(p, cell);
}

/* False: there is none, and it was said. */
SH_INLINE bool find_live(const void *p, const char *call, struct sh_cell *cell)
{
    enum sh_found found = find(p, cell);
    if (SH_LIKELY(found == SH_FOUND_LIVE))
        return true;
    sh_misuse_pointer(call, p, found);
    return false;
}

static size_t usable(struct sh_cell cell)
{
    if (sh_memcheck_on() && cell.span->kind == SH_KIND_EXPLICIT)
        return sh_memcheck_bytes(cell);
    return cell.span->cell_size;
}

size_t sh_heap_usable(const void *p, const char *call)
{
    struct sh_cell cell;
    size_t bytes = find_live(p, call, &cell) ? usable(cell) : 0;
    SH_KEEP(p);
    return bytes;
}

/* ---- Freeing ---- */

/* The one cell of a large or huge span: anyone may free it, once. */
static bool free_whole(struct sh_span *span)
{
    uint8_t state = SH_CELL_LIVE;
    if (!sh_cas_seq_cst(&span->states[0], &state, (uint8_t)SH_CELL_FREE))
        return false;
    sh_run_give(span);
    return true;
}

/* The cache of the running thread, also inside gc_lock; NULL: it has none. */
SH_INLINE struct sh_cache *own_cache(void)
{
    return sh_tls.self ? sh_tls.self->cache : NULL;
}

/* False: somebody else freed it just now. */
SH_INLINE bool free_cell(struct sh_cell cell)
{
    struct sh_span *span = cell.span;
    if (span->state != SH_SPAN_SMALL)
        return free_whole(span);
    struct sh_cache *owner = sh_span_owner(span);
    if (SH_LIKELY(!owner || owner != own_cache()))
        return sh_remote_free(span, cell.index);
    sh_cache_enter(owner);
    bool freed = sh_cache_free_own(owner, span, cell.index);
    struct sh_span *dead = sh_cache_detach_dead(owner);
    sh_cache_leave(owner);
    sh_cache_give_back(dead);
    return freed;
}

/* The cell's rare bits go before it does; weak references hear of it while it is
 * whole. */
static SH_NOINLINE void clear_tables(void *p, struct sh_cell cell)
{
    if (sh_weak_freed(cell)) {
        gc_weakref_about_to_be_freed(p);
        sh_weak_freed(cell); /* what the program made in there */
    }
    sh_critical_enter();
    sh_callback_forget(cell);
    sh_critical_leave();
}

/* It is live yet: of a typed one the type goes first, and is not filled. */
static void fill_freed(void *p, const struct sh_span *span)
{
    size_t kept = span->kind == SH_KIND_TYPED ? sizeof(void *) : 0;
    if (kept)
        *(void *volatile *)p = NULL;
    sh_fill_freed((char *)p + kept, span->cell_size - kept);
}

/* Nothing here changes errno: lib/os.h and sh_background_start keep it. */
void sh_heap_free(void *p, const char *call)
{
    struct sh_cell cell;
    if (sh_memcheck_on() && find(p, &cell) != SH_FOUND_LIVE) {
        sh_memcheck_misused(p);
        return;
    }
    if (SH_UNLIKELY(!find_live(p, call, &cell)))
        return;
    if (SH_UNLIKELY(cell.span->pinned)) {
        sh_misuse_pinned(call, p);
        return;
    }
    if (SH_UNLIKELY(sh_load_relaxed(&cell.span->owner) & SH_OWNER_SLOW))
        clear_tables(p, cell);
    if (sh_memcheck_on())
        sh_memcheck_freed(p, cell);
    else if (SH_UNLIKELY(sh_load_relaxed(&sh_fill_on)))
        fill_freed(p, cell.span);
    sh_critical_enter();
    bool freed = free_cell(cell);
    sh_critical_leave();
    sh_background_start_if_wanted(true);
    SH_KEEP(p);
    if (SH_UNLIKELY(!freed))
        sh_misuse_pointer(call, p, SH_FOUND_DEAD);
}

bool sh_heap_trim(void)
{
    sh_heap_init();
    size_t before = sh_load_relaxed(&sh_heap_counts.total_pages);
    bool any = put_away();
    return any || sh_load_relaxed(&sh_heap_counts.total_pages) < before;
}

/* ---- Resizing ---- */

/* References do not follow an object that moves, of which the system does not tell. */
static bool is_weakly_referenced(struct sh_span *whole)
{
    return sh_table_word(&whole->weak_bits, 0) != 0;
}

/* What it has more is cleared; before it is said to have that, and its thread may be stopped,
 * where the object's type speaks of it, too. A huge one has it from the system. */
static void clear_more(struct sh_span *span, size_t old, size_t now)
{
    if (sh_memcheck_on())
        sh_memcheck_open((char *)span->base + old, now - old);
    if (sh_kind_is_cleared(span->kind) && span->state == SH_SPAN_LARGE)
        memset((char *)span->base + old, 0, now - old);
}

/* A fork by another thread is before or after it. */
static void set_cell_size(struct sh_span *span, size_t bytes)
{
    sh_lock_acquire(&sh_heap_lock);
    span->cell_size = bytes;
    sh_lock_release(&sh_heap_lock);
}

/* A cell of its own pages, resized where it is (or, huge, by the system). */
static void *resize_pages(struct sh_span *span, size_t n, bool allow_move)
{
    size_t old = span->cell_size;
    bool done = false;
    if (span->state == SH_SPAN_HUGE && n > old && sh_heap_may_map(n - old) < n - old)
        return NULL;
    sh_critical_enter();
    if (span->state == SH_SPAN_LARGE) {
        done = sh_run_resize(span, pages_of(n));
    } else if (allow_move && n >= SH_HUGE_MIN / 2 && !is_weakly_referenced(span)) {
        sh_callback_withdraw((struct sh_cell){.span = span, .index = 0});
        done = sh_huge_resize(span, sh_round_up(n, SH_SLOT_BYTES));
    }
    void *p = (void *)span->base;
    size_t now = done ? span->pages * SH_PAGE_SIZE : old;
    if (now > old && span->kind == SH_KIND_TYPED)
        clear_more(span, old, now);
    if (now > old)
        set_cell_size(span, now);
    sh_critical_leave();
    if (!done)
        return NULL;
    if (now > old && span->kind != SH_KIND_TYPED)
        clear_more(span, old, now);
    if (now > old && !sh_kind_is_cleared(span->kind) &&
        SH_UNLIKELY(sh_load_relaxed(&sh_fill_on)))
        sh_fill_new((char *)p + old, now - old);
    return p;
}

/* Whether the cell does for n bytes as it is: it holds them and wastes little. */
static bool fits_well(struct sh_span *span, size_t n, bool allow_move)
{
    if (n > span->cell_size)
        return false;
    if (span->state == SH_SPAN_SMALL)
        return !allow_move || n * 2 >= span->cell_size ||
               sh_size_class_of(n) == span->class_index;
    return pages_of(n) == span->pages;
}

/* A typed object gets its type when all that this speaks of is there. */
static void copy_object(void *to, const void *from, size_t bytes, unsigned kind)
{
    if (kind != SH_KIND_TYPED) {
        memcpy(to, from, bytes);
        return;
    }
    bytes = sh_max(bytes, sizeof(void *));
    memcpy((void **)to + 1, (void *const *)from + 1, bytes - sizeof(void *));
    SH_BARRIER();
    *(void *volatile *)to = *(void *const *)from;
}

static void *resize_by_copy(struct sh_cell cell, void *p, size_t n, const char *call)
{
    struct sh_request request = {
        .bytes = n,
        .kind = cell.span->kind,
        .zero = sh_kind_is_cleared(cell.span->kind),
    };
    size_t old = cell.span->cell_size;
    void *q = sh_heap_alloc(&request);
    if (!q)
        return NULL;
    /* First the type, then the finaliser: where another thread forks in between, nobody
     * holds the new one in the child. */
    copy_object(q, p, sh_min(old, n), request.kind);
    sh_critical_enter();
    bool moved = sh_callback_move_finaliser(cell, q);
    sh_critical_leave();
    if (!moved) {
        sh_heap_free(q, call);
        errno = ENOMEM;
        return NULL;
    }
    sh_heap_free(p, call);
    return q;
}

/* Always somewhere else, so that who keeps the old address is found out. */
static void *resize_checked(struct sh_cell cell, void *p, size_t n, bool allow_move)
{
    size_t old = sh_memcheck_bytes(cell);
    struct sh_request request = {.bytes = n, .kind = SH_KIND_EXPLICIT};
    if (!allow_move)
        return n <= old ? p : NULL;
    void *q = sh_heap_alloc(&request);
    if (!q)
        return NULL;
    memcpy(q, p, sh_min(old, n));
    sh_heap_free(p, "realloc");
    return q;
}

void *sh_heap_resize(void *p, size_t n, bool allow_move, const char *call)
{
    int saved = errno;
    struct sh_cell cell;
    if (!find_live(p, call, &cell)) {
        errno = EINVAL;
        return NULL;
    }
    struct sh_span *span = cell.span;
    if (span->pinned) {
        sh_misuse_pinned(call, p);
        errno = EINVAL;
        return NULL;
    }
    if (SH_UNLIKELY(sh_weak_leads(cell))) {
        sh_misuse_link(call, p);
        errno = EINVAL;
        return NULL;
    }
    if (n > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    if (sh_memcheck_on() && span->kind == SH_KIND_EXPLICIT)
        return resize_checked(cell, p, n, allow_move);
    if (fits_well(span, n, allow_move))
        return p;
    if (span->state != SH_SPAN_SMALL && (!allow_move || n > SH_SMALL_MAX)) {
        void *q = resize_pages(span, n, allow_move);
        errno = saved;
        if (q)
            return q;
    }
    if (n <= span->cell_size && !allow_move)
        return p;
    if (!allow_move)
        return NULL;
    void *q = resize_by_copy(cell, p, n, call);
    /* What was collected for the copy may make room where it is. */
    if (!q && n > span->cell_size && span->state != SH_SPAN_SMALL)
        q = resize_pages(span, n, true);
    if (q)
        errno = saved;
    /* To shrink, staying is always possible. */
    return q || n > span->cell_size ? q : p;
}

bool sh_object_set_final(void *p)
{
    struct sh_cell cell;
    sh_critical_enter();
    bool done = sh_cell_find(p, &cell) == SH_FOUND_LIVE &&
                sh_table_set(cell, &cell.span->final_bits);
    sh_critical_leave();
    return done;
}
