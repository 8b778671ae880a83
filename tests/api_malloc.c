/* SPDX-License-Identifier: MIT */
/* The malloc face by our own names, so that sanitizer builds test it as well. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {0, 1, 16, 17, 100, 1024, 4095, 4096, 4097, 32768, 32769,
    100000, 1 << 20, 32 << 20, (40 << 20) + 1};
#define SIZES (sizeof sizes / sizeof sizes[0])

static const size_t too_much[] = {
    SIZE_MAX, SIZE_MAX - 4096, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, PTRDIFF_MAX - 1};
#define TOO_MUCH (sizeof too_much / sizeof too_much[0])

/* ---- malloc ---- */

static void malloc_of_every_size(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        errno = EDOM;
        void *p = sh_malloc(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_true(sh_malloc_usable_size(p) >= sizes[i]);
        fill(p, sh_malloc_usable_size(p), 1);
        sh_free(p);
        assert_int_equal(errno, EDOM);
    }
}

static void malloc_of_0_gives_distinct_pointers(void **unused)
{
    void *p = sh_malloc(0), *q = sh_malloc(0), *r = sh_calloc(0, 8);
    assert_non_null(p);
    assert_non_null(q);
    assert_non_null(r);
    assert_true(p != q && q != r && p != r);
    sh_free(p);
    sh_free(q);
    sh_free(r);
}

static void malloc_of_too_much_sets_enomem(void **unused)
{
    for (size_t i = 0; i < TOO_MUCH; i++) {
        errno = 0;
        assert_null(sh_malloc(too_much[i]));
        assert_int_equal(errno, ENOMEM);
    }
}

/* ---- calloc ---- */

static void calloc_clears(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *dirt = sh_malloc(sizes[i]);
        fill(dirt, sh_malloc_usable_size(dirt), 1);
        sh_free(dirt);
        unsigned char *p = sh_calloc(sizes[i], 1);
        assert_true(all_zero(p, sizes[i]));
        sh_free(p);
        p = sh_calloc(1, sizes[i]);
        assert_true(all_zero(p, sizes[i]));
        sh_free(p);
    }
}

static void calloc_of_too_much_sets_enomem(void **unused)
{
    static const size_t pairs[][2] = {{SIZE_MAX, 2}, {2, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX}, {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, (size_t)1 << 32}, {PTRDIFF_MAX, 1},
        {1, (size_t)PTRDIFF_MAX + 1}, {SIZE_MAX / 2 + 2, 2}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        errno = 0;
        assert_null(sh_calloc(pairs[i][0], pairs[i][1]));
        assert_int_equal(errno, ENOMEM);
    }
}

/* ---- realloc, reallocarray ---- */

static void realloc_keeps_contents(void **unused)
{
    for (size_t i = 1; i < SIZES; i++) {
        for (size_t j = 1; j < SIZES; j++) {
            void *p = sh_malloc(sizes[i]);
            fill(p, sizes[i], 4);
            void *q = sh_realloc(p, sizes[j]);
            assert_non_null(q);
            assert_true(sh_malloc_usable_size(q) >= sizes[j]);
            assert_true(filled(q, sh_min(sizes[i], sizes[j]), 4));
            sh_free(q);
        }
    }
}

static void realloc_of_null_allocates_and_to_0_frees(void **unused)
{
    void *p = sh_realloc(NULL, 10);
    assert_true(sh_malloc_usable_size(p) >= 10);
    assert_null(sh_realloc(p, 0));
    assert_int_equal(gc_nbytes(p), 0);
    p = sh_realloc(NULL, 0);
    assert_non_null(p);
    sh_free(p);
}

static void realloc_to_too_much_leaves_it(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = sh_malloc(sizes[i]);
        fill(p, sizes[i], 8);
        for (size_t t = 0; t < TOO_MUCH; t++) {
            errno = 0;
            assert_null(sh_realloc(p, too_much[t]));
            assert_int_equal(errno, ENOMEM);
        }
        assert_true(filled(p, sizes[i], 8));
        sh_free(p);
    }
}

/* A vector that is pushed to: contents hold, and growing gets rarer. */
static void realloc_step_by_step(void **unused)
{
    unsigned char *p = NULL;
    for (size_t bytes = 1; bytes < 3 * MIB; bytes += bytes / 16 + 1) {
        p = sh_realloc(p, bytes);
        assert_non_null(p);
        p[bytes - 1] = (unsigned char)bytes;
        assert_int_equal(p[0], 1);
    }
    for (size_t bytes = 2 * MIB; bytes > 0; bytes -= bytes / 16 + 1) {
        p = sh_realloc(p, bytes);
        assert_int_equal(p[0], 1);
    }
    sh_free(p);
}

