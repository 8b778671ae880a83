/* SPDX-License-Identifier: MIT */
/* sh_heap_grow: how much the heap maps, and when it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/heap.h"
#include "heaps/page_map.h"
#include "lib/options.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)
#define PAGES(bytes) ((bytes) / SH_PAGE_SIZE)

static size_t limit;
static _Atomic size_t asked;

size_t gc_get_max_new_split(void)
{
    sh_add_relaxed(&asked, (size_t)1);
    return limit;
}

static uint32_t areas(void)
{
    return sh_load_relaxed(&sh_heap_counts.areas);
}

static size_t total_bytes(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages) * SH_PAGE_SIZE;
}

/* How much more the heap has after it was asked for so much. */
static size_t grown_by(size_t bytes)
{
    size_t before = total_bytes();
    uint32_t seen = areas();
    assert_true(sh_heap_grow(PAGES(bytes), seen));
    assert_int_equal(areas(), seen + 1);
    return total_bytes() - before;
}

static int begin(void **unused)
{
    sh_heap_init();
    return 0;
}

static int without_limit(void **unused)
{
    limit = SIZE_MAX;
    return 0;
}

#define GROW_TEST(function) cmocka_unit_test_setup(function, without_limit)

/* The tests go on with the heap that those before left. */

static void without_leave_it_does_not_grow(void **unused)
{
    limit = 0;
    assert_false(sh_heap_grow(1, areas()));
    /* A slot is the least that is mapped. */
    limit = SH_SLOT_BYTES - 1;
    assert_false(sh_heap_grow(1, areas()));
    assert_int_equal(total_bytes(), 0);
    assert_int_equal(sh_load_relaxed(&asked), 2);
    limit = SH_SLOT_BYTES;
    assert_true(sh_heap_grow(1, areas()));
    assert_int_equal(total_bytes(), SH_SLOT_BYTES);
}

static void the_limit_is_rounded_down_to_slots(void **unused)
{
    limit = 3 * SH_SLOT_BYTES - 1;
    assert_int_equal(grown_by(SH_PAGE_SIZE), 2 * SH_SLOT_BYTES);
    limit = 3 * SH_SLOT_BYTES;
    assert_int_equal(grown_by(3 * SH_SLOT_BYTES), 3 * SH_SLOT_BYTES);
    uint32_t seen = areas();
    assert_false(sh_heap_grow(3 * SH_SLOT_PAGES + 1, seen));
    assert_int_equal(areas(), seen);
}

static void the_least_is_a_floor(void **unused)
{
    assert_true(total_bytes() < 16 * MIB);
    assert_int_equal(grown_by(SH_PAGE_SIZE), 16 * MIB);
    struct sh_area *area = sh_area_first();
    assert_int_equal(area->end - area->start, 16 * MIB);
    assert_int_equal(area->start % SH_SLOT_BYTES, 0);
    assert_false(area->from_user);
    struct sh_span *run = sh_page_map_lookup(area->start);
    assert_int_equal(run->state, SH_SPAN_FREE);
    assert_int_equal(run->pages, PAGES(16 * MIB));
    assert_true(run->zeroed);
}

static void it_doubles(void **unused)
{
    for (int i = 0; i < 3; i++) {
        size_t total = total_bytes();
        assert_int_equal(grown_by(SH_PAGE_SIZE), total);
    }
}

static void half_of_what_is_left_stays(void **unused)
{
    size_t total = total_bytes();
    assert_true(total > 64 * MIB);
    limit = 80 * MIB;
    assert_int_equal(grown_by(SH_PAGE_SIZE), 40 * MIB);
    limit = 20 * MIB;
    assert_int_equal(grown_by(SH_PAGE_SIZE), 16 * MIB);
    limit = 80 * MIB;
    assert_int_equal(grown_by(70 * MIB), 70 * MIB);
}

/* Whether smaps has the flag for the area added last. */
static bool newest_has(const char *flag)
{
    static char line[512];
    uintptr_t start, end, at = sh_area_first()->start;
    bool here = false, has = false;
    FILE *file = fopen("/proc/self/smaps", "r");
    MUST(file);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
            here = at >= start && at < end;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            has = strstr(line, flag);
    }
    fclose(file);
    return has;
}

static void huge_pages_are_an_option(void **unused)
{
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0)
        skip();
    static const struct {
        enum sh_thp option;
        bool wanted, refused;
    } cases[] = {{SH_THP_DEFAULT, false, false}, {SH_THP_NEVER, false, true},
        {SH_THP_ALWAYS, true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sh_options.thp = (int)cases[i].option;
        grown_by(SH_PAGE_SIZE);
        assert_int_equal(sh_area_first()->start % SH_OS_HUGE_PAGE, 0);
        assert_int_equal(newest_has(" hg"), cases[i].wanted);
        assert_int_equal(newest_has(" nh"), cases[i].refused);
    }
    sh_options.thp = SH_THP_DEFAULT;
}

static void what_is_needed_may_be_more(void **unused)
{
    size_t needed = total_bytes() * 2 + SH_PAGE_SIZE;
    assert_int_equal(grown_by(needed), sh_round_up(needed, SH_SLOT_BYTES));
}

static void what_another_thread_added_is_tried_first(void **unused)
{
    size_t total = total_bytes();
    uint32_t now = areas();
    assert_true(sh_heap_grow(1, now - 1));
    assert_true(sh_heap_grow(1, now + 1));
    assert_int_equal(areas(), now);
    assert_int_equal(total_bytes(), total);
    /* Unless there is no leave for what is needed anyway. */
    limit = 0;
    assert_false(sh_heap_grow(1, now - 1));
}

static void what_the_system_refuses_is_false(void **unused)
{
    size_t total = total_bytes();
    uint32_t now = areas();
    assert_false(sh_heap_grow((size_t)1 << 36, now));
    assert_int_equal(areas(), now);
    assert_int_equal(total_bytes(), total);
}

static void *grow_once(void *seen)
{
    MUST(sh_heap_grow(1, (uint32_t)(uintptr_t)seen));
    return NULL;
}

/* Who looked before the first of them had grown it finds room now. */
static void threads_that_saw_the_same_do_not_all_grow(void **unused)
{
    limit = SH_SLOT_BYTES;
    uint32_t seen = areas();
    grow_once((void *)(uintptr_t)seen);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start(grow_once, (void *)(uintptr_t)seen);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    assert_int_equal(areas(), seen + 1);
}

int main(void)
{
    stop_time();
    const struct CMUnitTest tests[] = {
        GROW_TEST(without_leave_it_does_not_grow),
        GROW_TEST(the_limit_is_rounded_down_to_slots),
        GROW_TEST(the_least_is_a_floor),
        GROW_TEST(huge_pages_are_an_option),
        GROW_TEST(it_doubles),
        GROW_TEST(half_of_what_is_left_stays),
        GROW_TEST(what_is_needed_may_be_more),
        GROW_TEST(what_another_thread_added_is_tried_first),
        GROW_TEST(what_the_system_refuses_is_false),
        GROW_TEST(threads_that_saw_the_same_do_not_all_grow),
    };
    return run_on_clean_stack(tests, begin, NULL);
}
