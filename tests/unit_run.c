/* SPDX-License-Identifier: MIT */
/* heaps/run.h, bucket.h, area.h, huge.h, purge.h: pages taken, given back and merged. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/bucket.h"
#include "heaps/heap.h"
#include "heaps/huge.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "tests/heap.h"

#define PAGE SH_PAGE_SIZE

/* Every test begins with an area of the user's, the one that stays, and holds it all
 * again at the end. */
static uintptr_t area_start;
static size_t pages;

static size_t free_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.free_pages);
}

static size_t total_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages);
}

static int begin(void **unused)
{
    sh_heap_init();
    pages = 1024;
    area_start = (uintptr_t)sh_os_map(pages * PAGE, SH_SLOT_BYTES);
    sh_critical_enter();
    return sh_area_add(area_start, area_start + pages * PAGE, true);
}

static int end(void **unused)
{
    sh_critical_leave();
    return 0;
}

static struct sh_span *take(size_t n, size_t align)
{
    struct sh_run_want want = {
        .pages = n, .min_pages = n, .align = align, .state = SH_SPAN_LARGE};
    return sh_run_take(&want);
}

static void assert_all_free(void)
{
    assert_int_equal(free_pages(), pages);
    struct sh_span *run = sh_page_map_lookup(area_start);
    assert_int_equal(run->state, SH_SPAN_FREE);
    assert_int_equal(run->base, area_start);
    assert_int_equal(run->pages, pages);
    for (size_t i = 0; i < pages; i++)
        assert_ptr_equal(sh_page_map_lookup(area_start + i * PAGE), run);
}

/* The areas' pages are spans and free runs end to end, no two free runs alike. */
static void check_area(void)
{
    size_t counted = 0;
    struct sh_span *before = NULL;
    for (uintptr_t at = area_start; at < area_start + pages * PAGE;) {
        struct sh_span *span = sh_page_map_lookup(at);
        assert_non_null(span);
        assert_int_equal(span->base, at);
        assert_true(span->pages > 0);
        for (size_t i = 0; i < span->pages; i++)
            assert_ptr_equal(sh_page_map_lookup(at + i * PAGE), span);
        if (span->state == SH_SPAN_FREE) {
            counted += span->pages;
            assert_true(!before || before->state != SH_SPAN_FREE ||
                        before->zeroed != span->zeroed);
        }
        before = span;
        at += span->pages * PAGE;
    }
    assert_int_equal(counted, free_pages());
}

static void a_new_area_is_one_free_run(void **unused)
{
    assert_all_free();
    assert_int_equal(total_pages(), pages);
}

static void what_is_taken_is_described(void **unused)
{
    struct sh_span *span = take(10, PAGE);
    assert_non_null(span);
    assert_int_equal(span->pages, 10);
    assert_int_equal(span->cell_count, 1);
    assert_int_equal(span->cell_size, 10 * PAGE);
    assert_int_equal(span->reciprocal, 0);
    assert_int_equal(span->state, SH_SPAN_LARGE);
    assert_ptr_equal(sh_span_first(), span);
    assert_int_equal(free_pages(), pages - 10);
    check_area();
    sh_run_give(span);
    assert_null(sh_span_first());
    assert_all_free();
}

static void a_small_span_has_its_cells(void **unused)
{
    unsigned c = sh_size_class_of(48);
    struct sh_run_want want = {.pages = 16,
        .min_pages = 16,
        .align = SH_SLOT_BYTES,
        .cell_size = 48,
        .kind = SH_KIND_LEAF,
        .state = SH_SPAN_SMALL,
        .class_index = (uint8_t)c};
    struct sh_span *span = sh_run_take(&want);
    assert_int_equal(span->base % SH_SLOT_BYTES, 0);
    assert_int_equal(span->cell_count, 65536 / 48);
    assert_int_equal(span->kind, SH_KIND_LEAF);
    assert_int_equal(span->reciprocal, sh_size_classes[c].reciprocal);
    for (uint32_t cell = 0; cell <= span->cell_count; cell++)
        assert_true(sh_cell_state(span, cell) != SH_CELL_LIVE);
    sh_span_valid(span);
    sh_run_give(span);
    assert_all_free();
}

static void too_much_is_null(void **unused)
{
    assert_null(take(pages + 1, PAGE));
    assert_null(take((size_t)1 << 30, PAGE));
    struct sh_span *all = take(pages, PAGE);
    assert_non_null(all);
    assert_int_equal(free_pages(), 0);
    assert_null(take(1, PAGE));
    sh_run_give(all);
    assert_all_free();
}

