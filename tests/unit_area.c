/* SPDX-License-Identifier: MIT */
/*
 * heaps/area.h: areas of the user's and of the heap's own, in each other's memory and
 * after each other. What lies in one: unit_run.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/huge.h"
#include "heaps/page_map.h"
#include "tests/child.h"
#include "tests/spans.h"

#define PAGE SH_PAGE_SIZE
#define MIB ((size_t)1 << 20)

static size_t total_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages);
}

static uintptr_t map(size_t pages)
{
    return (uintptr_t)sh_os_map(pages * PAGE, SH_SLOT_BYTES);
}

static bool is_mapped(uintptr_t at)
{
    unsigned char residence;
    return mincore((void *)at, PAGE, &residence) == 0;
}

static struct sh_area *area_of(uintptr_t address)
{
    sh_lock_acquire(&sh_heap_lock);
    struct sh_area *area = sh_area_of(address);
    sh_lock_release(&sh_heap_lock);
    return area;
}

static size_t count_areas(void)
{
    size_t count = 0;
    struct sh_area *before = NULL;
    for (struct sh_area *area = sh_area_first(); area; area = area->next, count++) {
        MUST(area->prev == before);
        before = area;
    }
    return count;
}

/* The heap begins once in a process, so each test has one of its own. */
static void (*test_to_run)(void);

static void begin_test(void *unused)
{
    sh_heap_init();
    sh_critical_enter();
    test_to_run();
    sh_critical_leave();
}

