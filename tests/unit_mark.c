/* SPDX-License-Identifier: MIT */
/* heaps/mark.h: which words keep which cells, on spans made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/mark_team.h"
#include "lib/meta.h"
#include "tests/child.h"
#include "tests/spans.h"

static struct span_of_words {
    const void *start, *end;
} root;

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

static void add_root(void)
{
    sh_mark_root_now(root.start, root.end);
}

static void mark_from_range(const void *start, const void *end)
{
    root.start = start;
    root.end = end;
    mark_all(add_root);
}

static void mark_from(uintptr_t word)
{
    static uintptr_t words[1];
    words[0] = word;
    mark_from_range(words, words + 1);
}

/* What one word marks of the span, the marks before aside. */
static size_t marked_by(struct sh_span *span, uintptr_t word)
{
    clear_marks(span);
    mark_from(word);
    return count_marked(span);
}

static void any_byte_of_a_cell_keeps_it(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 48);
    for (uint32_t cell = 60; cell < 70; cell++)
        hand_cell_out(span, cell);
    uintptr_t start = sh_span_cell(span, 64);
    for (uintptr_t at = start; at < start + 48; at++) {
        assert_int_equal(marked_by(span, at), 1);
        assert_true(is_marked(span, 64));
    }
    assert_int_equal(marked_by(span, start - 1), 1);
    assert_true(is_marked(span, 63));
    assert_int_equal(marked_by(span, start + 48), 1);
    assert_true(is_marked(span, 65));
    sh_run_give(span);
}

static void the_last_byte_of_a_large_object_keeps_it(void **unused)
{
    struct sh_span *span = large_span(SH_KIND_LEAF, 30);
    uintptr_t end = span->base + 30 * SH_PAGE_SIZE;
    assert_int_equal(marked_by(span, span->base), 1);
    assert_int_equal(marked_by(span, end - 1), 1);
    assert_int_equal(marked_by(span, end), 0);
    assert_int_equal(marked_by(span, span->base - 1), 0);
    assert_int_equal(marked_by(span, end - 1), 1);
    assert_int_equal(marked_bytes(), 30 * SH_PAGE_SIZE);
    sh_run_give(span);
}

/* Words that nothing was handed out from are no collection's to clear: pointers into them
 * and past the last cell lead nowhere. */
static void what_was_never_touched_is_not_marked(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 48);
    assert_true(span->cell_count % 64 && SH_SLOT_BYTES % 48);
    hand_cell_out(span, 0);
    for (uint32_t w = 0; w < span->touched; w++)
        set_marks(span, w, ~sh_span_word(span, w, SH_CELL_LIVE));
    for (uint32_t cell = 1; cell <= span->cell_count; cell++)
        mark_from(sh_span_cell(span, cell));
    assert_int_equal(marked_bytes(), 0);
    mark_from(span->base);
    assert_int_equal(marked_bytes(), 48);
    sh_run_give(span);
}

static void free_cells_are_not_marked(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 48);
    hand_cell_out(span, 3);
    hand_cell_out(span, 5);
    sh_cell_set(span, 5, SH_CELL_REMOTE);
    hand_cell_out(span, 6);
    sh_cell_set(span, 6, SH_CELL_HELD);
    assert_int_equal(marked_by(span, sh_span_cell(span, 3)), 1);
    assert_int_equal(marked_by(span, sh_span_cell(span, 4)), 0);
    assert_int_equal(marked_by(span, sh_span_cell(span, 5)), 0);
    assert_int_equal(marked_by(span, sh_span_cell(span, 6)), 0);
    assert_int_equal(marked_by(span, sh_span_cell(span, span->cell_count - 1)), 0);
    /* The rest of the pages after the last cell. */
    assert_true(SH_SLOT_BYTES % 48);
    assert_int_equal(marked_by(span, span->base + SH_SLOT_BYTES - 1), 0);
    assert_int_equal(marked_bytes(), 0);
    sh_run_give(span);
    /* Nor what is in a free run by now. */
    assert_int_equal(sh_page_map_lookup(span->base)->state, SH_SPAN_FREE);
    mark_from(span->base);
    assert_int_equal(marked_bytes(), 0);
}

