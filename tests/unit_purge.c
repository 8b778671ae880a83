/* SPDX-License-Identifier: MIT */
/* heaps/purge.h: which dirty pages stay, and for how long, by a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/page_map.h"
#include "heaps/purge.h"
#include "lib/options.h"
#include "tests/spans.h"

#define MIB ((size_t)1 << 20)
#define MS ((uint64_t)1000000)
#define PAGES(bytes) ((bytes) / SH_PAGE_SIZE)
#define FLOOR (16 * MIB) /* above what was in use, and an eighth of that */
#define AREA (512 * MIB)

static uintptr_t area_start;
static uint64_t now;

static uint64_t test_clock(void)
{
    return now;
}

static size_t dirty_bytes(void)
{
    return sh_load_relaxed(&sh_heap_counts.dirty_pages) * SH_PAGE_SIZE;
}

static size_t bytes_in_use(void)
{
    return (sh_load_relaxed(&sh_heap_counts.total_pages) -
               sh_load_relaxed(&sh_heap_counts.free_pages)) *
           SH_PAGE_SIZE;
}

/* One auto area, the first, which stays. */
static int begin(void **unused)
{
    now = 1000 * MS;
    sh_purge_clock = test_clock;
    sh_heap_init();
    sh_options.background = false;
    area_start = (uintptr_t)sh_os_map(AREA, SH_SLOT_BYTES);
    sh_critical_enter();
    int error = sh_area_add(area_start, area_start + AREA, false);
    sh_critical_leave();
    return error;
}

static struct sh_span *take_aligned(size_t bytes, size_t align)
{
    struct sh_run_want want = {.pages = PAGES(bytes),
        .min_pages = PAGES(bytes),
        .align = align,
        .state = SH_SPAN_LARGE};
    struct sh_span *span = sh_run_take(&want);
    MUST(span);
    return span;
}

static struct sh_span *take(size_t bytes)
{
    return take_aligned(bytes, SH_PAGE_SIZE);
}

/* A page a mebibyte is written: dirty goes by spans, not by pages. */
static struct sh_span *take_and_write(size_t bytes)
{
    struct sh_span *span = take(bytes);
    for (uintptr_t at = span->base; at < span->base + bytes; at += MIB)
        *(volatile char *)at = 1;
    return span;
}

static bool is_resident(uintptr_t at)
{
    unsigned char residence = 0;
    return mincore((void *)at, SH_PAGE_SIZE, &residence) == 0 && (residence & 1);
}

static size_t resident_mibs(uintptr_t base, size_t bytes)
{
    size_t count = 0;
    for (uintptr_t at = base; at < base + bytes; at += MIB)
        count += is_resident(at);
    return count;
}

/* Time passes in steps of a fiftieth of the decay, as the ticks of a program would. */
static void pass_ms(unsigned ms)
{
    for (unsigned passed = 0; passed < ms; passed += 20) {
        now += 20 * MS;
        sh_purge_by_time();
    }
}

/* Somebody is there all the time, and needs little. */
static void live_on(void)
{
    for (int i = 0; i < 400; i++) {
        sh_run_give(take(SH_PAGE_SIZE));
        pass_ms(60);
    }
    pass_ms(2000);
}

/* All clean, and nothing remembered of what was in use. */
static int afresh(void **unused)
{
    sh_options.decay_ms = 1000;
    sh_critical_enter();
    live_on();
    MUST(dirty_bytes() == 0 && bytes_in_use() == 0);
    return 0;
}

static int critical_leave(void **unused)
{
    sh_critical_leave();
    return 0;
}

/* ---- By time ---- */

static void what_was_freed_stays_at_first(void **unused)
{
    struct sh_span *span = take_and_write(100 * MIB);
    uintptr_t base = span->base;
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), 100 * MIB);
    sh_purge_by_time();
    pass_ms(40);
    assert_true(dirty_bytes() >= 98 * MIB);
    assert_true(is_resident(base));
    assert_false(sh_page_map_lookup(base)->zeroed);
    struct sh_span *again = take(50 * MIB);
    assert_int_equal(again->base, base);
    assert_false(again->zeroed);
    sh_run_give(again);
}

