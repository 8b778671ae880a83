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
#include "lib/meta.h"
#include "tests/workers.h"

static int enter(void **unused)
{
    sh_size_class_init();
    sh_critical_enter();
    return 0;
}

static int leave(void **unused)
{
    sh_critical_leave();
    return 0;
}

#define BASE ((uintptr_t)0x10000000)

static struct sh_span *make(unsigned c)
{
    const struct sh_size_class *class = &sh_size_classes[c];
    size_t cells = class->pages * SH_PAGE_SIZE / class->size;
    struct sh_span *span = sh_span_new(cells);
    assert_non_null(span);
    sh_span_setup(span, BASE, class->size, cells);
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
            assert_int_equal(sh_word_live(&span->words[w]), 0);
            assert_int_equal(span->marks[w], 0);
        }
        sh_span_delete(span);
    }
}

/* A bit past the last cell, which no test needs a bound for, is there and never live. */
static void there_is_a_bit_past_the_last_cell(void **unused)
{
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        struct sh_span *span = make(c);
        uint32_t past = span->cell_count;
        assert_true(past / 64 < sh_span_table_words(past));
        struct sh_word *word = sh_span_word_of(span, past);
        assert_true(sh_load_relaxed(&word->alloc) & sh_cell_bit(past));
        assert_true(sh_load_relaxed(&word->remote) & sh_cell_bit(past));
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
            assert_ptr_equal(sh_span_word_of(span, cell), &span->words[cell / 64]);
        }
        sh_span_delete(span);
    }
}

static void the_tail_is_what_no_cell_has(void **unused)
{
    struct sh_span *span = make(0);
    for (uint32_t cells = 1; cells < 300; cells++) {
        span->cell_count = cells;
        for (uint32_t bit = 0; bit < sh_span_table_words(cells) * 64; bit++) {
            bool tail = sh_span_tail(span, bit / 64) & sh_cell_bit(bit);
            assert_int_equal(tail, bit >= cells);
        }
    }
    span->cell_count = 65536 / 16;
    sh_span_delete(span);
}

/* One cell of any size: every address leads to cell 0. */
static void a_span_of_one_object(void **unused)
{
    struct sh_span *span = sh_span_new(1);
    sh_span_setup(span, BASE, 1000000, 1);
    assert_int_equal(sh_span_words(span), 1);
    assert_int_equal(sh_span_cell_of(span, BASE), 0);
    assert_int_equal(sh_span_cell_of(span, BASE + 999999), 0);
    assert_int_equal(sh_word_live(&span->words[0]), 0);
    sh_or_relaxed(&span->words[0].alloc, (uint64_t)1);
    assert_int_equal(sh_word_live(&span->words[0]), 1);
    sh_span_delete(span);
}

static void a_live_cell_is_allocated_and_not_freed_elsewhere(void **unused)
{
    struct sh_span *span = make(5);
    sh_or_relaxed(&span->words[1].alloc, (uint64_t)6);
    assert_int_equal(sh_word_live(&span->words[1]), 6);
    sh_or_relaxed(&span->words[1].remote, (uint64_t)2);
    assert_int_equal(sh_word_live(&span->words[1]), 4);
    sh_span_delete(span);
}

static void a_descriptor_used_again_begins_anew(void **unused)
{
    struct sh_span *span = make(7);
    for (uint32_t w = 0; w < sh_span_words(span); w++) {
        sh_store_relaxed(&span->words[w].alloc, UINT64_MAX);
        span->marks[w] = UINT64_MAX;
    }
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
        assert_int_equal(again->marks[w], 0);
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

static void spoil_tail(void *span)
{
    struct sh_span *spoilt = span;
    uint32_t past = spoilt->cell_count;
    sh_and_relaxed(&sh_span_word_of(spoilt, past)->alloc, ~sh_cell_bit(past));
    sh_span_valid(spoilt);
}

static void spoil_untouched(void *span)
{
    struct sh_span *spoilt = span;
    sh_or_relaxed(&spoilt->words[1].alloc, (uint64_t)1);
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
    static void (*const ways[])(void *) = {spoil_tail, spoil_untouched, spoil_size};
    struct sh_span *span = make(9);
    sh_critical_leave(); /* forking waits */
    for (int i = 0; i < 3; i++) {
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
        cmocka_unit_test(there_is_a_bit_past_the_last_cell),
        cmocka_unit_test(cells_and_addresses_agree),
        cmocka_unit_test(the_tail_is_what_no_cell_has),
        cmocka_unit_test(a_span_of_one_object),
        cmocka_unit_test(a_live_cell_is_allocated_and_not_freed_elsewhere),
        cmocka_unit_test(a_descriptor_used_again_begins_anew),
        cmocka_unit_test(descriptors_memory_stays_theirs),
        cmocka_unit_test(what_is_not_valid_is_seen),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
