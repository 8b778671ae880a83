/* SPDX-License-Identifier: MIT */
/* Sized frees that are told another size or alignment. */
#include "tests/misuse.h"

#define WRONG_SIZE                                                                     \
    "%s(%p): wrong size: %zu bytes given, but the cell has %zu; pass the size that "   \
    "was asked for"
#define WRONG_ALIGNMENT                                                                \
    "%s(%p): wrong alignment: %zu given, which the pointer does not have; pass the "   \
    "alignment that was asked for"

struct given {
    void *p;
    size_t alignment, size;
};

static void give_size(void *arg)
{
    struct given *given = arg;
    sh_free_sized(given->p, given->size);
}

static void give_both(void *arg)
{
    struct given *given = arg;
    sh_free_aligned_sized(given->p, given->alignment, given->size);
}

static void too_large(void **unused)
{
    static const size_t sizes[] = {0, 1, 100, 4096, 100000, (size_t)40 << 20};
    for (size_t i = 0; i < 6; i++) {
        void *p = sh_malloc(sizes[i]);
        size_t usable = sh_malloc_usable_size(p);
        struct given given = {p, 16, usable + 1};
        expect_end(give_size, &given, WRONG_SIZE, "free_sized", p, usable + 1, usable);
        expect_end(
            give_both, &given, WRONG_SIZE, "free_aligned_sized", p, usable + 1, usable);
        given.size = SIZE_MAX;
        expect_end(give_size, &given, WRONG_SIZE, "free_sized", p, SIZE_MAX, usable);
        given.size = sizes[i];
        expect_no_end(give_size, &given);
        expect_no_end(give_both, &given);
        sh_free(p);
    }
}

static void not_so_aligned(void **unused)
{
    void *p = sh_memalign(64, 64);
    while ((uintptr_t)p % 128 == 0)
        p = sh_memalign(64, 64);
    static const size_t wrong[] = {0, 3, 24, 128, 4096, SIZE_MAX};
    for (size_t i = 0; i < 6; i++) {
        struct given given = {p, wrong[i], 64};
        expect_end(
            give_both, &given, WRONG_ALIGNMENT, "free_aligned_sized", p, wrong[i]);
    }
    struct given right = {p, 64, 64};
    expect_no_end(give_both, &right);
    sh_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_large),
        cmocka_unit_test(not_so_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
