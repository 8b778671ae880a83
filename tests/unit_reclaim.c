/* SPDX-License-Identifier: MIT */
/* heaps/reclaim.h: what idle threads keep is given back, by a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "heaps/purge.h"
#include "heaps/reclaim.h"
#include "heaps/run.h"
#include "lib/options.h"
#include "tests/caches.h"
#include "tests/spans.h"

#define MS ((uint64_t)1000000)
#define DECAY ((uint64_t)1000)
#define SIZE ((size_t)512)
#define COUNT 20000

static uint64_t now = 1000000 * MS;

static uint64_t test_clock(void)
{
    return now;
}

static void *at[COUNT];

static size_t used_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages) -
           sh_load_relaxed(&sh_heap_counts.free_pages);
}

static bool is_resident(const void *p)
{
    unsigned char residence = 0;
    void *page = (void *)sh_round_down((uintptr_t)p, SH_PAGE_SIZE);
    return mincore(page, SH_PAGE_SIZE, &residence) == 0 && (residence & 1);
}

/* What the background thread would do at that time. */
static uint64_t reclaim_after(uint64_t ms)
{
    now += ms * MS;
    sh_critical_enter();
    uint64_t when = sh_reclaim_by_time();
    sh_critical_leave();
    return when;
}

static int begin(void **unused)
{
    sh_purge_clock = test_clock;
    sh_heap_init();
    sh_options.background = false;
    sh_options.decay_ms = (int)DECAY;
    return give_area((size_t)256 << 20) || gc_thread_register();
}

/* ---- A thread that waits, and does as it is told ---- */

static _Atomic uint32_t deed, deeds_done;
static struct sh_cache *worker_cache;
static pthread_t worker;

enum { WAIT, ALLOCATE, FREE_MOST, FREE_ALL, GO_ON, END };

#define KEPT 64 /* one of so many cells stays */

static void allocate(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        at[i] = sh_malloc(SIZE);
        MUST(at[i]);
        fill(at[i], SIZE, (unsigned)i);
    }
}

static void free_but_each(size_t kept)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (kept && i % kept == 0)
            continue;
        sh_free(at[i]);
        at[i] = NULL;
    }
}

/* More than a magazine holds. */
static void go_on(void)
{
    static void *more[1000];
    for (int i = 0; i < 1000; i++)
        MUST((more[i] = sh_malloc(SIZE)));
    for (int i = 0; i < 1000; i++)
        sh_free(more[i]);
}

static void do_deed(uint32_t what)
{
    if (what == ALLOCATE)
        allocate();
    else if (what == FREE_MOST)
        free_but_each(KEPT);
    else if (what == FREE_ALL)
        free_but_each(0);
    else if (what == GO_ON)
        go_on();
}

static void *obey(void *unused)
{
    take_cache();
    worker_cache = cache();
    for (uint32_t what = WAIT; what != END;) {
        set_flag(&deeds_done, sh_load_relaxed(&deeds_done) + 1);
        while ((what = sh_load_acquire(&deed)) == WAIT)
            sh_os_wait(&deed, WAIT, 10000000);
        sh_store_relaxed(&deed, WAIT);
        do_deed(what);
    }
    return NULL;
}

static void tell(uint32_t what)
{
    set_flag(&deed, what);
}

static void tell_and_wait(uint32_t what)
{
    uint32_t done = sh_load_acquire(&deeds_done);
    tell(what);
    await_flag(&deeds_done, done + 1);
}

static int with_worker(void **unused)
{
    dissolve_caches();
    sh_store_relaxed(&deeds_done, 0u);
    sh_store_relaxed(&deed, WAIT);
    worker = start(obey, NULL);
    await_flag(&deeds_done, 1);
    reclaim_after(1);
    return 0;
}

static int without_worker(void **unused)
{
    tell(END);
    join(worker);
    reclaim_after(DECAY);
    return 0;
}

/* ---- The inbox of a thread that is idle ---- */

static void what_others_freed_is_given_back(void **unused)
{
    tell_and_wait(ALLOCATE);
    size_t before = used_pages();
    reclaim_after(1);
    free_but_each(0);
    assert_non_null(sh_load_relaxed(&worker_cache->inbox));
    /* Not while it may have been there. */
    uint64_t when = reclaim_after(DECAY / 4 - 1);
    assert_true(when > now && when <= now + DECAY * MS);
    assert_true(used_pages() == before);
    assert_true(sh_reclaim_waits());
    reclaim_after(2);
    assert_null(sh_load_relaxed(&worker_cache->inbox));
    assert_true(used_pages() < before / 10);
    /* It finds all as it left it. */
    tell_and_wait(ALLOCATE);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(filled(at[i], SIZE, (unsigned)i));
    tell_and_wait(FREE_ALL);
}

static void who_is_active_is_left_alone(void **unused)
{
    for (int i = 0; i < 20; i++) {
        tell_and_wait(GO_ON);
        assert_true(reclaim_after(DECAY / 5) != SH_PURGE_NEVER);
        assert_int_equal(worker_cache->done, 0);
    }
    reclaim_after(DECAY / 2);
    assert_int_not_equal(worker_cache->done, 0);
}