static void reallocarray_multiplies(void **unused)
{
    void *p = sh_reallocarray(NULL, 10, 100);
    assert_true(sh_malloc_usable_size(p) >= 1000);
    fill(p, 1000, 2);
    p = sh_reallocarray(p, 1000, 100);
    assert_true(sh_malloc_usable_size(p) >= 100000 && filled(p, 1000, 2));
    errno = 0;
    assert_null(sh_reallocarray(p, SIZE_MAX, 2));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(sh_reallocarray(p, (size_t)1 << 32, (size_t)1 << 32));
    assert_int_equal(errno, ENOMEM);
    assert_true(filled(p, 1000, 2));
    sh_free(p);
}

/* ---- Alignment ---- */

static void check_aligned(void *p, size_t alignment, size_t size)
{
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % alignment, 0);
    assert_true(sh_malloc_usable_size(p) >= size);
    fill(p, size, 6);
}

static void every_alignment_of_every_size(void **unused)
{
    for (size_t alignment = sizeof(void *); alignment <= 2 * MIB; alignment *= 2) {
        for (size_t i = 0; i < SIZES; i++) {
            void *p = NULL, *held = sh_malloc(16);
            errno = EDOM;
            assert_int_equal(sh_posix_memalign(&p, alignment, sizes[i]), 0);
            assert_int_equal(errno, EDOM);
            check_aligned(p, alignment, sizes[i]);
            void *q = sh_aligned_alloc(alignment, sizes[i]);
            check_aligned(q, alignment, sizes[i]);
            void *r = sh_memalign(alignment, sizes[i]);
            check_aligned(r, alignment, sizes[i]);
            assert_true(filled(p, sizes[i], 6));
            sh_free(p);
            sh_free(q);
            sh_free_aligned_sized(r, alignment, sizes[i]);
            sh_free(held);
        }
    }
}

static void many_of_an_alignment_at_once(void **unused)
{
    static void *at[64];
    for (size_t alignment = 16; alignment <= 64 * KIB; alignment *= 2) {
        for (size_t i = 0; i < 64; i++) {
            at[i] = sh_memalign(alignment, alignment / 2 + i);
            check_aligned(at[i], alignment, alignment / 2 + i);
        }
        for (size_t i = 0; i < 64; i++) {
            assert_true(filled(at[i], alignment / 2 + i, 6));
            sh_free(at[i]);
        }
    }
}

static void bad_alignments_are_refused(void **unused)
{
    static const size_t bad[] = {0, 3, 5, 12, 24, 100, SIZE_MAX, PTRDIFF_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        void *p = &p;
        errno = EDOM;
        assert_int_equal(sh_posix_memalign(&p, bad[i], 16), EINVAL);
        assert_int_equal(errno, EDOM);
        assert_ptr_equal(p, &p);
        assert_null(sh_aligned_alloc(bad[i], 16));
        assert_int_equal(errno, EINVAL);
        errno = EDOM;
        assert_null(sh_memalign(bad[i], 16));
        assert_int_equal(errno, EINVAL);
    }
    /* Powers of two that are too small for posix_memalign alone. */
    for (size_t small = 1; small < sizeof(void *); small *= 2) {
        void *p;
        assert_int_equal(sh_posix_memalign(&p, small, 16), EINVAL);
        p = sh_memalign(small, 16);
        assert_non_null(p);
        sh_free(p);
    }
}

static void aligned_too_much_is_refused(void **unused)
{
    for (size_t i = 0; i < TOO_MUCH; i++) {
        void *p = &p;
        errno = EDOM;
        assert_int_equal(sh_posix_memalign(&p, 4096, too_much[i]), ENOMEM);
        assert_int_equal(errno, EDOM);
        assert_ptr_equal(p, &p);
        assert_null(sh_aligned_alloc(16, too_much[i]));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(sh_memalign(2 * MIB, too_much[i]));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(sh_valloc(too_much[i]));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(sh_pvalloc(too_much[i]));
        assert_int_equal(errno, ENOMEM);
    }
    for (size_t shift = 47; shift < 64; shift++) {
        errno = 0;
        assert_null(sh_memalign((size_t)1 << shift, 1));
        assert_int_equal(errno, ENOMEM);
    }
}

