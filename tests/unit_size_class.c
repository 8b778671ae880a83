/* SPDX-License-Identifier: MIT */
/* heaps/size_class.h: the classes, and dividing by them, exhaustively. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/size_class.h"
#include "lib/os.h"

static int fill_tables(void **unused)
{
    sh_size_class_init();
    return 0;
}

static void before_init_every_size_misses(void **unused)
{
    assert_int_equal(sh_size_class_of(0), 0);
    assert_int_equal(sh_size_class_of(SH_SMALL_MAX), 0);
    bool exact;
    assert_int_equal(sh_divide(4096, sh_size_classes[0].reciprocal, &exact), 0);
    assert_false(exact);
}

static void classes_rise_in_granules(void **unused)
{
    assert_int_equal(sh_size_classes[0].size, 16);
    assert_int_equal(sh_size_classes[SH_CLASS_COUNT - 1].size, SH_SMALL_MAX);
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        uint32_t size = sh_size_classes[c].size;
        assert_int_equal(size % SH_GRANULE, 0);
        if (c > 0)
            assert_true(size > sh_size_classes[c - 1].size);
    }
}

static void every_size_has_the_smallest_class_that_holds_it(void **unused)
{
    assert_int_equal(sh_size_class_of(0), 0);
    for (size_t bytes = 1; bytes <= SH_SMALL_MAX; bytes++) {
        unsigned c = sh_size_class_of(bytes);
        assert_true(c < SH_CLASS_COUNT && sh_size_classes[c].size >= bytes);
        assert_true(c == 0 || sh_size_classes[c - 1].size < bytes);
    }
}

static void little_is_wasted(void **unused)
{
    for (size_t bytes = 129; bytes <= SH_SMALL_MAX; bytes++) {
        size_t size = sh_size_classes[sh_size_class_of(bytes)].size;
        assert_true(size - bytes < size / (bytes <= 4096 ? 8 : 4));
    }
    for (size_t bytes = 1; bytes <= 128; bytes++)
        assert_true(sh_size_classes[sh_size_class_of(bytes)].size - bytes < 16);
}

static void powers_of_two_are_classes(void **unused)
{
    for (size_t bytes = 16; bytes <= SH_SMALL_MAX; bytes *= 2)
        assert_int_equal(sh_size_classes[sh_size_class_of(bytes)].size, bytes);
}

/* Of every class and every offset in its largest span, and a page beyond. */
static void dividing_is_exact(void **unused)
{
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        const struct sh_size_class *class = &sh_size_classes[c];
        size_t pages = sh_max(class->pages, class->min_pages) + (size_t)1;
        uint64_t quotient = 0, rest = 0;
        for (uint64_t offset = 0; offset < pages * SH_PAGE_SIZE; offset++) {
            bool exact;
            uint32_t found = sh_divide(offset, class->reciprocal, &exact);
            if (found != quotient || exact != (rest == 0))
                fail_msg("%u of class %u", (unsigned)offset, c);
            if (++rest == class->size) {
                rest = 0;
                quotient++;
            }
        }
    }
}

/* What lies below the span wraps round; nothing but a live cell's bit may follow. */
static void dividing_what_is_far_off_is_safe(void **unused)
{
    bool exact;
    assert_int_equal(sh_divide(UINT64_MAX, 0, &exact), 0);
    assert_false(exact);
}

static void spans_have_cells_and_little_rest(void **unused)
{
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        const struct sh_size_class *class = &sh_size_classes[c];
        size_t bytes = class->pages * SH_PAGE_SIZE;
        size_t fewest = class->min_pages * SH_PAGE_SIZE;
        assert_true(bytes / class->size >= 8);
        assert_true(
            bytes / class->size <= 64 * 64); /* one bit a word in remote_words */
        assert_true(fewest >= class->size);
        assert_true(fewest % class->size <= fewest / 32);
        assert_true(bytes % class->size <= bytes / 8);
    }
}

int main(void)
{
    const struct CMUnitTest before[] = {
        cmocka_unit_test(before_init_every_size_misses),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_rise_in_granules),
        cmocka_unit_test(every_size_has_the_smallest_class_that_holds_it),
        cmocka_unit_test(little_is_wasted),
        cmocka_unit_test(powers_of_two_are_classes),
        cmocka_unit_test(dividing_is_exact),
        cmocka_unit_test(dividing_what_is_far_off_is_safe),
        cmocka_unit_test(spans_have_cells_and_little_rest),
    };
    return cmocka_run_group_tests(before, NULL, NULL) +
           cmocka_run_group_tests(tests, fill_tables, NULL);
}