/* Its thread is in the midst of something, for long. */
static void who_is_in_a_slow_path_is_left_alone(void **unused)
{
    tell_and_wait(ALLOCATE);
    size_t before = used_pages();
    free_but_each(0);
    reclaim_after(1);
    sh_store_relaxed(&worker_cache->busy, 1u);
    assert_true(reclaim_after(2 * DECAY) != SH_PURGE_NEVER);
    assert_int_equal(used_pages(), before);
    assert_non_null(sh_load_relaxed(&worker_cache->inbox));
    assert_int_equal(sh_load_relaxed(&worker_cache->visited), 0);
    sh_store_relaxed(&worker_cache->busy, 0u);
    reclaim_after(1);
    assert_true(used_pages() < before / 10);
}

/* A thread that wants in waits until the visitor has gone. */
static void a_visitor_is_waited_for(void **unused)
{
    tell_and_wait(ALLOCATE);
    uint32_t done = sh_load_acquire(&deeds_done);
    sh_cache_visit(worker_cache);
    tell(GO_ON);
    while (!sh_cache_is_wanted(worker_cache))
        sleep_us(1000);
    sleep_us(20000);
    assert_int_equal(sh_load_acquire(&deeds_done), done);
    assert_int_equal(sh_load_acquire(&worker_cache->busy), 0);
    sh_cache_end_visit(worker_cache);
    await_flag(&deeds_done, done + 1);
    tell_and_wait(FREE_ALL);
}

/* ---- Pages inside spans ---- */

static size_t resident_pages_of(const uintptr_t *pages, size_t count)
{
    size_t resident = 0;
    for (size_t i = 0; i < count; i++)
        resident += is_resident((const void *)pages[i]);
    return resident;
}

static void pages_without_a_live_cell_are_purged(void **unused)
{
    static uintptr_t pages[COUNT];
    tell_and_wait(ALLOCATE);
    for (size_t i = 0; i < COUNT; i++)
        pages[i] = (uintptr_t)at[i];
    tell_and_wait(FREE_MOST);
    struct sh_bin *bin = &worker_cache->bins[SH_KIND_EXPLICIT][class_of(SIZE)];
    struct sh_round *top = bin->top;
    assert_non_null((void *)top->cell);
    memset((void *)top->cell, 0x5b, SIZE);
    reclaim_after(1);
    reclaim_after(DECAY / 2);
    assert_int_equal(resident_pages_of(pages, COUNT), COUNT);
    reclaim_after(DECAY / 2);
    assert_true(resident_pages_of(pages, COUNT) < COUNT / 4);
    /* What is live, and what its magazine holds, is not touched. */
    for (size_t i = 0; i < COUNT; i += KEPT)
        assert_true(filled(at[i], SIZE, (unsigned)i));
    assert_ptr_equal(bin->top, top);
    assert_true(uniform((unsigned char *)top->cell, SIZE, 0x5b));
    /* Once is enough. */
    assert_true(reclaim_after(DECAY) == SH_PURGE_NEVER);
    assert_false(sh_reclaim_waits());
    tell_and_wait(FREE_ALL);
}

/* malloc_trim does not wait for anybody to be idle. */
static void trimming_visits_all(void **unused)
{
    tell_and_wait(ALLOCATE);
    size_t before = used_pages();
    free_but_each(0);
    sh_heap_trim();
    assert_true(used_pages() < before / 10);
}

/* ---- Caches that threads left ---- */

static void *allocate_and_end(void *unused)
{
    allocate();
    return NULL;
}

static void what_ended_threads_left_is_given_back(void **unused)
{
    dissolve_caches();
    size_t before = used_pages();
    join(start(allocate_and_end, NULL));
    size_t between = used_pages();
    free_but_each(0);
    reclaim_after(DECAY / 4 - 1);
    assert_true(used_pages() >= between);
    assert_true(sh_reclaim_waits());
    reclaim_after(2);
    assert_true(used_pages() < before + (between - before) / 10);
    assert_false(sh_cache_any_idle());
}

/* Nor is it lost what is freed after that. */
static void the_shared_inbox_is_looked_at(void **unused)
{
    join(start(allocate_and_end, NULL));
    size_t before = used_pages();
    reclaim_after(DECAY);
    assert_false(sh_cache_any_idle());
    free_but_each(0);
    assert_non_null(sh_load_relaxed(&sh_shared_cache.inbox));
    assert_true(sh_reclaim_waits());
    reclaim_after(1);
    assert_null(sh_load_relaxed(&sh_shared_cache.inbox));
    assert_true(used_pages() < before / 10);
}

/* Where there is no background thread, by who frees. */
static void threads_that_come_by_do_it(void **unused)
{
    join(start(allocate_and_end, NULL));
    reclaim_after(DECAY);
    size_t before = used_pages();
    for (size_t i = 0; i < COUNT; i++) {
        now += MS;
        sh_free(at[i]);
    }
    assert_true(used_pages() < before / 5);
}

#define WORKER_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, with_worker, without_worker)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORKER_TEST(what_others_freed_is_given_back),
        WORKER_TEST(who_is_active_is_left_alone),
        WORKER_TEST(who_is_in_a_slow_path_is_left_alone),
        WORKER_TEST(a_visitor_is_waited_for),
        WORKER_TEST(pages_without_a_live_cell_are_purged),
        WORKER_TEST(trimming_visits_all),
        cmocka_unit_test(what_ended_threads_left_is_given_back),
        cmocka_unit_test(the_shared_inbox_is_looked_at),
        cmocka_unit_test(threads_that_come_by_do_it),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