static void pages(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = sh_valloc(sizes[i]);
        check_aligned(p, 4096, sizes[i]);
        sh_free(p);
        p = sh_pvalloc(sizes[i]);
        check_aligned(p, 4096, sh_round_up(sh_max(sizes[i], 1), 4096));
        sh_free(p);
    }
}

/* What was aligned may be resized; the contents come along. */
static void aligned_memory_is_resized(void **unused)
{
    for (size_t alignment = 32; alignment <= 2 * MIB; alignment *= 4) {
        void *p = sh_memalign(alignment, 1000);
        fill(p, 1000, 7);
        p = sh_realloc(p, 300000);
        assert_true(filled(p, 1000, 7));
        p = sh_realloc(p, 500);
        assert_true(filled(p, 500, 7));
        sh_free(p);
    }
}

/* ---- free and its sisters ---- */

static void free_keeps_errno(void **unused)
{
    sh_free(NULL);
    for (size_t i = 0; i < SIZES; i++) {
        void *p = sh_malloc(sizes[i]), *q = sh_malloc(sizes[i]);
        void *r = sh_malloc(sizes[i]);
        errno = EDOM;
        sh_free(p);
        assert_int_equal(errno, EDOM);
        sh_free_sized(q, sizes[i]);
        assert_int_equal(errno, EDOM);
        sh_free_aligned_sized(r, 16, sizes[i]);
        assert_int_equal(errno, EDOM);
    }
}

static void sized_frees_of_null(void **unused)
{
    sh_free_sized(NULL, 100);
    sh_free_aligned_sized(NULL, 64, 100);
    assert_int_equal(sh_malloc_usable_size(NULL), 0);
}

static void *free_all(void *arg)
{
    void **at = arg;
    for (size_t i = 0; i < SIZES; i++) {
        errno = EDOM;
        sh_free(at[i]);
        MUST(errno == EDOM);
    }
    return NULL;
}

static void another_thread_frees(void **unused)
{
    size_t before = 0;
    for (int round = 0; round < 20; round++) {
        void *at[SIZES];
        for (size_t i = 0; i < SIZES; i++)
            at[i] = sh_malloc(sizes[i]);
        in_thread(free_all, at);
        for (size_t i = 0; i < SIZES; i++)
            assert_int_equal(gc_nbytes(at[i]), 0);
        if (round == 5)
            before = used_bytes();
    }
    assert_true(used_bytes() <= before);
}

/* ---- Collections ---- */

static void malloced_memory_is_never_collected(void **unused)
{
    static uintptr_t hidden[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        void *p = sh_malloc(sizes[i]);
        fill(p, sizes[i], (unsigned)i);
        hidden[i] = hide(p);
    }
    clear_stack();
    for (int round = 0; round < 3; round++)
        gc_collect();
    gc_sweep_all();
    for (size_t i = 0; i < SIZES; i++) {
        assert_true(filled(reveal(hidden[i]), sizes[i], (unsigned)i));
        sh_free(reveal(hidden[i]));
    }
}

static void malloc_works_inside_gc_lock(void **unused)
{
    gc_lock();
    for (size_t i = 0; i < SIZES; i++) {
        void *p = sh_malloc(sizes[i]);
        assert_non_null(p);
        p = sh_realloc(p, sizes[i] + 1000);
        assert_non_null(p);
        sh_free(p);
        assert_int_equal(gc_nbytes(p), 0);
    }
    gc_unlock();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malloc_of_every_size),
        cmocka_unit_test(malloc_of_0_gives_distinct_pointers),
        cmocka_unit_test(malloc_of_too_much_sets_enomem),
        cmocka_unit_test(calloc_clears),
        cmocka_unit_test(calloc_of_too_much_sets_enomem),
        cmocka_unit_test(realloc_keeps_contents),
        cmocka_unit_test(realloc_of_null_allocates_and_to_0_frees),
        cmocka_unit_test(realloc_to_too_much_leaves_it),
        cmocka_unit_test(realloc_step_by_step),
        cmocka_unit_test(reallocarray_multiplies),
        cmocka_unit_test(every_alignment_of_every_size),
        cmocka_unit_test(many_of_an_alignment_at_once),
        cmocka_unit_test(bad_alignments_are_refused),
        cmocka_unit_test(aligned_too_much_is_refused),
        cmocka_unit_test(pages),
        cmocka_unit_test(aligned_memory_is_resized),
        cmocka_unit_test(free_keeps_errno),
        cmocka_unit_test(sized_frees_of_null),
        cmocka_unit_test(another_thread_frees),
        cmocka_unit_test(malloced_memory_is_never_collected),
        cmocka_unit_test(malloc_works_inside_gc_lock),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
