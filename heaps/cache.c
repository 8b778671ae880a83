/* SPDX-License-Identifier: MIT */
/*
 * The slow paths of caches: windows, lists, adoption. See heaps/cache.h.
 *
 * A thread's cache is touched by its thread only (and by the collector while the world
 * is stopped); the shared one under SH_RANK_SHARED. All callers are in a critical
 * section.
 */
#include "heaps/cache.h"

#include "heaps/fill.h"
#include "heaps/pace.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/check.h"
#include "lib/meta.h"

struct sh_cache sh_empty_cache;
struct sh_cache sh_shared_cache;
struct sh_lock sh_shared_lock = SH_LOCK_INIT(SH_RANK_SHARED);
SH_TLS struct sh_cache *sh_my_cache = &sh_empty_cache;
_Atomic uint32_t sh_epoch;

/* Under the shared lock. Records of caches are never another type's memory: a late push
 * to the inbox of one that is retired is passed on, there or in its next life. */
static struct sh_cache *caches; /* in use */
static struct sh_cache *retired;
static _Atomic size_t shared_available; /* spans that could be adopted, about */

/* A span of fewer free cells counts as full: a sixteenth. */
static uint32_t wake_of_full(const struct sh_span *span)
{
    uint32_t sixteenth = span->cell_count / 16;
    return span->cell_count - (sixteenth ? sixteenth : 1);
}

/* ---- Lists ---- */

static struct sh_bin_lists *lists_of(struct sh_cache *cache, struct sh_span *span)
{
    return &cache->lists[span->kind][span->class_index];
}

static void count_shared(struct sh_cache *cache, uint8_t list, size_t more)
{
    if (cache == &sh_shared_cache && list == SH_LIST_AVAILABLE)
        sh_add_relaxed(&shared_available, more);
}

static void enlist(struct sh_cache *cache, struct sh_span *span, uint8_t list)
{
    struct sh_span **head = &lists_of(cache, span)->head[list];
    span->list = list;
    span->prev = NULL;
    span->next = *head;
    if (span->next)
        span->next->prev = span;
    *head = span;
    count_shared(cache, list, 1);
}

void sh_cache_unlist(struct sh_cache *cache, struct sh_span *span)
{
    if (span->list == SH_LIST_NONE)
        return;
    if (span->next)
        span->next->prev = span->prev;
    if (span->prev)
        span->prev->next = span->next;
    else
        lists_of(cache, span)->head[span->list] = span->next;
    count_shared(cache, span->list, (size_t)-1);
    span->list = SH_LIST_NONE;
}

/* An empty span goes, unless somebody is about to tell its owner of a remote free:
 * then it waits for that. `queued` is taken, so that nobody queues it from here on. */
static bool is_releasable(struct sh_span *span)
{
    return span->used == 0 && sh_span_is_empty(span) &&
           !sh_exchange_seq_cst(&span->queued, 1u);
}

/* Puts a span that is on no list and not current where its live cells say. */
static void place(struct sh_cache *cache, struct sh_span *span)
{
    if (is_releasable(span)) {
        span->list = SH_LIST_DEAD;
        span->next = cache->dead;
        cache->dead = span;
    } else if (span->used <= wake_of_full(span)) {
        span->wake = 0;
        enlist(cache, span, SH_LIST_AVAILABLE);
    } else {
        span->wake = wake_of_full(span);
        enlist(cache, span, SH_LIST_FULL);
    }
}

struct sh_span *sh_cache_detach_dead(struct sh_cache *cache)
{
    struct sh_span *dead = cache->dead;
    cache->dead = NULL;
    return dead;
}

void sh_cache_give_back(struct sh_span *dead)
{
    while (dead) {
        struct sh_span *next = dead->next;
        sh_run_give(dead);
        /* Its descriptor may have begun another life by now, and be missed there. */
        sh_remote_deliver(dead);
        dead = next;
    }
}

static bool is_current(struct sh_cache *cache, struct sh_span *span)
{
    return cache->bins[span->kind][span->class_index].span == span;
}