static void it_goes_by_and_by(void **unused)
{
    struct sh_span *span = take_and_write(100 * MIB);
    uintptr_t base = span->base;
    sh_run_give(span);
    sh_purge_by_time();
    size_t before = dirty_bytes();
    for (int i = 0; i < 20; i++) {
        pass_ms(40);
        assert_true(dirty_bytes() <= before);
        assert_true(before - dirty_bytes() <= 12 * MIB);
        before = dirty_bytes();
        /* What goes is the end of it. */
        size_t left = resident_mibs(base, 100 * MIB);
        assert_true(left * MIB >= before && left * MIB <= before + MIB);
        assert_true(i != 12 || (before > 30 * MIB && before < 70 * MIB));
    }
    assert_true(before < 20 * MIB);
    pass_ms(300);
    assert_int_equal(dirty_bytes(), 0);
    assert_int_equal(resident_mibs(base, 100 * MIB), 0);
    /* One run again, that reads as zero. */
    struct sh_span *run = sh_page_map_lookup(base);
    assert_int_equal(run->state, SH_SPAN_FREE);
    assert_true(run->zeroed);
    assert_int_equal(run->pages, PAGES(AREA));
    for (uintptr_t at = base; at < base + 100 * MIB; at += MIB)
        assert_int_equal(*(volatile char *)at, 0);
}

static void when_to_come_again_is_told(void **unused)
{
    assert_true(sh_purge_by_time() == SH_PURGE_NEVER);
    sh_run_give(take_and_write(100 * MIB));
    uint64_t then = sh_purge_by_time();
    assert_true(then > now && then <= now + 50 * MS);
    while (then != SH_PURGE_NEVER) {
        assert_true(then > now);
        now = then;
        then = sh_purge_by_time();
    }
    assert_int_equal(dirty_bytes(), 0);
}

/* Somebody who frees and allocates the same all the time keeps it. */
static void what_is_used_again_and_again_stays(void **unused)
{
    uintptr_t base = 0;
    for (int i = 0; i < 500; i++) {
        struct sh_span *span = take_and_write(64 * MIB);
        assert_true(i == 0 || span->base == base);
        base = span->base;
        if (i > 0)
            assert_true(dirty_bytes() == 0);
        sh_run_give(span);
        pass_ms(20);
        assert_true(dirty_bytes() >= 56 * MIB);
    }
}

static void the_oldest_goes_first(void **unused)
{
    struct sh_span *old = take_and_write(40 * MIB), *wall = take(SH_PAGE_SIZE);
    struct sh_span *young = take_and_write(20 * MIB), *second = take(SH_PAGE_SIZE);
    uintptr_t old_base = old->base, young_base = young->base;
    sh_run_give(old);
    pass_ms(300);
    sh_run_give(young);
    pass_ms(100);
    size_t left = resident_mibs(old_base, 40 * MIB);
    assert_true(left > 15 && left < 35);
    assert_int_equal(resident_mibs(young_base, 20 * MIB), 20);
    pass_ms(500);
    assert_int_equal(resident_mibs(old_base, 40 * MIB), 0);
    assert_true(resident_mibs(young_base, 20 * MIB) > 0);
    sh_run_give(wall);
    sh_run_give(second);
}

static void without_a_decay_it_goes_at_once(void **unused)
{
    sh_options.decay_ms = 0;
    struct sh_span *span = take_and_write(50 * MIB);
    uintptr_t base = span->base;
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), 0);
    assert_int_equal(resident_mibs(base, 50 * MIB), 0);
}

static void it_may_stay_for_ever(void **unused)
{
    sh_options.decay_ms = -1;
    struct sh_span *span = take_and_write(400 * MIB);
    uintptr_t base = span->base;
    sh_run_give(span);
    pass_ms(20000);
    sh_purge_tick();
    assert_int_equal(dirty_bytes(), 400 * MIB);
    assert_int_equal(resident_mibs(base, 400 * MIB), 400);
    /* But for who asks for it. */
    assert_true(sh_purge_dirty());
    assert_int_equal(dirty_bytes(), 0);
    assert_false(sh_purge_dirty());
}

