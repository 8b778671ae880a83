/* SPDX-License-Identifier: MIT */
/* gc_set_max_heap: collect, then NULL, never beyond; small, large and huge objects. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <splitheap/malloc.h>

#include "heaps/heap.h"
#include "heaps/limit.h"
#include "tests/child.h"
#include "tests/heap.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct splitheap_stats stats(void)
{
    struct splitheap_stats stats;
    splitheap_stats_get(&stats, sizeof stats);
    return stats;
}

static uint64_t collections(void)
{
    struct gc_collection_totals totals;
    gc_get_collection_totals(&totals);
    return totals.collections;
}

/* What counts, found by the walk over the heap and not by the counters. */
static size_t in_use(void)
{
    struct splitheap_stats now = stats();
    assert_int_equal(now.active, sh_limit_used() * SH_PAGE_SIZE);
    return now.active;
}

/* So much more than is in use. */
static size_t limit_to(size_t more)
{
    gc_collect();
    sh_heap_trim();
    size_t limit = in_use() + more;
    gc_set_max_heap(limit);
    return limit;
}

static int end(void **unused)
{
    gc_set_max_heap(0);
    gc_set_auto_collect(true);
    clear_stack();
    gc_collect();
    return 0;
}

#define LIMIT_TEST(function) cmocka_unit_test_teardown(function, end)

static void the_former_limit_is_returned(void **unused)
{
    assert_int_equal(gc_set_max_heap(3000 * MIB), 0);
    assert_int_equal(gc_set_max_heap(SIZE_MAX), 3000 * MIB);
    assert_int_equal(gc_set_max_heap(0), SIZE_MAX);
    assert_int_equal(gc_set_max_heap(0), 0);
}

/* ---- Until it is full ---- */

struct chain {
    struct chain *next;
};

/* Linked, so that all live; returns how many bytes there are. Keeps `end` up to date. */
static size_t fill_up(struct chain *volatile *chain, size_t bytes, unsigned flags)
{
    size_t total = 0;
    for (;;) {
        errno = 0;
        struct chain *more = gc_alloc(bytes, flags);
        if (!more) {
            assert_int_equal(errno, ENOMEM);
            return total;
        }
        assert_int_equal(errno, 0);
        more->next = *chain;
        *chain = more;
        total += gc_nbytes(more);
    }
}

static void live_objects_of(size_t bytes, size_t room)
{
    struct chain *volatile chain = NULL;
    size_t limit = limit_to(room);
    size_t total = fill_up(&chain, bytes, 0);
    assert_true(in_use() <= limit);
    assert_true(in_use() + stats().dirty <= limit);
    /* Most of it could be had. */
    assert_in_range(total, room / 2, room);
    chain = NULL;
    clear_stack();
    /* Without another word the garbage serves. */
    assert_in_range(fill_up(&chain, bytes, 0), room / 2, room);
    assert_true(in_use() + stats().dirty <= limit);
    chain = NULL;
    end(NULL);
}

static void small_objects_end_at_the_limit(void **unused)
{
    live_objects_of(48, 8 * MIB);
    live_objects_of(1000, 8 * MIB);
    live_objects_of(20000, 8 * MIB);
}

static void large_objects_end_at_the_limit(void **unused)
{
    live_objects_of(100 * KIB, 16 * MIB);
    live_objects_of(3 * MIB, 32 * MIB);
}

static void huge_objects_end_at_the_limit(void **unused)
{
    live_objects_of(40 * MIB, 200 * MIB);
}

static void malloc_ends_at_the_limit(void **unused)
{
    static void *held[4096];
    size_t limit = limit_to(16 * MIB), n = 0, total = 0;
    while (n < 4096 && (held[n] = sh_malloc(10 * KIB))) {
        total += sh_malloc_usable_size(held[n]);
        n++;
    }
    assert_int_equal(errno, ENOMEM);
    assert_true(in_use() <= limit);
    assert_in_range(total, 8 * MIB, 16 * MIB);
    assert_null(sh_malloc(17 * MIB));
    assert_null(sh_malloc(100 * MIB));
    while (n > 0) {
        sh_free(held[--n]);
        held[n] = NULL; /* it would be a pointer to what comes there next */
    }
    void *p = sh_malloc(10 * MIB);
    assert_non_null(p);
    assert_true(in_use() + stats().dirty <= limit);
    sh_free(p);
}

/* ---- Collecting first ---- */

static void garbage_never_fails(void **unused)
{
    gc_set_auto_collect(false);
    limit_to(8 * MIB);
    uint64_t before = collections();
    for (int i = 0; i < 200000; i++)
        MUST(gc_alloc(400, 0));
    assert_true(collections() > before);
    for (int i = 0; i < 200; i++)
        MUST(gc_alloc(MIB, 0));
    gc_set_max_heap(0);
}