static void what_is_out_of_bounds_is_no_pointer(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    hand_cell_out(span, 0);
    assert_int_equal(marked_by(span, 0), 0);
    assert_int_equal(marked_by(span, UINTPTR_MAX), 0);
    assert_int_equal(marked_by(span, sh_area_first()->end), 0);
    assert_int_equal(marked_by(span, sh_area_first()->start - 1), 0);
    assert_int_equal(marked_by(span, (uintptr_t)&root), 0);
    assert_int_equal(marked_by(span, span->base), 1);
    sh_run_give(span);
}

static void explicit_cells_are_not_marked(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_EXPLICIT, 64);
    struct sh_span *other = small_span(SH_KIND_SCAN, 64);
    void **p = hand_cell_out(span, 0);
    *p = hand_cell_out(other, 0);
    assert_int_equal(marked_by(span, (uintptr_t)p), 0);
    assert_int_equal(count_marked(other), 0);
    assert_int_equal(marked_bytes(), 0);
    sh_run_give(span);
    sh_run_give(other);
}

static void a_leaf_is_kept_but_not_scanned(void **unused)
{
    struct sh_span *leaves = small_span(SH_KIND_LEAF, 64);
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    void **leaf = hand_cell_out(leaves, 7);
    leaf[3] = hand_cell_out(span, 9);
    assert_int_equal(marked_by(leaves, (uintptr_t)leaf), 1);
    assert_int_equal(count_marked(span), 0);
    assert_int_equal(marked_bytes(), 64);
    sh_run_give(leaves);
    sh_run_give(span);
}

/* An item that is alone in the queue comes out of it, and so does what it leads to. */
static void a_chain_is_followed_to_its_end(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    for (uint32_t length = 1; length <= 3 * SH_MARK_READY; length++) {
        void **before = hand_cell_out(span, length - 1);
        if (length > 1)
            memcpy((void *)(sh_span_cell(span, length - 2) + 56), &before, 8);
        assert_int_equal(marked_by(span, span->base), length);
        assert_int_equal(marked_bytes(), length * 64);
    }
    sh_run_give(span);
}

/* Each fan fills the queue by so many at once. */
static void fans_of_any_width_are_followed(void **unused)
{
    struct sh_span *fan = large_span(SH_KIND_SCAN, 1);
    struct sh_span *span = small_span(SH_KIND_SCAN, 16);
    struct sh_span *leaves = small_span(SH_KIND_LEAF, 16);
    for (uint32_t width = 1; width <= 100; width++) {
        void **child = hand_cell_out(span, width - 1);
        *child = hand_cell_out(leaves, width - 1);
        ((void **)fan->base)[width * 2] = child;
        clear_marks(leaves);
        clear_marks(fan);
        assert_int_equal(marked_by(span, fan->base), width);
        assert_int_equal(count_marked(leaves), width);
    }
    sh_run_give(fan);
    sh_run_give(span);
    sh_run_give(leaves);
}

static void a_large_object_is_scanned_to_its_last_word(void **unused)
{
    size_t pages = 101, words = pages * SH_PAGE_SIZE / 8;
    struct sh_span *large = large_span(SH_KIND_SCAN, pages);
    struct sh_span *span = small_span(SH_KIND_LEAF, 16);
    void **slots = (void **)large->base;
    uint32_t held = 0;
    for (size_t at = 4096; at < words; at += 4096) {
        slots[at - 1] = hand_cell_out(span, held++);
        slots[at] = hand_cell_out(span, held++);
    }
    slots[0] = hand_cell_out(span, held++);
    slots[words - 1] = hand_cell_out(span, held++);
    hand_cell_out(span, held);
    assert_int_equal(marked_by(span, large->base + 12345), held);
    assert_false(is_marked(span, held));
    assert_int_equal(marked_bytes(), pages * SH_PAGE_SIZE + held * 16);
    sh_run_give(large);
    sh_run_give(span);
}

/* More at once than a segment of the stack holds. */
static void the_stack_grows(void **unused)
{
    enum { SPANS = 5, EACH = 4096 };
    struct sh_span *fan = large_span(SH_KIND_SCAN, SPANS * EACH * 8 / SH_PAGE_SIZE);
    struct sh_span *spans[SPANS];
    void **slots = (void **)fan->base;
    for (uint32_t s = 0; s < SPANS; s++) {
        spans[s] = small_span(SH_KIND_SCAN, 16);
        for (uint32_t i = 0; i < EACH; i++)
            slots[s * EACH + i] = hand_cell_out(spans[s], i);
    }
    mark_from(fan->base);
    for (int s = 0; s < SPANS; s++)
        assert_int_equal(count_marked(spans[s]), EACH);
    sh_run_give(fan);
    for (int s = 0; s < SPANS; s++)
        sh_run_give(spans[s]);
}

