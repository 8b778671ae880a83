/* SPDX-License-Identifier: MIT */
/*
 * heaps/cache.h: magazines. What was freed last is handed out first; no cell is handed
 * out twice, and none is lost, whatever is loaded and unloaded, collected, forked, or
 * left behind by a thread that ends. Each test works on the cache of a thread of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/run.h"
#include "tests/caches.h"
#include "tests/spans.h"

/* All of the heap: malloc is the C library's here, and the heap does not grow. */
#define AREA ((size_t)96 << 20)

size_t gc_get_max_new_split(void)
{
    return 0;
}

static const struct {
    size_t size, count;
} loads[] = {{16, 12000}, {64, 12000}, {4096, 2000}, {32768, 300}};
#define LOADS (sizeof loads / sizeof loads[0])
#define MOST 12000

static const unsigned flags_of[SH_KIND_COUNT] = {[SH_KIND_SCAN] = 0,
    [SH_KIND_LEAF] = GC_ALLOC_FLAG_LEAF,
    [SH_KIND_TYPED] = GC_ALLOC_FLAG_TYPED};

/* ---- What is handed out ---- */

static uintptr_t area_start;
static uint64_t taken[AREA / SH_GRANULE / 64]; /* a bit for the first granule of each */

static uint64_t *taken_word(const void *p, uint64_t *bit)
{
    uintptr_t at = (uintptr_t)p - area_start;
    MUST(at < AREA && at % SH_GRANULE == 0);
    *bit = (uint64_t)1 << (at / SH_GRANULE % 64);
    return &taken[at / SH_GRANULE / 64];
}

/* The first and the last word say whose the cell is, so that overlaps show. */
static void *note(void *p, size_t size)
{
    uint64_t bit, *word = taken_word(p, &bit);
    MUST(p && !(*word & bit));
    *word |= bit;
    ((uintptr_t *)p)[0] = hide(p);
    ((uintptr_t *)p)[size / sizeof(uintptr_t) - 1] = hide(p);
    return p;
}

static void forget(void *p, size_t size)
{
    uint64_t bit, *word = taken_word(p, &bit);
    MUST(*word & bit);
    *word &= ~bit;
    MUST(((uintptr_t *)p)[0] == hide(p));
    MUST(((uintptr_t *)p)[size / sizeof(uintptr_t) - 1] == hide(p));
}

static void *take(enum sh_kind kind, size_t size)
{
    return note(
        kind == SH_KIND_EXPLICIT ? sh_malloc(size) : gc_alloc(size, flags_of[kind]),
        size);
}

static void give(void *p, size_t size)
{
    forget(p, size);
    sh_free(p);
}

/* ---- Looking ---- */

static void check_round(struct sh_round *bottom, struct sh_round *round)
{
    struct sh_span *span = span_of((void *)round->cell);
    uint32_t cell = sh_span_cell_of(span, round->cell);
    uint64_t bit;
    MUST(sh_span_owner(span) == cache() && sh_span_cell(span, cell) == round->cell);
    MUST(round->state == &span->states[cell]);
    MUST(sh_load_relaxed(round->state) == SH_CELL_HELD);
    MUST(!(*taken_word((void *)round->cell, &bit) & bit));
    for (struct sh_round *other = bottom + 1; other < round; other++)
        MUST(other->cell != round->cell);
}

static size_t count_cells(struct sh_span *span, enum sh_cell_state state)
{
    size_t count = 0;
    for (uint32_t w = 0; w < sh_span_words(span); w++)
        count += sh_popcount64(sh_span_word(span, w, state));
    return count;
}

/* Spans are valid, and each held cell is one round of the magazine. */
static void check(enum sh_kind kind, size_t size)
{
    size_t held = 0;
    struct sh_round *bottom = depot_of(kind, size)->magazine;
    MUST(bottom && bottom->cell == 0);
    MUST(rounds(kind, size) <= limit(kind, size));
    for (struct sh_round *round = bin_of(kind, size)->top; round > bottom; round--)
        check_round(bottom, round);
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next) {
        if (span->state != SH_SPAN_SMALL || sh_span_owner(span) != cache())
            continue;
        sh_span_valid(span);
        if (span->kind == kind && span->class_index == sh_size_class_of(size))
            held += count_cells(span, SH_CELL_HELD);
    }
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
    MUST(held == rounds(kind, size));
}

/* ---- One magazine ---- */

