/* SPDX-License-Identifier: MIT */
/* gc.h's objects: gc_alloc, gc_free, gc_nbytes, gc_realloc. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/page_map.h"
#include "tests/heap.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Of every storey: small, large, huge, and their edges. */
static const size_t sizes[] = {1, 8, 15, 16, 17, 31, 32, 33, 48, 100, 128, 129, 144,
    255, 256, 257, 1000, 4 * KIB - 1, 4 * KIB, 4 * KIB + 1, 32 * KIB - 1, 32 * KIB,
    32 * KIB + 1, 100000, MIB, 3 * MIB + 1, 32 * MIB - 1, 32 * MIB, 40 * MIB + 5};
#define SIZES (sizeof sizes / sizeof sizes[0])

/* Fewer, to go from each to each. */
static const size_t steps[] = {1, 16, 17, 100, 1000, 4 * KIB, 32 * KIB, 32 * KIB + 1,
    100000, MIB, 33 * MIB, 40 * MIB};
#define STEPS (sizeof steps / sizeof steps[0])

static bool kind_is(const void *p, enum sh_kind kind)
{
    return sh_page_map_lookup((uintptr_t)p)->kind == kind;
}

/* ---- gc_alloc ---- */

static void a_zero_size_gives_null(void **unused)
{
    errno = EDOM;
    assert_null(gc_alloc(0, 0));
    assert_null(gc_alloc(0, GC_ALLOC_FLAG_LEAF));
    assert_null(gc_alloc(0, GC_ALLOC_FLAG_HAS_FINALISER));
    assert_int_equal(errno, EDOM);
}

static void a_block_is_16_bytes(void **unused)
{
    assert_int_equal(GC_BYTES_PER_BLOCK, 16);
    static const size_t blocks[][2] = {{1, 1}, {16, 1}, {17, 2}, {32, 2}, {33, 3}};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(gc_nbytes(gc_alloc(blocks[i][0], 0)), blocks[i][1] * 16);
}

static void of_every_size_usable_aligned_cleared(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        errno = EDOM;
        void *p = gc_alloc(sizes[i], 0);
        assert_non_null(p);
        assert_int_equal(errno, EDOM);
        assert_int_equal((uintptr_t)p % 16, 0);
        size_t usable = gc_nbytes(p);
        assert_true(usable >= sizes[i]);
        assert_true(all_zero(p, usable));
        memset(p, 0xff, usable);
        gc_free(p);
        assert_int_equal(gc_nbytes(p), 0);
    }
}

/* An eighth at most up to a page, then a quarter; exact pages where it gets a run. */
static void little_is_wasted(void **unused)
{
    for (size_t size = 1; size <= 40 * KIB; size++) {
        void *p = gc_alloc(size, 0);
        size_t usable = gc_nbytes(p);
        assert_true(usable >= size);
        assert_true(usable < size + 16 ||
                    usable - size <= size / (size <= 4096 ? 8 : 4) || size > 32 * KIB);
        assert_true(usable < size + 4 * KIB);
        gc_free(p);
    }
}

static void powers_of_two_are_naturally_aligned(void **unused)
{
    for (size_t size = 16; size <= 32 * KIB; size *= 2)
        for (int i = 0; i < 100; i++)
            assert_int_equal((uintptr_t)gc_alloc(size, 0) % sh_min(size, 4 * KIB), 0);
}

/* What a dead object left there is not seen: by the fast path and the slow. */
static void a_cell_used_again_is_cleared(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        size_t rounds = sizes[i] < MIB ? 300 : 2;
        for (size_t round = 0; round < rounds; round++) {
            void *p = gc_alloc(sizes[i], 0);
            assert_true(all_zero(p, gc_nbytes(p)));
            memset(p, 0xa5, gc_nbytes(p));
            gc_free(p);
        }
    }
}

static void too_much_gives_null_and_enomem(void **unused)
{
    static const size_t too_much[] = {SIZE_MAX, SIZE_MAX - 4096,
        (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, PTRDIFF_MAX - 1, (size_t)1 << 47};
    static const unsigned flags[] = {0, GC_ALLOC_FLAG_LEAF, GC_ALLOC_FLAG_HAS_FINALISER,
        GC_ALLOC_FLAG_LEAF | GC_ALLOC_FLAG_HAS_FINALISER};
    for (size_t i = 0; i < sizeof too_much / sizeof too_much[0]; i++) {
        for (size_t f = 0; f < 4; f++) {
            errno = 0;
            assert_null(gc_alloc(too_much[i], flags[f]));
            assert_int_equal(errno, ENOMEM);
        }
    }
}

static void each_flag_has_its_kind(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *scan = gc_alloc(sizes[i], 0);
        void *leaf = gc_alloc(sizes[i], GC_ALLOC_FLAG_LEAF);
        void *both =
            gc_alloc(sizes[i], GC_ALLOC_FLAG_LEAF | GC_ALLOC_FLAG_HAS_FINALISER);
        assert_true(kind_is(scan, SH_KIND_SCAN));
        assert_true(kind_is(leaf, SH_KIND_LEAF));
        assert_true(kind_is(both, SH_KIND_LEAF));
        assert_null(*(void **)both);
        gc_free(scan);
        gc_free(leaf);
        gc_free(both);
    }
}