/* Threads that take and give do it, a little each time. */
static void ticks_do_it(void **unused)
{
    struct sh_span *span = take_and_write(100 * MIB);
    sh_run_give(span);
    sh_purge_tick();
    now += 3000 * MS;
    size_t before = dirty_bytes();
    for (int i = 0; i < 200 && dirty_bytes() > 0; i++) {
        sh_purge_tick();
        assert_true(before - dirty_bytes() <= 3 * MIB);
        before = dirty_bytes();
        now += 20 * MS;
    }
    assert_int_equal(dirty_bytes(), 0);
}

/* ---- The limit ---- */

/* Into runs of a mebibyte with walls between them nothing larger fits. */
static void what_does_not_fit_does_not_pile_up(void **unused)
{
    enum { RUNS = 100 };
    struct sh_span *runs[RUNS], *walls[RUNS], *more[RUNS / 2];
    for (int i = 0; i < RUNS; i++) {
        runs[i] = take_and_write(MIB);
        walls[i] = take(SH_PAGE_SIZE);
    }
    size_t peak = bytes_in_use(), most = peak + peak / 8 + FLOOR;
    uintptr_t first = runs[0]->base, last = runs[RUNS - 1]->base;
    for (int i = 0; i < RUNS; i++)
        sh_run_give(runs[i]);
    assert_int_equal(dirty_bytes(), RUNS * MIB);
    for (int i = 0; i < RUNS / 2; i++) {
        more[i] = take_and_write(2 * MIB);
        sh_purge_tick();
        assert_true(bytes_in_use() + dirty_bytes() <= most + 2 * MIB);
    }
    /* No more than there must. */
    assert_true(bytes_in_use() + dirty_bytes() >= most - FLOOR);
    assert_false(is_resident(first));
    assert_true(is_resident(last));
    for (int i = 0; i < RUNS; i++)
        sh_run_give(walls[i]);
    for (int i = 0; i < RUNS / 2; i++)
        sh_run_give(more[i]);
}

/* A peak is forgotten. */
static void what_was_in_use_long_ago_does_not_count(void **unused)
{
    sh_run_give(take(400 * MIB));
    struct sh_span *span = take(10 * MIB), *wall = take(SH_PAGE_SIZE);
    live_on();
    sh_run_give(span);
    struct sh_span *more = take(40 * MIB);
    sh_run_give(take(10 * MIB));
    sh_run_give(more);
    assert_true(dirty_bytes() <= 50 * MIB / 8 * 9 + FLOOR);
    sh_run_give(wall);
}

/* ---- Large requests ---- */

/* Memory that is there is used, as far as it goes. */
static void a_request_takes_dirty_and_clean_together(void **unused)
{
    struct sh_span *low = take(20 * MIB), *middle = take(10 * MIB);
    struct sh_span *high = take(6 * MIB), *wall = take(SH_PAGE_SIZE);
    uintptr_t base = middle->base;
    assert_int_equal(base, low->base + 20 * MIB);
    assert_int_equal(high->base, base + 10 * MIB);
    assert_int_equal(wall->base, base + 16 * MIB);
    sh_run_give(high);
    sh_purge_dirty();
    /* Clean pages behind, then on both sides. */
    sh_run_give(middle);
    middle = take(15 * MIB);
    assert_int_equal(middle->base, base);
    assert_false(middle->zeroed);
    sh_run_give(low);
    sh_purge_dirty();
    sh_run_give(middle);
    struct sh_span *whole = take(35 * MIB);
    assert_int_equal(whole->base, base - 19 * MIB);
    assert_int_equal(dirty_bytes(), 0);
    sh_run_give(whole);
    sh_run_give(wall);
}

