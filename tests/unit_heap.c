/* SPDX-License-Identifier: MIT */
/* heaps/heap.h: cells of any kind, size and alignment, and what starts where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "heaps/page_map.h"
#include "heaps/tables.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {
    0, 1, 16, 17, 1000, 4096, 32768, 32769, 100000, MIB, SH_HUGE_MIN - 1, SH_HUGE_MIN};
#define SIZES (sizeof sizes / sizeof sizes[0])

static void *allocate(size_t bytes, size_t align, enum sh_kind kind, bool zero)
{
    struct sh_request request = {
        .bytes = bytes, .align = align, .kind = kind, .zero = zero};
    return sh_heap_alloc(&request);
}

static enum sh_span_state expected_state(size_t bytes)
{
    if (bytes <= SH_SMALL_MAX)
        return SH_SPAN_SMALL;
    return bytes < SH_HUGE_MIN ? SH_SPAN_LARGE : SH_SPAN_HUGE;
}

static void every_request_is_met_as_asked(void **unused)
{
    for (unsigned kind = 0; kind < SH_KIND_COUNT; kind++) {
        for (size_t i = 0; i < SIZES; i++) {
            errno = EDOM;
            void *p = allocate(sizes[i], 0, (enum sh_kind)kind, i % 2);
            assert_non_null(p);
            assert_int_equal(errno, EDOM);
            struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
            assert_int_equal(span->kind, kind);
            assert_int_equal(span->state, expected_state(sizes[i]));
            assert_true(sh_heap_usable(p, "test") >= sizes[i]);
            if (i % 2)
                assert_true(all_zero(p, sh_heap_usable(p, "test")));
            fill(p, sizes[i], 1);
            sh_heap_free(p, "test");
        }
    }
}

static void every_alignment_is_kept(void **unused)
{
    for (size_t align = 1; align <= 64 * MIB; align *= 2) {
        for (size_t i = 0; i < SIZES; i++) {
            void *p = allocate(sizes[i], align, SH_KIND_EXPLICIT, false);
            assert_int_equal((uintptr_t)p % align, 0);
            assert_true(sh_heap_usable(p, "test") >= sizes[i]);
            sh_heap_free(p, "test");
        }
    }
}

static void too_much_is_enomem(void **unused)
{
    static const size_t much[][2] = {{SIZE_MAX, 0}, {(size_t)PTRDIFF_MAX + 1, 0},
        {PTRDIFF_MAX, 0}, {1, (size_t)1 << 62}, {1, (size_t)1 << 63},
        {PTRDIFF_MAX - 4096, 8192}, {(size_t)1 << 47, 16}, {16, (size_t)1 << 47}};
    for (size_t i = 0; i < sizeof much / sizeof much[0]; i++) {
        errno = 0;
        assert_null(allocate(much[i][0], much[i][1], SH_KIND_EXPLICIT, false));
        assert_int_equal(errno, ENOMEM);
    }
}

static void what_starts_at_an_address_is_found(void **unused)
{
    struct sh_cell cell;
    for (size_t i = 0; i < SIZES; i++) {
        char *p = allocate(sizes[i], 0, SH_KIND_SCAN, false);
        char *held = allocate(sizes[i], 0, SH_KIND_SCAN, false);
        assert_int_equal(sh_cell_find(p, &cell), SH_FOUND_LIVE);
        assert_ptr_equal((void *)sh_span_cell(cell.span, cell.index), p);
        assert_int_equal(sh_cell_find(p + 1, &cell), SH_FOUND_INTERIOR);
        assert_int_equal(sh_cell_find(p + 8, &cell), SH_FOUND_INTERIOR);
        sh_heap_free(p, "test");
        enum sh_found dead = sh_cell_find(p, &cell);
        assert_int_equal(
            dead, sizes[i] <= SH_SMALL_MAX ? SH_FOUND_DEAD : SH_FOUND_NOWHERE);
        sh_heap_free(held, "test");
    }
    assert_int_equal(sh_cell_find(NULL, &cell), SH_FOUND_NOWHERE);
    assert_int_equal(sh_cell_find(&cell, &cell), SH_FOUND_NOWHERE);
    assert_int_equal(sh_cell_find((void *)UINTPTR_MAX, &cell), SH_FOUND_NOWHERE);
}

static void freeing_keeps_errno(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = allocate(sizes[i], 0, SH_KIND_LEAF, false);
        errno = EDOM;
        sh_heap_free(p, "test");
        assert_int_equal(errno, EDOM);
    }
}

/* What these tests fill objects with is no type. */
GC_PUBLIC void gc_mark_object(void *object, size_t n_bytes, struct gc_marker *marker)
{
    (void)object;
    (void)n_bytes;
    (void)marker;
}

