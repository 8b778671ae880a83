/* SPDX-License-Identifier: MIT */
/* heaps/pace_minor.h: whether there are minor collections, and when. No heap is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/pace_minor.h"

#define MIB ((size_t)1 << 20)
#define MS ((uint64_t)1000000)
#define BUDGET (64 * MIB)
#define FLOOR (4 * MIB)
#define FULL_NS (20 * MS)

static uint64_t now;

/* After the program ran for `ran`, handing out so much; so much is marked then. */
static struct gc_collection collection(
    size_t marked, size_t allocated, uint64_t ran, uint64_t took)
{
    struct gc_collection one = {.marked_bytes = marked,
        .allocated_bytes = allocated,
        .began = now += ran,
        .pause_ns = took};
    now += took;
    return one;
}

static void full_of(size_t marked, size_t allocated, uint64_t took)
{
    struct gc_collection one = collection(marked, allocated, 100 * MS, took);
    sh_minor_paced_full(&one, BUDGET);
}

static void full(size_t marked, size_t allocated)
{
    full_of(marked, allocated, FULL_NS);
}

static void minor(size_t marked, size_t allocated, uint64_t ran, uint64_t took)
{
    struct gc_collection one = collection(marked, allocated, ran, took);
    sh_minor_paced(&one, FLOOR);
}

static size_t next(void)
{
    return sh_minor_next(FLOOR);
}

/* 100 MiB live, and nothing is held against minor collections. */
static int begin(void **unused)
{
    now = 1000 * MS;
    full_of(100 * MIB, BUDGET, 0);
    for (int i = 0; i < 100 && !next(); i++)
        full(100 * MIB, BUDGET);
    minor(100 * MIB, 16 * MIB, 40 * MS, 2 * MS);
    full(100 * MIB, BUDGET);
    return 0;
}

#define PACE_TEST(function) cmocka_unit_test_setup(function, begin)

static void where_most_dies_they_come(void **unused)
{
    assert_int_equal(next(), BUDGET / 4);
    full(100 * MIB + BUDGET, BUDGET);
    full(100 * MIB + 2 * BUDGET, BUDGET);
    assert_int_equal(next(), 0);
    full(100 * MIB + 2 * BUDGET, BUDGET);
    assert_int_equal(next(), BUDGET / 4);
}

static void not_where_a_full_one_is_short(void **unused)
{
    full_of(100 * MIB, BUDGET, MS - 1);
    assert_int_equal(next(), 0);
    full_of(100 * MIB, BUDGET, MS);
    assert_int_equal(next(), BUDGET / 4);
}

static void they_come_as_often_as_they_are_short(void **unused)
{
    minor(100 * MIB, 16 * MIB, 40 * MS, 2 * MS); /* a twentieth: as it is */
    assert_int_equal(next(), 16 * MIB);
    minor(100 * MIB, 16 * MIB, 40 * MS, MS);
    assert_int_equal(next(), 8 * MIB);
    minor(100 * MIB, 8 * MIB, 40 * MS, MS);
    assert_int_equal(next(), FLOOR);
    minor(100 * MIB, 4 * MIB, 40 * MS, MS / 10);
    assert_int_equal(next(), FLOOR);
    minor(100 * MIB, 4 * MIB, 4 * MS, MS);
    assert_int_equal(next(), 8 * MIB);
    minor(100 * MIB, 8 * MIB, 4 * MS, MS);
    minor(100 * MIB, 16 * MIB, 4 * MS, MS);
    minor(100 * MIB, 32 * MIB, 4 * MS, MS);
    assert_int_equal(next(), BUDGET / 2);
}

static void what_they_keep_uses_up_the_budget(void **unused)
{
    minor(110 * MIB, 16 * MIB, 40 * MS, 2 * MS);
    assert_int_equal(sh_minor_kept(), 10 * MIB);
    assert_int_equal(sh_minor_left(), 54 * MIB);
    minor(125 * MIB, 16 * MIB, 40 * MS, 2 * MS);
    assert_int_equal(sh_minor_left(), 39 * MIB);
    /* The program freed some of what was there. */
    minor(90 * MIB, 16 * MIB, 40 * MS, 2 * MS);
    assert_int_equal(sh_minor_left(), 39 * MIB);
    minor(114 * MIB, 24 * MIB, 40 * MS, 2 * MS);
    assert_int_equal(sh_minor_left(), 15 * MIB);
    assert_int_equal(next(), 0);
    full(100 * MIB, 24 * MIB);
    assert_int_equal(sh_minor_kept(), 0);
    assert_int_equal(sh_minor_left(), BUDGET);
    assert_int_equal(next(), BUDGET / 4);
}

