/* SPDX-License-Identifier: MIT */
/*
 * heaps/cache.h: bins, refills, the lists of full and available spans, release and
 * adoption. Each test looks at the cache of a thread of its own. What magazines do with
 * many cells is unit_magazine.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "heaps/run.h"
#include "tests/caches.h"

#define SIZE ((size_t)1024)
#define SPAN_CELLS 64 /* of a span of these */
#define MANY 1000

static struct sh_span *current(enum sh_kind kind, size_t size)
{
    return depot_of(kind, size)->current;
}

static struct sh_span *list(enum sh_kind kind, size_t size, enum sh_span_list which)
{
    return depot_of(kind, size)->head[which];
}

static size_t length(struct sh_span *head)
{
    size_t n = 0;
    for (; head; head = head->next)
        n++;
    return n;
}

/* ---- Bins and refills ---- */

static void look_at_fresh(void)
{
    MUST(cache() && sh_my_cache == cache());
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++) {
        for (size_t size = 1; size <= SH_SMALL_MAX; size = size * 2 + 1) {
            MUST(!current((enum sh_kind)kind, size));
            MUST(!sh_cache_take((enum sh_kind)kind, size));
        }
    }
    /* An empty magazine that is full: neither malloc nor free has its way there. */
    struct sh_bin *bin = &sh_empty_cache.bins[0][0];
    MUST(bin->top->cell == 0 && bin->top == bin->limit);
}

static void a_fresh_cache_misses(void **unused)
{
    with_fresh_cache(look_at_fresh);
}

static void fill_first(void)
{
    void *p = sh_malloc(SIZE);
    struct sh_bin *bin = bin_of(SH_KIND_EXPLICIT, SIZE);
    struct sh_depot *depot = depot_of(SH_KIND_EXPLICIT, SIZE);
    struct sh_span *span = span_of(p);
    unsigned refill = sh_size_classes[class_of(SIZE)].refill;
    MUST(depot->current == span && sh_span_owner(span) == cache());
    MUST((char *)cache() + span->bin_offset == (char *)bin);
    MUST(span->list == SH_LIST_NONE && span->wake == SH_WAKE_NEVER);
    MUST(span->kind == SH_KIND_EXPLICIT && span->class_index == class_of(SIZE));
    MUST(refill > 1 && bin->top == depot->magazine + refill - 1);
    MUST(bin->limit == depot->magazine + sh_size_classes[class_of(SIZE)].magazine);
    MUST(span->used >= refill);
    sh_span_valid(span);
    sh_free(p);
}

static void the_first_refill_takes_a_span(void **unused)
{
    with_fresh_cache(fill_first);
}

/* What a refill took is handed out, the lowest first, with no slow path between. */
static void drain_magazine(void)
{
    size_t size = 64;
    char *last = sh_malloc(size);
    struct sh_bin *bin = bin_of(SH_KIND_EXPLICIT, size);
    struct sh_span *span = span_of(last);
    uint32_t used = span->used;
    MUST(bin->top - depot_of(SH_KIND_EXPLICIT, size)->magazine == 63);
    while (bin->top->cell) {
        struct sh_round round = *bin->top;
        MUST(sh_load_relaxed(round.state) == SH_CELL_HELD);
        char *p = sh_cache_take(SH_KIND_EXPLICIT, size);
        MUST((uintptr_t)p == round.cell && p > last && span_of(p) == span);
        MUST(round.state == byte_of(p) && sh_load_relaxed(round.state) == SH_CELL_LIVE);
        last = p;
    }
    MUST(!sh_cache_take(SH_KIND_EXPLICIT, size));
    MUST(span->used == used);
    sh_span_valid(span);
    /* The next refill takes others. */
    char *p = sh_malloc(size);
    MUST(p > last && span_of(p) == span && span->used > used);
}

static void a_refill_is_handed_out_cell_by_cell(void **unused)
{
    with_fresh_cache(drain_magazine);
}

