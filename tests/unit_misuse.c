/* SPDX-License-Identifier: MIT */
/*
 * heaps/misuse.h: each message, word by word, in the name of whatever call. How real
 * mistakes lead to them: misuse_*.c.
 */
#include "tests/misuse.h"

#include "heaps/misuse.h"
#include "tests/spans.h"

/* What is said of p. */
struct mistake {
    const void *p;
    enum sh_found found;
    size_t given, usable;
};

static void say_pointer(void *arg)
{
    const struct mistake *mistake = arg;
    sh_misuse_pointer("some_call", mistake->p, mistake->found);
}

static void say_pinned(void *arg)
{
    const struct mistake *mistake = arg;
    sh_misuse_pinned("some_call", mistake->p);
}

static void say_size(void *arg)
{
    const struct mistake *mistake = arg;
    sh_misuse_size("some_call", mistake->p, mistake->given, mistake->usable);
}

static void say_alignment(void *arg)
{
    const struct mistake *mistake = arg;
    sh_misuse_alignment("some_call", mistake->p, mistake->given);
}

/* Perhaps in the middle of something. */
static void find_race(void *arg)
{
    const struct mistake *mistake = arg;
    sh_misuse_race(mistake->p);
    sh_misuse_race((const char *)mistake->p + 16);
}

static void find_race_and_come_by(void *arg)
{
    find_race(arg);
    sh_cache_give_back(NULL);
}

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

/* As sh_cell_find sees it: that it leads to the right message is half of the matter. */
static struct mistake found_at(const void *p, enum sh_found expected)
{
    struct sh_cell cell;
    enum sh_found found = sh_cell_find(p, &cell);
    assert_int_equal(found, expected);
    return (struct mistake){.p = p, .found = found};
}

static void a_foreign_pointer(void **unused)
{
    int local;
    const void *pointers[] = {&local, (void *)16, (void *)-16,
        (void *)(sh_area_first()->end), (void *)(sh_area_first()->start - 1)};
    for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        struct mistake mistake = found_at(pointers[i], SH_FOUND_NOWHERE);
        expect_end(say_pointer, &mistake, FOREIGN, "some_call", pointers[i]);
    }
}

static void a_free_page(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_EXPLICIT, 64);
    const void *p = hand_cell_out(span, 3);
    sh_run_give(span);
    struct mistake mistake = found_at(p, SH_FOUND_NOWHERE);
    expect_end(say_pointer, &mistake, FREE_PAGE, "some_call", p);
}

static void an_interior_pointer(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 48);
    const char *p = hand_cell_out(span, 65);
    hand_cell_out(span, 66);
    for (size_t by = 1; by < 48; by += 23) {
        struct mistake mistake = found_at(p + by, SH_FOUND_INTERIOR);
        expect_end(
            say_pointer, &mistake, INTERIOR, "some_call", p + by, by, (size_t)48, p);
    }
    sh_run_give(span);
}

static void an_interior_pointer_of_a_large_object(void **unused)
{
    struct sh_span *span = large_span(SH_KIND_EXPLICIT, 20);
    const char *p = (const char *)span->base;
    static const size_t by[] = {1, 16, SH_PAGE_SIZE, 20 * SH_PAGE_SIZE - 1};
    for (size_t i = 0; i < 4; i++) {
        struct mistake mistake = found_at(p + by[i], SH_FOUND_INTERIOR);
        expect_end(say_pointer, &mistake, INTERIOR, "some_call", p + by[i], by[i],
            20 * SH_PAGE_SIZE, p);
    }
    sh_run_give(span);
}

static void a_double_free(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_EXPLICIT, 112);
    hand_cell_out(span, 1);
    const void *p = hand_cell_out(span, 2);
    sh_cell_set(span, 2, SH_CELL_FREE);
    struct mistake mistake = found_at(p, SH_FOUND_DEAD);
    expect_end(say_pointer, &mistake, DOUBLE_FREE, "some_call", p, (size_t)112);
    /* In its owner's magazine, too. */
    p = hand_cell_out(span, 4);
    sh_cell_set(span, 4, SH_CELL_HELD);
    mistake = found_at(p, SH_FOUND_DEAD);
    expect_end(say_pointer, &mistake, DOUBLE_FREE, "some_call", p, (size_t)112);
    /* Freed by another thread, and not yet taken back, it is as dead. */
    p = hand_cell_out(span, 3);
    sh_cell_set(span, 3, SH_CELL_REMOTE);
    mistake = found_at(p, SH_FOUND_DEAD);
    expect_end(say_pointer, &mistake, DOUBLE_FREE, "some_call", p, (size_t)112);
    sh_run_give(span);
}

/* A cell that a collection did not reach, before the sweep. */
static void a_collected_cell(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_SCAN, 112);
    const void *p = hand_cell_out(span, 1);
    found_at(p, SH_FOUND_LIVE);
    span->epoch--;
    struct mistake mistake = found_at(p, SH_FOUND_DEAD);
    expect_end(say_pointer, &mistake, DOUBLE_FREE, "some_call", p, (size_t)112);
    sh_run_give(span);
}

/* In a word that nothing was ever handed out from. */
static void a_cell_never_allocated(void **unused)
{
    struct sh_span *span = small_span(SH_KIND_EXPLICIT, 112);
    hand_cell_out(span, 63);
    const void *p = (const void *)sh_span_cell(span, 64);
    struct mistake mistake = found_at(p, SH_FOUND_DEAD);
    expect_end(say_pointer, &mistake, NEVER, "some_call", p, (size_t)112);
    p = (const void *)sh_span_cell(span, 62);
    mistake = found_at(p, SH_FOUND_DEAD);
    expect_end(say_pointer, &mistake, DOUBLE_FREE, "some_call", p, (size_t)112);
    sh_run_give(span);
}

static void memory_that_has_to_stay(void **unused)
{
    struct mistake mistake = {.p = (void *)0x123450};
    expect_end(say_pinned, &mistake,
        "some_call(%p): the heap was given this memory by gc_init or gc_add; it has to "
        "stay until the program ends",
        mistake.p);
}

static void a_wrong_size(void **unused)
{
    struct mistake mistake = {.p = (void *)0x10, .given = SIZE_MAX, .usable = 32768};
    expect_end(say_size, &mistake,
        "some_call(%p): wrong size: 18446744073709551615 bytes given, but the cell has "
        "32768; pass the size that was asked for",
        mistake.p);
}

static void a_wrong_alignment(void **unused)
{
    struct mistake mistake = {.p = (void *)0x7fff00000010, .given = 48};
    expect_end(say_alignment, &mistake,
        "some_call(%p): wrong alignment: 48 given, which the pointer does not have; "
        "pass the alignment that was asked for",
        mistake.p);
}

/* It waits for who holds no lock; of two one is told. */
static void a_race(void **unused)
{
    struct mistake mistake = {.p = (void *)0x7fff00000010};
    expect_no_end(find_race, &mistake);
    expect_end(find_race_and_come_by, &mistake,
        "free(%p): double free: two threads freed the cell there at the same time; "
        "look for its other owner",
        mistake.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(a_foreign_pointer),
        SPAN_TEST(a_free_page),
        SPAN_TEST(an_interior_pointer),
        SPAN_TEST(an_interior_pointer_of_a_large_object),
        SPAN_TEST(a_double_free),
        SPAN_TEST(a_collected_cell),
        SPAN_TEST(a_cell_never_allocated),
        SPAN_TEST(memory_that_has_to_stay),
        SPAN_TEST(a_wrong_size),
        SPAN_TEST(a_wrong_alignment),
        SPAN_TEST(a_race),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