void sh_cache_take_back(struct sh_cache *cache, struct sh_span *span)
{
    span->used -= sh_remote_take(span);
    if (is_current(cache, span) || span->list == SH_LIST_DEAD)
        return;
    sh_cache_unlist(cache, span);
    place(cache, span);
}

void sh_cache_free_own(struct sh_cache *cache, struct sh_span *span, uint32_t cell)
{
    struct sh_word *word = &span->words[cell / 64];
    uint64_t alloc = sh_load_relaxed(&word->alloc);
    sh_store_relaxed(&word->alloc, alloc & ~sh_cell_bit(cell));
    if (--span->used == span->wake && !is_current(cache, span)) {
        sh_cache_unlist(cache, span);
        place(cache, span);
    }
}

/* ---- Windows ---- */

static uint32_t live_count(struct sh_span *span, struct sh_word *word)
{
    uint64_t tail = sh_span_tail(span, (uint32_t)(word - span->words));
    return sh_popcount64(sh_load_relaxed(&word->alloc) & ~tail);
}

void sh_cache_close_window(struct sh_bin *bin)
{
    struct sh_span *span = bin->span;
    if (!span->window)
        return;
    span->used -= sh_popcount64(bin->cells);
    span->window = NULL;
    bin->cells = 0;
}

static void open_window(struct sh_cache *cache, struct sh_bin *bin, uint32_t w)
{
    struct sh_span *span = bin->span;
    struct sh_word *word = &span->words[w];
    uint64_t cells = sh_window_cells(span, ~sh_load_relaxed(&word->alloc));
    uint32_t count = sh_popcount64(cells);
    span->used += count;
    span->window = word;
    bin->word = word;
    bin->cells = cells;
    bin->base = sh_span_cell(span, w * 64);
    bin->cell_size = span->cell_size;
    if (sh_span_collected(span))
        sh_pace_taken(cache, count * span->cell_size);
}

static uint64_t words_with_free_cells(struct sh_span *span)
{
    uint64_t words = 0;
    for (uint32_t w = 0; w < span->touched; w++) {
        bool free = sh_load_relaxed(&span->words[w].alloc) != ~(uint64_t)0;
        words |= (uint64_t)free << w;
    }
    return words;
}

/*
 * Chooses the words to visit next: those touched before, while an eighth of their
 * cells is free; then a fresh one, which costs memory; and at last what is left.
 */
static bool plan_pass(struct sh_span *span)
{
    span->used -= sh_remote_take(span);
    uint32_t touched_cells = (uint32_t)sh_min(span->touched * 64, span->cell_count);
    uint32_t free = touched_cells - span->used;
    bool fresh = span->touched < sh_span_words(span);
    if (fresh && free < touched_cells / 8 + 1) {
        span->pass = (uint64_t)1 << span->touched++;
        return true;
    }
    if (span->used > wake_of_full(span))
        return false;
    span->pass = words_with_free_cells(span);
    return span->pass != 0;
}

/* Opens the current span's next window; false: the span is full. */
static bool next_window(struct sh_cache *cache, struct sh_bin *bin)
{
    struct sh_span *span = bin->span;
    if (!span->pass && !plan_pass(span))
        return false;
    uint32_t w = sh_ctz64(span->pass);
    span->pass &= span->pass - 1;
    open_window(cache, bin, w);
    return true;
}

/* ---- Spans for a bin ---- */

static void make_current(struct sh_bin *bin, struct sh_span *span)
{
    bin->span = span;
    span->wake = SH_WAKE_NEVER;
    span->pass = 0;
}

/* After a collection the full spans may have dead cells: they are looked at again. */
static void refresh_lists(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_bin_lists *lists = &cache->lists[kind][c];
    uint32_t epoch = sh_load_relaxed(&sh_epoch);
    if (kind == SH_KIND_EXPLICIT || lists->epoch == epoch)
        return;
    lists->epoch = epoch;
    struct sh_span *span;
    while ((span = lists->head[SH_LIST_FULL])) {
        sh_cache_unlist(cache, span);
        span->wake = SH_WAKE_NEVER;
        enlist(cache, span, SH_LIST_AVAILABLE);
    }
}