/* A cell's state and nothing else changes. */
static void set_and_clear(void)
{
    void *p[10];
    for (int i = 0; i < 10; i++)
        p[i] = sh_malloc(SIZE);
    struct sh_span *span = span_of(p[3]);
    uint32_t cell = sh_span_cell_of(span, (uintptr_t)p[3]), used = span->used;
    uint64_t live = sh_span_word(span, 0, SH_CELL_LIVE);
    uint64_t held = sh_span_word(span, 0, SH_CELL_HELD);
    struct sh_round *top = bin_of(SH_KIND_EXPLICIT, SIZE)->top;
    MUST(cell < 64);
    MUST(sh_cache_give(p[3]));
    MUST(bin_of(SH_KIND_EXPLICIT, SIZE)->top == top + 1);
    MUST(top[1].cell == (uintptr_t)p[3] && top[1].state == byte_of(p[3]));
    MUST(!sh_cache_give(p[3])); /* free already */
    MUST(!sh_cache_give((char *)p[4] + 16));
    MUST(!sh_cache_give(NULL) && !sh_cache_give(&live));
    MUST(bin_of(SH_KIND_EXPLICIT, SIZE)->top == top + 1);
    /* It stays held, and counts as used. */
    MUST(sh_span_word(span, 0, SH_CELL_LIVE) == (live & ~sh_cell_bit(cell)));
    MUST(sh_span_word(span, 0, SH_CELL_HELD) == (held | sh_cell_bit(cell)));
    MUST(span->used == used);
    sh_span_valid(span);
}

static void freeing_changes_one_state(void **unused)
{
    with_fresh_cache(set_and_clear);
}

static void *at[MANY];

static void mix(void)
{
    for (size_t i = 0; i < MANY; i++) {
        size_t size = (size_t)16 << (i % 6);
        at[i] = i % 3 == 0   ? sh_malloc(size)
                : i % 3 == 1 ? gc_alloc(size, 0)
                             : gc_alloc(size, GC_ALLOC_FLAG_LEAF);
    }
    static const enum sh_kind kinds[] = {SH_KIND_EXPLICIT, SH_KIND_SCAN, SH_KIND_LEAF};
    for (size_t i = 0; i < MANY; i++) {
        struct sh_span *span = span_of(at[i]);
        MUST(span->kind == kinds[i % 3]);
        MUST(span->cell_size == (size_t)16 << (i % 6));
        gc_free(at[i]);
    }
}

static void kinds_and_classes_do_not_mix(void **unused)
{
    with_fresh_cache(mix);
}

/* ---- Lists ---- */

static void fill_spans(void)
{
    size_t n = 10 * SPAN_CELLS;
    for (size_t i = 0; i < n; i++)
        at[i] = sh_malloc(SIZE);
    MUST(length(list(SH_KIND_EXPLICIT, SIZE, SH_LIST_FULL)) >= 8);
    MUST(length(list(SH_KIND_EXPLICIT, SIZE, SH_LIST_AVAILABLE)) == 0);
    struct sh_span *full = list(SH_KIND_EXPLICIT, SIZE, SH_LIST_FULL);
    MUST(full->used == full->cell_count);
    MUST(full->wake == full->cell_count - full->cell_count / 16);
    /* It becomes available when a sixteenth of it is free, not before; what lies in the
     * magazine is not free. */
    uint32_t freed = 0;
    for (size_t i = 0; i < n && freed < full->cell_count / 16; i++) {
        if (span_of(at[i]) != full)
            continue;
        sh_free(at[i]);
        MUST(full->list == SH_LIST_FULL);
        unload(SH_KIND_EXPLICIT, SIZE, 0);
        at[i] = NULL;
        freed++;
    }
    MUST(full->list == SH_LIST_AVAILABLE && full->wake == 0);
    MUST(list(SH_KIND_EXPLICIT, SIZE, SH_LIST_AVAILABLE) == full);
    /* And it is used before there is a new one. */
    size_t areas = sh_load_relaxed(&sh_heap_counts.free_pages);
    bool taken = false;
    for (size_t i = 0; i < 2 * SPAN_CELLS && !taken; i++) {
        sh_malloc(SIZE);
        taken = current(SH_KIND_EXPLICIT, SIZE) == full;
        MUST(taken || sh_load_relaxed(&sh_heap_counts.free_pages) == areas);
    }
    MUST(taken);
}

