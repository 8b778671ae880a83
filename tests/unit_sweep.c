/* SPDX-License-Identifier: MIT */
/* heaps/sweep.h: what of a span's bits a sweep leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/remote.h"
#include "heaps/sweep.h"
#include "heaps/tables.h"
#include "tests/spans.h"

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

static uint64_t live_word(struct sh_span *span, uint32_t w)
{
    return sh_span_word(span, w, SH_CELL_LIVE);
}

/* As after a collection that ended a moment ago. */
static void make_due(struct sh_span *span)
{
    span->epoch = sh_load_relaxed(&sh_epoch) - 1;
}

static void what_is_not_marked_is_free(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t cell = 0; cell < 200; cell++)
        hand_cell_out(span, cell);
    for (uint32_t cell = 0; cell < 200; cell += 3)
        set_marked(span, cell, true);
    /* Marked but free: it stays free. */
    set_marked(span, 210, true);
    make_due(span);
    sh_span_sweep(span);
    for (uint32_t cell = 0; cell < 256; cell++)
        assert_int_equal(is_handed_out(span, cell), cell < 200 && cell % 3 == 0);
    assert_int_equal(span->used, 67);
    sh_span_valid(span);
    assert_false(sh_span_sweep_due(span));
    sh_run_give(span);
}

static void a_span_is_due_until_it_is_swept(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_LEAF, 64);
    hand_cell_out(span, 0);
    assert_false(sh_span_sweep_due(span));
    sh_span_sweep_if_due(span);
    assert_true(is_handed_out(span, 0));
    make_due(span);
    assert_true(sh_span_sweep_due(span));
    sh_span_sweep_if_due(span);
    assert_false(is_handed_out(span, 0));
    assert_int_equal(span->epoch, sh_load_relaxed(&sh_epoch));
    /* What is handed out from now on is not the last collection's business. */
    hand_cell_out(span, 1);
    sh_span_sweep_if_due(span);
    assert_true(is_handed_out(span, 1));
    sh_run_give(span);
}

static void explicit_spans_are_never_due(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_EXPLICIT, 64);
    hand_cell_out(span, 0);
    make_due(span);
    assert_false(sh_span_sweep_due(span));
    sh_span_sweep_if_due(span);
    assert_true(is_handed_out(span, 0));
    assert_int_equal(sh_span_live(span, 0), 1);
    sh_run_give(span);
}

static void the_dead_are_dead_before_the_sweep(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t cell = 0; cell < 8; cell++)
        hand_cell_out(span, cell);
    set_marks(span, 0, 0x5a);
    sh_cell_set(span, 1, SH_CELL_REMOTE);
    sh_cell_set(span, 3, SH_CELL_REMOTE);
    sh_or_relaxed(&span->remote_words, (uint64_t)1);
    assert_int_equal(sh_span_live(span, 0), 0xf5);
    make_due(span);
    assert_int_equal(sh_span_live(span, 0), 0x50);
    sh_span_sweep(span);
    assert_int_equal(sh_span_live(span, 0), 0x50);
    assert_int_equal(live_word(span, 0), 0x50);
    /* Of those freed elsewhere nothing is left. */
    assert_int_equal(span->used, 2);
    sh_span_valid(span);
    sh_run_give(span);
}

/* States past the last cell: NONE for good. */
static void no_cell_stays_none(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 3072);
    uint64_t none = ~sh_low_bits64(span->cell_count);
    for (uint32_t cell = 0; cell < span->cell_count; cell++)
        hand_cell_out(span, cell);
    assert_int_equal(live_word(span, 0), ~none);
    set_marks(span, 0, 2);
    make_due(span);
    sh_span_sweep(span);
    assert_int_equal(live_word(span, 0), 2);
    assert_int_equal(sh_span_word(span, 0, SH_CELL_NONE), none);
    assert_int_equal(span->used, 1);
    assert_false(sh_span_is_empty(span));
    set_marks(span, 0, 0);
    sh_span_sweep(span);
    assert_int_equal(span->used, 0);
    assert_true(sh_span_is_empty(span));
    sh_span_valid(span);
    sh_run_give(span);
}

/* A marked cell that was freed remotely is free once it was named to the owner. */
static void remote_frees_are_taken(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t cell = 0; cell < 100; cell++) {
        hand_cell_out(span, cell);
        set_marked(span, cell, true);
    }
    sh_cell_set(span, 5, SH_CELL_REMOTE);
    sh_or_relaxed(&span->remote_words, (uint64_t)1);
    sh_cell_set(span, 70, SH_CELL_REMOTE);
    make_due(span);
    sh_span_sweep(span);
    for (uint32_t cell = 0; cell < 100; cell++)
        assert_int_equal(is_handed_out(span, cell), cell != 5 && cell != 70);
    assert_int_equal(sh_cell_state(span, 5), SH_CELL_FREE);
    assert_int_equal(sh_cell_state(span, 70), SH_CELL_REMOTE);
    assert_int_equal(sh_load_relaxed(&span->remote_words), 0);
    assert_int_equal(span->used, 99);
    sh_or_relaxed(&span->remote_words, (uint64_t)2);
    assert_int_equal(sh_remote_take(span), 1);
    assert_int_equal(sh_cell_state(span, 70), SH_CELL_FREE);
    span->used--;
    sh_span_valid(span);
    sh_run_give(span);
}

