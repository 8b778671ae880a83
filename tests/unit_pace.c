/* SPDX-License-Identifier: MIT */
/* heaps/pace.h: when a collection is due. No heap is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/limit.h"
#include "heaps/pace.h"
#include "lib/options.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define FLOOR (16 * MIB)

static struct sh_cache cache;

static void survived(size_t bytes, size_t room)
{
    struct gc_collection collection = {.marked_bytes = bytes};
    sh_pace_collected(&collection, 0, room);
}

/* What may be handed out before the next one. */
static size_t budget(void)
{
    size_t low = 0, high = (size_t)1 << 40;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(sh_pace_due(middle + 1) ? &high : &low) = middle;
    }
    return sh_pace_due(high) ? low : high;
}

/* As after a collection that left nothing. */
static int begin(void **unused)
{
    cache.taken = 0;
    sh_options.pace = SH_PACE_PROPORTIONAL;
    sh_options.pace_percent = 100;
    sh_options.pace_floor = FLOOR;
    sh_limit_set(0);
    sh_pace_set_auto(true);
    sh_pace_set_threshold(0);
    survived(0, SIZE_MAX);
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
    survived(0, SIZE_MAX);
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
    survived(0, SIZE_MAX);
    assert_false(sh_pace_due(FLOOR));
}

/* As much again as what survived. */
static void what_survived_sets_the_trigger(void **unused)
{
    survived(100 * MIB, SIZE_MAX);
    assert_false(sh_pace_due(100 * MIB));
    assert_true(sh_pace_due(100 * MIB + 1));
    survived(FLOOR - 1, SIZE_MAX);
    assert_false(sh_pace_due(FLOOR));
    assert_true(sh_pace_due(FLOOR + 1));
    survived(FLOOR + 1, SIZE_MAX);
    assert_false(sh_pace_due(FLOOR + 1));
    assert_true(sh_pace_due(FLOOR + 2));
}

static void the_first_is_due_at_the_floor(void **unused)
{
    sh_options.pace_floor = 3 * MIB;
    sh_pace_init();
    assert_int_equal(budget(), 3 * MIB);
}

static void the_share_is_an_option(void **unused)
{
    sh_options.pace_percent = 50;
    survived(100 * MIB + 2, SIZE_MAX);
    assert_int_equal(budget(), 50 * MIB + 1);
    sh_options.pace_percent = 10000;
    survived(100 * MIB, SIZE_MAX);
    assert_int_equal(budget(), 10000 * MIB);
}

static void roots_are_marked_too(void **unused)
{
    struct gc_collection collection = {
        .marked_bytes = 30 * MIB, .root_bytes = 20 * MIB, .threads = 7};
    sh_pace_collected(&collection, 0, SIZE_MAX);
    assert_int_equal(budget(), 50 * MIB);
}

static void the_dead_that_are_only_told_of_do_not_count(void **unused)
{
    struct gc_collection collection = {.marked_bytes = 100 * MIB};
    sh_pace_collected(&collection, 70 * MIB, SIZE_MAX);
    assert_int_equal(budget(), 30 * MIB);
    sh_pace_collected(&collection, 200 * MIB, SIZE_MAX);
    assert_int_equal(budget(), FLOOR);
}

/* They may keep something to themselves. */
static void threads_raise_the_floor(void **unused)
{
    struct gc_collection collection = {.threads = 100};
    sh_pace_collected(&collection, 0, SIZE_MAX);
    assert_int_equal(budget(), FLOOR + 100 * 16 * KIB);
}

static void near_the_limit_it_is_due_earlier(void **unused)
{
    survived(100 * MIB, 400 * MIB);
    assert_int_equal(budget(), 100 * MIB);
    /* A thirty-second of the limit stays for what has no cells yet. */
    sh_limit_set(320 * MIB);
    survived(100 * MIB, 80 * MIB);
    assert_int_equal(budget(), 70 * MIB);
    /* Or a quarter of what is left. */
    survived(100 * MIB, 20 * MIB);
    assert_int_equal(budget(), 15 * MIB);
    /* Not with each allocation. */
    survived(100 * MIB, 0);
    assert_int_equal(budget(), 64 * KIB);
}

