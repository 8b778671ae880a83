/* SPDX-License-Identifier: MIT */
/* heaps/huge.h: objects with a mapping of their own, as allocated, resized and freed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/huge.h"
#include "heaps/page_map.h"
#include "tests/spans.h"

#define MIB ((size_t)1 << 20)

static size_t limit = SIZE_MAX;

size_t gc_get_max_new_split(void)
{
    return limit;
}

static int begin(void **unused)
{
    return give_area(128 * MIB);
}

static int without_limit(void **unused)
{
    limit = SIZE_MAX;
    return 0;
}

static struct sh_span *span_of(const void *p)
{
    return sh_page_map_lookup((uintptr_t)p);
}

static bool is_mapped(const void *p)
{
    unsigned char residence;
    uintptr_t page = sh_round_down((uintptr_t)p, SH_PAGE_SIZE);
    return mincore((void *)page, SH_PAGE_SIZE, &residence) == 0;
}

static size_t total_bytes(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages) * SH_PAGE_SIZE;
}

static void from_the_least_size_on_it_has_its_own_mapping(void **unused)
{
    size_t before = total_bytes();
    char *large = sh_malloc(SH_HUGE_MIN - 1), *huge = sh_malloc(SH_HUGE_MIN);
    assert_int_equal(span_of(large)->state, SH_SPAN_LARGE);
    assert_int_equal(span_of(huge)->state, SH_SPAN_HUGE);
    assert_int_equal(total_bytes(), before + SH_HUGE_MIN);
    assert_int_equal(span_of(huge)->base, (uintptr_t)huge);
    assert_int_equal((uintptr_t)huge % SH_SLOT_BYTES, 0);
    assert_ptr_equal(span_of(huge + SH_HUGE_MIN - 1), span_of(huge));
    assert_false(span_of(huge)->area->from_user);
    sh_free(large);
    sh_free(huge);
    assert_int_equal(total_bytes(), before);
}

static void freed_it_is_gone(void **unused)
{
    for (int kind = 0; kind < 3; kind++) {
        size_t bytes = 40 * MIB;
        char *p = kind == SH_KIND_EXPLICIT ? sh_malloc(bytes)
                  : kind == SH_KIND_SCAN   ? gc_alloc(bytes, 0)
                                           : gc_alloc(bytes, GC_ALLOC_FLAG_LEAF);
        assert_int_equal(span_of(p)->kind, kind);
        assert_true(is_mapped(p) && is_mapped(p + bytes - 1));
        sh_free(p);
        assert_false(is_mapped(p) || is_mapped(p + bytes - 1));
        assert_null(span_of(p));
        assert_null(span_of(p + bytes - 1));
        assert_int_equal(gc_nbytes(p), 0);
    }
}

/* In whole slots, which are usable. */
static void sizes_are_rounded_up(void **unused)
{
    char *p = sh_malloc(SH_HUGE_MIN + 1);
    assert_int_equal(sh_malloc_usable_size(p), SH_HUGE_MIN + SH_SLOT_BYTES);
    p[SH_HUGE_MIN + SH_SLOT_BYTES - 1] = 1;
    p = sh_realloc(p, SH_HUGE_MIN + SH_SLOT_BYTES + 1);
    assert_int_equal(sh_malloc_usable_size(p), SH_HUGE_MIN + 2 * SH_SLOT_BYTES);
    assert_int_equal(p[SH_HUGE_MIN + SH_SLOT_BYTES - 1], 1);
    sh_free(p);
}

static void it_is_in_the_list_of_spans_once(void **unused)
{
    char *p = sh_malloc(40 * MIB);
    for (size_t bytes = 50 * MIB; bytes <= 200 * MIB; bytes *= 2) {
        size_t count = 0;
        for (struct sh_span *at = sh_span_first(); at; at = at->all_next)
            count += at == span_of(p);
        assert_int_equal(count, 1);
        struct sh_span *span = span_of(p);
        p = sh_realloc(p, bytes);
        assert_ptr_equal(span_of(p), span);
    }
    struct sh_span *span = span_of(p);
    sh_free(p);
    for (struct sh_span *at = sh_span_first(); at; at = at->all_next)
        assert_ptr_not_equal(at, span);
}