static void in_child(void (*test)(void))
{
    struct child child;
    test_to_run = test;
    child_run(&child, begin_test, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

/* ---- The lists ---- */

static void link_areas(void)
{
    uintptr_t at = map(100);
    MUST(!sh_area_first() && !sh_area_users() && total_pages() == 0);
    MUST(sh_area_add(at, at + 10 * PAGE, true) == 0);
    MUST(sh_area_add(at + 20 * PAGE, at + 50 * PAGE, false) == 0);
    MUST(sh_area_add(at + 50 * PAGE, at + 51 * PAGE, true) == 0);
    MUST(count_areas() == 3 && total_pages() == 41);
    MUST(sh_load_relaxed(&sh_heap_counts.areas) == 3);
    MUST(sh_load_relaxed(&sh_heap_counts.free_pages) == 41);
    for (uintptr_t i = 0; i < 100; i++) {
        struct sh_area *area = area_of(at + i * PAGE);
        MUST((area != NULL) == (i < 10 || (i >= 20 && i < 51)));
        MUST(!area || area->from_user == (i < 10 || i == 50));
    }
    MUST(area_of(at + 50 * PAGE - 1) != area_of(at + 50 * PAGE));
    struct sh_area *user = sh_area_users();
    MUST(user->start == at + 50 * PAGE && user->user_next->start == at);
    MUST(!user->user_next->user_next);
}

static void areas_are_listed(void **unused)
{
    in_child(link_areas);
}

static void overlap(void)
{
    uintptr_t at = map(100);
    MUST(sh_area_add(at + 20 * PAGE, at + 50 * PAGE, false) == 0);
    MUST(sh_area_add(at, at + 21 * PAGE, true) == EEXIST);
    MUST(sh_area_add(at + 49 * PAGE, at + 60 * PAGE, false) == EEXIST);
    MUST(sh_area_add(at + 30 * PAGE, at + 31 * PAGE, true) == EEXIST);
    MUST(sh_area_add(at, at + 100 * PAGE, true) == EEXIST);
    MUST(count_areas() == 1 && total_pages() == 30 && !sh_area_users());
    MUST(sh_load_relaxed(&sh_heap_counts.areas) == 1);
}

static void what_overlaps_is_refused(void **unused)
{
    in_child(overlap);
}

/* ---- In an object ---- */

static void lie_in_an_object(void)
{
    uintptr_t at = map(200);
    MUST(sh_area_add(at, at + 200 * PAGE, false) == 0);
    struct sh_span *span = large_span(SH_KIND_EXPLICIT, 100);
    struct sh_span *collected = large_span(SH_KIND_SCAN, 20);
    struct sh_span *freed = large_span(SH_KIND_EXPLICIT, 20);
    sh_cell_set(freed, 0, SH_CELL_FREE);
    /* Not the whole of it, not within one object, not malloc's, not the user's, dead. */
    uintptr_t base = span->base, end = base + 100 * PAGE;
    MUST(sh_area_add(base - PAGE, base + 10 * PAGE, true) == EEXIST);
    MUST(sh_area_add(base + 10 * PAGE, end + PAGE, true) == EEXIST);
    MUST(sh_area_add(collected->base, collected->base + PAGE, true) == EEXIST);
    MUST(sh_area_add(freed->base, freed->base + PAGE, true) == EEXIST);
    MUST(sh_area_add(base + PAGE, base + 2 * PAGE, false) == EEXIST);
    MUST(!span->pinned && !collected->pinned && count_areas() == 1);
    MUST(sh_area_add(base + 10 * PAGE, end - 10 * PAGE, true) == 0);
    MUST(span->pinned && count_areas() == 2);
    MUST(sh_page_map_lookup(base + 9 * PAGE) == span);
    MUST(sh_page_map_lookup(base + 10 * PAGE)->state == SH_SPAN_FREE);
    MUST(sh_page_map_lookup(end - 11 * PAGE)->state == SH_SPAN_FREE);
    MUST(sh_page_map_lookup(end - 10 * PAGE) == span);
    /* The rest of it can be another. */
    MUST(sh_area_add(end - 10 * PAGE, end, true) == 0);
    MUST(sh_page_map_lookup(end - 1)->pages == 10);
}

static void a_users_area_may_lie_in_an_object(void **unused)
{
    in_child(lie_in_an_object);
}

static void lie_in_a_huge_object(void)
{
    struct sh_span *span = sh_huge_map(64 * MIB, PAGE, SH_KIND_EXPLICIT);
    MUST(span);
    sh_cell_set(span, 0, SH_CELL_LIVE);
    uintptr_t base = span->base;
    MUST(sh_area_add(base + PAGE, base + 64 * MIB - PAGE, true) == 0);
    MUST(span->pinned);
    struct sh_span *inner = large_span(SH_KIND_SCAN, 1000);
    MUST(inner->base > base && inner->base < base + 64 * MIB);
    sh_run_give(inner);
}

static void a_users_area_may_lie_in_a_huge_object(void **unused)
{
    in_child(lie_in_a_huge_object);
}

/* ---- Empty areas ---- */

/* All whose pages were purged, unless what is left would be too little. */
static void spare_areas(void)
{
    uintptr_t first = map(256), second = map(4096), third = map(4096);
    MUST(sh_area_add(first, first + 256 * PAGE, false) == 0);
    struct sh_span *small = large_span(SH_KIND_SCAN, 200);
    MUST(sh_area_add(second, second + 4096 * PAGE, false) == 0);
    struct sh_span *two = large_span(SH_KIND_SCAN, 4096);
    MUST(sh_area_add(third, third + 4096 * PAGE, false) == 0);
    struct sh_span *three = large_span(SH_KIND_SCAN, 4096);
    MUST(two->base == second && three->base == third);
    MUST(area_of(first)->first && !area_of(second)->first && !area_of(third)->first);
    /* Without it 56 pages would be free and 4296 in use. */
    sh_run_give(two);
    sh_purge_dirty();
    MUST(area_of(second) && total_pages() == 256 + 2 * 4096);
    /* With both free, one can go, and the other after it as 56 are enough for 200. */
    sh_run_give(three);
    MUST(total_pages() == 256 + 2 * 4096);
    sh_purge_dirty();
    MUST(total_pages() == 256 && count_areas() == 1);
    MUST(!is_mapped(second) && !is_mapped(third));
    MUST(!sh_page_map_lookup(second) && !sh_page_map_lookup(third + 4095 * PAGE));
    /* The first one stays. */
    sh_run_give(small);
    sh_purge_dirty();
    MUST(total_pages() == 256 && is_mapped(first));
    MUST(sh_load_relaxed(&sh_heap_counts.free_pages) == 256);
}

static void areas_that_can_be_spared_go(void **unused)
{
    in_child(spare_areas);
}

static void empty_a_users_area(void)
{
    uintptr_t at = map(8192), other = map(256);
    MUST(sh_area_add(other, other + 256 * PAGE, false) == 0);
    MUST(sh_area_add(at, at + 8192 * PAGE, true) == 0);
    for (int i = 0; i < 3; i++) {
        struct sh_span *span = large_span(SH_KIND_SCAN, 8192);
        MUST(span->base == at);
        sh_run_give(span);
        sh_purge_dirty();
    }
    MUST(total_pages() == 8192 + 256 && is_mapped(at) && area_of(at));
    MUST(!sh_area_take_idle());
}

static void a_users_area_stays(void **unused)
{
    in_child(empty_a_users_area);
}

/* Cut into runs, some used before and some never, an area goes as a whole. */
static void dissolve(void)
{
    uintptr_t first = map(256), second = map(2048);
    MUST(sh_area_add(first, first + 256 * PAGE, false) == 0);
    struct sh_span *all = large_span(SH_KIND_SCAN, 256);
    MUST(sh_area_add(second, second + 2048 * PAGE, false) == 0);
    struct sh_span *spans[20];
    for (int i = 0; i < 20; i++)
        spans[i] = large_span(SH_KIND_SCAN, 10);
    for (int i = 0; i < 20; i += 2)
        sh_run_give(spans[i]);
    for (int i = 1; i < 20; i += 2)
        sh_run_give(spans[i]);
    MUST(area_of(second) && is_mapped(second));
    sh_run_give(all);
    sh_purge_dirty();
    MUST(!area_of(second) && !is_mapped(second) && total_pages() == 256);
    for (uintptr_t i = 0; i < 2048; i++)
        MUST(!sh_page_map_lookup(second + i * PAGE));
    MUST(sh_load_relaxed(&sh_heap_counts.free_pages) == 256);
}

static void an_area_in_pieces_goes_as_a_whole(void **unused)
{
    in_child(dissolve);
}

int main(void)
{
    stop_time();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(areas_are_listed),
        cmocka_unit_test(what_overlaps_is_refused),
        cmocka_unit_test(a_users_area_may_lie_in_an_object),
        cmocka_unit_test(a_users_area_may_lie_in_a_huge_object),
        cmocka_unit_test(areas_that_can_be_spared_go),
        cmocka_unit_test(a_users_area_stays),
        cmocka_unit_test(an_area_in_pieces_goes_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