static void full_spans_wake_when_a_sixteenth_is_free(void **unused)
{
    with_fresh_cache(fill_spans);
}

static void free_all(void)
{
    /* Whatever lies about is used up first. */
    size_t n = MANY;
    for (size_t i = 0; i < n; i++)
        at[i] = sh_malloc(SIZE);
    size_t before = sh_load_relaxed(&sh_heap_counts.free_pages);
    struct sh_span *span = current(SH_KIND_EXPLICIT, SIZE);
    for (size_t i = 0; i < n; i++)
        sh_free(at[i]);
    /* But for the current one, and one or two of which the magazine holds cells. */
    size_t after = sh_load_relaxed(&sh_heap_counts.free_pages);
    MUST(after >= before + (n / SPAN_CELLS - 4) * 16);
    unload(SH_KIND_EXPLICIT, SIZE, 0);
    after = sh_load_relaxed(&sh_heap_counts.free_pages);
    MUST(after >= before + (n / SPAN_CELLS - 1) * 16);
    MUST(current(SH_KIND_EXPLICIT, SIZE) == span && span->used == 0);
    MUST(length(list(SH_KIND_EXPLICIT, SIZE, SH_LIST_FULL)) == 0);
    MUST(length(list(SH_KIND_EXPLICIT, SIZE, SH_LIST_AVAILABLE)) == 0);
    MUST(!cache()->dead);
    /* Where memory runs out that one goes, too. */
    sh_critical_enter();
    sh_cache_put_away(cache());
    sh_cache_give_back(sh_cache_detach_dead(cache()));
    sh_critical_leave();
    MUST(!current(SH_KIND_EXPLICIT, SIZE));
    MUST(sh_load_relaxed(&sh_heap_counts.free_pages) == after + 16);
}

static void empty_spans_are_given_back_but_for_the_current(void **unused)
{
    with_fresh_cache(free_all);
}

/* Half empty, in a pattern that touches every span: all of it is used again. */
static void free_every_other(void)
{
    for (size_t i = 0; i < MANY; i++)
        at[i] = sh_malloc(SIZE);
    for (size_t i = 0; i < MANY; i += 2)
        sh_free(at[i]);
    size_t before = sh_load_relaxed(&sh_heap_counts.free_pages);
    for (size_t i = 0; i < MANY; i += 2)
        at[i] = sh_malloc(SIZE);
    size_t after = sh_load_relaxed(&sh_heap_counts.free_pages);
    MUST(before - after <= 2 * 16);
    for (size_t i = 0; i < MANY; i++)
        sh_free(at[i]);
}

static void free_cells_are_used_before_new_spans(void **unused)
{
    with_fresh_cache(free_every_other);
}

/* Garbage of collected kinds leaves full spans, which are looked at after. */
static SH_NOINLINE void make_garbage(void)
{
    for (size_t i = 0; i < MANY; i++)
        MUST(gc_alloc(SIZE, 0));
}

static void collect_and_make_again(void)
{
    make_garbage();
    clear_stack();
    gc_collect();
    make_garbage();
    clear_stack();
    gc_collect();
    size_t before = sh_load_relaxed(&sh_heap_counts.free_pages);
    for (int i = 0; i < 10; i++) {
        make_garbage();
        clear_stack();
        gc_collect();
    }
    size_t after = sh_load_relaxed(&sh_heap_counts.free_pages);
    MUST(after + 4 * 16 >= before);
}

static void what_was_collected_is_handed_out_again(void **unused)
{
    with_fresh_cache(collect_and_make_again);
}

/* ---- Coming and going ---- */

static size_t caches(void)
{
    size_t n = 0;
    sh_critical_enter();
    sh_lock_acquire(&sh_shared_lock);
    for (struct sh_cache *c = sh_cache_first(); c; c = c->next)
        n++;
    sh_lock_release(&sh_shared_lock);
    sh_critical_leave();
    return n;
}

static size_t caches_inside;

static void look_at_caches(void)
{
    caches_inside = caches();
}