struct lists {
    struct sh_span *fan, **spans;
    unsigned length;
    const struct gc_marked_type *type; /* of their cells, or NULL: they have none */
};

static void mark_link(void *cell, size_t n_bytes, struct gc_marker *marker)
{
    gc_mark_pointer(marker, ((void **)cell)[1]);
}

/* A list in each of the fan's slots: more is found at once than the queues hold. */
static void hang_lists(const struct lists *lists)
{
    for (uint32_t i = 0; i < 4096; i++) {
        void **at = &((void **)lists->fan->base)[i];
        for (unsigned l = 0; l < lists->length; l++) {
            *at = hand_cell_out(lists->spans[l], i);
            at = *at;
            if (lists->type)
                *(const struct gc_marked_type **)at++ = lists->type;
        }
    }
}

static void mark_without_memory(void *context)
{
    const struct lists *lists = context;
    struct rlimit none = {0, 0};
    MUST(setrlimit(RLIMIT_AS, &none) == 0);
    while (sh_meta_alloc(sizeof(struct sh_mark_segment))) {
    }
    mark_from_range(&lists->fan->base, &lists->fan->base + 1);
    for (unsigned l = 0; l < lists->length; l++)
        MUST(count_marked(lists->spans[l]) == 4096);
}

static void mark_lists_without_memory(
    enum sh_kind kind, const struct gc_marked_type *type)
{
    enum { LENGTH = 3 };
    struct sh_span *fan = large_span(SH_KIND_SCAN, 8), *spans[LENGTH];
    for (unsigned l = 0; l < LENGTH; l++)
        spans[l] = small_span(kind, 16);
    struct child child;
    struct lists lists = {fan, spans, LENGTH, type};
    hang_lists(&lists);
    child_run(&child, mark_without_memory, &lists);
    assert_true(child_returned(&child));
    sh_run_give(fan);
    for (unsigned l = 0; l < LENGTH; l++)
        sh_run_give(spans[l]);
}

/* Without a segment to push on, cells stay marked but not scanned; the heap is walked
 * until there are none. */
static void without_memory_all_is_found_yet(void **unused)
{
    static const struct gc_marked_type type = {.mark = mark_link};
    mark_lists_without_memory(SH_KIND_SCAN, NULL);
    mark_lists_without_memory(SH_KIND_TYPED, &type);
}

/* Of a range that begins or ends within a word only the whole words count. */
static void odd_ranges_are_read_by_whole_words(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 64);
    uintptr_t words[4];
    for (uint32_t i = 0; i < 4; i++)
        words[i] = (uintptr_t)hand_cell_out(span, i);
    const char *at = (const char *)words;
    static const struct {
        size_t from, to;
        uint64_t marks;
    } ranges[] = {{0, 32, 15}, {1, 32, 14}, {7, 32, 14}, {8, 32, 14}, {0, 31, 7},
        {0, 25, 7}, {0, 24, 7}, {9, 23, 0}, {7, 17, 2}, {3, 29, 6}, {0, 0, 0},
        {8, 8, 0}, {1, 7, 0}, {3, 3, 0}, {16, 8, 0}, {0, 7, 0}, {5, 12, 0}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        clear_marks(span);
        mark_from_range(at + ranges[i].from, at + ranges[i].to);
        assert_int_equal(marked_word(span, 0), ranges[i].marks);
    }
    sh_run_give(span);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(any_byte_of_a_cell_keeps_it),
        SPAN_TEST(the_last_byte_of_a_large_object_keeps_it),
        SPAN_TEST(what_was_never_touched_is_not_marked),
        SPAN_TEST(free_cells_are_not_marked),
        SPAN_TEST(what_is_out_of_bounds_is_no_pointer),
        SPAN_TEST(explicit_cells_are_not_marked),
        SPAN_TEST(a_leaf_is_kept_but_not_scanned),
        SPAN_TEST(a_chain_is_followed_to_its_end),
        SPAN_TEST(fans_of_any_width_are_followed),
        SPAN_TEST(a_large_object_is_scanned_to_its_last_word),
        SPAN_TEST(the_stack_grows),
        SPAN_TEST(without_memory_all_is_found_yet),
        SPAN_TEST(odd_ranges_are_read_by_whole_words),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