static void the_deads_rare_bits_go(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t cell = 62; cell < 66; cell++) {
        struct sh_cell of = {.span = span, .index = cell};
        hand_cell_out(span, cell);
        assert_true(sh_table_set(of, &span->final_bits));
        assert_true(sh_table_set(of, &span->weak_bits));
    }
    set_marks(span, 0, sh_cell_bit(63));
    set_marks(span, 1, sh_cell_bit(65));
    make_due(span);
    sh_span_sweep(span);
    for (uint32_t cell = 62; cell < 66; cell++) {
        struct sh_cell of = {.span = span, .index = cell};
        assert_int_equal(sh_table_test(of, &span->final_bits), cell % 2 == 1);
        assert_int_equal(sh_table_test(of, &span->weak_bits), cell % 2 == 1);
    }
    /* A span with tables keeps its frees on the slow path. */
    assert_true(sh_load_relaxed(&span->owner) & SH_OWNER_SLOW);
    sh_run_give(span);
}

static void frees_are_fast_again_after_the_sweep(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    hand_cell_out(span, 0);
    sh_or_seq_cst(&span->owner, SH_OWNER_SLOW);
    make_due(span);
    sh_span_sweep(span);
    assert_false(sh_load_relaxed(&span->owner) & SH_OWNER_SLOW);
    sh_run_give(span);
}

/* ---- Magazines ---- */

static struct sh_cache cache;

/* Cells of rounds are free, count as used, and can be handed out after. */
static void rounds_stay_in_the_magazine(void **unused)
{
    unsigned c = sh_size_class_of(320);
    sh_cache_init(&cache);
    struct sh_bin *bin = &cache.bins[SH_KIND_SCAN][c];
    struct sh_depot *depot = &cache.depots[SH_KIND_SCAN][c];
    assert_non_null(sh_cache_refill(&cache, SH_KIND_SCAN, c, false));
    for (int i = 0; i < 9; i++)
        assert_non_null(sh_bin_take(bin));
    struct sh_span *span = depot->current;
    uint32_t rounds = (uint32_t)(bin->top - depot->magazine);
    assert_true(rounds > 2);
    assert_int_equal(span->used, rounds + 10);
    /* The second and third of ten live. */
    clear_marks(span);
    set_marked(span, 1, true);
    set_marked(span, 2, true);
    make_due(span);
    void *p = sh_bin_take(bin);
    sh_span_sweep(span);
    assert_int_equal(bin->top - depot->magazine, rounds - 1);
    assert_int_equal(span->used, rounds - 1 + 3);
    for (struct sh_round *round = bin->top; round->cell; round--)
        assert_int_equal(sh_load_relaxed(round->state), SH_CELL_HELD);
    assert_int_equal(live_word(span, 0), 6 | 0x400);
    struct sh_cell cell;
    assert_int_equal(sh_cell_find(p, &cell), SH_FOUND_LIVE);
    assert_int_equal(cell.index, 10);
    sh_span_valid(span);
    sh_cache_unload(&cache, SH_KIND_SCAN, c, 0);
    assert_int_equal(span->used, 3);
    sh_span_valid(span);
    sh_run_give(span);
}

/* A cell freed since the collection was live then, or not: its round stays. */
static void what_was_freed_since_stays_held(void **unused)
{
    unsigned c = sh_size_class_of(320);
    sh_cache_init(&cache);
    struct sh_bin *bin = &cache.bins[SH_KIND_LEAF][c];
    void *p = sh_cache_refill(&cache, SH_KIND_LEAF, c, false);
    struct sh_span *span = cache.depots[SH_KIND_LEAF][c].current;
    sh_cache_unload(&cache, SH_KIND_LEAF, c, 0);
    clear_marks(span);
    make_due(span);
    assert_true(sh_bin_put(bin, p, &span->states[0]));
    sh_span_sweep(span);
    assert_int_equal(span->used, 1);
    assert_int_equal(sh_cell_state(span, 0), SH_CELL_HELD);
    /* A refill takes others. */
    void *q = sh_bin_take(bin), *r = sh_cache_refill(&cache, SH_KIND_LEAF, c, false);
    assert_ptr_equal(p, q);
    assert_ptr_not_equal(r, p);
    for (struct sh_round *round = bin->top; round->cell; round--)
        assert_true(round->cell != (uintptr_t)p && round->cell != (uintptr_t)r);
    sh_run_give(span);
}

/* ---- By a collection ---- */

static SH_NOINLINE void make_garbage_here(void **kept)
{
    for (int i = 0; i < 200; i++) {
        void *p = gc_alloc(416, 0);
        if (i % 10 == 0)
            kept[i / 10] = p;
    }
}

/* What is handed out between a collection and the sweep outlives the sweep. */
static void what_a_magazine_hands_out_is_not_swept(void **unused)
{
    static void *kept[20], *fresh[500];
    make_garbage_here(kept);
    clear_stack();
    gc_collect();
    for (int i = 0; i < 500; i++) {
        fresh[i] = gc_alloc(416, 0);
        memset(fresh[i], i, 416);
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(gc_nbytes(kept[i]), 416);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(gc_nbytes(fresh[i]), 416);
        assert_true(uniform(fresh[i], 416, (unsigned char)i));
        for (int k = 0; k < 20; k++)
            assert_ptr_not_equal(fresh[i], kept[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(what_is_not_marked_is_free),
        SPAN_TEST(a_span_is_due_until_it_is_swept),
        SPAN_TEST(explicit_spans_are_never_due),
        SPAN_TEST(the_dead_are_dead_before_the_sweep),
        SPAN_TEST(no_cell_stays_none),
        SPAN_TEST(remote_frees_are_taken),
        SPAN_TEST(the_deads_rare_bits_go),
        SPAN_TEST(frees_are_fast_again_after_the_sweep),
        SPAN_TEST(rounds_stay_in_the_magazine),
        SPAN_TEST(what_was_freed_since_stays_held),
        cmocka_unit_test(what_a_magazine_hands_out_is_not_swept),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
