/* SPDX-License-Identifier: MIT */
/* heaps/tables.h: the rare bits of cells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/sweep.h"
#include "heaps/tables.h"
#include "tests/spans.h"

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

static struct sh_cell cell_of(struct sh_span *span, uint32_t index)
{
    return (struct sh_cell){.span = span, .index = index};
}

static void no_table_is_no_bit(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t i = 0; i < span->cell_count; i += 17) {
        assert_false(sh_table_test(cell_of(span, i), &span->final_bits));
        assert_false(sh_table_clear(cell_of(span, i), &span->weak_bits));
        assert_int_equal(sh_table_word(&span->final_bits, i / 64), 0);
        sh_table_clear_word(&span->final_bits, i / 64, UINT64_MAX);
    }
    assert_null(sh_load_relaxed(&span->final_bits));
    assert_null(sh_load_relaxed(&span->weak_bits));
    assert_int_equal(sh_load_relaxed(&span->owner), 0);
    sh_run_give(span);
}

static void a_bit_is_one_cells_and_one_tables(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    assert_true(sh_table_set(cell_of(span, 64), &span->final_bits));
    for (uint32_t i = 0; i < span->cell_count; i++) {
        assert_int_equal(sh_table_test(cell_of(span, i), &span->final_bits), i == 64);
        assert_false(sh_table_test(cell_of(span, i), &span->weak_bits));
    }
    assert_null(sh_load_relaxed(&span->weak_bits));
    assert_true(sh_table_set(cell_of(span, 63), &span->weak_bits));
    assert_false(sh_table_test(cell_of(span, 63), &span->final_bits));
    assert_int_equal(sh_table_word(&span->weak_bits, 0), sh_cell_bit(63));
    assert_int_equal(sh_table_word(&span->weak_bits, 1), 0);
    assert_int_equal(sh_table_word(&span->final_bits, 1), 1);
    sh_run_give(span);
}

static void clearing_tells_whether_it_was_set(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    assert_true(sh_table_set(cell_of(span, 5), &span->weak_bits));
    assert_true(sh_table_set(cell_of(span, 5), &span->weak_bits));
    assert_true(sh_table_set(cell_of(span, 6), &span->weak_bits));
    assert_true(sh_table_clear(cell_of(span, 5), &span->weak_bits));
    assert_false(sh_table_clear(cell_of(span, 5), &span->weak_bits));
    assert_false(sh_table_clear(cell_of(span, 7), &span->weak_bits));
    assert_true(sh_table_test(cell_of(span, 6), &span->weak_bits));
    sh_run_give(span);
}

static void a_word_is_cleared_by_its_bits(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t i = 0; i < 128; i++)
        assert_true(sh_table_set(cell_of(span, i), &span->final_bits));
    sh_table_clear_word(&span->final_bits, 1, 0xff00);
    assert_int_equal(sh_table_word(&span->final_bits, 0), UINT64_MAX);
    assert_int_equal(sh_table_word(&span->final_bits, 1), ~(uint64_t)0xff00);
    assert_int_equal(sh_table_word(&span->final_bits, 2), 0);
    sh_run_give(span);
}

/* From the first bit on; whose the span is does not change. */
static void frees_take_the_slow_path(void **unused)
{
    static struct sh_cache cache;
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    sh_store_seq_cst(&span->owner, (uintptr_t)&cache);
    assert_true(sh_table_set(cell_of(span, 1), &span->weak_bits));
    assert_int_equal(sh_load_relaxed(&span->owner), (uintptr_t)&cache | SH_OWNER_FLAGS);
    assert_ptr_equal(sh_span_owner(span), &cache);
    /* Cleared bits leave it: the table is still there. */
    assert_true(sh_table_clear(cell_of(span, 1), &span->weak_bits));
    assert_true(sh_load_relaxed(&span->owner) & SH_OWNER_SLOW);
    sh_run_give(span);
}