static void each_thread_has_a_cache_while_it_lives(void **unused)
{
    size_t before = caches();
    with_fresh_cache(look_at_caches);
    assert_int_equal(caches_inside, before + 1);
    assert_int_equal(caches(), before);
}

static void leave_some(void)
{
    for (size_t i = 0; i < MANY; i++)
        at[i] = sh_malloc(SIZE);
    for (size_t i = 0; i < MANY; i++)
        if (i % 4)
            sh_free(at[i]);
}

static void what_a_thread_leaves_is_the_shared_caches(void **unused)
{
    with_fresh_cache(leave_some);
    for (size_t i = 0; i < MANY; i += 4) {
        struct sh_span *span = span_of(at[i]);
        assert_ptr_equal(sh_span_owner(span), &sh_shared_cache);
        /* The magazine was emptied. */
        for (uint32_t w = 0; w < span->touched; w++)
            assert_int_equal(sh_span_word(span, w, SH_CELL_HELD), 0);
        assert_true(span->list == SH_LIST_AVAILABLE || span->list == SH_LIST_FULL);
        sh_span_valid(span);
    }
    for (size_t i = 0; i < MANY; i += 4)
        sh_free(at[i]);
}

static void adopt(void)
{
    size_t before = sh_load_relaxed(&sh_heap_counts.free_pages);
    struct sh_span *left = span_of(at[400]);
    void *mine[MANY / 2];
    bool found = false;
    for (size_t i = 0; i < MANY / 2; i++) {
        mine[i] = sh_malloc(SIZE);
        found = found || span_of(mine[i]) == left;
    }
    MUST(found && sh_span_owner(left) == cache());
    size_t after = sh_load_relaxed(&sh_heap_counts.free_pages);
    MUST(before - after <= 2 * 16);
    for (size_t i = 0; i < MANY / 2; i++)
        sh_free(mine[i]);
}

static void the_next_thread_adopts_it(void **unused)
{
    with_fresh_cache(leave_some);
    with_fresh_cache(adopt);
    for (size_t i = 0; i < MANY; i += 4)
        sh_free(at[i]);
}

static void *allocate_late(void *unused)
{
    void *p = sh_malloc(SIZE);
    gc_thread_unregister();
    MUST(sh_my_cache == &sh_empty_cache);
    sh_free(p);
    return NULL;
}

static void without_a_cache_a_free_is_remote(void **unused)
{
    for (int i = 0; i < 10; i++)
        in_thread(allocate_late, NULL);
}

/* ---- All of it ---- */

static void churn(void)
{
    struct random random = {.state = 77};
    memset(at, 0, sizeof at);
    for (int i = 0; i < 200000; i++) {
        size_t n = random_below(&random, MANY);
        sh_free(at[n]);
        at[n] =
            random_below(&random, 3) ? sh_malloc(random_below(&random, 2000)) : NULL;
    }
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (span->state == SH_SPAN_SMALL)
            sh_span_valid(span);
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
    for (size_t i = 0; i < MANY; i++)
        sh_free(at[i]);
}

static void spans_stay_valid(void **unused)
{
    with_fresh_cache(churn);
}

/* A thread that is there before the heap begins has no cache. */
static int begin(void **unused)
{
    return gc_thread_register();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_cache_misses),
        cmocka_unit_test(the_first_refill_takes_a_span),
        cmocka_unit_test(a_refill_is_handed_out_cell_by_cell),
        cmocka_unit_test(freeing_changes_one_state),
        cmocka_unit_test(kinds_and_classes_do_not_mix),
        cmocka_unit_test(full_spans_wake_when_a_sixteenth_is_free),
        cmocka_unit_test(empty_spans_are_given_back_but_for_the_current),
        cmocka_unit_test(free_cells_are_used_before_new_spans),
        cmocka_unit_test(what_was_collected_is_handed_out_again),
        cmocka_unit_test(each_thread_has_a_cache_while_it_lives),
        cmocka_unit_test(what_a_thread_leaves_is_the_shared_caches),
        cmocka_unit_test(the_next_thread_adopts_it),
        cmocka_unit_test(without_a_cache_a_free_is_remote),
        cmocka_unit_test(spans_stay_valid),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