static void *at[MOST];

static void free_and_take_again(void)
{
    for (size_t i = 0; i < LOADS; i++) {
        for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++) {
            size_t size = loads[i].size, n = 3;
            for (size_t k = 0; k < n; k++)
                at[k] = take((enum sh_kind)kind, size);
            for (size_t k = 0; k < n; k++)
                give(at[k], size);
            for (size_t k = n; k-- > 0;)
                MUST(take((enum sh_kind)kind, size) == at[k]);
            /* A pair each, over and over: it is the same cell. */
            for (size_t k = 0; k < 1000; k++) {
                give(at[0], size);
                MUST(take((enum sh_kind)kind, size) == at[0]);
            }
            for (size_t k = 0; k < n; k++)
                give(at[k], size);
            check((enum sh_kind)kind, size);
        }
    }
}

static void what_was_freed_last_is_handed_out_first(void **unused)
{
    with_fresh_cache(free_and_take_again);
}

/* `n` cells with a live one beside each, so that their spans stay; nothing in the
 * magazine. */
static void take_with_neighbours(enum sh_kind kind, size_t size, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        at[i] = take(kind, size);
        at[n + i] = take(kind, size);
    }
    unload(kind, size, 0);
    MUST(rounds(kind, size) == 0);
}

static void fill_one_too_many(size_t size)
{
    size_t room = sh_size_classes[sh_size_class_of(size)].magazine;
    take_with_neighbours(SH_KIND_EXPLICIT, size, room + 1);
    MUST(limit(SH_KIND_EXPLICIT, size) == room);
    for (size_t i = 0; i < room; i++) {
        give(at[i], size);
        MUST(rounds(SH_KIND_EXPLICIT, size) == i + 1);
    }
    for (size_t i = 0; i < room; i++)
        MUST(state_of(at[i]) == SH_CELL_HELD);
    check(SH_KIND_EXPLICIT, size);
    give(at[room], size);
    /* The older half and the last one are their spans'. */
    size_t kept = room / 2;
    MUST(rounds(SH_KIND_EXPLICIT, size) == kept);
    for (size_t i = 0; i < room - kept; i++)
        MUST(state_of(at[i]) == SH_CELL_FREE);
    for (size_t i = room - kept; i < room; i++)
        MUST(state_of(at[i]) == SH_CELL_HELD);
    MUST(state_of(at[room]) == SH_CELL_FREE);
    check(SH_KIND_EXPLICIT, size);
    /* The younger half comes again, the youngest first; then the others, once each. */
    for (size_t i = room; i-- > room - kept;)
        MUST(take(SH_KIND_EXPLICIT, size) == at[i]);
    MUST(rounds(SH_KIND_EXPLICIT, size) == 0);
    for (size_t i = 0; i < room - kept; i++)
        at[i] = take(SH_KIND_EXPLICIT, size);
    at[room] = take(SH_KIND_EXPLICIT, size);
    for (size_t i = 0; i < 2 * (room + 1); i++)
        give(at[i], size);
    check(SH_KIND_EXPLICIT, size);
}

static void fill_each(void)
{
    for (size_t i = 0; i < LOADS; i++)
        fill_one_too_many(loads[i].size);
}

static void a_full_magazine_gives_its_older_half_back(void **unused)
{
    with_fresh_cache(fill_each);
}

static void free_all_and_take(void)
{
    size_t size = 1024, room = sh_size_classes[sh_size_class_of(size)].magazine;
    for (size_t i = 0; i < 5000; i++)
        at[i] = take(SH_KIND_EXPLICIT, size);
    MUST(limit(SH_KIND_EXPLICIT, size) == room);
    size_t before = room;
    for (size_t i = 0; i < 5000; i++) {
        give(at[i], size);
        MUST(limit(SH_KIND_EXPLICIT, size) <= before);
        MUST(rounds(SH_KIND_EXPLICIT, size) <= limit(SH_KIND_EXPLICIT, size));
        before = limit(SH_KIND_EXPLICIT, size);
    }
    MUST(before == 4);
    check(SH_KIND_EXPLICIT, size);
    /* Frees and allocations in turn take no refill, and it stays as it is. */
    at[0] = take(SH_KIND_EXPLICIT, size);
    give(at[0], size);
    MUST(limit(SH_KIND_EXPLICIT, size) == 4);
    size_t n = 0;
    while (limit(SH_KIND_EXPLICIT, size) == 4)
        at[n++] = take(SH_KIND_EXPLICIT, size);
    MUST(n <= 5 && limit(SH_KIND_EXPLICIT, size) == room);
    MUST(depot_of(SH_KIND_EXPLICIT, size)->overflows == 0);
    while (n > 0)
        give(at[--n], size);
}

