/* SPDX-License-Identifier: MIT */
/* heaps/purge.h: how many dirty pages stay, and which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/page_map.h"
#include "heaps/purge.h"
#include "tests/spans.h"

#define MIB ((size_t)1 << 20)
#define PAGES(bytes) ((bytes) / SH_PAGE_SIZE)
#define KEPT (32 * MIB) /* and an eighth of what is in use */

static uintptr_t area_start;

static size_t dirty_bytes(void)
{
    return sh_load_relaxed(&sh_heap_counts.dirty_pages) * SH_PAGE_SIZE;
}

/* One auto area, the first, which stays. */
static int begin(void **unused)
{
    sh_heap_init();
    area_start = (uintptr_t)sh_os_map(512 * MIB, SH_SLOT_BYTES);
    sh_critical_enter();
    int error = sh_area_add(area_start, area_start + 512 * MIB, false);
    sh_critical_leave();
    return error;
}

static struct sh_span *take(size_t bytes)
{
    struct sh_run_want want = {.pages = PAGES(bytes),
        .min_pages = PAGES(bytes),
        .align = SH_PAGE_SIZE,
        .state = SH_SPAN_LARGE};
    struct sh_span *span = sh_run_take(&want);
    MUST(span);
    return span;
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

static void assert_nothing_dirty_left(void)
{
    struct sh_span *all = take(500 * MIB);
    sh_run_give(all);
    assert_int_equal(dirty_bytes(), 0);
}

static void up_to_the_floor_all_stays(void **unused)
{
    struct sh_span *span = take_and_write(KEPT);
    uintptr_t base = span->base;
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), KEPT);
    sh_purge_excess();
    assert_int_equal(dirty_bytes(), KEPT);
    assert_true(is_resident(base));
    assert_false(sh_page_map_lookup(base)->zeroed);
}

/* What was dirty is used first, so this is what the test before left, and a page. */
static void a_page_more_is_too_much(void **unused)
{
    assert_int_equal(dirty_bytes(), KEPT);
    struct sh_span *all = take(KEPT + SH_PAGE_SIZE);
    uintptr_t base = all->base;
    *(volatile char *)base = 1;
    sh_run_give(all);
    assert_true(dirty_bytes() <= KEPT / 2);
    assert_false(is_resident(base));
    assert_nothing_dirty_left();
}

static void what_is_purged_reads_as_zero_and_merges(void **unused)
{
    struct sh_span *span = take_and_write(100 * MIB);
    uintptr_t base = span->base;
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), 0);
    struct sh_span *run = sh_page_map_lookup(base);
    assert_int_equal(run->state, SH_SPAN_FREE);
    assert_true(run->zeroed);
    assert_int_equal(run->pages, PAGES(512 * MIB));
    for (uintptr_t at = base; at < base + 100 * MIB; at += MIB) {
        assert_false(is_resident(at));
        assert_int_equal(*(volatile char *)at, 0);
    }
    span = take(100 * MIB);
    assert_true(span->zeroed);
    sh_run_give(span);
}

static void in_use_keeps_an_eighth(void **unused)
{
    struct sh_span *used = take(160 * MIB);
    struct sh_span *span = take_and_write(KEPT + 20 * MIB);
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), KEPT + 20 * MIB);
    /* A page fewer in use is one too many at some time. */
    assert_true(sh_run_resize(used, 1));
    sh_purge_excess();
    assert_true(dirty_bytes() < KEPT);
    sh_run_give(used);
    assert_nothing_dirty_left();
}

/* Until half the limit is left; walls keep the runs apart. */
static void the_largest_go_first(void **unused)
{
    static const size_t sizes[] = {2, 20, 1, 9, 3, 4}; /* MiB */
    struct sh_span *spans[6], *walls[6];
    uintptr_t bases[6];
    for (int i = 0; i < 6; i++) {
        spans[i] = take_and_write(sizes[i] * MIB);
        walls[i] = take(SH_PAGE_SIZE);
        bases[i] = spans[i]->base;
    }
    /* 35 MiB are too much by the last of them: the one of 20 is enough to go. */
    for (int i = 0; i < 5; i++) {
        assert_true(is_resident(bases[i]));
        sh_run_give(spans[i]);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(is_resident(bases[i]), i != 1);
    assert_int_equal(dirty_bytes(), 15 * MIB);
    sh_run_give(spans[5]);
    for (int i = 0; i < 6; i++)
        sh_run_give(walls[i]);
}

/* The user's memory is neither purged nor counted. */
static void a_users_area_is_left_alone(void **unused)
{
    size_t bytes = 1024 * MIB, dirty = dirty_bytes();
    uintptr_t start = (uintptr_t)sh_os_map(bytes, SH_SLOT_BYTES);
    assert_int_equal(sh_area_add(start, start + bytes, true), 0);
    struct sh_span *span = take_and_write(bytes);
    assert_int_equal(span->base, start);
    sh_run_give(span);
    assert_int_equal(dirty_bytes(), dirty);
    assert_true(is_resident(start));
    assert_int_equal(*(volatile char *)(start + 7 * MIB), 1);
    sh_purge_excess();
    assert_true(is_resident(start + 7 * MIB));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(up_to_the_floor_all_stays),
        SPAN_TEST(a_page_more_is_too_much),
        SPAN_TEST(what_is_purged_reads_as_zero_and_merges),
        SPAN_TEST(in_use_keeps_an_eighth),
        SPAN_TEST(the_largest_go_first),
        SPAN_TEST(a_users_area_is_left_alone),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