static void a_large_object_has_a_bit_too(void **unused)
{
    struct sh_span *span = large_span(SH_KIND_SCAN, 20);
    assert_true(sh_table_set(cell_of(span, 0), &span->final_bits));
    assert_true(sh_table_test(cell_of(span, 0), &span->final_bits));
    assert_true(sh_table_clear(cell_of(span, 0), &span->final_bits));
    assert_false(sh_table_test(cell_of(span, 0), &span->final_bits));
    sh_run_give(span);
}

/* The descriptor's next life begins without. */
static void tables_end_with_the_span(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    assert_true(sh_table_set(cell_of(span, 9), &span->final_bits));
    assert_true(sh_table_set(cell_of(span, 9), &span->weak_bits));
    sh_span_setup(span, span->base, span->cell_size, span->cell_count, SH_KIND_SCAN);
    assert_null(sh_load_relaxed(&span->final_bits));
    assert_null(sh_load_relaxed(&span->weak_bits));
    assert_int_equal(sh_load_relaxed(&span->owner), 0);
    assert_true(sh_table_set(cell_of(span, 8), &span->final_bits));
    assert_false(sh_table_test(cell_of(span, 9), &span->final_bits));
    sh_run_give(span);
}

/* ---- Two threads set the first bits ---- */

enum { ROUNDS = 20000 };

static struct sh_span *shared;
static _Atomic uint32_t begun, done;

static void set_bits_from(uint32_t first)
{
    for (uint32_t i = first; i < 8; i += 2)
        MUST(sh_table_set(cell_of(shared, i), &shared->weak_bits));
}

static void *set_own_bits(void *unused)
{
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        await_round(&begun, round);
        sh_critical_enter();
        set_bits_from(1);
        sh_critical_leave();
        sh_store_seq_cst(&done, round);
    }
    return NULL;
}

static void no_bit_is_lost_with_the_first_table(void **unused)
{
    pthread_t thread = start(set_own_bits, NULL);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        shared = small_span(SH_KIND_SCAN, 64);
        sh_store_seq_cst(&begun, round);
        /* As long as it may take the other to see it. */
        for (volatile uint32_t i = 0; i < round % 300; i++) {
        }
        set_bits_from(0);
        await_round(&done, round);
        assert_int_equal(sh_table_word(&shared->weak_bits, 0), 0xff);
        assert_null(sh_load_relaxed(&shared->final_bits));
        sh_run_give(shared);
    }
    join(thread);
}

/* ---- One sets the first bit, the owner sweeps ---- */

static void *sweep_rounds(void *unused)
{
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        await_round(&begun, round);
        sh_critical_enter();
        sh_span_sweep(shared);
        sh_critical_leave();
        sh_store_seq_cst(&done, round);
    }
    return NULL;
}

/* Not even for a moment: a free just then would leave the bit. */
static void with_a_bit_frees_are_slow_while_it_is_swept(void **unused)
{
    pthread_t thread = start(sweep_rounds, NULL);
    uint32_t fast = 0;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        shared = small_span(SH_KIND_SCAN, 64);
        sh_or_seq_cst(&shared->owner, SH_OWNER_SLOW);
        sh_store_seq_cst(&begun, round);
        for (volatile uint32_t i = 0; i < round % 100; i++) {
        }
        MUST(sh_table_set(cell_of(shared, 1), &shared->weak_bits));
        for (uint32_t i = 0; sh_load_seq_cst(&done) != round; i++) {
            fast += !(sh_load_relaxed(&shared->owner) & SH_OWNER_SLOW);
            if (i > 10000)
                sched_yield();
        }
        assert_true(sh_load_relaxed(&shared->owner) & SH_OWNER_SLOW);
        sh_run_give(shared);
    }
    join(thread);
    assert_int_equal(fast, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(no_table_is_no_bit),
        SPAN_TEST(a_bit_is_one_cells_and_one_tables),
        SPAN_TEST(clearing_tells_whether_it_was_set),
        SPAN_TEST(a_word_is_cleared_by_its_bits),
        SPAN_TEST(frees_take_the_slow_path),
        SPAN_TEST(a_large_object_has_a_bit_too),
        SPAN_TEST(tables_end_with_the_span),
        SPAN_TEST(no_bit_is_lost_with_the_first_table),
        SPAN_TEST(with_a_bit_frees_are_slow_while_it_is_swept),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
