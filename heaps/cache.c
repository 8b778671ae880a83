/* SPDX-License-Identifier: MIT */
/*
 * The slow paths of caches: magazines, lists, adoption. See heaps/cache.h.
 *
 * A thread's cache is touched by its thread only (and by the collector while the world
 * is stopped); the shared one under SH_RANK_SHARED. All callers are in a critical
 * section.
 */
#include "heaps/cache.h"

#include <string.h>

#include "heaps/background.h"
#include "heaps/fill.h"
#include "heaps/limit.h"
#include "heaps/misuse.h"
#include "heaps/pace.h"
#include "heaps/purge.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/check.h"
#include "lib/meta.h"

/* What the bins of a cache that never had a magazine point at: an empty, full one. */
static struct sh_round no_rounds;

#define EMPTY_BIN                                                                      \
    {                                                                                  \
        .top = &no_rounds, .limit = &no_rounds                                         \
    }
#define EMPTY_BINS                                                                     \
    {                                                                                  \
        [0 ... SH_KIND_COUNT - 1] = {[0 ... SH_CLASS_COUNT - 1] = EMPTY_BIN},          \
    }

struct sh_cache sh_empty_cache = {.bins = EMPTY_BINS};
struct sh_cache sh_shared_cache = {.bins = EMPTY_BINS};
struct sh_lock sh_shared_lock = SH_LOCK_INIT(SH_RANK_SHARED);
SH_TLS struct sh_cache *sh_my_cache = &sh_empty_cache;
_Atomic uint32_t sh_epoch;

/* Under the shared lock. Records of caches are never another type's memory: a late push
 * to the inbox of one that is retired is passed on, there or in its next life. */
static struct sh_cache *caches; /* in use */
static struct sh_cache *idle;   /* their threads ended; the latest first */
static struct sh_cache *retired;
static _Atomic unsigned idle_count;
#define IDLE_MOST 16                    /* caches kept whole for threads to come */
static _Atomic size_t shared_available; /* spans that could be adopted, about */

/* A span of fewer free cells counts as full: a sixteenth. */
static uint32_t wake_of_full(const struct sh_span *span)
{
    uint32_t sixteenth = span->cell_count / 16;
    return span->cell_count - (sixteenth ? sixteenth : 1);
}

/* ---- Lists ---- */

static struct sh_depot *depot_of(struct sh_cache *cache, struct sh_span *span)
{
    return &cache->depots[span->kind][span->class_index];
}

static void count_shared(struct sh_cache *cache, uint8_t list, size_t more)
{
    if (cache == &sh_shared_cache && list == SH_LIST_AVAILABLE)
        sh_add_relaxed(&shared_available, more);
}