static void resizing_keeps_kind_and_bits(void **unused)
{
    for (unsigned kind = SH_KIND_SCAN; kind < SH_KIND_COUNT; kind++) {
        for (size_t i = 1; i < SIZES; i++) {
            for (size_t j = 1; j < SIZES; j++) {
                void *p = allocate(sizes[i], 0, (enum sh_kind)kind, false);
                fill(p, sizes[i], 2);
                assert_true(sh_object_set_final(p));
                errno = EDOM;
                void *q = sh_heap_resize(p, sizes[j], true, "test");
                assert_non_null(q);
                assert_int_equal(errno, EDOM);
                assert_true(filled(q, sh_min(sizes[i], sizes[j]), 2));
                struct sh_cell cell;
                assert_int_equal(sh_cell_find(q, &cell), SH_FOUND_LIVE);
                assert_int_equal(cell.span->kind, kind);
                assert_true(sh_table_test(cell, &cell.span->final_bits));
                sh_heap_free(q, "test");
                assert_int_not_equal(sh_cell_find(q, &cell), SH_FOUND_LIVE);
            }
        }
    }
}

/* Half of a cell at least is kept in use: what gets far smaller moves. */
static void shrinking_gives_memory_back(void **unused)
{
    static const size_t large[] = {1000, 32768, 100000, MIB, SH_HUGE_MIN};
    for (size_t i = 0; i < 5; i++) {
        void *p = allocate(large[i], 0, SH_KIND_EXPLICIT, false);
        p = sh_heap_resize(p, 100, true, "test");
        assert_true(sh_heap_usable(p, "test") <= 200);
        sh_heap_free(p, "test");
    }
    void *p = allocate(100, 0, SH_KIND_EXPLICIT, false);
    assert_ptr_equal(sh_heap_resize(p, 60, true, "test"), p);
    assert_ptr_equal(sh_heap_resize(p, 1, false, "test"), p);
    sh_heap_free(p, "test");
}

static void only_live_objects_get_a_final_bit(void **unused)
{
    char *p = allocate(100, 0, SH_KIND_SCAN, false);
    assert_false(sh_object_set_final(p + 16));
    assert_false(sh_object_set_final(NULL));
    assert_true(sh_object_set_final(p));
    assert_true(sh_object_set_final(p));
    sh_heap_free(p, "test");
    assert_false(sh_object_set_final(p));
}

/* One that is being born or past its end is served all the same. */
static pthread_key_t key;
static void *of_last_round;

static void use_late(void *round)
{
    if ((uintptr_t)round < 6 &&
        pthread_setspecific(key, (void *)((uintptr_t)round + 1)) == 0 &&
        (uintptr_t)round < 3)
        return;
    if (of_last_round)
        sh_heap_free(of_last_round, "test");
    of_last_round = allocate(100, 0, SH_KIND_EXPLICIT, true);
    MUST(of_last_round && all_zero(of_last_round, 100));
}

static void *end_slowly(void *unused)
{
    MUST(gc_thread_register() == 0);
    MUST(pthread_setspecific(key, (void *)1) == 0);
    return NULL;
}

/* The thread sanitizer knows a thread no more in its last round. */
static void a_thread_past_its_end_is_served(void **unused)
{
    if (SH_TSAN)
        skip();
    assert_int_equal(pthread_key_create(&key, use_late), 0);
    for (int i = 0; i < 20; i++)
        in_thread(end_slowly, NULL);
    assert_true(sh_heap_usable(of_last_round, "test") >= 100);
    sh_heap_free(of_last_round, "test");
    pthread_key_delete(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_is_met_as_asked),
        cmocka_unit_test(every_alignment_is_kept),
        cmocka_unit_test(too_much_is_enomem),
        cmocka_unit_test(what_starts_at_an_address_is_found),
        cmocka_unit_test(freeing_keeps_errno),
        cmocka_unit_test(resizing_keeps_kind_and_bits),
        cmocka_unit_test(shrinking_gives_memory_back),
        cmocka_unit_test(only_live_objects_get_a_final_bit),
        cmocka_unit_test(a_thread_past_its_end_is_served),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