static void it_shrinks_as_it_overflows_and_grows_with_a_refill(void **unused)
{
    with_fresh_cache(free_all_and_take);
}

/* ---- All cells, once each ---- */

static struct random random_state;

static void shuffle(size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t k = random_below(&random_state, i);
        void *p = at[i - 1];
        at[i - 1] = at[k];
        at[k] = p;
    }
}

/* Everything, then in a random order a half, a tenth, and all of it, back and forth. */
static void take_and_give_all(enum sh_kind kind, size_t size, size_t n)
{
    static const size_t parts[] = {1, 2, 10, 3, 1};
    size_t have = 0;
    for (size_t round = 0; round < sizeof parts / sizeof parts[0]; round++) {
        while (have < n)
            at[have++] = take(kind, size);
        check(kind, size);
        shuffle(n);
        for (size_t left = n - n / parts[round]; have > left;)
            give(at[--have], size);
        check(kind, size);
    }
    MUST(have == 0);
}

/* Now one, now the other, as it comes. */
static void take_and_give_some(enum sh_kind kind, size_t size, size_t n)
{
    size_t have = 0;
    for (size_t i = 0; i < 20 * n; i++) {
        bool more = random_below(&random_state, n) >= have;
        if (more) {
            at[have++] = take(kind, size);
            continue;
        }
        size_t k = random_below(&random_state, have);
        give(at[k], size);
        at[k] = at[--have];
    }
    check(kind, size);
    while (have > 0)
        give(at[--have], size);
    check(kind, size);
}

static void use_all(void)
{
    random_state.state = 4711;
    for (size_t i = 0; i < LOADS; i++) {
        take_and_give_all(SH_KIND_EXPLICIT, loads[i].size, loads[i].count);
        take_and_give_some(SH_KIND_EXPLICIT, loads[i].size, loads[i].count / 10);
    }
    bool was = gc_set_auto_collect(false);
    for (size_t i = 0; i < LOADS; i++)
        take_and_give_all(SH_KIND_LEAF, loads[i].size, loads[i].count);
    gc_set_auto_collect(was);
}

static void no_cell_is_handed_out_twice(void **unused)
{
    with_fresh_cache(use_all);
}

/* ---- Ends ---- */

static void end_with_rounds(void)
{
    for (size_t i = 0; i < LOADS; i++)
        take_with_neighbours(SH_KIND_EXPLICIT, loads[i].size, 4);
    /* Of each size a few cells in the magazine, the rest in use. */
    for (size_t i = 0; i < LOADS; i++) {
        at[i] = take(SH_KIND_EXPLICIT, loads[i].size);
        at[LOADS + i] = take(SH_KIND_EXPLICIT, loads[i].size);
        give(at[LOADS + i], loads[i].size);
        MUST(rounds(SH_KIND_EXPLICIT, loads[i].size) > 0);
    }
}

static void look_at_the_next(void)
{
    for (size_t i = 0; i < LOADS; i++) {
        MUST(rounds(SH_KIND_EXPLICIT, loads[i].size) == 0);
        MUST(!sh_cache_take(SH_KIND_EXPLICIT, loads[i].size));
    }
}

static void a_magazine_is_empty_once_its_thread_ended(void **unused)
{
    with_fresh_cache(end_with_rounds);
    for (size_t i = 0; i < LOADS; i++) {
        struct sh_span *span = span_of(at[i]);
        assert_ptr_equal(sh_span_owner(span), &sh_shared_cache);
        assert_int_equal(count_cells(span, SH_CELL_HELD), 0);
        assert_int_equal(state_of(at[LOADS + i]), SH_CELL_FREE);
        sh_span_valid(span);
    }
    with_fresh_cache(look_at_the_next);
    with_fresh_cache(use_all);
}

/* ---- Collections ---- */

/* Static data holds what is taken: `at`. Freed cells stay where they are through
 * collections, are nobody's, and come out as they went in, before any sweep. */