static void alignment_holds(void **unused)
{
    struct sh_span *odd = take(3, PAGE);
    for (size_t align = PAGE; align <= 512 * PAGE; align *= 2) {
        struct sh_span *span = take(5, align);
        assert_int_equal(span->base % align, 0);
        check_area();
        sh_run_give(span);
    }
    sh_run_give(odd);
    assert_all_free();
}

static void fewer_pages_will_do(void **unused)
{
    struct sh_span *most = take(pages - 7, PAGE);
    struct sh_run_want want = {
        .pages = 64, .min_pages = 5, .align = PAGE, .state = SH_SPAN_LARGE};
    struct sh_span *rest = sh_run_take(&want);
    assert_int_equal(rest->pages, 7);
    assert_null(sh_run_take(&want));
    sh_run_give(rest);
    want.min_pages = 8;
    assert_null(sh_run_take(&want));
    sh_run_give(most);
    assert_all_free();
}

/* In every order of giving three neighbours back. */
static void neighbours_merge(void **unused)
{
    static const int orders[6][3] = {
        {0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int o = 0; o < 6; o++) {
        struct sh_span *spans[3];
        for (int i = 0; i < 3; i++)
            spans[i] = take(4 + (size_t)i * 13, PAGE);
        for (int i = 0; i < 3; i++) {
            sh_run_give(spans[orders[o][i]]);
            check_area();
        }
        assert_all_free();
    }
}

static void random_takes_and_gives(void **unused)
{
    struct sh_span *spans[64] = {NULL};
    struct random random = {.state = 31337};
    for (int i = 0; i < 20000; i++) {
        size_t s = random_below(&random, 64);
        if (spans[s]) {
            sh_run_give(spans[s]);
            spans[s] = NULL;
        } else {
            size_t n = random_below(&random, 8) ? 16 : random_below(&random, 100) + 1;
            spans[s] = take(n, n % 16 ? PAGE : SH_SLOT_BYTES);
        }
        if (i % 256 == 0)
            check_area();
    }
    for (size_t s = 0; s < 64; s++)
        if (spans[s])
            sh_run_give(spans[s]);
    assert_all_free();
}

/* ---- Resizing ---- */

static void growing_takes_what_is_behind(void **unused)
{
    struct sh_span *span = take(10, PAGE);
    assert_true(sh_run_resize(span, 20));
    assert_int_equal(span->pages, 20);
    assert_int_equal(span->cell_size, 10 * PAGE); /* until the caller says so */
    check_area();
    assert_true(sh_run_resize(span, pages));
    assert_false(sh_run_resize(span, pages + 1));
    assert_int_equal(span->pages, pages);
    assert_true(sh_run_resize(span, 1));
    check_area();
    sh_run_give(span);
    assert_all_free();
}

static void growing_stops_at_a_neighbour(void **unused)
{
    struct sh_span *one = take(10, PAGE), *two = take(10, PAGE);
    struct sh_span *low = one->base < two->base ? one : two;
    struct sh_span *high = low == one ? two : one;
    assert_int_equal(low->base + 10 * PAGE, high->base);
    assert_false(sh_run_resize(low, 11));
    assert_int_equal(low->pages, 10);
    assert_true(sh_run_resize(high, 5));
    assert_true(sh_run_resize(low, 4));
    assert_true(sh_run_resize(low, 10));
    assert_false(sh_run_resize(low, 11));
    check_area();
    sh_run_give(one);
    sh_run_give(two);
    assert_all_free();
}

/* ---- Areas ---- */

static void areas_do_not_overlap(void **unused)
{
    uintptr_t stop = area_start + pages * PAGE;
    assert_int_equal(sh_area_add(area_start, stop, true), EEXIST);
    assert_int_equal(
        sh_area_add(area_start + PAGE, area_start + 2 * PAGE, true), EEXIST);
    assert_int_equal(sh_area_add(area_start - PAGE, area_start + PAGE, true), EEXIST);
    assert_int_equal(sh_area_add(stop - PAGE, stop + PAGE, true), EEXIST);
    assert_int_equal(sh_area_add(area_start - PAGE, stop + PAGE, true), EEXIST);
    assert_int_equal(total_pages(), pages);
    assert_all_free();
}

static void an_address_has_its_area(void **unused)
{
    sh_lock_acquire(&sh_heap_lock);
    struct sh_area *area = sh_area_of(area_start);
    struct sh_area *last = sh_area_of(area_start + pages * PAGE - 1);
    struct sh_area *below = sh_area_of(area_start - 1);
    struct sh_area *above = sh_area_of(area_start + pages * PAGE);
    sh_lock_release(&sh_heap_lock);
    assert_true(area && area == last && area->start == area_start && area->from_user);
    assert_true(!below && !above);
}

/* Runs of two areas that touch stay apart. */
static void areas_that_touch_do_not_merge(void **unused)
{
    uintptr_t both = (uintptr_t)sh_os_map(64 * PAGE, SH_SLOT_BYTES);
    size_t before = total_pages();
    assert_int_equal(sh_area_add(both, both + 37 * PAGE, true), 0);
    assert_int_equal(sh_area_add(both + 37 * PAGE, both + 64 * PAGE, true), 0);
    assert_int_equal(total_pages(), before + 64);
    assert_int_equal(sh_page_map_lookup(both)->pages, 37);
    assert_int_equal(sh_page_map_lookup(both + 37 * PAGE)->pages, 27);
    struct sh_span *rest = take(pages, PAGE);
    struct sh_span *one = take(20, PAGE), *two = take(27, PAGE);
    assert_non_null(rest);
    assert_true(one && two && !take(38, PAGE));
    sh_run_give(one);
    sh_run_give(two);
    assert_int_equal(sh_page_map_lookup(both)->pages, 37);
    assert_int_equal(sh_page_map_lookup(both + 63 * PAGE)->pages, 27);
    sh_run_give(rest);
}

static bool is_mapped(uintptr_t at)
{
    unsigned char residence;
    return mincore((void *)at, PAGE, &residence) == 0;
}

/* ---- Huge objects ---- */

static void a_huge_object_is_an_area(void **unused)
{
    size_t bytes = (size_t)64 << 20, before = total_pages();
    struct sh_span *span = sh_huge_map(bytes, PAGE, SH_KIND_SCAN);
    assert_non_null(span);
    assert_int_equal(span->state, SH_SPAN_HUGE);
    assert_int_equal(span->cell_size, bytes);
    assert_int_equal(total_pages(), before + bytes / PAGE);
    assert_ptr_equal(sh_page_map_lookup(span->base), span);
    assert_ptr_equal(sh_page_map_lookup(span->base + bytes - 1), span);
    assert_ptr_not_equal(sh_page_map_lookup(span->base + bytes), span);
    uintptr_t base = span->base;
    sh_run_give(span);
    assert_null(sh_page_map_lookup(base));
    assert_null(sh_page_map_lookup(base + bytes - 1));
    assert_false(is_mapped(base));
    assert_int_equal(total_pages(), before);
}

static void a_huge_object_is_aligned(void **unused)
{
    for (size_t align = SH_SLOT_BYTES; align <= (size_t)256 << 20; align *= 4) {
        struct sh_span *span = sh_huge_map((size_t)40 << 20, align, SH_KIND_EXPLICIT);
        assert_int_equal(span->base % align, 0);
        sh_run_give(span);
    }
}

static void a_huge_object_is_resized(void **unused)
{
    size_t mib = (size_t)1 << 20, before = total_pages();
    struct sh_span *span = sh_huge_map(64 * mib, PAGE, SH_KIND_EXPLICIT);
    unsigned char *p = (unsigned char *)span->base;
    fill(p, mib, 3);
    static const size_t sizes[] = {65, 200, 100, 40, 41, 300, 32};
    for (size_t i = 0; i < 7; i++) {
        uintptr_t old = span->base;
        assert_true(sh_huge_resize(span, sizes[i] * mib));
        p = (unsigned char *)span->base;
        assert_true(filled(p, mib, 3));
        assert_int_equal(span->cell_size, sizes[i] * mib);
        assert_int_equal(total_pages(), before + sizes[i] * mib / PAGE);
        assert_ptr_equal(sh_page_map_lookup(span->base), span);
        assert_ptr_equal(sh_page_map_lookup(span->base + sizes[i] * mib - 1), span);
        assert_ptr_not_equal(sh_page_map_lookup(span->base + sizes[i] * mib), span);
        if (old != span->base)
            assert_ptr_not_equal(sh_page_map_lookup(old), span);
    }
    sh_run_give(span);
    assert_int_equal(total_pages(), before);
}

static void too_huge_is_null(void **unused)
{
    size_t before = total_pages();
    assert_null(sh_huge_map((size_t)1 << 47, PAGE, SH_KIND_SCAN));
    assert_int_equal(total_pages(), before);
}

/* ---- Given back to the system ---- */

static bool is_resident(uintptr_t at)
{
    unsigned char residence = 0;
    return mincore((void *)at, PAGE, &residence) == 0 && (residence & 1);
}

/* Taken and touched, an area's pages go back, and read as zero. */
static void what_is_purged_is_clean(void **unused)
{
    size_t mib = (size_t)1 << 20, bytes = 256 * mib, most = bytes / PAGE - 256;
    uintptr_t area = (uintptr_t)sh_os_map(bytes, SH_SLOT_BYTES);
    assert_int_equal(sh_area_add(area, area + bytes, false), 0);
    struct sh_span *span = take(most, PAGE), *rest = take(256, PAGE);
    assert_true(rest->base >= area && rest->base < area + bytes);
    uintptr_t middle = span->base + 100 * mib;
    for (size_t i = 0; i < most; i++)
        *(volatile char *)(span->base + i * PAGE) = 1;
    assert_true(is_resident(middle));
    sh_run_give(span);
    assert_true(is_resident(middle));
    assert_true(sh_purge_dirty());
    assert_false(is_resident(middle));
    assert_int_equal(sh_load_relaxed(&sh_heap_counts.dirty_pages), 0);
    span = take(most, PAGE);
    assert_true(span->zeroed);
    assert_int_equal(*(volatile char *)middle, 0);
    sh_run_give(span);
    sh_run_give(rest);
    sh_purge_dirty();
}

static struct sh_span *behind(const struct sh_span *span)
{
    return sh_page_map_lookup(span->base + span->pages * PAGE);
}

/* Dirty pages and clean ones are runs of their own, and there for it together. */
static void growing_takes_several_runs(void **unused)
{
    size_t bytes = (size_t)512 << 20;
    uintptr_t area = (uintptr_t)sh_os_map(bytes, SH_SLOT_BYTES);
    assert_int_equal(sh_area_add(area, area + bytes, false), 0);
    struct sh_span *span = take(bytes / PAGE, PAGE), *first;
    assert_int_equal(span->base, area);
    assert_true(sh_run_resize(span, 10));
    sh_purge_dirty();
    assert_true(sh_run_resize(span, 15));
    assert_true(sh_run_resize(span, 10));
    first = behind(span);
    assert_true(!first->zeroed && first->pages == 5 && behind(first)->zeroed);
    assert_true(sh_run_resize(span, 30));
    assert_int_equal(span->pages, 30);
    assert_ptr_equal(sh_page_map_lookup(span->base + 29 * PAGE), span);
    assert_int_equal(behind(span)->base, area + 30 * PAGE);
    assert_int_equal(sh_load_relaxed(&sh_heap_counts.dirty_pages), 0);
    /* All or nothing: the last is too short. */
    assert_true(sh_run_resize(span, 20));
    assert_false(sh_run_resize(span, bytes / PAGE + 1));
    assert_int_equal(span->pages, 20);
    assert_int_equal(behind(span)->pages, 10);
    sh_run_give(span);
    sh_purge_dirty();
}

/* It goes as a whole where it can be spared. */
static void an_empty_area_goes_back(void **unused)
{
    size_t mib = (size_t)1 << 20, bytes = 128 * mib;
    size_t before = total_pages();
    uintptr_t area = (uintptr_t)sh_os_map(bytes, 512 * mib);
    assert_int_equal(sh_area_add(area, area + bytes, false), 0);
    struct sh_span *span = take(bytes / PAGE, 512 * mib);
    assert_non_null(span);
    assert_int_equal(span->base, area);
    sh_run_give(span);
    assert_true(total_pages() > before);
    sh_purge_dirty();
    assert_true(total_pages() <= before);
    assert_null(sh_page_map_lookup(area));
}

int main(void)
{
    stop_time();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_area_is_one_free_run),
        cmocka_unit_test(what_is_taken_is_described),
        cmocka_unit_test(a_small_span_has_its_cells),
        cmocka_unit_test(too_much_is_null),
        cmocka_unit_test(alignment_holds),
        cmocka_unit_test(fewer_pages_will_do),
        cmocka_unit_test(neighbours_merge),
        cmocka_unit_test(random_takes_and_gives),
        cmocka_unit_test(growing_takes_what_is_behind),
        cmocka_unit_test(growing_stops_at_a_neighbour),
        cmocka_unit_test(areas_do_not_overlap),
        cmocka_unit_test(an_address_has_its_area),
        cmocka_unit_test(a_huge_object_is_an_area),
        cmocka_unit_test(a_huge_object_is_aligned),
        cmocka_unit_test(a_huge_object_is_resized),
        cmocka_unit_test(too_huge_is_null),
        cmocka_unit_test(areas_that_touch_do_not_merge),
        cmocka_unit_test(what_is_purged_is_clean),
        cmocka_unit_test(growing_takes_several_runs),
        cmocka_unit_test(an_empty_area_goes_back),
    };
    return run_on_clean_stack(tests, begin, end);
}
