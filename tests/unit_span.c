/* SPDX-License-Identifier: MIT */
/* heaps/span.h: descriptors and what their tables say of a cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "heaps/span.h"
#include "heaps/tables.h"
#include "tests/child.h"
#include "tests/spans.h"
#include "lib/meta.h"
#include "tests/workers.h"

#define BASE ((uintptr_t)0x10000000)

static int begin(void **unused)
{
    sh_size_class_init();
    return enter(unused);
}

static struct sh_span *make(unsigned c)
{
    const struct sh_size_class *class = &sh_size_classes[c];
    size_t cells = class->pages * SH_PAGE_SIZE / class->size;
    struct sh_span *span = sh_span_new(cells, SH_KIND_SCAN);
    assert_non_null(span);
    sh_span_setup(span, BASE, class->size, cells, SH_KIND_SCAN);
    span->pages = class->pages;
    span->state = SH_SPAN_SMALL;
    span->class_index = (uint8_t)c;
    span->reciprocal = class->reciprocal;
    return span;
}

static void a_new_span_has_no_live_cell(void **unused)
{
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        struct sh_span *span = make(c);
        sh_span_valid(span);
        assert_int_equal(span->used, 0);
        assert_int_equal(span->wake, SH_WAKE_NEVER);
        assert_null(sh_span_owner(span));
        for (uint32_t w = 0; w < sh_span_table_words(span->cell_count); w++) {
            assert_int_equal(sh_span_word(span, w, SH_CELL_LIVE), 0);
            assert_int_equal(sh_span_marked(span, w), UINT64_MAX);
        }
        sh_span_delete(span);
    }
}

/* A state past the last cell, so that no test needs a bound, is there and says NONE. */
static void there_is_a_state_past_the_last_cell(void **unused)
{
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        struct sh_span *span = make(c);
        uint32_t past = span->cell_count;
        assert_true(past / 64 < sh_span_table_words(past));
        for (uint32_t cell = past; cell < sh_span_table_words(past) * 64; cell++)
            assert_int_equal(sh_cell_state(span, cell), SH_CELL_NONE);
        /* As the first bytes behind the last cell would say. */
        uintptr_t end = BASE + span->pages * SH_PAGE_SIZE;
        assert_true(sh_span_cell_of(span, end - 1) <= past);
        sh_span_delete(span);
    }
}

static void cells_and_addresses_agree(void **unused)
{
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        struct sh_span *span = make(c);
        for (uint32_t cell = 0; cell < span->cell_count; cell++) {
            uintptr_t at = sh_span_cell(span, cell);
            assert_int_equal(at, BASE + (uintptr_t)cell * span->cell_size);
            assert_int_equal(sh_span_cell_of(span, at), cell);
            assert_int_equal(sh_span_cell_of(span, at + span->cell_size - 1), cell);
        }
        sh_span_delete(span);
    }
}

/* 64 states are read at once, of each cell just its own. */
static void a_word_has_the_states_of_its_cells(void **unused)
{
    struct sh_span *span = make(4);
    assert_int_equal((uintptr_t)span->states % 64, 0);
    for (uint32_t cell = 0; cell < span->cell_count; cell++)
        sh_cell_set(span, cell, (enum sh_cell_state)(cell * 7 % SH_CELL_NONE));
    for (uint32_t w = 0; w < sh_span_table_words(span->cell_count); w++) {
        uint64_t all = 0;
        for (unsigned state = SH_CELL_FREE; state <= SH_CELL_NONE; state++) {
            uint64_t cells = sh_span_word(span, w, (enum sh_cell_state)state);
            assert_int_equal(all & cells, 0);
            all |= cells;
            for (uint32_t i = 0; i < 64; i++)
                assert_int_equal(
                    cells >> i & 1, sh_cell_state(span, w * 64 + i) == state);
        }
        assert_int_equal(all, UINT64_MAX);
    }
    uint64_t before = sh_span_word(span, 1, SH_CELL_FREE);
    sh_span_free_word(span, 1, 0x8000000000000101);
    assert_int_equal(sh_span_word(span, 1, SH_CELL_FREE), before | 0x8000000000000101);
    sh_span_delete(span);
}

/* One cell of any size: every address leads to cell 0. */
static void a_span_of_one_object(void **unused)
{
    struct sh_span *span = sh_span_new(1, SH_KIND_EXPLICIT);
    sh_span_setup(span, BASE, 1000000, 1, SH_KIND_EXPLICIT);
    assert_int_equal(sh_span_words(span), 1);
    assert_int_equal(sh_span_cell_of(span, BASE), 0);
    assert_int_equal(sh_span_cell_of(span, BASE + 999999), 0);
    assert_int_equal(sh_span_word(span, 0, SH_CELL_LIVE), 0);
    sh_cell_set(span, 0, SH_CELL_LIVE);
    assert_int_equal(sh_span_word(span, 0, SH_CELL_LIVE), 1);
    sh_span_delete(span);
}