static void collect_with_rounds(enum sh_kind kind, size_t size)
{
    size_t room = sh_size_classes[sh_size_class_of(size)].magazine;
    take_with_neighbours(kind, size, room);
    for (size_t i = 0; i < room; i++)
        give(at[i], size);
    MUST(rounds(kind, size) == room);
    gc_collect();
    gc_collect();
    MUST(rounds(kind, size) == room);
    for (size_t i = 0; i < room; i++) {
        MUST(state_of(at[i]) == SH_CELL_HELD && gc_nbytes(at[i]) == 0);
        MUST(gc_nbytes(at[room + i]) == size);
    }
    check(kind, size);
    for (size_t i = room; i-- > 0;)
        MUST(take(kind, size) == at[i]);
    at[2 * room] = take(kind, size); /* of a span that was swept */
    for (size_t i = 0; i <= 2 * room; i++)
        MUST(gc_nbytes(at[i]) == size);
    gc_collect();
    for (size_t i = 0; i <= 2 * room; i++) {
        MUST(gc_nbytes(at[i]) == size);
        give(at[i], size);
    }
    check(kind, size);
}

static void collect_each(void)
{
    for (size_t i = 0; i < LOADS; i++) {
        collect_with_rounds(SH_KIND_SCAN, loads[i].size);
        collect_with_rounds(SH_KIND_LEAF, loads[i].size);
    }
}

static void rounds_outlive_collections(void **unused)
{
    with_fresh_cache(collect_each);
}

#define SIZE ((size_t)1024)
#define SPAN_CELLS 64
#define SPANS 12

static uintptr_t hidden[SPANS * SPAN_CELLS];

/* Whole spans of garbage, known by hidden pointers only. */
static SH_NOINLINE void make_garbage(enum sh_kind kind)
{
    for (size_t i = 0; i < SPANS * SPAN_CELLS; i++)
        hidden[i] = hide(gc_alloc(SIZE, flags_of[kind]));
}

/* The last cell of each span goes into the magazine. */
static SH_NOINLINE size_t free_last_cells(enum sh_kind kind, struct sh_span **spans)
{
    size_t n = 0;
    unload(kind, SIZE, 0);
    for (size_t i = 0; i < SPANS * SPAN_CELLS; i++) {
        struct sh_span *span = span_of(reveal(hidden[i]));
        uint32_t cell = sh_span_cell_of(span, (uintptr_t)reveal(hidden[i]));
        if (cell != span->cell_count - 1 || span == depot_of(kind, SIZE)->current)
            continue;
        gc_free(reveal(hidden[i]));
        spans[n++] = span;
    }
    return n;
}

static SH_NOINLINE void take_them(enum sh_kind kind, size_t n, struct sh_span **spans)
{
    while (n > 0) {
        unsigned char *p = gc_alloc(SIZE, flags_of[kind]);
        struct sh_span *span = span_of(p);
        MUST(span == spans[--n]);
        MUST((uintptr_t)p == sh_span_cell(span, span->cell_count - 1));
        memset(p, 0x5a, SIZE);
    }
}

static void bury(enum sh_kind kind)
{
    static struct sh_span *spans[SPANS];
    memset(at, 0, sizeof at); /* what lies there may look like pointers to these */
    make_garbage(kind);
    size_t n = free_last_cells(kind, spans), gone = 0, dead = 0;
    MUST(n >= SPANS - 2 && rounds(kind, SIZE) == n);
    clear_stack();
    gc_collect();
    MUST(rounds(kind, SIZE) == n);
    for (size_t i = 0; i < n; i++) {
        MUST(spans[i]->state == SH_SPAN_SMALL && sh_span_owner(spans[i]) == cache());
        MUST(spans[i]->list != SH_LIST_DEAD);
    }
    for (size_t i = 0; i < SPANS * SPAN_CELLS; i++)
        dead += gc_nbytes(reveal(hidden[i])) == 0;
    MUST(dead > SPANS * SPAN_CELLS / 2);
    take_them(kind, n, spans);
    clear_stack();
    gc_collect();
    /* Nothing keeps them now; a word or two may look like a pointer to one. */
    for (size_t i = 0; i < n; i++)
        gone += spans[i]->state != SH_SPAN_SMALL || spans[i]->kind != kind;
    MUST(gone > n / 2);
}

static void bury_both(void)
{
    bury(SH_KIND_SCAN);
    bury(SH_KIND_LEAF);
}

