/* SPDX-License-Identifier: MIT */
/* heaps/bury.h: which spans go whole, which are guarded, and what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/bury.h"
#include "heaps/sweep.h"
#include "heaps/tables.h"
#include "tests/spans.h"

#define CELLS 200

static struct sh_cache owner;

static int begin(void **unused)
{
    sh_cache_init(&owner);
    return give_area((size_t)8 << 20);
}

/* An available span of `owner`'s with CELLS live cells, as a collection begins. */
static struct sh_span *prepared_span(enum sh_kind kind)
{
    struct sh_span *span = small_span(kind, 64);
    sh_store_seq_cst(&span->owner, (uintptr_t)&owner);
    for (uint32_t cell = 0; cell < CELLS; cell++)
        hand_cell_out(span, cell);
    struct sh_span **head =
        &owner.depots[kind][span->class_index].head[SH_LIST_AVAILABLE];
    span->list = SH_LIST_AVAILABLE;
    span->next = *head;
    if (span->next)
        span->next->prev = span;
    *head = span;
    sh_span_prepare(span);
    return span;
}

static struct sh_span *listed(const struct sh_span *span)
{
    return owner.depots[span->kind][span->class_index].head[SH_LIST_AVAILABLE];
}

static void mark(struct sh_span *span, uint32_t cell)
{
    set_marked(span, cell, true);
}

static bool is_guarded(struct sh_span *span)
{
    return sh_load_relaxed(&span->owner) & SH_OWNER_SLOW;
}

static struct sh_burial bury(struct sh_span *span)
{
    struct sh_burial burial = {.dead = NULL};
    sh_bury_span(&burial, span);
    return burial;
}

static void give_up(struct sh_span *span)
{
    sh_cache_unlist(&owner, span);
    sh_store_seq_cst(&span->owner, (uintptr_t)0);
    sh_store_seq_cst(&span->queued, 0u);
    sh_run_give(span);
}

static void preparing_counts_and_clears(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    assert_int_equal(span->live, CELLS);
    for (uint32_t cell = 0; cell < span->cell_count; cell++)
        assert_int_equal(sh_cell_marked(span, cell), cell >= CELLS);
    /* Due: what was not marked is free first. */
    for (uint32_t cell = 0; cell < CELLS; cell += 2)
        mark(span, cell);
    span->epoch = sh_load_relaxed(&sh_epoch) - 1;
    sh_cell_set(span, 1, SH_CELL_HELD);
    sh_span_prepare(span);
    assert_int_equal(span->live, CELLS / 2);
    assert_int_equal(span->used, CELLS / 2 + 1);
    assert_int_equal(span->epoch, sh_load_relaxed(&sh_epoch));
    for (uint32_t cell = 0; cell < CELLS; cell++)
        assert_int_equal(sh_cell_marked(span, cell), cell % 2 == 1 || cell >= CELLS);
    give_up(span);
}

static void nothing_dead_stays_as_it_is(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    for (uint32_t cell = 0; cell < CELLS; cell++)
        mark(span, cell);
    struct sh_burial burial = bury(span);
    assert_null(burial.dead);
    assert_int_equal(burial.objects, CELLS);
    assert_int_equal(burial.bytes, CELLS * 64);
    assert_int_equal(burial.pages, SH_SLOT_PAGES);
    assert_false(is_guarded(span));
    give_up(span);
}

static void a_dead_cell_is_guarded(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_LEAF);
    for (uint32_t cell = 0; cell < CELLS - 1; cell++)
        mark(span, cell);
    struct sh_burial burial = bury(span);
    assert_null(burial.dead);
    assert_int_equal(burial.objects, CELLS - 1);
    assert_true(is_guarded(span));
    give_up(span);
}

static void a_dead_span_is_condemned_as_it_is(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    struct sh_burial burial = bury(span);
    assert_ptr_equal(burial.dead, span);
    assert_int_equal(burial.objects, 0);
    assert_int_equal(burial.bytes, 0);
    assert_int_equal(sh_load_relaxed(&span->queued), 1);
    assert_ptr_equal(listed(span), span);
    assert_ptr_equal(sh_bury_condemn(&burial), span);
    assert_null(span->next);
    assert_null(burial.dead);
    assert_null(listed(span));
    assert_int_equal(span->list, SH_LIST_DEAD);
    /* Who frees one of its cells, now that it is due, is told. */
    span->epoch = sh_load_relaxed(&sh_epoch) - 1;
    assert_true(is_guarded(span));
    assert_true(is_handed_out(span, 7));
    assert_false(sh_cell_is_live(span, 7));
    /* Nobody looks at it twice. */
    assert_null(bury(span).dead);
    span->list = SH_LIST_NONE;
    give_up(span);
}

static void a_held_cell_keeps_it(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    sh_cell_set(span, CELLS, SH_CELL_HELD);
    span->used++;
    assert_null(bury(span).dead);
    sh_cell_set(span, CELLS, SH_CELL_FREE);
    span->used--;
    assert_ptr_equal(bury(span).dead, span);
    give_up(span);
}

static void a_remote_free_on_its_way_keeps_it(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    sh_cell_set(span, 3, SH_CELL_REMOTE);
    sh_store_relaxed(&span->queued, 1u);
    assert_null(bury(span).dead);
    sh_store_relaxed(&span->queued, 0u);
    /* Taken back, it is no obstacle. */
    assert_ptr_equal(bury(span).dead, span);
    give_up(span);
}

static void the_current_span_stays(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    struct sh_depot *depot = &owner.depots[SH_KIND_SCAN][span->class_index];
    sh_cache_unlist(&owner, span);
    depot->current = span;
    assert_null(bury(span).dead);
    assert_true(is_guarded(span));
    depot->current = NULL;
    assert_ptr_equal(bury(span).dead, span);
    give_up(span);
}