static void at_last_there_is_a_full_one(void **unused)
{
    unsigned count = 0;
    for (; next() && count < 1000; count++)
        minor(100 * MIB, 16 * MIB, 40 * MS, 2 * MS);
    assert_int_equal(count, 16 * (BUDGET / (16 * MIB)));
    full(100 * MIB, 16 * MIB);
    assert_int_equal(next(), BUDGET / 4);
}

/* Full ones that find most of what is new dead, until minor ones come again. */
static unsigned fulls_until_next(void)
{
    unsigned count = 0;
    for (; !next() && count < 100; count++)
        full(100 * MIB, BUDGET);
    return count;
}

static void in_vain_they_come_ever_more_rarely(void **unused)
{
    for (unsigned i = 1; i <= 6; i++) {
        minor(100 * MIB, 16 * MIB, 40 * MS, 6 * MS); /* 24 for the budget */
        assert_int_equal(next(), 0);
        assert_int_equal(fulls_until_next(), (1u << (i < 4 ? i : 4)) + 1);
    }
    minor(100 * MIB, 16 * MIB, 40 * MS, 2 * MS);
    full(100 * MIB, BUDGET);
    minor(100 * MIB, 16 * MIB, 40 * MS, 6 * MS);
    assert_int_equal(fulls_until_next(), 3);
}

/* Each is shorter than its share of a full one, but these come sooner for it. */
static void with_the_full_one_they_may_be_in_vain(void **unused)
{
    minor(116 * MIB, 16 * MIB, 40 * MS, 4 * MS);
    minor(132 * MIB, 16 * MIB, 40 * MS, 4 * MS);
    minor(148 * MIB, 16 * MIB, 40 * MS, 4 * MS);
    assert_int_equal(next(), 0);
    full(100 * MIB, 16 * MIB);
    assert_int_equal(next(), 0);
    assert_int_equal(fulls_until_next(), 3);
}

static void getting_ready_counts(void **unused)
{
    minor(100 * MIB, 16 * MIB, 40 * MS, 4 * MS);
    assert_int_equal(next(), 16 * MIB);
    sh_minor_paid(4 * MS);
    assert_int_equal(sh_minor_ns(), 8 * MS);
    minor(100 * MIB, 16 * MIB, 44 * MS, 4 * MS);
    assert_int_equal(next(), 0);
}

static void extremes_do_no_harm(void **unused)
{
    minor(0, 0, 0, 0);
    minor(SIZE_MAX, SIZE_MAX, 0, UINT64_MAX / 4);
    full_of(0, SIZE_MAX, UINT64_MAX / 4);
    minor(SIZE_MAX / 2, 0, 1, 0);
    full_of(0, 0, 0);
    assert_int_equal(next(), 0);
    struct gc_collection one = collection(0, 0, 1, FULL_NS);
    sh_minor_paced_full(&one, 0);
    assert_int_equal(next(), 0);
    sh_minor_paced_full(&one, SIZE_MAX);
    assert_true(next() <= SIZE_MAX / 4);
}

/* A program that collects by itself, often: it is not got ready for more than now and then. */
static void what_never_comes_is_not_got_ready_for(void **unused)
{
    unsigned ready = 0;
    for (int i = 0; i < 160; i++) {
        if (next()) {
            sh_minor_paid(MS);
            ready++;
        }
        full(100 * MIB, MIB);
    }
    assert_in_range(ready, 1, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PACE_TEST(where_most_dies_they_come),
        PACE_TEST(not_where_a_full_one_is_short),
        PACE_TEST(they_come_as_often_as_they_are_short),
        PACE_TEST(what_they_keep_uses_up_the_budget),
        PACE_TEST(at_last_there_is_a_full_one),
        PACE_TEST(in_vain_they_come_ever_more_rarely),
        PACE_TEST(with_the_full_one_they_may_be_in_vain),
        PACE_TEST(getting_ready_counts),
        PACE_TEST(what_never_comes_is_not_got_ready_for),
        PACE_TEST(extremes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