static void what_grew_is_cleared_for_the_collector(void **unused)
{
    char *p = gc_alloc(40 * MIB, 0);
    memset(p + 39 * MIB, 1, MIB);
    p = gc_realloc(p, 90 * MIB, true);
    assert_int_equal(gc_nbytes(p), 90 * MIB);
    assert_true(uniform((unsigned char *)p + 39 * MIB, MIB, 1));
    assert_true(all_zero(p + 40 * MIB, 50 * MIB));
    /* Cut off and grown again, too. */
    memset(p + 60 * MIB, 2, MIB);
    p = gc_realloc(p, 50 * MIB, true);
    p = gc_realloc(p, 90 * MIB, true);
    assert_true(all_zero(p + 50 * MIB, 40 * MIB));
    gc_free(p);
}

static void without_moving_it_stays_as_it_is(void **unused)
{
    char *p = gc_alloc(40 * MIB, 0);
    assert_null(gc_realloc(p, 80 * MIB, false));
    assert_ptr_equal(gc_realloc(p, 39 * MIB, false), p);
    assert_int_equal(gc_nbytes(p), 40 * MIB);
    gc_free(p);
}

/* Without leave to map, an area of the user's has to do. */
static void the_limit_is_kept(void **unused)
{
    limit = 40 * MIB - 1;
    char *p = gc_alloc(40 * MIB, 0);
    assert_int_equal(span_of(p)->state, SH_SPAN_LARGE);
    assert_true(span_of(p)->area->from_user);
    gc_free(p);
    limit = 40 * MIB;
    p = gc_alloc(40 * MIB, 0);
    assert_int_equal(span_of(p)->state, SH_SPAN_HUGE);
    /* To grow is to map what is more. */
    limit = 10 * MIB;
    p = gc_realloc(p, 50 * MIB, true);
    assert_int_equal(span_of(p)->state, SH_SPAN_HUGE);
    assert_int_equal(gc_nbytes(p), 50 * MIB);
    gc_free(p);
}

static void made_small_it_moves_into_a_cell(void **unused)
{
    size_t before = total_bytes();
    char *p = sh_malloc(40 * MIB);
    fill(p, 5000, 77);
    p = sh_realloc(p, 5000);
    assert_int_equal(span_of(p)->state, SH_SPAN_SMALL);
    assert_true(filled(p, 5000, 77));
    assert_int_equal(total_bytes(), before);
    sh_free(p);
}

/* What cannot be mapped leaves the object, and no trace. */
static void what_is_too_huge_is_refused(void **unused)
{
    size_t before = total_bytes();
    char *p = sh_malloc(40 * MIB);
    fill(p, 5000, 78);
    errno = 0;
    assert_null(sh_realloc(p, (size_t)1 << 47));
    assert_int_equal(errno, ENOMEM);
    assert_true(filled(p, 5000, 78));
    assert_int_equal(sh_malloc_usable_size(p), 40 * MIB);
    assert_int_equal(total_bytes(), before + 40 * MIB);
    sh_free(p);
}

#define HUGE_TEST(function) cmocka_unit_test_setup(function, without_limit)

int main(void)
{
    stop_time();
    const struct CMUnitTest tests[] = {
        HUGE_TEST(from_the_least_size_on_it_has_its_own_mapping),
        HUGE_TEST(freed_it_is_gone),
        HUGE_TEST(sizes_are_rounded_up),
        HUGE_TEST(it_is_in_the_list_of_spans_once),
        HUGE_TEST(what_grew_is_cleared_for_the_collector),
        HUGE_TEST(without_moving_it_stays_as_it_is),
        HUGE_TEST(the_limit_is_kept),
        HUGE_TEST(made_small_it_moves_into_a_cell),
        HUGE_TEST(what_is_too_huge_is_refused),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