static void who_runs_into_the_limit_keeps_more_off_it(void **unused)
{
    struct gc_collection collection = {
        .marked_bytes = 320 * MIB, .cause = GC_CAUSE_MEMORY};
    sh_limit_set(640 * MIB);
    sh_pace_collected(&collection, 0, 300 * MIB);
    assert_int_equal(budget(), 280 * MIB);
    sh_pace_collected(&collection, 0, 300 * MIB);
    assert_int_equal(budget(), 260 * MIB);
    for (int i = 0; i < 10; i++)
        sh_pace_collected(&collection, 0, 300 * MIB);
    assert_int_equal(budget(), 225 * MIB); /* a quarter of the room at most */
    collection.cause = GC_CAUSE_PACING;
    for (int i = 0; i < 100; i++)
        sh_pace_collected(&collection, 0, 300 * MIB);
    assert_int_equal(budget(), 280 * MIB);
    sh_pace_collected(&collection, 0, SIZE_MAX);
    assert_int_equal(budget(), 320 * MIB);
}

static void a_new_limit_holds_at_once(void **unused)
{
    survived(100 * MIB, SIZE_MAX);
    sh_pace_taken_large(10 * MIB);
    sh_limit_set(640 * MIB);
    sh_pace_limited(200 * MIB);
    assert_int_equal(budget(), 90 * MIB);
    sh_pace_limited(60 * MIB);
    assert_int_equal(budget(), 45 * MIB);
    /* It does not make it later. */
    sh_pace_limited(70 * MIB);
    assert_int_equal(budget(), 45 * MIB);
}

/* ---- Balance ---- */

#define SECOND ((uint64_t)1000000000)

static uint64_t now = 1;

/* Begins `ns` after the one before ended, and marks for so long. */
static void balanced(size_t live, size_t allocated, uint64_t mark_ns, uint64_t ns)
{
    struct gc_collection collection = {.marked_bytes = live,
        .allocated_bytes = allocated,
        .began = now += ns,
        .mark_ns = mark_ns};
    now += mark_ns;
    sh_pace_collected(&collection, 0, SIZE_MAX);
}

#define FOREVER (SECOND << 20) /* what the heap held is forgotten */
#define SETTLED 40             /* collections, until what was before has no weight */

static void forget(void)
{
    balanced(0, 0, 1, 1);
    balanced(0, 0, 1, FOREVER);
}

static size_t settled(size_t live, size_t allocated, uint64_t mark_ns, uint64_t ns)
{
    forget();
    for (int i = 0; i < SETTLED; i++)
        balanced(live, allocated, mark_ns, ns);
    return budget();
}

static void about(size_t value, size_t expected)
{
    assert_in_range(value, expected - expected / 100, expected + expected / 100);
}

static void the_budget_goes_by_square_roots(void **unused)
{
    sh_options.pace = SH_PACE_BALANCE;
    sh_options.pace_floor = 0;
    /* A GiB a second is allocated, a GiB a second marked. */
    about(settled(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 1024), 48 * MIB);
    about(settled(192 * MIB, MIB, 192 * SECOND / 1024, SECOND / 1024), 96 * MIB);
    about(settled(12 * MIB, MIB, 12 * SECOND / 1024, SECOND / 1024), 24 * MIB);
    /* Four times as much is allocated, or as quickly marked. */
    about(settled(48 * MIB, 4 * MIB, 48 * SECOND / 1024, SECOND / 1024), 96 * MIB);
    about(settled(48 * MIB, MIB, 48 * SECOND / 4096, SECOND / 1024), 24 * MIB);
    /* No more than that: it may not have been running. */
    about(settled(48 * MIB, 40 * MIB, 48 * SECOND / 1024, SECOND / 1024), 96 * MIB);
    about(settled(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 10), 16 * MIB);
    sh_options.pace_percent = 50;
    about(settled(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 1024), 24 * MIB);
}

static void of_a_large_heap_it_is_a_third(void **unused)
{
    sh_options.pace = SH_PACE_BALANCE;
    about(settled(3000 * MIB, MIB, 3 * SECOND, SECOND / 1024), 1000 * MIB);
    /* Where next to nothing is allocated, too. */
    about(settled(300 * MIB, 1, SECOND, SECOND), 100 * MIB);
}

static void of_a_small_heap_it_is_twice(void **unused)
{
    sh_options.pace = SH_PACE_BALANCE;
    sh_options.pace_floor = 0;
    about(settled(3 * MIB, MIB, 3 * SECOND / 1024, SECOND / 1024), 6 * MIB);
    about(settled(12 * MIB, 4 * MIB, 12 * SECOND / 1024, SECOND / 1024), 24 * MIB);
}