static void enlist(struct sh_cache *cache, struct sh_span *span, uint8_t list)
{
    struct sh_span **head = &depot_of(cache, span)->head[list];
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
        depot_of(cache, span)->head[span->list] = span->next;
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

/* Puts a span that is on no list and not current where its live cells say; one that is due
 * to be swept may have fewer than it seems, and is looked at. */
static void place(struct sh_cache *cache, struct sh_span *span)
{
    if (is_releasable(span)) {
        span->list = SH_LIST_DEAD;
        span->next = cache->dead;
        cache->dead = span;
    } else if (span->used <= wake_of_full(span) || sh_span_sweep_due(span)) {
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

#define GIVEN_AT_ONCE 32 /* others wait for the heap's lock meanwhile */

/* Takes the first spans off the list, as many as are given back at once. */
static size_t cut(struct sh_span **dead, struct sh_span **spans)
{
    size_t count = 0;
    while (*dead && count < GIVEN_AT_ONCE && (*dead)->state != SH_SPAN_HUGE) {
        spans[count++] = *dead;
        *dead = (*dead)->next;
    }
    return count;
}

void sh_cache_give_back(struct sh_span *dead)
{
    if (SH_UNLIKELY(sh_load_relaxed(&sh_misuse_untold)))
        sh_misuse_tell_race();
    struct sh_span *spans[GIVEN_AT_ONCE];
    while (dead) {
        size_t count = cut(&dead, spans);
        if (count == 0) {
            spans[count++] = dead;
            dead = dead->next;
            sh_run_give(spans[0]);
        } else {
            sh_run_give_all(spans, count);
        }
        /* Descriptors may have begun another life by now, and be missed there. */
        for (size_t i = 0; i < count; i++)
            sh_remote_deliver(spans[i]);
    }
}

static bool is_current(struct sh_cache *cache, struct sh_span *span)
{
    return depot_of(cache, span)->current == span;
}

void sh_cache_take_back(struct sh_cache *cache, struct sh_span *span)
{
    span->used -= sh_remote_take(span);
    if (is_current(cache, span) || span->list == SH_LIST_DEAD)
        return;
    sh_cache_unlist(cache, span);
    place(cache, span);
}

/* So many of the span's cells were let go of. */
static void release_cells(struct sh_cache *cache, struct sh_span *span, uint32_t count)
{
    uint32_t before = span->used;
    span->used -= count;
    /* A current span's wake is below nothing. */
    if (before > span->wake && span->used <= span->wake) {
        sh_cache_unlist(cache, span);
        place(cache, span);
    }
}

/* ---- Magazines ---- */

/* The magazine shrinks while it overflows and is not refilled: a program that frees all
 * it has is left with few cells, which are spread over as many spans. */
#define OVERFLOWS_TO_HALVE 16
#define SHRUNK_ROUNDS 4

static void set_limit(struct sh_depot *depot, struct sh_bin *bin, unsigned c)
{
    unsigned halvings = depot->overflows / OVERFLOWS_TO_HALVE;
    size_t rounds = (size_t)sh_size_classes[c].magazine >> sh_min(halvings, 8);
    bin->limit = depot->magazine + sh_max(rounds, SHRUNK_ROUNDS);
}

static bool has_magazine(const struct sh_bin *bin)
{
    return bin->limit != &no_rounds;
}

/* Gives the bin its magazine, which may be that of the cache's former life. */
static bool take_magazine(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    if (!depot->magazine)
        depot->magazine =
            sh_meta_alloc((sh_size_classes[c].magazine + 1) * sizeof(struct sh_round));
    if (!depot->magazine)
        return false;
    depot->magazine[0].cell = 0;
    cache->bins[kind][c].top = depot->magazine;
    set_limit(depot, &cache->bins[kind][c], c);
    cache->in_use[kind][c / 64] |= (uint64_t)1 << (c % 64);
    return true;
}

SH_INLINE bool is_of(const struct sh_round *round, const struct sh_span *span)
{
    return (uintptr_t)(round->state - span->states) < span->cell_count;
}

/* The cell is HELD no more, but FREE or REMOTE; false: it was not HELD, and is somebody's
 * already, for it was freed twice. */
SH_INLINE bool unhold(struct sh_round *round, enum sh_cell_state state)
{
    uint8_t held = SH_CELL_HELD;
    bool done = state == SH_CELL_REMOTE
                    ? sh_cas_seq_cst(round->state, &held, (uint8_t)SH_CELL_REMOTE)
                    : sh_load_relaxed(round->state) == SH_CELL_HELD;
    if (SH_UNLIKELY(!done))
        sh_misuse_race((const void *)round->cell);
    else if (state == SH_CELL_FREE)
        sh_store_relaxed(round->state, (uint8_t)SH_CELL_FREE);
    return done;
}

/* The same of a span of another cache, which hears of it once. */
static struct sh_round *unload_foreign(
    struct sh_span *span, struct sh_round *round, struct sh_round *end)
{
    uint64_t words = 0;
    for (; round < end && is_of(round, span); round++)
        if (unhold(round, SH_CELL_REMOTE))
            words |= (uint64_t)1 << ((round->state - span->states) / 64);
    sh_remote_notify(span, words);
    return round;
}

/* Unloads the rounds at [round, end) that are of one span; returns the first that is not. */
static struct sh_round *unload_span(
    struct sh_cache *cache, struct sh_round *round, struct sh_round *end)
{
    struct sh_span *span = sh_page_map_lookup(round->cell);
    if (SH_UNLIKELY(!span || !is_of(round, span))) {
        sh_misuse_race((const void *)round->cell); /* its span went with it */
        return round + 1;
    }
    if (sh_span_owner(span) != cache)
        return unload_foreign(span, round, end);
    uint32_t count = 0;
    for (; round < end && is_of(round, span); round++)
        count += unhold(round, SH_CELL_FREE);
    release_cells(cache, span, count);
    return round;
}

void sh_cache_unload(struct sh_cache *cache, enum sh_kind kind, unsigned c, size_t keep)
{
    struct sh_bin *bin = &cache->bins[kind][c];
    struct sh_round *bottom = cache->depots[kind][c].magazine;
    if (!has_magazine(bin) || (size_t)(bin->top - bottom) <= keep)
        return;
    struct sh_round *kept = bin->top - keep;
    for (struct sh_round *round = bottom + 1; round <= kept;)
        round = unload_span(cache, round, kept + 1);
    memmove(bottom + 1, kept + 1, keep * sizeof *kept);
    bin->top = bottom + keep;
}

/* Makes room in the magazine, if it is full. */
static void make_room(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    struct sh_bin *bin = &cache->bins[kind][c];
    if (!has_magazine(bin) || bin->top < bin->limit)
        return;
    depot->overflows++;
    set_limit(depot, bin, c);
    sh_cache_unload(cache, kind, c, (size_t)(bin->limit - depot->magazine) / 2);
}

void sh_cache_overflow(struct sh_cache *cache, enum sh_kind kind, unsigned class_index)
{
    struct sh_depot *depot = &cache->depots[kind][class_index];
    struct sh_bin *bin = &cache->bins[kind][class_index];
    if (!has_magazine(bin) || ++depot->overflows % OVERFLOWS_TO_HALVE)
        return;
    set_limit(depot, bin, class_index);
    sh_cache_unload(
        cache, kind, class_index, (size_t)(bin->limit - depot->magazine) / 2);
}

bool sh_cache_free_own(struct sh_cache *cache, struct sh_span *span, uint32_t cell)
{
    uint8_t state = SH_CELL_LIVE;
    make_room(cache, span->kind, span->class_index);
    if (!sh_cas_seq_cst(&span->states[cell], &state, (uint8_t)SH_CELL_FREE))
        return false;
    release_cells(cache, span, 1);
    return true;
}

/* Cells side by side, as in a fresh word, are quicker. */
static void load_row(
    struct sh_bin *bin, struct sh_span *span, uint32_t cell, unsigned count)
{
    typedef uint64_t words __attribute__((vector_size(16), may_alias));
    sh_cell_byte *state = &span->states[cell];
    struct sh_round *round = bin->top + count;
    words next = {sh_span_cell(span, cell), (uintptr_t)state};
    words step = {span->cell_size, 1};
    bin->top = round;
    /* Nobody else writes states of cells that are FREE. */
    memset((void *)(uintptr_t)state, SH_CELL_HELD, count);
    for (; count > 0; count--, next += step, round--)
        memcpy(round, &next, sizeof *round);
}

static void load_cells(
    struct sh_bin *bin, struct sh_span *span, uint32_t w, uint64_t cells)
{
    unsigned first = sh_ctz64(cells), count = sh_popcount64(cells);
    if (cells >> first == sh_low_bits64(count)) {
        load_row(bin, span, w * 64 + first, count);
        return;
    }
    struct sh_round *round = bin->top += count;
    for (; cells; cells &= cells - 1) {
        uint32_t cell = w * 64 + sh_ctz64(cells);
        *round-- = (struct sh_round){sh_span_cell(span, cell), &span->states[cell]};
        sh_cell_set(span, cell, SH_CELL_HELD);
    }
}

/* Of the free cells of word w the lowest `most` become rounds, the lowest on top. */
static unsigned load_from_word(
    struct sh_bin *bin, struct sh_span *span, uint32_t w, unsigned most)
{
    uint64_t rest = sh_span_word(span, w, SH_CELL_FREE), taken = rest;
    unsigned count = 0;
    for (; rest && count < most; count++)
        rest &= rest - 1;
    if (!rest)
        span->pass &= ~((uint64_t)1 << w);
    if (!count)
        return 0;
    span->used += count;
    load_cells(bin, span, w, taken ^ rest);
    return count;
}

static uint64_t words_with_free_cells(struct sh_span *span)
{
    uint64_t words = 0;
    for (uint32_t w = 0; w < span->touched; w++) {
        bool free = sh_span_word(span, w, SH_CELL_FREE) != 0;
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

/* Refills the magazine from the current span; false: the span is full. */
static bool load(struct sh_cache *cache, struct sh_depot *depot, struct sh_bin *bin)
{
    struct sh_span *span = depot->current;
    unsigned want = sh_size_classes[span->class_index].refill, count = 0;
    while (count < want && (span->pass || plan_pass(span)))
        count += load_from_word(bin, span, sh_ctz64(span->pass), want - count);
    if (sh_span_collected(span))
        sh_pace_taken(cache, count * span->cell_size);
    return count != 0;
}

/* ---- Spans for a bin ---- */

static void make_current(struct sh_depot *depot, struct sh_span *span)
{
    depot->current = span;
    span->wake = SH_WAKE_NEVER;
    span->pass = 0;
}

/* After a collection full spans may have dead cells, or the collector swept those of the one
 * before: they are looked at again. */
static void refresh_lists(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    uint32_t epoch = sh_load_relaxed(&sh_epoch);
    if (kind == SH_KIND_EXPLICIT || depot->epoch == epoch)
        return;
    depot->epoch = epoch;
    struct sh_span *span, *next;
    for (span = depot->head[SH_LIST_FULL]; span; span = next) {
        next = span->next;
        if (span->epoch == epoch && span->used > wake_of_full(span))
            continue;
        sh_cache_unlist(cache, span);
        span->wake = SH_WAKE_NEVER;
        enlist(cache, span, SH_LIST_AVAILABLE);
    }
}

/* Makes an available span current and refills from it. */
static bool use_available(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    struct sh_span *span;
    while ((span = depot->head[SH_LIST_AVAILABLE])) {
        sh_cache_unlist(cache, span);
        sh_span_sweep_if_due(span);
        make_current(depot, span);
        if (load(cache, depot, &cache->bins[kind][c]))
            return true;
        depot->current = NULL;
        place(cache, span);
        if (span->list == SH_LIST_AVAILABLE)
            return false; /* only its remote frees make it look so */
    }
    return false;
}

static void change_owner(struct sh_span *span, struct sh_cache *cache)
{
    uintptr_t old = sh_load_relaxed(&span->owner);
    /* Pairs with deliver in heaps/remote.c; not a store, for a table may come. */
    while (!sh_cas_weak_seq_cst(
        &span->owner, &old, (uintptr_t)cache | (old & SH_OWNER_FLAGS))) {
    }
}

/* A span that could be adopted from a cache that no thread has, its inbox and lists as
 * they ought to be. Under the shared lock. */
static struct sh_span *adoptable(struct sh_cache *from, enum sh_kind kind, unsigned c)
{
    sh_remote_drain(from);
    refresh_lists(from, kind, c);
    return from->depots[kind][c].head[SH_LIST_AVAILABLE];
}

/* Takes over a span that a thread left behind; it is then available here. */
static bool adopt_from(
    struct sh_cache *from, struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_span *span = adoptable(from, kind, c);
    if (!span)
        return false;
    sh_cache_unlist(from, span);
    change_owner(span, cache);
    sh_remote_pass_on(from);
    enlist(cache, span, SH_LIST_AVAILABLE);
    return true;
}

static bool adopt_one(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    sh_lock_acquire(&sh_shared_lock);
    bool adopted = adopt_from(&sh_shared_cache, cache, kind, c);
    struct sh_span *dead = sh_cache_detach_dead(&sh_shared_cache);
    for (struct sh_cache *from = idle; from && !adopted; from = from->next) {
        adopted = adopt_from(from, cache, kind, c);
        dead = joined(dead, sh_cache_detach_dead(from));
    }
    sh_lock_release(&sh_shared_lock);
    sh_cache_give_back(dead);
    return adopted;
}

static bool anything_to_adopt(void)
{
    return sh_load_relaxed(&shared_available) ||
           sh_load_relaxed(&sh_shared_cache.inbox) || sh_load_relaxed(&idle_count);
}

static bool use_adopted(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    if (cache == &sh_shared_cache)
        return false;
    while (anything_to_adopt()) {
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
    size_t total = sh_load_relaxed(&sh_heap_counts.total_pages);
    size_t share = sh_min(total, sh_limit_most()) / 64;
    size_t pages = sh_max(class->min_pages, sh_min(share, class->pages));
    struct sh_run_want want = {
        .pages = pages,
        .min_pages = pages,
        .align = pages % SH_SLOT_PAGES ? SH_PAGE_SIZE : SH_SLOT_BYTES,
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
    struct sh_bin *bin = &cache->bins[kind][c];
    span->epoch = sh_load_relaxed(&sh_epoch);
    span->bin_offset = (uint16_t)((char *)bin - (char *)cache);
    uintptr_t slow = sh_load_relaxed(&sh_fill_on) ? SH_OWNER_SLOW : 0;
    sh_store_seq_cst(&span->owner, (uintptr_t)cache | slow);
    make_current(&cache->depots[kind][c], span);
    return load(cache, &cache->depots[kind][c], bin);
}

/* From the current span; or it is put away. */
static bool use_current(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    struct sh_span *span = depot->current;
    if (!span)
        return false;
    sh_span_sweep_if_due(span);
    if (SH_CHECKS >= 3)
        sh_span_valid(span);
    if (load(cache, depot, &cache->bins[kind][c]))
        return true;
    depot->current = NULL;
    place(cache, span);
    return false;
}

/* What others freed is looked at when the current span is full, so that much comes at
 * once; but after so many refills in any case, for it may be whole spans. */
#define PATIENCE 16

static bool is_overdue(struct sh_cache *cache)
{
    return sh_load_relaxed(&cache->inbox) && ++cache->passed_over > PATIENCE;
}

static void drain(struct sh_cache *cache)
{
    cache->passed_over = 0;
    sh_remote_drain(cache);
}

static bool use_other(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    drain(cache);
    return use_available(cache, kind, c) || use_adopted(cache, kind, c);
}

/* Rather than fail: what counts as full may have a few free cells. */
static bool use_full(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    for (struct sh_span *span = depot->head[SH_LIST_FULL]; span; span = span->next) {
        span->used -= sh_remote_take(span);
        uint64_t words =
            span->used < span->cell_count ? words_with_free_cells(span) : 0;
        if (!words)
            continue;
        sh_cache_unlist(cache, span);
        make_current(depot, span);
        span->pass = words;
        return load(cache, depot, &cache->bins[kind][c]);
    }
    return false;
}

/* Cells on top that are not HELD any more are somebody's already. True: there was one. */
static bool drop_twice_freed(struct sh_bin *bin)
{
    const struct sh_round *top = bin->top;
    while (SH_UNLIKELY(bin->top->cell != 0) &&
           sh_load_relaxed(bin->top->state) != SH_CELL_HELD) {
        sh_misuse_race((const void *)bin->top->cell);
        bin->top--;
    }
    return bin->top != top;
}

void *sh_cache_reload(struct sh_cache *cache, enum sh_kind kind, unsigned class_index)
{
    struct sh_depot *depot = &cache->depots[kind][class_index];
    struct sh_bin *bin = &cache->bins[kind][class_index];
    if (SH_UNLIKELY(drop_twice_freed(bin)))
        return NULL; /* it is told on the slow way */
    if (!bin->top->cell &&
        (!depot->current || is_overdue(cache) || !load(cache, depot, bin)))
        return NULL;
    if (depot->overflows) {
        depot->overflows = 0;
        set_limit(depot, bin, class_index);
    }
    return sh_bin_take_as(bin, kind);
}

void *sh_cache_refill(
    struct sh_cache *cache, enum sh_kind kind, unsigned class_index, bool tiny)
{
    struct sh_depot *depot = &cache->depots[kind][class_index];
    struct sh_bin *bin = &cache->bins[kind][class_index];
    drop_twice_freed(bin);
    if (bin->top->cell)
        return sh_bin_take_as(bin, kind);
    depot->overflows = 0;
    if (has_magazine(bin))
        set_limit(depot, bin, class_index);
    else if (!take_magazine(cache, kind, class_index))
        return NULL;
    if (is_overdue(cache))
        drain(cache);
    refresh_lists(cache, kind, class_index);
    if (!use_current(cache, kind, class_index) &&
        !use_other(cache, kind, class_index) &&
        !(tiny && use_full(cache, kind, class_index)) &&
        !use_new(cache, kind, class_index, tiny))
        return NULL;
    return sh_bin_take_as(bin, kind);
}

static void each_bin_in_use(
    struct sh_cache *cache, void (*visit)(struct sh_cache *, enum sh_kind, unsigned))
{
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++)
        for (unsigned i = 0; i < SH_CLASS_WORDS; i++)
            for (uint64_t bins = cache->in_use[kind][i]; bins; bins &= bins - 1)
                visit(cache, (enum sh_kind)kind, i * 64 + sh_ctz64(bins));
}

static void give_up_empty(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    struct sh_span *span = depot->current;
    if (!span || span->used)
        return;
    depot->current = NULL;
    place(cache, span);
}

void sh_cache_tidy(struct sh_cache *cache)
{
    sh_remote_drain(cache);
    each_bin_in_use(cache, give_up_empty);
}

static bool each_available_of(struct sh_depot *depot,
    bool (*visit)(void *context, struct sh_span *span), void *context)
{
    if (depot->current && !visit(context, depot->current))
        return false;
    struct sh_span *span = depot->head[SH_LIST_AVAILABLE];
    while (span && visit(context, span))
        span = span->next;
    return !span;
}

void sh_cache_each_available(struct sh_cache *cache,
    bool (*visit)(void *context, struct sh_span *span), void *context)
{
    struct sh_depot *depots = cache->depots[SH_KIND_EXPLICIT];
    unsigned c = 0;
    while (c < SH_CLASS_COUNT && each_available_of(&depots[c], visit, context))
        c++;
}

static void put_away(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    struct sh_span *span = depot->current;
    sh_cache_unload(cache, kind, c, 0);
    depot->current = NULL;
    if (!span)
        return;
    sh_span_sweep_if_due(span);
    place(cache, span);
}

void sh_cache_put_away(struct sh_cache *cache)
{
    sh_remote_drain(cache);
    each_bin_in_use(cache, put_away);
}

/* ---- Visitors ---- */

enum { NO_VISITOR, VISITED, WAITED_FOR };

void sh_cache_await_visitor(struct sh_cache *cache)
{
    do {
        sh_store_release(&cache->busy, 0u);
        uint32_t seen = sh_load_acquire(&cache->visited);
        if (seen == VISITED)
            sh_cas_seq_cst(&cache->visited, &seen, WAITED_FOR);
        sh_os_wait(&cache->visited, WAITED_FOR, 0);
        sh_store_relaxed(&cache->busy, 1u);
        SH_BARRIER();
    } while (sh_load_acquire(&cache->visited));
}

void sh_cache_visit(struct sh_cache *cache)
{
    sh_store_seq_cst(&cache->visited, VISITED);
}

bool sh_cache_is_wanted(struct sh_cache *cache)
{
    return sh_load_relaxed(&cache->visited) == WAITED_FOR;
}

void sh_cache_end_visit(struct sh_cache *cache)
{
    if (sh_exchange_seq_cst(&cache->visited, NO_VISITOR) == WAITED_FOR)
        sh_os_wake(&cache->visited, INT32_MAX);
}

/* ---- Caches ---- */

void sh_cache_select(struct sh_thread *self)
{
    bool fast = self->cache && !self->lock_depth && !sh_load_relaxed(&sh_fill_on);
    sh_my_cache = fast ? self->cache : &sh_empty_cache;
}

/* As in a cache that nobody used, but for the magazine, which its next life may use. */
static void init_bin(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    *depot = (struct sh_depot){.magazine = depot->magazine};
    cache->bins[kind][c] = (struct sh_bin)EMPTY_BIN;
}

void sh_cache_init(struct sh_cache *cache)
{
    /* The inbox stays as it is: a late push to the cache's former life is passed on. */
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++)
        for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
            init_bin(cache, (enum sh_kind)kind, c);
    memset(cache->in_use, 0, sizeof cache->in_use);
    cache->dead = NULL;
    cache->taken = 0;
    cache->passed_over = 0;
    cache->lost = false;
    sh_store_relaxed(&cache->busy, 0u);
    sh_store_relaxed(&cache->visited, NO_VISITOR);
    sh_store_relaxed(&cache->entered, 0u);
    cache->since = 0;
    cache->seen = 0;
    cache->done = 0;
    memset(cache->rounds, 0, sizeof cache->rounds);
}

static struct sh_cache *cache_from_memory(void)
{
    struct sh_cache *cache = sh_meta_alloc_stable(sizeof *cache);
    if (!cache)
        return NULL;
    memset(cache->depots, 0, sizeof cache->depots);
    sh_cache_init(cache);
    return cache;
}

struct sh_cache *sh_cache_new(void)
{
    sh_lock_acquire(&sh_shared_lock);
    struct sh_cache *cache = idle;
    if (cache) {
        idle = cache->next;
        sh_sub_relaxed(&idle_count, 1u);
    } else if ((cache = retired)) {
        retired = cache->next;
        if (cache->lost)
            sh_cache_init(cache);
    } else {
        cache = cache_from_memory();
    }
    if (cache) {
        cache->next = caches;
        cache->since = sh_purge_clock();
        cache->seen = sh_load_relaxed(&cache->entered);
        cache->done = 0;
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

static void leave_bin(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    struct sh_depot *depot = &cache->depots[kind][c];
    sh_cache_unload(cache, kind, c, 0);
    if (depot->current) {
        leave_span(depot->current);
        depot->current = NULL;
    }
    for (unsigned list = SH_LIST_AVAILABLE; list < SH_LIST_COUNT; list++) {
        struct sh_span *span;
        while ((span = depot->head[list])) {
            sh_cache_unlist(cache, span);
            leave_span(span);
        }
    }
    init_bin(cache, kind, c);
}

static void unlink_from(struct sh_cache **list, struct sh_cache *cache)
{
    while (*list != cache)
        list = &(*list)->next;
    *list = cache->next;
}

/* Hands the spans of an idle cache to the shared one; returns those that are empty. */
static struct sh_span *dissolve(struct sh_cache *cache)
{
    unlink_from(&idle, cache);
    sh_sub_relaxed(&idle_count, 1u);
    sh_remote_drain(cache);
    each_bin_in_use(cache, leave_bin);
    memset(cache->in_use, 0, sizeof cache->in_use);
    sh_remote_pass_on(cache);
    cache->next = retired;
    retired = cache;
    return joined(sh_cache_detach_dead(cache), sh_cache_detach_dead(&sh_shared_cache));
}

static struct sh_cache *longest_idle(void)
{
    struct sh_cache *cache = idle;
    while (cache && cache->next)
        cache = cache->next;
    return cache;
}

bool sh_cache_any_idle(void)
{
    return sh_load_seq_cst(&idle_count) != 0;
}

struct sh_span *sh_cache_retire(struct sh_cache *cache)
{
    struct sh_span *dead = NULL;
    sh_pace_flush(cache);
    sh_lock_acquire(&sh_shared_lock);
    unlink_from(&caches, cache);
    cache->next = idle;
    cache->since = sh_purge_clock();
    idle = cache;
    sh_cache_leave(cache);
    if (sh_add_seq_cst(&idle_count, 1u) >= IDLE_MOST)
        dead = dissolve(longest_idle());
    dead = joined(dead, sh_cache_detach_dead(cache));
    sh_lock_release(&sh_shared_lock);
    sh_background_notice();
    return dead;
}

struct sh_span *sh_cache_dissolve_idle(void)
{
    return sh_cache_dissolve_idle_by(UINT64_MAX);
}

struct sh_span *sh_cache_dissolve_idle_by(uint64_t then)
{
    struct sh_span *dead = NULL;
    struct sh_cache *cache;
    sh_lock_acquire(&sh_shared_lock);
    while ((cache = longest_idle()) && cache->since <= then)
        dead = joined(dead, dissolve(cache));
    sh_cache_put_away(&sh_shared_cache);
    dead = joined(dead, sh_cache_detach_dead(&sh_shared_cache));
    sh_lock_release(&sh_shared_lock);
    return dead;
}

/* ---- Fork ---- */

static void recount(struct sh_span *span)
{
    span->pass = 0;
    span->used = 0;
    span->touched = sh_span_words(span);
    sh_store_relaxed(&span->remote_words, (uint64_t)0);
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t gone =
            sh_span_word(span, w, SH_CELL_HELD) | sh_span_word(span, w, SH_CELL_REMOTE);
        sh_span_free_word(span, w, gone);
        span->used += sh_popcount64(sh_span_word(span, w, SH_CELL_LIVE));
    }
}

static bool is_ours(struct sh_cache *owner, struct sh_cache *mine)
{
    return owner == &sh_shared_cache || (mine && owner == mine);
}

static void lose_all(struct sh_cache **list, struct sh_cache *mine)
{
    while (*list) {
        struct sh_cache *cache = *list;
        *list = cache->next;
        if (cache == mine)
            continue;
        cache->lost = true;
        cache->next = retired;
        retired = cache;
    }
}

/* All inboxes are emptied, for whoever was pushing or passing on is no more; what they
 * notified of is found in the words. */
static void keep_cache(struct sh_cache *mine)
{
    lose_all(&caches, mine);
    lose_all(&idle, mine);
    sh_store_relaxed(&idle_count, 0u);
    for (struct sh_cache *cache = retired; cache; cache = cache->next) {
        sh_store_relaxed(&cache->inbox, NULL);
        sh_store_relaxed(&cache->visited, NO_VISITOR);
    }
    sh_store_relaxed(&sh_shared_cache.inbox, NULL);
    sh_shared_cache.dead = NULL;
    if (!mine)
        return;
    sh_store_relaxed(&mine->inbox, NULL);
    sh_store_relaxed(&mine->busy, 0u);
    sh_store_relaxed(&mine->visited, NO_VISITOR);
    mine->dead = NULL;
    mine->next = NULL;
    caches = mine;
}

/* Nobody has a magazine any more, nor a remote free on its way. */
static bool has_lost_cells(struct sh_span *span)
{
    for (uint32_t w = 0; w < span->touched; w++)
        if (sh_span_word(span, w, SH_CELL_HELD) | sh_span_word(span, w, SH_CELL_REMOTE))
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
    bool ours = is_ours(owner, mine);
    if (ours && span->list != SH_LIST_DEAD) {
        if (!has_lost_cells(span))
            return;
        sh_cache_unlist(owner, span);
    }
    span->list = SH_LIST_NONE;
    if (!ours) {
        owner = &sh_shared_cache;
        change_owner(span, owner);
    }
    recount(span);
    if (!ours || !is_current(owner, span))
        place(owner, span);
}

static void empty_magazine(struct sh_cache *cache, enum sh_kind kind, unsigned c)
{
    cache->bins[kind][c].top = cache->depots[kind][c].magazine;
}

/*
 * A thread that is no more may have been anywhere in a slow path. Its cells' states are
 * right at any time; its lists, counts, and the spans it was about to queue are not.
 * Magazines may hold cells of any span: all are emptied, and what was HELD is FREE.
 */
void sh_cache_fork_child(struct sh_cache *mine)
{
    keep_cache(mine);
    each_bin_in_use(&sh_shared_cache, empty_magazine);
    if (mine)
        each_bin_in_use(mine, empty_magazine);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        keep_span(span, mine);
}