static void live_objects_do_not_overlap(void **unused)
{
    static unsigned char *at[4000];
    static size_t bytes[4000];
    struct random random = {.state = 4711};
    for (unsigned i = 0; i < 4000; i++) {
        bytes[i] = random_below(&random, 600) + 1;
        at[i] = gc_alloc(bytes[i], i % 2 ? GC_ALLOC_FLAG_LEAF : 0);
        fill(at[i], bytes[i], i);
    }
    for (unsigned i = 0; i < 4000; i++) {
        assert_true(filled(at[i], bytes[i], i));
        gc_free(at[i]);
    }
}

/* ---- gc_free ---- */

static void freeing_null_does_nothing(void **unused)
{
    errno = EDOM;
    gc_free(NULL);
    assert_int_equal(errno, EDOM);
}

static void freeing_keeps_errno(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = gc_alloc(sizes[i], 0);
        errno = EDOM;
        gc_free(p);
        assert_int_equal(errno, EDOM);
    }
}

static void freed_memory_is_used_again(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        size_t before = used_bytes();
        for (int round = 0; round < 100; round++)
            gc_free(gc_alloc(sizes[i], 0));
        assert_true(used_bytes() <= before);
    }
}

static void either_face_frees_what_the_other_made(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = sh_malloc(sizes[i]);
        assert_true(gc_nbytes(p) >= sizes[i]);
        gc_free(p);
        assert_int_equal(gc_nbytes(p), 0);
        p = gc_alloc(sizes[i], 0);
        sh_free(p);
        assert_int_equal(gc_nbytes(p), 0);
    }
}

/* ---- gc_nbytes ---- */

static void no_live_object_has_0_bytes(void **unused)
{
    char local;
    static char data[32];
    char *small = gc_alloc(100, 0), *large = gc_alloc(MIB, 0), *huge;
    huge = gc_alloc(40 * MIB, 0);
    assert_int_equal(gc_nbytes(NULL), 0);
    assert_int_equal(gc_nbytes(&local), 0);
    assert_int_equal(gc_nbytes(data), 0);
    assert_int_equal(gc_nbytes((void *)(uintptr_t)no_live_object_has_0_bytes), 0);
    for (uintptr_t high = 1; high; high <<= 1) {
        assert_int_equal(gc_nbytes((void *)~high), 0);
        assert_int_equal(gc_nbytes((void *)(high | 1)), 0);
    }
    static const size_t inside[] = {1, 8, 16, 64, 4096};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(gc_nbytes(small + inside[i]), 0);
        assert_int_equal(gc_nbytes(large + inside[i]), 0);
        assert_int_equal(gc_nbytes(huge + inside[i]), 0);
    }
    assert_int_equal(gc_nbytes(small - 1), 0);
    assert_int_equal(gc_nbytes(huge + 40 * MIB - 1), 0);
    if (huge + 40 * MIB != large)
        assert_int_equal(gc_nbytes(huge + 40 * MIB), 0);
    gc_free(small);
    gc_free(large);
    gc_free(huge);
    assert_int_equal(gc_nbytes(small), 0);
    assert_int_equal(gc_nbytes(large), 0);
    assert_int_equal(gc_nbytes(huge), 0);
}

/* ---- gc_realloc ---- */

static void resizing_null_allocates(void **unused)
{
    void *p = gc_realloc(NULL, 100, false);
    assert_true(gc_nbytes(p) >= 100);
    assert_true(kind_is(p, SH_KIND_SCAN));
    assert_true(all_zero(p, gc_nbytes(p)));
    assert_null(gc_realloc(NULL, 0, true));
}

static void resizing_to_0_frees(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = gc_alloc(sizes[i], 0);
        assert_null(gc_realloc(p, 0, i % 2));
        assert_int_equal(gc_nbytes(p), 0);
    }
}

static void resize(size_t from, size_t to, unsigned flags)
{
    unsigned char *p = gc_alloc(from, flags);
    size_t kept = sh_min(from, to);
    fill(p, from, 5);
    errno = EDOM;
    unsigned char *q = gc_realloc(p, to, true);
    assert_non_null(q);
    assert_int_equal(errno, EDOM);
    assert_true(gc_nbytes(q) >= to);
    assert_true(filled(q, kept, 5));
    assert_true(kind_is(q, flags ? SH_KIND_LEAF : SH_KIND_SCAN));
    if (q != p)
        assert_int_equal(gc_nbytes(p), 0);
    gc_free(q);
}

static void every_size_becomes_every_other(void **unused)
{
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t j = 0; j < STEPS; j++) {
            resize(steps[i], steps[j], 0);
            resize(steps[i], steps[j], GC_ALLOC_FLAG_LEAF);
        }
    }
}