/* Within a limit, so much room is left. */
static void limited(size_t live, size_t allocated, uint64_t ns, size_t room)
{
    struct gc_collection collection = {.marked_bytes = live,
        .allocated_bytes = allocated,
        .began = now += ns,
        .mark_ns = SECOND / 100};
    now += SECOND / 100;
    sh_pace_collected(&collection, 0, room);
}

static void what_the_heap_held_lately_may_be_used(void **unused)
{
    sh_options.pace = SH_PACE_BALANCE;
    sh_options.pace_floor = 0;
    settled(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 1024);
    balanced(120 * MIB, 10 * MIB, 120 * SECOND / 1024, SECOND / 100);
    /* It stood at 120 MiB, a moment ago. */
    balanced(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 1024);
    about(budget(), 73 * MIB);
    /* Once more, and it is no higher. */
    balanced(48 * MIB, 73 * MIB, 48 * SECOND / 1024, 73 * SECOND / 1024);
    about(budget(), 73 * MIB);
    /* It goes with time. */
    for (int i = 0; i < 20; i++)
        balanced(48 * MIB, 1000 * KIB, 48 * SECOND / 1024, SECOND / 1024);
    balanced(48 * MIB, 48 * MIB, 48 * SECOND / 1024, 3 * SECOND);
    assert_in_range(budget(), 54 * MIB, 58 * MIB);
    /* Also where it is all used, again and again. */
    for (int i = 0; i < 30; i++)
        balanced(48 * MIB, budget(), 48 * SECOND / 1024, SECOND);
    assert_in_range(budget(), 10 * MIB, 25 * MIB);
    /* Not more than twice the share. */
    settled(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 1024);
    balanced(1000 * MIB, 10 * MIB, 1000 * SECOND / 1024, SECOND / 100);
    balanced(48 * MIB, MIB, 48 * SECOND / 1024, SECOND / 1024);
    about(budget(), 96 * MIB);
}

static void a_limited_heap_is_used_where_collecting_costs_time(void **unused)
{
    sh_options.pace = SH_PACE_BALANCE;
    sh_options.pace_floor = 0;
    sh_limit_set(3200 * MIB);
    /* A GiB a second; collecting takes a hundredth of one. */
    forget();
    for (int i = 0; i < SETTLED; i++)
        limited(48 * MIB, MIB, SECOND / 1024, 3000 * MIB);
    about(budget(), 16 * 1024 * MIB / 100);
    limited(48 * MIB, MIB, SECOND / 1024, 100 * MIB);
    about(budget(), 75 * MIB);
    sh_options.pace_percent = 50;
    limited(48 * MIB, MIB, SECOND / 1024, 3000 * MIB);
    about(budget(), 8 * 1024 * MIB / 100);
}

static void times_of_nothing_do_no_harm(void **unused)
{
    sh_options.pace = SH_PACE_BALANCE;
    for (int i = 0; i < 3; i++) {
        balanced(0, 0, 0, 0);
        assert_true(budget() >= FLOOR);
        balanced(MIB, SIZE_MAX / 2, 0, 0);
        assert_true(budget() >= FLOOR);
        balanced((size_t)1 << 46, SIZE_MAX / 2, 1, 1);
    }
}

/* ---- Counting ---- */

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
    survived(100 * MIB, SIZE_MAX);
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
        PACE_TEST(the_first_is_due_at_the_floor),
        PACE_TEST(the_share_is_an_option),
        PACE_TEST(roots_are_marked_too),
        PACE_TEST(the_dead_that_are_only_told_of_do_not_count),
        PACE_TEST(threads_raise_the_floor),
        PACE_TEST(who_runs_into_the_limit_keeps_more_off_it),
        PACE_TEST(a_new_limit_holds_at_once),
        PACE_TEST(the_budget_goes_by_square_roots),
        PACE_TEST(of_a_large_heap_it_is_a_third),
        PACE_TEST(of_a_small_heap_it_is_twice),
        PACE_TEST(what_the_heap_held_lately_may_be_used),
        PACE_TEST(a_limited_heap_is_used_where_collecting_costs_time),
        PACE_TEST(times_of_nothing_do_no_harm),
        PACE_TEST(near_the_limit_it_is_due_earlier),
        PACE_TEST(a_cache_tells_now_and_then),
        PACE_TEST(a_flush_tells_the_rest),
        PACE_TEST(caches_add_up),
        PACE_TEST(the_programs_threshold_goes_before),
        PACE_TEST(turned_off_nothing_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
