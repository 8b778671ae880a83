/* SPDX-License-Identifier: MIT */
/* heaps/pace.h: when a collection is due. No heap is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/pace.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define FLOOR (16 * MIB)

static struct sh_cache cache;

/* As after a collection that left nothing. */
static int begin(void **unused)
{
    cache.taken = 0;
    sh_pace_set_auto(true);
    sh_pace_set_threshold(0);
    sh_pace_collected(0, SIZE_MAX);
    return 0;
}

#define PACE_TEST(function) cmocka_unit_test_setup(function, begin)

/* The first of all, for there is no way back. */
static void there_is_something_once_it_was_taken(void **unused)
{
    assert_false(sh_pace_anything());
    sh_pace_flush(&cache);
    assert_false(sh_pace_anything());
    sh_pace_taken(&cache, 16);
    assert_true(sh_pace_anything());
    sh_pace_collected(0, SIZE_MAX);
    assert_true(sh_pace_anything());
}

static void the_floor_has_to_be_exceeded(void **unused)
{
    assert_false(sh_pace_due(0));
    assert_false(sh_pace_due(FLOOR));
    assert_true(sh_pace_due(FLOOR + 1));
    sh_pace_taken_large(FLOOR - 100);
    assert_false(sh_pace_due(100));
    assert_true(sh_pace_due(101));
    sh_pace_taken_large(101);
    assert_true(sh_pace_due(0));
    sh_pace_collected(0, SIZE_MAX);
    assert_false(sh_pace_due(FLOOR));
}

/* As much again as what survived. */
static void what_survived_sets_the_trigger(void **unused)
{
    sh_pace_collected(100 * MIB, SIZE_MAX);
    assert_false(sh_pace_due(100 * MIB));
    assert_true(sh_pace_due(100 * MIB + 1));
    sh_pace_collected(FLOOR - 1, SIZE_MAX);
    assert_false(sh_pace_due(FLOOR));
    assert_true(sh_pace_due(FLOOR + 1));
    sh_pace_collected(FLOOR + 1, SIZE_MAX);
    assert_false(sh_pace_due(FLOOR + 1));
    assert_true(sh_pace_due(FLOOR + 2));
}

static void near_the_limit_it_is_due_earlier(void **unused)
{
    sh_pace_collected(100 * MIB, 400 * MIB);
    assert_false(sh_pace_due(100 * MIB));
    assert_true(sh_pace_due(100 * MIB + 1));
    sh_pace_collected(100 * MIB, 40 * MIB);
    assert_false(sh_pace_due(30 * MIB));
    assert_true(sh_pace_due(30 * MIB + 1));
    sh_pace_collected(0, 4 * MIB);
    assert_true(sh_pace_due(3 * MIB + 1));
    /* Not with each allocation. */
    sh_pace_collected(100 * MIB, 0);
    assert_false(sh_pace_due(64 * KIB));
    assert_true(sh_pace_due(64 * KIB + 1));
}

static void a_cache_tells_now_and_then(void **unused)
{
    sh_pace_set_threshold(MIB);
    sh_pace_taken(&cache, 64 * KIB - 1);
    assert_int_equal(cache.taken, 64 * KIB - 1);
    assert_false(sh_pace_due(MIB));
    sh_pace_taken(&cache, 1);
    assert_int_equal(cache.taken, 0);
    assert_true(sh_pace_due(MIB));
    assert_false(sh_pace_due(MIB - 64 * KIB));
    assert_true(sh_pace_due(MIB - 64 * KIB + 1));
}

static void a_flush_tells_the_rest(void **unused)
{
    sh_pace_set_threshold(MIB);
    sh_pace_taken(&cache, 100);
    sh_pace_flush(&cache);
    assert_int_equal(cache.taken, 0);
    assert_false(sh_pace_due(MIB - 100));
    assert_true(sh_pace_due(MIB - 99));
    sh_pace_flush(&cache);
    assert_false(sh_pace_due(MIB - 100));
}

static void caches_add_up(void **unused)
{
    static struct sh_cache caches[20];
    sh_pace_set_threshold(20 * 50 * KIB);
    for (int i = 0; i < 20; i++) {
        sh_pace_taken(&caches[i], 50 * KIB);
        assert_false(sh_pace_due(20 * 50 * KIB));
    }
    for (int i = 0; i < 20; i++)
        sh_pace_flush(&caches[i]);
    assert_false(sh_pace_due(0));
    assert_true(sh_pace_due(1));
}

static void the_programs_threshold_goes_before(void **unused)
{
    sh_pace_collected(100 * MIB, SIZE_MAX);
    assert_int_equal(sh_pace_set_threshold(MIB), 0);
    assert_false(sh_pace_due(MIB));
    assert_true(sh_pace_due(MIB + 1));
    /* Upwards too. */
    assert_int_equal(sh_pace_set_threshold(500 * MIB), MIB);
    assert_false(sh_pace_due(500 * MIB));
    assert_true(sh_pace_due(500 * MIB + 1));
    assert_int_equal(sh_pace_set_threshold(0), 500 * MIB);
    assert_false(sh_pace_due(100 * MIB));
    assert_true(sh_pace_due(100 * MIB + 1));
}

static void turned_off_nothing_is_due(void **unused)
{
    assert_true(sh_pace_set_auto(false));
    assert_false(sh_pace_set_auto(false));
    sh_pace_set_threshold(1);
    sh_pace_taken_large(1000 * MIB);
    assert_false(sh_pace_due(1000 * MIB));
    /* It was counted all the same. */
    assert_false(sh_pace_set_auto(true));
    assert_true(sh_pace_set_auto(true));
    assert_true(sh_pace_due(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PACE_TEST(there_is_something_once_it_was_taken),
        PACE_TEST(the_floor_has_to_be_exceeded),
        PACE_TEST(what_survived_sets_the_trigger),
        PACE_TEST(near_the_limit_it_is_due_earlier),
        PACE_TEST(a_cache_tells_now_and_then),
        PACE_TEST(a_flush_tells_the_rest),
        PACE_TEST(caches_add_up),
        PACE_TEST(the_programs_threshold_goes_before),
        PACE_TEST(turned_off_nothing_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