/* Makes an available span current and opens its first window. */
static bool use_available(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_bin *bin = &cache->bins[kind][c];
    struct sh_span *span;
    while ((span = cache->lists[kind][c].head[SH_LIST_AVAILABLE])) {
        sh_cache_unlist(cache, span);
        sh_span_sweep_if_due(span);
        make_current(bin, span);
        if (next_window(cache, bin))
            return true;
        bin->span = NULL;
        place(cache, span);
        if (span->list == SH_LIST_AVAILABLE)
            return false; /* only its remote frees make it look so */
    }
    return false;
}

/* The shared cache's inbox and lists as they ought to be; returns an adoptable span. */
static struct sh_span *shared_span(enum sh_kind kind, unsigned c)
{
    sh_remote_drain(&sh_shared_cache);
    refresh_lists(&sh_shared_cache, kind, c);
    return sh_shared_cache.lists[kind][c].head[SH_LIST_AVAILABLE];
}

static void change_owner(struct sh_span *span, struct sh_cache *cache)
{
    uintptr_t old = sh_load_relaxed(&span->owner);
    /* Pairs with deliver in heaps/remote.c; not a store, for a table may come. */
    while (!sh_cas_weak_seq_cst(
        &span->owner, &old, (uintptr_t)cache | (old & SH_OWNER_SLOW))) {
    }
}

/* Takes over a span that a thread left behind; it is then available here. */
static bool adopt_one(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    sh_lock_acquire(&sh_shared_lock);
    struct sh_span *span = shared_span(kind, c);
    if (span) {
        sh_cache_unlist(&sh_shared_cache, span);
        change_owner(span, cache);
        sh_remote_pass_on(&sh_shared_cache);
        enlist(cache, span, SH_LIST_AVAILABLE);
    }
    struct sh_span *dead = sh_cache_detach_dead(&sh_shared_cache);
    sh_lock_release(&sh_shared_lock);
    sh_cache_give_back(dead);
    return span != NULL;
}

static bool use_adopted(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    if (cache == &sh_shared_cache)
        return false;
    while (
        sh_load_relaxed(&shared_available) || sh_load_relaxed(&sh_shared_cache.inbox)) {
        if (!adopt_one(cache, kind, c))
            return false;
        if (use_available(cache, kind, c))
            return true;
    }
    return false;
}

/* Spans are small in a small heap, so that each class gets its share. */
static struct sh_span *new_span(enum sh_kind kind, unsigned c, bool tiny)
{
    const struct sh_size_class *class = &sh_size_classes[c];
    size_t share = sh_load_relaxed(&sh_heap_counts.total_pages) / 64;
    size_t pages = sh_max(class->min_pages, sh_min(share, class->pages));
    struct sh_run_want want = {
        .pages = pages,
        .min_pages = pages,
        .align = pages % SH_GRANULE_PAGES ? SH_PAGE_SIZE : SH_GRANULE_BYTES,
        .cell_size = class->size,
        .kind = (uint8_t)kind,
        .state = SH_SPAN_SMALL,
        .class_index = (uint8_t)c,
    };
    struct sh_span *span = sh_run_take(&want);
    if (span)
        return span;
    want.align = SH_PAGE_SIZE;
    want.min_pages = tiny ? (class->size + SH_PAGE_SIZE - 1) / SH_PAGE_SIZE
                          : sh_max(class->min_pages, pages / 4);
    return sh_run_take(&want);
}

static bool use_new(struct sh_cache *cache, enum sh_kind kind, unsigned c, bool tiny)
{
    struct sh_span *span = new_span(kind, c, tiny);
    if (!span)
        return false;
    span->epoch = sh_load_relaxed(&sh_epoch);
    uintptr_t slow = sh_load_relaxed(&sh_fill_on) ? SH_OWNER_SLOW : 0;
    sh_store_seq_cst(&span->owner, (uintptr_t)cache | slow);
    make_current(&cache->bins[kind][c], span);
    return next_window(cache, &cache->bins[kind][c]);
}