static void a_round_keeps_its_dead_span(void **unused)
{
    with_fresh_cache(bury_both);
}

/* ---- A fork ---- */

#define FORKED 100

static void *theirs[2 * FORKED];
static _Atomic uint32_t stage;

static void *load_and_wait(void *unused)
{
    MUST(gc_thread_register() == 0);
    for (size_t i = 0; i < 2 * FORKED; i++)
        theirs[i] = take(SH_KIND_EXPLICIT, 64);
    for (size_t i = 0; i < FORKED; i++)
        give(theirs[i], 64);
    MUST(rounds(SH_KIND_EXPLICIT, 64) >= FORKED);
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    check(SH_KIND_EXPLICIT, 64);
    for (size_t i = FORKED; i-- > 0;)
        MUST(take(SH_KIND_EXPLICIT, 64) == theirs[i]);
    for (size_t i = 0; i < 2 * FORKED; i++)
        give(theirs[i], 64);
    return NULL;
}

static void look_at_forked(void *p, bool live, struct sh_cache *owner)
{
    struct sh_span *span = span_of(p);
    MUST(sh_span_owner(span) == owner);
    MUST(state_of(p) == (live ? SH_CELL_LIVE : SH_CELL_FREE));
    MUST(count_cells(span, SH_CELL_HELD) == 0);
    sh_span_valid(span);
}

/* Magazines are empty, and what they held is free. The other thread's cells went to the
 * shared cache; all are handed out once. */
static void look_in_the_child(void)
{
    MUST(rounds(SH_KIND_EXPLICIT, 64) == 0);
    check(SH_KIND_EXPLICIT, 64);
    for (size_t i = 0; i < 2 * FORKED; i++) {
        look_at_forked(theirs[i], i >= FORKED, &sh_shared_cache);
        look_at_forked(at[i], i >= FORKED, cache());
    }
    void *mine = at[0];
    bool again = false, adopted = false;
    for (size_t i = 2 * FORKED; i < MOST; i++) {
        at[i] = take(SH_KIND_EXPLICIT, 64);
        again = again || at[i] == mine;
        adopted = adopted || at[i] == theirs[0];
    }
    MUST(again && adopted);
    for (size_t i = FORKED; i < MOST; i++)
        give(at[i], 64);
    check(SH_KIND_EXPLICIT, 64);
    for (size_t i = FORKED; i < 2 * FORKED; i++)
        give(theirs[i], 64);
    /* A cache that another thread left in the parent is of use again. */
    if (SH_INTERPOSE)
        with_fresh_cache(use_all);
}

static void fork_with_rounds(void)
{
    set_flag(&stage, 0);
    pthread_t other = start(load_and_wait, NULL);
    await_flag(&stage, 1);
    for (size_t i = 0; i < 2 * FORKED; i++)
        at[i] = take(SH_KIND_EXPLICIT, 64);
    for (size_t i = 0; i < FORKED; i++)
        give(at[i], 64);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        look_in_the_child();
        _exit(0);
    }
    int status;
    MUST(child > 0 && waitpid(child, &status, 0) == child);
    MUST(status == 0);
    check(SH_KIND_EXPLICIT, 64);
    for (size_t i = FORKED; i-- > 0;)
        MUST(take(SH_KIND_EXPLICIT, 64) == at[i]);
    for (size_t i = 0; i < 2 * FORKED; i++)
        give(at[i], 64);
    set_flag(&stage, 2);
    join(other);
}

/* The thread sanitizer's runtime may stay locked in the child of a threaded process. */
static void a_forks_child_has_all_cells_once(void **unused)
{
    if (SH_TSAN)
        skip();
    with_fresh_cache(fork_with_rounds);
}

static int begin(void **unused)
{
    if (give_area(AREA) != 0 || gc_thread_register() != 0)
        return -1;
    area_start = sh_area_first()->start;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_freed_last_is_handed_out_first),
        cmocka_unit_test(a_full_magazine_gives_its_older_half_back),
        cmocka_unit_test(it_shrinks_as_it_overflows_and_grows_with_a_refill),
        cmocka_unit_test(no_cell_is_handed_out_twice),
        cmocka_unit_test(a_magazine_is_empty_once_its_thread_ended),
        cmocka_unit_test(rounds_outlive_collections),
        cmocka_unit_test(a_round_keeps_its_dead_span),
        cmocka_unit_test(a_forks_child_has_all_cells_once),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