/* A thread without a record frees a cell of the shared cache's meanwhile, and holds it,
 * or takes another: the number of used cells is what it was. */
static void the_shared_caches_spans_are_looked_at_closely(void **unused)
{
    struct sh_span *span = prepared_span(SH_KIND_SCAN);
    sh_cache_unlist(&owner, span);
    sh_store_seq_cst(&span->owner, (uintptr_t)&sh_shared_cache);
    sh_cell_set(span, 5, SH_CELL_HELD);
    assert_int_equal(span->used, span->live);
    assert_null(bury(span).dead);
    sh_cell_set(span, 5, SH_CELL_FREE);
    sh_cell_set(
        span, CELLS, SH_CELL_LIVE); /* not live when it began: it has its mark */
    assert_null(bury(span).dead);
    sh_cell_set(span, CELLS, SH_CELL_FREE);
    assert_ptr_equal(bury(span).dead, span);
    give_up(span);
}

static void a_large_object_made_meanwhile_stays(void **unused)
{
    struct sh_span *span = large_span(SH_KIND_SCAN, 20);
    set_marks(span, 0, ~(uint64_t)0);
    assert_int_equal(span->live, 0);
    assert_null(bury(span).dead);
    sh_run_give(span);
}

static void large_objects_live_or_go(void **unused)
{
    struct sh_span *span = large_span(SH_KIND_LEAF, 20);
    sh_span_prepare(span);
    assert_int_equal(span->live, 1);
    mark(span, 0);
    struct sh_burial burial = bury(span);
    assert_null(burial.dead);
    assert_int_equal(burial.bytes, 20 * SH_PAGE_SIZE);
    assert_int_equal(burial.pages, 20);
    sh_span_prepare(span);
    burial = bury(span);
    assert_ptr_equal(sh_bury_condemn(&burial), span);
    sh_store_seq_cst(&span->queued, 0u);
    sh_run_give(span);
}

static void explicit_spans_are_none_of_its_business(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_EXPLICIT, 64);
    struct sh_burial burial = bury(span);
    assert_null(burial.dead);
    assert_int_equal(burial.pages, 0);
    sh_run_give(span);
}

static void burials_are_joined(void **unused)
{
    struct sh_span *spans[5];
    struct sh_burial one = {.dead = NULL}, other = {.dead = NULL}, none = one;
    for (size_t i = 0; i < 5; i++) {
        spans[i] = prepared_span(SH_KIND_SCAN);
        if (i == 4)
            mark(spans[i], 0);
        sh_bury_span(i < 2 ? &one : &other, spans[i]);
    }
    sh_bury_join(&none, &one);
    sh_bury_join(&none, &other);
    sh_bury_join(&none, &(struct sh_burial){.dead = NULL});
    assert_int_equal(none.objects, 1);
    assert_int_equal(none.bytes, 64);
    assert_int_equal(none.pages, 5 * SH_SLOT_PAGES);
    size_t count = 0;
    struct sh_span *dead = sh_bury_condemn(&none);
    for (struct sh_span *span = dead; span; span = span->next)
        count++;
    assert_int_equal(count, 4);
    assert_ptr_equal(listed(spans[4]), spans[4]);
    assert_null(spans[4]->next);
    for (size_t i = 0; i < 4; i++)
        sh_store_seq_cst(&spans[i]->owner, (uintptr_t)0);
    sh_cache_give_back(dead);
    give_up(spans[4]);
}

/* Neighbours in any order, and some that are none. */
static void spans_given_back_together_are_one_run(void **unused)
{
    static const size_t orders[][4] = {
        {0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1, 0, 3, 2}};
    size_t free_before = sh_load_relaxed(&sh_heap_counts.free_pages);
    for (size_t order = 0; order < 4; order++) {
        struct sh_span *spans[4], *given[4];
        struct sh_span *whole = large_span(SH_KIND_SCAN, 4 * SH_SLOT_PAGES);
        uintptr_t base = whole->base;
        sh_run_give(whole);
        struct sh_run_want want = {.pages = 10,
            .min_pages = 10,
            .align = SH_PAGE_SIZE,
            .kind = SH_KIND_SCAN,
            .state = SH_SPAN_LARGE};
        for (size_t i = 0; i < 4; i++)
            spans[i] = sh_run_take(&want);
        for (size_t i = 0; i < 4; i++)
            given[i] = spans[orders[order][i]];
        sh_run_give_all(given, 4);
        struct sh_span *run = sh_page_map_lookup(base);
        assert_int_equal(run->state, SH_SPAN_FREE);
        for (size_t page = 0; page < 40; page++)
            assert_ptr_equal(sh_page_map_lookup(base + page * SH_PAGE_SIZE), run);
        assert_int_equal(sh_load_relaxed(&sh_heap_counts.free_pages), free_before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(preparing_counts_and_clears),
        SPAN_TEST(nothing_dead_stays_as_it_is),
        SPAN_TEST(a_dead_cell_is_guarded),
        SPAN_TEST(a_dead_span_is_condemned_as_it_is),
        SPAN_TEST(a_held_cell_keeps_it),
        SPAN_TEST(a_remote_free_on_its_way_keeps_it),
        SPAN_TEST(the_current_span_stays),
        SPAN_TEST(the_shared_caches_spans_are_looked_at_closely),
        SPAN_TEST(a_large_object_made_meanwhile_stays),
        SPAN_TEST(large_objects_live_or_go),
        SPAN_TEST(explicit_spans_are_none_of_its_business),
        SPAN_TEST(burials_are_joined),
        SPAN_TEST(spans_given_back_together_are_one_run),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