/* The same window again, if much of it was freed meanwhile: those cells are warm. */
static bool use_again(struct sh_cache *cache, struct sh_bin *bin, struct sh_word *last)
{
    if (!sh_window_is_warm(bin->span, ~sh_load_relaxed(&last->alloc)))
        return false;
    open_window(cache, bin, (uint32_t)(last - bin->span->words));
    return true;
}

/* The current span's next window; or the span is put away. */
static bool use_current(struct sh_cache *cache, struct sh_bin *bin)
{
    struct sh_span *span = bin->span;
    if (!span)
        return false;
    struct sh_word *last = span->window;
    sh_cache_close_window(bin);
    sh_span_sweep_if_due(span);
    if (SH_CHECKS >= 3)
        sh_span_valid(span);
    if ((last && use_again(cache, bin, last)) || next_window(cache, bin))
        return true;
    bin->span = NULL;
    place(cache, span);
    return false;
}

/* What others freed is looked at only now, so that much comes at once. */
static bool use_other(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    sh_remote_drain(cache);
    return use_available(cache, kind, c) || use_adopted(cache, kind, c);
}

void *sh_cache_refill(
    struct sh_cache *cache, enum sh_kind kind, unsigned class_index, bool tiny)
{
    struct sh_bin *bin = &cache->bins[kind][class_index];
    void *cell = NULL;
    while (!cell) {
        refresh_lists(cache, kind, class_index);
        if (!use_current(cache, bin) && !use_other(cache, kind, class_index) &&
            !use_new(cache, kind, class_index, tiny))
            break;
        cell = sh_bin_take(bin);
    }
    return cell;
}

/* ---- Tidying ---- */

static void tidy_bin(struct sh_cache *cache, struct sh_bin *bin)
{
    struct sh_span *span = bin->span;
    if (!span)
        return;
    sh_span_sweep_if_due(span);
    if (span->used != sh_popcount64(bin->cells))
        return;
    sh_cache_close_window(bin);
    bin->span = NULL;
    place(cache, span);
}

void sh_cache_tidy(struct sh_cache *cache)
{
    sh_remote_drain(cache);
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++)
        for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
            tidy_bin(cache, &cache->bins[kind][c]);
}

/* ---- Caches ---- */

void sh_cache_select(struct sh_thread *self)
{
    bool fast = self->cache && !self->lock_depth && !sh_load_relaxed(&sh_fill_on);
    sh_my_cache = fast ? self->cache : &sh_empty_cache;
}

void sh_cache_init(struct sh_cache *cache)
{
    /* The inbox stays as it is: a late push to the cache's former life is passed on. */
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++) {
        for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
            cache->bins[kind][c] = (struct sh_bin){.cells = 0};
            cache->lists[kind][c] = (struct sh_bin_lists){.epoch = 0};
        }
    }
    cache->dead = NULL;
    cache->taken = 0;
}

struct sh_cache *sh_cache_new(void)
{
    sh_lock_acquire(&sh_shared_lock);
    struct sh_cache *cache = retired;
    if (cache)
        retired = cache->next;
    else
        cache = sh_meta_alloc_stable(sizeof *cache);
    if (cache) {
        sh_cache_init(cache);
        cache->next = caches;
        caches = cache;
    }
    sh_lock_release(&sh_shared_lock);
    return cache;
}

struct sh_cache *sh_cache_first(void)
{
    return caches;
}

static void leave_span(struct sh_span *span)
{
    change_owner(span, &sh_shared_cache);
    span->used -= sh_remote_take(span);
    place(&sh_shared_cache, span);
}

static void leave_bin(struct sh_cache *cache, unsigned kind, unsigned c)
{
    struct sh_bin *bin = &cache->bins[kind][c];
    if (bin->span) {
        sh_cache_close_window(bin);
        leave_span(bin->span);
        bin->span = NULL;
    }
    for (unsigned list = SH_LIST_AVAILABLE; list < SH_LIST_COUNT; list++) {
        struct sh_span *span;
        while ((span = cache->lists[kind][c].head[list])) {
            sh_cache_unlist(cache, span);
            leave_span(span);
        }
    }
}