/* The cell's whole old contents come along; what is behind them is clear. */
static void what_a_scanned_object_grows_by_is_clear(void **unused)
{
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t j = i + 1; j < STEPS; j++) {
            void *dirt = gc_alloc(steps[j] + 2 * steps[i], GC_ALLOC_FLAG_LEAF);
            fill(dirt, gc_nbytes(dirt), 1);
            unsigned char *p = gc_alloc(steps[i], 0);
            gc_free(dirt);
            size_t old = gc_nbytes(p);
            memset(p, 0x77, old);
            p = gc_realloc(p, steps[j], true);
            size_t now = gc_nbytes(p);
            assert_true(all_zero(p + old, now - old));
            gc_free(p);
        }
    }
}

static void without_moving_it_grows_where_it_is_or_not_at_all(void **unused)
{
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t j = 0; j < STEPS; j++) {
            unsigned char *p = gc_alloc(steps[i], 0);
            size_t old = gc_nbytes(p);
            fill(p, steps[i], 9);
            void *q = gc_realloc(p, steps[j], false);
            if (steps[j] <= old)
                assert_ptr_equal(q, p);
            if (q) {
                assert_ptr_equal(q, p);
                assert_true(gc_nbytes(p) >= steps[j]);
            } else {
                assert_int_equal(gc_nbytes(p), old);
            }
            assert_true(filled(p, sh_min(steps[i], q ? steps[j] : old), 9));
            gc_free(p);
        }
    }
}

static void a_small_object_grows_past_its_cell_by_moving_only(void **unused)
{
    void *p = gc_alloc(16, 0);
    assert_ptr_equal(gc_realloc(p, 16, false), p);
    assert_null(gc_realloc(p, 17, false));
    assert_int_equal(gc_nbytes(p), 16);
    assert_true(gc_nbytes(gc_realloc(p, 17, true)) >= 17);
}

static void where_there_is_no_memory_it_stays_as_it_was(void **unused)
{
    static const size_t too_much[] = {
        SIZE_MAX, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, (size_t)1 << 47};
    for (size_t i = 0; i < SIZES; i++) {
        void *p = gc_alloc(sizes[i], 0);
        size_t old = gc_nbytes(p);
        fill(p, sizes[i], 3);
        for (size_t t = 0; t < 4; t++) {
            errno = 0;
            assert_null(gc_realloc(p, too_much[t], true));
            assert_int_equal(errno, ENOMEM);
            assert_null(gc_realloc(p, too_much[t], false));
            assert_int_equal(gc_nbytes(p), old);
            assert_true(filled(p, sizes[i], 3));
        }
        gc_free(p);
    }
}

static void malloced_memory_stays_malloced(void **unused)
{
    void *p = sh_malloc(100);
    fill(p, 100, 1);
    for (size_t i = 0; i < SIZES; i++) {
        p = gc_realloc(p, sh_max(sizes[i], 100), true);
        assert_true(kind_is(p, SH_KIND_EXPLICIT));
        assert_true(filled(p, 100, 1));
    }
    sh_free(p);
}

/* Back and forth, so that runs behind are taken and given. */
static void large_objects_grow_and_shrink_many_times(void **unused)
{
    struct random random = {.state = 99};
    unsigned char *at[8];
    size_t bytes[8];
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = 50000;
        at[i] = gc_alloc(bytes[i], 0);
        fill(at[i], bytes[i], i);
    }
    for (int round = 0; round < 2000; round++) {
        unsigned i = (unsigned)random_below(&random, 8);
        size_t size = 33000 + random_below(&random, 400000);
        bool move = random_below(&random, 2);
        unsigned char *p = gc_realloc(at[i], size, move);
        if (!p)
            continue;
        assert_true(filled(p, sh_min(bytes[i], size), i));
        at[i] = p;
        bytes[i] = size;
        fill(p, size, i);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_true(filled(at[i], bytes[i], i));
        gc_free(at[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zero_size_gives_null),
        cmocka_unit_test(a_block_is_16_bytes),
        cmocka_unit_test(of_every_size_usable_aligned_cleared),
        cmocka_unit_test(little_is_wasted),
        cmocka_unit_test(powers_of_two_are_naturally_aligned),
        cmocka_unit_test(a_cell_used_again_is_cleared),
        cmocka_unit_test(too_much_gives_null_and_enomem),
        cmocka_unit_test(each_flag_has_its_kind),
        cmocka_unit_test(live_objects_do_not_overlap),
        cmocka_unit_test(freeing_null_does_nothing),
        cmocka_unit_test(freeing_keeps_errno),
        cmocka_unit_test(freed_memory_is_used_again),
        cmocka_unit_test(either_face_frees_what_the_other_made),
        cmocka_unit_test(no_live_object_has_0_bytes),
        cmocka_unit_test(resizing_null_allocates),
        cmocka_unit_test(resizing_to_0_frees),
        cmocka_unit_test(every_size_becomes_every_other),
        cmocka_unit_test(what_a_scanned_object_grows_by_is_clear),
        cmocka_unit_test(without_moving_it_grows_where_it_is_or_not_at_all),
        cmocka_unit_test(a_small_object_grows_past_its_cell_by_moving_only),
        cmocka_unit_test(where_there_is_no_memory_it_stays_as_it_was),
        cmocka_unit_test(malloced_memory_stays_malloced),
        cmocka_unit_test(large_objects_grow_and_shrink_many_times),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
