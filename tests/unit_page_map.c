/* SPDX-License-Identifier: MIT */
/* heaps/page_map.h: from any address to its span. No page of memory is touched here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/page_map.h"
#include "tests/workers.h"
#include "threads/thread.h"

#define SLOT SH_SLOT_BYTES

static struct sh_span one, two, three;

static int enter(void **unused)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    return 0;
}

static int leave(void **unused)
{
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
    return 0;
}

static void assert_pages(uintptr_t start, size_t pages, struct sh_span *span)
{
    for (uintptr_t at = start; at < start + pages * SH_PAGE_SIZE; at += SH_PAGE_SIZE) {
        assert_ptr_equal(sh_page_map_lookup(at), span);
        assert_ptr_equal(sh_page_map_lookup(at + 1), span);
        assert_ptr_equal(sh_page_map_lookup(at + SH_PAGE_SIZE - 1), span);
    }
}

static void set(uintptr_t start, size_t pages, struct sh_span *span)
{
    assert_true(sh_page_map_cover(start, pages));
    assert_true(sh_page_map_split(start));
    assert_true(sh_page_map_split(start + pages * SH_PAGE_SIZE));
    sh_page_map_set(start, pages, span);
    assert_pages(start, pages, span);
}

static void any_word_may_be_looked_up(void **unused)
{
    assert_null(sh_page_map_lookup(0));
    assert_null(sh_page_map_lookup(UINTPTR_MAX));
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_null(sh_page_map_lookup((uintptr_t)1 << bit));
        assert_null(sh_page_map_lookup(~((uintptr_t)1 << bit)));
        assert_null(sh_page_map_lookup(((uintptr_t)1 << bit) - 1));
    }
}

static void whole_slots(void **unused)
{
    uintptr_t start = 0x100000000000;
    set(start, 32, &one);
    assert_null(sh_page_map_lookup(start - 1));
    assert_null(sh_page_map_lookup(start + 2 * SLOT));
    set(start + SLOT, 16, &two);
    assert_pages(start, 16, &one);
    set(start, 32, NULL);
}

static void owners_mix_within_a_slot(void **unused)
{
    uintptr_t start = 0x110000000000;
    set(start + 3 * SH_PAGE_SIZE, 1, &one);
    set(start + 4 * SH_PAGE_SIZE, 5, &two);
    set(start + 15 * SH_PAGE_SIZE, 1, &three);
    assert_pages(start, 3, NULL);
    assert_pages(start + 3 * SH_PAGE_SIZE, 1, &one);
    assert_pages(start + 4 * SH_PAGE_SIZE, 5, &two);
    assert_pages(start + 9 * SH_PAGE_SIZE, 6, NULL);
    assert_pages(start + 15 * SH_PAGE_SIZE, 1, &three);
    assert_pages(start + SLOT, 16, NULL);
}

/* One page into the slot before, to one page into the slot behind. */
static void ranges_begin_and_end_inside_slots(void **unused)
{
    uintptr_t start = 0x120000000000;
    set(start, 64, &one);
    set(start + 15 * SH_PAGE_SIZE, 34, &two);
    assert_pages(start, 15, &one);
    assert_pages(start + 49 * SH_PAGE_SIZE, 15, &one);
}

static void a_detail_goes_with_a_whole_owner(void **unused)
{
    uintptr_t start = 0x130000000000;
    for (int round = 0; round < 1000; round++) {
        set(start, 7, &one);
        set(start + 7 * SH_PAGE_SIZE, 9, &two);
        set(start, 16, &three);
        assert_pages(start + SLOT, 16, NULL);
    }
}

static void a_split_keeps_the_owner(void **unused)
{
    uintptr_t start = 0x140000000000;
    set(start, 16, &one);
    assert_true(sh_page_map_split(start + 5 * SH_PAGE_SIZE));
    assert_true(sh_page_map_split(start + 6 * SH_PAGE_SIZE));
    assert_pages(start, 16, &one);
}

static void ranges_cross_leaves(void **unused)
{
    uintptr_t leaf = (uintptr_t)1 << SH_LEAF_SHIFT, start = 64 * leaf - 20 * 4096;
    set(start, 40, &one);
    assert_null(sh_page_map_lookup(start - 1));
    assert_null(sh_page_map_lookup(start + 40 * SH_PAGE_SIZE));
    set(70 * leaf - SLOT, 2 * leaf / SH_PAGE_SIZE + 32, &two);
    assert_ptr_equal(sh_page_map_lookup(71 * leaf + 12345), &two);
}

static void the_ends_of_the_address_space(void **unused)
{
    uintptr_t last = ((uintptr_t)1 << SH_ADDRESS_BITS) - SLOT;
    set(last, 16, &one);
    assert_null(sh_page_map_lookup(last + SLOT));
    set(0, 16, &two);
    set(0, 16, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_word_may_be_looked_up),
        cmocka_unit_test(whole_slots),
        cmocka_unit_test(owners_mix_within_a_slot),
        cmocka_unit_test(ranges_begin_and_end_inside_slots),
        cmocka_unit_test(a_detail_goes_with_a_whole_owner),
        cmocka_unit_test(a_split_keeps_the_owner),
        cmocka_unit_test(ranges_cross_leaves),
        cmocka_unit_test(the_ends_of_the_address_space),
    };
    return cmocka_run_group_tests(tests, enter, leave);
}