/* Of those into which it fits, the smallest, and of two alike the lower. */
static void the_best_fit_is_taken(void **unused)
{
    static const size_t mibs[] = {9, 8, 10, 8, 11};
    struct sh_span *spans[5], *walls[5];
    uintptr_t bases[5];
    for (int i = 0; i < 5; i++) {
        spans[i] = take(mibs[i] * MIB);
        walls[i] = take(SH_PAGE_SIZE);
        bases[i] = spans[i]->base;
    }
    for (int i = 0; i < 5; i++)
        sh_run_give(spans[i]);
    struct sh_span *one = take(8 * MIB), *two = take(8 * MIB - SH_PAGE_SIZE);
    struct sh_span *three = take(9 * MIB), *four = take(11 * MIB);
    assert_int_equal(one->base, sh_min(bases[1], bases[3]));
    assert_int_equal(two->base, sh_max(bases[1], bases[3]));
    assert_int_equal(three->base, bases[0]);
    assert_int_equal(four->base, bases[4]);
    sh_run_give(one);
    sh_run_give(two);
    sh_run_give(three);
    sh_run_give(four);
    for (int i = 0; i < 5; i++)
        sh_run_give(walls[i]);
}

/* ---- Fork ---- */

static _Atomic bool over;

static void *give_and_purge(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        sh_critical_enter();
        struct sh_span *span = take(8 * MIB);
        memset((void *)span->base, 1, 8 * MIB);
        sh_run_give(span);
        sh_purge_dirty();
        sh_critical_leave();
    }
    return NULL;
}

/* Every free run of the area is in a bucket. */
static bool none_is_in_flight(void)
{
    for (uintptr_t at = area_start; at < area_start + AREA;) {
        struct sh_span *run = sh_page_map_lookup(at);
        if (run->state == SH_SPAN_FREE && run->bucket == SH_BUCKET_BUSY)
            return false;
        at += run->pages * SH_PAGE_SIZE;
    }
    return true;
}

/* What another thread purges at the moment of a fork is not lost to the child. */
static void the_child_of_a_fork_has_all_runs(void **unused)
{
    if (SH_TSAN)
        skip();
    sh_critical_leave();
    sh_thread_enter();
    sh_store_relaxed(&over, false);
    pthread_t thread = start(give_and_purge, NULL);
    for (int i = 0; i < 100; i++) {
        sleep_us((unsigned)i * 37 % 5000);
        int status = -1;
        pid_t pid = fork();
        if (pid == 0)
            _exit(!none_is_in_flight() || (sh_purge_dirty() && dirty_bytes() != 0));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    sh_store_relaxed(&over, true);
    join(thread);
    sh_critical_enter();
}

/* ---- The user's ---- */

/* Neither purged nor counted. Last, for it stays. */
static void a_users_area_is_left_alone(void **unused)
{
    size_t bytes = 1024 * MIB;
    uintptr_t start = (uintptr_t)sh_os_map(bytes, SH_SLOT_BYTES);
    assert_int_equal(sh_area_add(start, start + bytes, true), 0);
    struct sh_span *span = take_and_write(bytes);
    assert_int_equal(span->base, start);
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), 0);
    pass_ms(2000);
    assert_false(sh_purge_dirty());
    assert_true(is_resident(start));
    assert_int_equal(*(volatile char *)(start + 7 * MIB), 1);
}

#define PURGE_TEST(function)                                                           \
    cmocka_unit_test_setup_teardown(function, afresh, critical_leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PURGE_TEST(what_was_freed_stays_at_first),
        PURGE_TEST(it_goes_by_and_by),
        PURGE_TEST(when_to_come_again_is_told),
        PURGE_TEST(what_is_used_again_and_again_stays),
        PURGE_TEST(the_oldest_goes_first),
        PURGE_TEST(without_a_decay_it_goes_at_once),
        PURGE_TEST(it_may_stay_for_ever),
        PURGE_TEST(ticks_do_it),
        PURGE_TEST(what_does_not_fit_does_not_pile_up),
        PURGE_TEST(what_was_in_use_long_ago_does_not_count),
        PURGE_TEST(a_request_takes_dirty_and_clean_together),
        PURGE_TEST(the_best_fit_is_taken),
        PURGE_TEST(the_child_of_a_fork_has_all_runs),
        PURGE_TEST(a_users_area_is_left_alone),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