static void malloc_collects_what_is_in_its_way(void **unused)
{
    gc_set_auto_collect(false);
    limit_to(32 * MIB);
    for (int i = 0; i < 25; i++)
        MUST(gc_alloc(MIB, GC_ALLOC_FLAG_LEAF));
    clear_stack();
    uint64_t before = collections();
    void *p = sh_malloc(16 * MIB);
    assert_non_null(p);
    assert_true(collections() > before);
    sh_free(p);
}

static void inside_gc_lock_others_wait_for_no_collection_of_theirs(void **unused)
{
    limit_to(8 * MIB);
    gc_lock();
    assert_null(gc_alloc(100, 0));
    assert_null(sh_malloc(9 * MIB));
    gc_unlock();
    void *p = sh_malloc(6 * MIB);
    assert_non_null(p);
    sh_free(p);
}

/* ---- Below what is in use ---- */

static void below_what_is_used_nothing_is_added(void **unused)
{
    char *p = sh_malloc(20 * MIB);
    size_t used = in_use();
    gc_set_max_heap(used - 10 * MIB);
    assert_null(sh_malloc(MIB));
    assert_null(gc_alloc(40 * MIB, 0));
    assert_null(sh_realloc(p, 21 * MIB));
    p[20 * MIB - 1] = 1;
    assert_true(in_use() <= used);
    /* It shrinks, and then there is room. */
    p = sh_realloc(p, 5 * MIB);
    assert_non_null(p);
    void *q = sh_malloc(MIB);
    assert_non_null(q);
    sh_free(q);
    sh_free(p);
}

static void what_could_never_fit_is_not_collected_for(void **unused)
{
    MUST(gc_alloc(100, 0));
    limit_to(8 * MIB);
    uint64_t before = collections();
    errno = 0;
    assert_null(sh_malloc(200 * MIB));
    assert_int_equal(errno, ENOMEM);
    assert_null(gc_alloc(200 * MIB, 0));
    assert_int_equal(collections(), before);
}

static void less_than_a_page_is_nothing(void **unused)
{
    gc_set_max_heap(1);
    assert_null(sh_malloc(MIB));
    assert_null(gc_alloc(MIB, 0));
    gc_set_max_heap(0);
    void *p = sh_malloc(MIB);
    assert_non_null(p);
    sh_free(p);
}

/* ---- Growing in place ---- */

static void realloc_keeps_to_it(size_t from, size_t step)
{
    size_t limit = limit_to(from + 10 * step), n = from;
    char *p = sh_malloc(from), *q;
    assert_non_null(p);
    while ((q = sh_realloc(p, n + step))) {
        p = q;
        n += step;
        p[n - 1] = 1;
        assert_true(in_use() <= limit);
    }
    assert_int_equal(errno, ENOMEM);
    assert_true(n < from + 11 * step);
    assert_true(sh_malloc_usable_size(p) >= n);
    p = sh_realloc(p, n / 2);
    assert_non_null(p);
    assert_true(in_use() <= limit);
    sh_free(p);
    gc_set_max_heap(0);
}

static void growing_in_place_keeps_to_it(void **unused)
{
    realloc_keeps_to_it(MIB, 128 * KIB);
    realloc_keeps_to_it(40 * MIB, 4 * MIB);
}

/* The copy does not fit at all, but what is collected for it makes room behind. */
static void growing_in_place_has_what_was_collected(void **unused)
{
    gc_set_auto_collect(false);
    limit_to(32 * MIB);
    char *volatile p = gc_alloc(30 * MIB, 0);
    assert_non_null(p);
    assert_ptr_equal(gc_realloc(p, 20 * MIB, false), p);
    MUST(gc_alloc(6 * MIB, GC_ALLOC_FLAG_LEAF));
    clear_stack();
    errno = 0;
    char *q = gc_realloc(p, 28 * MIB, true);
    assert_non_null(q);
    assert_int_equal(errno, 0);
    gc_free(q);
}

/* ---- Areas of the program's ---- */

static char area[4 * MIB];

static void pages_of_the_users_count_too(void **unused)
{
    gc_add(area, area + sizeof area);
    live_objects_of(48, 2 * MIB);
    live_objects_of(48, 8 * MIB);
}

/* ---- A program that lives near its limit ---- */

#define SLOTS 60000

static void *slots[SLOTS];

static void replace_slots(struct random *random, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        size_t bytes = 16 + random_below(random, 16) * 32;
        void *p = gc_alloc(bytes, i % 4 == 0 ? GC_ALLOC_FLAG_LEAF : 0);
        MUST(p);
        slots[random_below(random, SLOTS)] = p;
    }
}

/* It neither fails nor collects all the time: at half as much again as lives, a
 * collection for each quarter of what lives is twice what is needed. */
