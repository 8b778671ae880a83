/* SPDX-License-Identifier: MIT */
/* heaps/bucket.h: free runs by size, made up here without memory behind them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/bucket.h"

#define PAGE SH_PAGE_SIZE
#define RUNS 300

static struct sh_area mapped = {.from_user = false};
static struct sh_area users = {.from_user = true};
static struct sh_span runs[RUNS];

static struct sh_span *insert(size_t i, size_t pages, bool zeroed)
{
    runs[i].area = &mapped;
    runs[i].base = (i + 1) << 40;
    runs[i].pages = pages;
    runs[i].zeroed = zeroed;
    sh_bucket_insert(&runs[i]);
    return &runs[i];
}

static struct sh_span *find(size_t pages, size_t align)
{
    struct sh_span *dirty = sh_bucket_find_dirty(pages, align);
    return dirty ? dirty : sh_bucket_find_clean(pages, align);
}

static void nothing_is_found_where_nothing_is(void **unused)
{
    assert_null(find(1, PAGE));
    assert_null(sh_bucket_largest(true));
    assert_null(sh_bucket_largest(false));
}

static void a_run_is_found_by_any_size_up_to_its_own(void **unused)
{
    static const size_t sizes[] = {
        1, 2, 15, 16, 17, 20, 31, 32, 33, 100, 1000, 4096, 100001, (size_t)1 << 30};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct sh_span *run = insert(0, sizes[i], false);
        assert_ptr_equal(find(1, PAGE), run);
        assert_ptr_equal(find(sizes[i] / 2 + 1, PAGE), run);
        assert_ptr_equal(find(sizes[i], PAGE), run);
        assert_null(find(sizes[i] + 1, PAGE));
        assert_null(find(2 * sizes[i], PAGE));
        assert_ptr_equal(sh_bucket_largest(false), run);
        sh_bucket_remove(run);
        assert_null(find(1, PAGE));
    }
}

/* Of the exact buckets the smallest that does. */
static void small_runs_fit_exactly(void **unused)
{
    for (size_t pages = 1; pages < 16; pages++)
        insert(pages, pages, false);
    for (size_t pages = 1; pages < 16; pages++)
        assert_int_equal(find(pages, PAGE)->pages, pages);
    sh_bucket_remove(&runs[7]);
    assert_int_equal(find(7, PAGE)->pages, 8);
    sh_bucket_insert(&runs[7]);
    for (size_t pages = 1; pages < 16; pages++)
        sh_bucket_remove(&runs[pages]);
}

/* A quarter of a doubling is the most that is passed over. */
static void large_runs_fit_about(void **unused)
{
    for (size_t i = 0; i < RUNS; i++)
        insert(i, 16 + i * i, false);
    for (size_t pages = 16; pages < 16 + (RUNS - 1) * (RUNS - 1); pages += 37) {
        struct sh_span *run = find(pages, PAGE);
        assert_non_null(run);
        assert_true(run->pages >= pages);
        assert_true(run->pages <= pages + pages / 2 + 1200);
    }
    for (size_t i = 0; i < RUNS; i++)
        sh_bucket_remove(&runs[i]);
    nothing_is_found_where_nothing_is(NULL);
}

static void dirty_ones_come_first(void **unused)
{
    struct sh_span *clean = insert(0, 20, true), *dirty = insert(1, 20, false);
    assert_ptr_equal(find(20, PAGE), dirty);
    assert_ptr_equal(sh_bucket_largest(true), dirty);
    sh_bucket_remove(dirty);
    assert_ptr_equal(find(20, PAGE), clean);
    assert_null(sh_bucket_largest(true));
    assert_ptr_equal(sh_bucket_largest(false), clean);
    sh_bucket_remove(clean);
}

/* What is never purged is not among those to purge. */
static void a_users_run_is_not_dirty(void **unused)
{
    runs[0] = (struct sh_span){.area = &users, .base = 1 << 20, .pages = 9};
    sh_bucket_insert(&runs[0]);
    assert_null(sh_bucket_largest(true));
    assert_ptr_equal(sh_bucket_largest(false), &runs[0]);
    assert_ptr_equal(find(9, PAGE), &runs[0]);
    sh_bucket_remove(&runs[0]);
}

static void the_largest_is_about_the_largest(void **unused)
{
    for (size_t i = 0; i < 100; i++)
        insert(i, i * 10 + 1, i % 2);
    assert_true(sh_bucket_largest(false)->pages >= 991 - 991 / 4);
    assert_true(sh_bucket_largest(true)->pages >= 981 - 981 / 4);
    for (size_t i = 0; i < 100; i++)
        sh_bucket_remove(&runs[i]);
}

static void alignment_is_counted(void **unused)
{
    struct sh_span *run = insert(0, 40, false);
    run->base = ((uintptr_t)1 << 40) + 3 * PAGE;
    assert_int_equal(sh_run_aligned_start(run, PAGE), run->base);
    assert_int_equal(sh_run_aligned_start(run, 16 * PAGE), run->base + 13 * PAGE);
    assert_ptr_equal(find(27, 16 * PAGE), run);
    assert_null(find(28, 16 * PAGE));
    assert_ptr_equal(find(40, PAGE), run);
    assert_null(find(1, (size_t)1 << 30));
    sh_bucket_remove(run);
}

/* In any order. */
static void runs_are_removed_in_any_order(void **unused)
{
    static const size_t steps[] = {1, 7, 11, 13, 29}; /* prime to 30 */
    for (size_t s = 0; s < 5; s++) {
        for (size_t i = 0; i < 30; i++)
            insert(i, 18, false);
        for (size_t i = 0; i < 30; i++) {
            assert_non_null(find(18, PAGE));
            sh_bucket_remove(&runs[i * steps[s] % 30]);
        }
        assert_null(find(1, PAGE));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_where_nothing_is),
        cmocka_unit_test(a_run_is_found_by_any_size_up_to_its_own),
        cmocka_unit_test(small_runs_fit_exactly),
        cmocka_unit_test(large_runs_fit_about),
        cmocka_unit_test(dirty_ones_come_first),
        cmocka_unit_test(a_users_run_is_not_dirty),
        cmocka_unit_test(the_largest_is_about_the_largest),
        cmocka_unit_test(alignment_is_counted),
        cmocka_unit_test(runs_are_removed_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