static void forget(struct sh_cache *cache)
{
    struct sh_cache **link = &caches;
    while (*link != cache)
        link = &(*link)->next;
    *link = cache->next;
    cache->next = retired;
    retired = cache;
}

static struct sh_span *joined(struct sh_span *dead, struct sh_span *more)
{
    while (more) {
        struct sh_span *next = more->next;
        more->next = dead;
        dead = more;
        more = next;
    }
    return dead;
}

struct sh_span *sh_cache_retire(struct sh_cache *cache)
{
    sh_pace_flush(cache);
    sh_lock_acquire(&sh_shared_lock);
    sh_remote_drain(cache);
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++)
        for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
            leave_bin(cache, kind, c);
    sh_remote_pass_on(cache);
    sh_remote_drain(&sh_shared_cache);
    struct sh_span *dead =
        joined(sh_cache_detach_dead(cache), sh_cache_detach_dead(&sh_shared_cache));
    forget(cache);
    sh_lock_release(&sh_shared_lock);
    return dead;
}

/* ---- Fork ---- */

static void recount(struct sh_span *span)
{
    span->window = NULL;
    span->pass = 0;
    span->used = 0;
    span->touched = sh_span_words(span);
    for (uint32_t w = 0; w < span->touched; w++) {
        struct sh_word *word = &span->words[w];
        /* Its remote frees were being taken: gone from alloc, but not yet from here. */
        sh_and_relaxed(&word->remote, sh_load_relaxed(&word->alloc));
        span->used += live_count(span, word);
    }
}

static bool is_ours(struct sh_cache *owner, struct sh_cache *mine)
{
    return owner == &sh_shared_cache || (mine && owner == mine);
}

/* All inboxes are emptied, for whoever was pushing or passing on is no more; what they
 * notified of is found in the words. */
static void keep_cache(struct sh_cache *mine)
{
    while (caches) {
        struct sh_cache *cache = caches;
        caches = cache->next;
        cache->next = retired;
        if (cache != mine)
            retired = cache;
    }
    for (struct sh_cache *cache = retired; cache; cache = cache->next)
        sh_store_relaxed(&cache->inbox, NULL);
    sh_store_relaxed(&sh_shared_cache.inbox, NULL);
    sh_shared_cache.dead = NULL;
    if (!mine)
        return;
    sh_store_relaxed(&mine->inbox, NULL);
    mine->dead = NULL;
    mine->next = NULL;
    caches = mine;
}

static bool has_remote_bits(struct sh_span *span)
{
    for (uint32_t w = 0; w < span->touched; w++)
        if (sh_load_relaxed(&span->words[w].remote) & ~sh_span_tail(span, w))
            return true;
    return false;
}

/* Only what needs it is written to: each page written is one that the child copies. */
static void keep_span(struct sh_span *span, struct sh_cache *mine)
{
    struct sh_cache *owner = sh_span_owner(span);
    if (sh_load_relaxed(&span->queued))
        sh_store_relaxed(&span->queued, 0u);
    if (span->state != SH_SPAN_SMALL || !owner)
        return;
    if (is_ours(owner, mine) && span->list != SH_LIST_DEAD && !has_remote_bits(span))
        return;
    sh_store_relaxed(&span->remote_words, sh_low_bits64(sh_span_words(span)));
    if (span->list == SH_LIST_DEAD)
        span->list = SH_LIST_NONE;
    if (is_ours(owner, mine)) {
        sh_cache_take_back(owner, span);
        return;
    }
    change_owner(span, &sh_shared_cache);
    recount(span);
    span->used -= sh_remote_take(span);
    span->list = SH_LIST_NONE;
    place(&sh_shared_cache, span);
}

/*
 * A thread that is no more may have been anywhere in a slow path. Its cells' bits are
 * right at any time; its lists, counts, and the spans it was about to queue are not.
 */
void sh_cache_fork_child(struct sh_cache *mine)
{
    keep_cache(mine);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        keep_span(span, mine);
}