static void half_as_much_again_as_lives_is_enough(void **unused)
{
    struct random random = {4711};
    gc_collect();
    size_t before = in_use();
    for (size_t i = 0; i < SLOTS; i++)
        slots[i] = gc_alloc(16 + i % 16 * 32, 0);
    gc_collect();
    size_t live = SLOTS * (16 + 15 * 16);
    size_t limit = before + live * 3 / 2;
    gc_set_max_heap(limit);
    uint64_t first = collections();
    replace_slots(&random, 10 * SLOTS);
    uint64_t done = collections() - first;
    assert_true(in_use() + stats().dirty <= limit);
    assert_in_range(done, 10, 80);
    memset(slots, 0, sizeof slots);
}

/* ---- Threads ---- */

static _Atomic bool beyond;
static size_t threads_limit;

static void *churn(void *arg)
{
    void *held[32] = {NULL};
    struct random random = {(uintptr_t)arg + 1};
    for (int i = 0; i < 700; i++) {
        size_t slot = random_below(&random, 32);
        size_t bytes = (size_t)16 << random_below(&random, 16);
        sh_free(held[slot]);
        held[slot] = sh_malloc(bytes);
        if (held[slot])
            *(char *)held[slot] = 1;
        void *p = gc_alloc(bytes, 0);
        if (p)
            *(char *)p = 1;
        if (sh_limit_used() * SH_PAGE_SIZE > threads_limit)
            sh_store_relaxed(&beyond, true);
    }
    for (size_t i = 0; i < 32; i++)
        sh_free(held[i]);
    return NULL;
}

static void several_threads_keep_to_it(void **unused)
{
    pthread_t threads[4];
    threads_limit = limit_to(12 * MIB);
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(churn, (void *)i);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    assert_false(beyond);
    assert_true(in_use() <= threads_limit);
}

/* Who finds that another took what a collection freed collects again. */
static void *make_garbage(void *arg)
{
    struct random random = {(uintptr_t)arg + 1};
    for (int i = 0; i < 40000; i++)
        MUST(gc_alloc(16 + random_below(&random, 4000), 0));
    return NULL;
}

static void garbage_of_several_threads_never_fails(void **unused)
{
    pthread_t threads[4];
    gc_set_auto_collect(false);
    limit_to(24 * MIB);
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(make_garbage, (void *)i);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
}

static void fork_and_allocate(void *unused)
{
    struct chain *volatile chain = NULL;
    fill_up(&chain, 48, 0);
    if (in_use() > threads_limit)
        _exit(1);
}

static void a_child_of_a_fork_has_it_too(void **unused)
{
    struct child child;
    threads_limit = limit_to(8 * MIB);
    child_run(&child, fork_and_allocate, NULL);
    assert_true(child_returned(&child));
}

/* ---- The option ---- */

static void run_with_option(void *value)
{
    char conf[100];
    snprintf(conf, sizeof conf, "max_heap:%s", (const char *)value);
    setenv("SPLITHEAP_CONF", conf, 1);
    execl("/proc/self/exe", "api_max_heap", "option", NULL);
    _exit(99);
}

static int with_option(void)
{
    void *p = sh_malloc(20 * MIB);
    if (gc_set_max_heap(0) != 24 * MIB || !p || sh_malloc(1 * KIB) == NULL)
        return 1;
    gc_set_max_heap(24 * MIB);
    return sh_malloc(20 * MIB) != NULL;
}

static void the_option_sets_it(void **unused)
{
    struct child child;
    child_run(&child, run_with_option, "24m");
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
    child_run(&child, run_with_option, "24576k");
    assert_true(child_returned(&child));
    child_run(&child, run_with_option, "25165824");
    assert_true(child_returned(&child));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return with_option();
    const struct CMUnitTest tests[] = {
        LIMIT_TEST(the_former_limit_is_returned),
        LIMIT_TEST(small_objects_end_at_the_limit),
        LIMIT_TEST(large_objects_end_at_the_limit),
        LIMIT_TEST(huge_objects_end_at_the_limit),
        LIMIT_TEST(malloc_ends_at_the_limit),
        LIMIT_TEST(garbage_never_fails),
        LIMIT_TEST(malloc_collects_what_is_in_its_way),
        LIMIT_TEST(inside_gc_lock_others_wait_for_no_collection_of_theirs),
        LIMIT_TEST(below_what_is_used_nothing_is_added),
        LIMIT_TEST(what_could_never_fit_is_not_collected_for),
        LIMIT_TEST(less_than_a_page_is_nothing),
        LIMIT_TEST(growing_in_place_keeps_to_it),
        LIMIT_TEST(growing_in_place_has_what_was_collected),
        LIMIT_TEST(half_as_much_again_as_lives_is_enough),
        LIMIT_TEST(several_threads_keep_to_it),
        LIMIT_TEST(garbage_of_several_threads_never_fails),
        LIMIT_TEST(a_child_of_a_fork_has_it_too),
        LIMIT_TEST(pages_of_the_users_count_too),
        LIMIT_TEST(the_option_sets_it),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