/* What is used is what is not free: live, freed elsewhere, or in a magazine. */
static void used_counts_what_is_not_free(void **unused)
{
    struct sh_span *span = make(5);
    span->touched = 2;
    sh_cell_set(span, 3, SH_CELL_HELD);
    sh_cell_set(span, 70, SH_CELL_LIVE);
    sh_cell_set(span, 71, SH_CELL_REMOTE);
    span->used = 3;
    sh_span_valid(span);
    sh_span_delete(span);
}

static void a_descriptor_used_again_begins_anew(void **unused)
{
    struct sh_span *span = make(7);
    for (uint32_t cell = 0; cell < span->cell_count; cell++)
        sh_cell_set(span, cell, SH_CELL_LIVE);
    for (uint32_t w = 0; w < sh_span_words(span); w++)
        set_marks(span, w, 0);
    struct sh_cell cell = {span, 3};
    assert_true(sh_table_set(cell, &span->final_bits));
    assert_true(sh_table_set(cell, &span->weak_bits));
    span->used = 99;
    sh_span_delete(span);
    struct sh_span *again = make(7);
    assert_ptr_equal(again, span);
    sh_span_valid(again);
    assert_null(sh_load_relaxed(&again->final_bits));
    assert_null(sh_load_relaxed(&again->weak_bits));
    assert_null(sh_span_owner(again));
    assert_int_equal(again->used, 0);
    for (uint32_t w = 0; w < sh_span_words(again); w++)
        assert_int_equal(sh_span_marked(again, w), UINT64_MAX);
    sh_span_delete(again);
}

/* What is not a descriptor never lies where one was: late notices write there. */
static void descriptors_memory_stays_theirs(void **unused)
{
    static void *pieces[2000];
    static struct sh_span *spans[200];
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
        spans[c] = make(c);
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        assert_int_equal(sh_load_relaxed(&spans[c]->queued), 0);
        sh_span_delete(spans[c]);
    }
    size_t n = 0;
    for (size_t bytes = 64; bytes <= 70000; bytes += 64)
        if ((pieces[n] = sh_meta_alloc(bytes)))
            memset(pieces[n++], 0xff, bytes);
    for (size_t i = 0; i < n; i++)
        for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
            assert_ptr_not_equal(pieces[i], spans[c]);
    for (size_t bytes = 64, i = 0; i < n; bytes += 64, i++)
        sh_meta_free(pieces[i], bytes);
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        spans[c] = make(c);
        assert_int_equal(sh_load_relaxed(&spans[c]->queued), 0);
    }
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
        sh_span_delete(spans[c]);
}

static void spoil_end(void *span)
{
    struct sh_span *spoilt = span;
    sh_cell_set(spoilt, spoilt->cell_count, SH_CELL_FREE);
    sh_span_valid(spoilt);
}

static void spoil_untouched(void *span)
{
    struct sh_span *spoilt = span;
    sh_cell_set(spoilt, 64, SH_CELL_LIVE);
    spoilt->used = 1;
    sh_span_valid(spoilt);
}

/* A cell in a magazine that is not counted. */
static void spoil_used(void *span)
{
    struct sh_span *spoilt = span;
    spoilt->touched = 1;
    sh_cell_set(spoilt, 5, SH_CELL_HELD);
    sh_span_valid(spoilt);
}

static void spoil_state(void *span)
{
    struct sh_span *spoilt = span;
    spoilt->touched = 1;
    sh_cell_set(spoilt, 5, SH_CELL_NONE);
    sh_span_valid(spoilt);
}

static void spoil_size(void *span)
{
    struct sh_span *spoilt = span;
    spoilt->cell_size += 16;
    sh_span_valid(spoilt);
}

static void what_is_not_valid_is_seen(void **unused)
{
    static void (*const ways[])(void *) = {
        spoil_end, spoil_untouched, spoil_used, spoil_state, spoil_size};
    struct sh_span *span = make(9);
    sh_critical_leave(); /* forking waits */
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct child child;
        child_run(&child, ways[i], span);
        assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
        assert_non_null(strstr(child.text, "check failed"));
    }
    sh_critical_enter();
    sh_span_delete(span);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_span_has_no_live_cell),
        cmocka_unit_test(there_is_a_state_past_the_last_cell),
        cmocka_unit_test(cells_and_addresses_agree),
        cmocka_unit_test(a_word_has_the_states_of_its_cells),
        cmocka_unit_test(a_span_of_one_object),
        cmocka_unit_test(used_counts_what_is_not_free),
        cmocka_unit_test(a_descriptor_used_again_begins_anew),
        cmocka_unit_test(descriptors_memory_stays_theirs),
        cmocka_unit_test(what_is_not_valid_is_seen),
    };
    return cmocka_run_group_tests(tests, begin, leave);
}
