/* SPDX-License-Identifier: MIT */
/* heaps/finaliser.h: tables of finalisers, against a plain array of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/finaliser.h"
#include "lib/meta.h"
#include "tests/spans.h"

static struct sh_span *span;
static struct sh_finaliser wanted[SH_CLASS_CELLS_MAX];

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

static void one(void *object, void *context)
{
    MUST(!object || !context);
}

static void other(void *object, void *context)
{
    MUST(object || context);
}

static struct sh_cell cell_at(uint32_t index)
{
    return (struct sh_cell){.span = span, .index = index};
}

static void set(uint32_t cell, gc_finaliser_fn *call, void *context)
{
    wanted[cell] = (struct sh_finaliser){call, context};
    assert_true(sh_finaliser_set(cell_at(cell), wanted[cell]));
}

static bool same(struct sh_finaliser a, struct sh_finaliser b)
{
    return a.call == b.call && a.context == b.context;
}

static void take(uint32_t cell)
{
    assert_true(same(sh_finaliser_take(cell_at(cell)), wanted[cell]));
    wanted[cell] = (struct sh_finaliser){NULL, NULL};
}

static void check_all(void)
{
    for (uint32_t cell = 0; cell < span->cell_count; cell++)
        assert_true(same(sh_finaliser_of(cell_at(cell)), wanted[cell]));
}

static void take_all(void)
{
    for (uint32_t cell = 0; cell < span->cell_count; cell++)
        take(cell);
    assert_null(span->finalisers);
}

static void what_was_set_is_found(void **unused)
{
    EACH_SPAN(span, i)
    {
        for (uint32_t cell = 0; cell < span->cell_count; cell++)
            set(cell, cell % 2 ? one : other, (void *)(uintptr_t)(cell * 16));
        check_all();
        take_all();
        for (uint32_t cell = span->cell_count; cell-- > 0;)
            set(cell, one, NULL);
        check_all();
        take_all();
    }
}

/* At random, with times of many and times of few; also far apart. */
static void random_ones_too(void **unused)
{
    struct random random = {.state = 1};
    EACH_SPAN(span, i)
    {
        for (unsigned round = 0; round < 12; round++) {
            for (unsigned step = 0; step < 3000; step++) {
                uint32_t cell = (uint32_t)random_below(&random, span->cell_count);
                if (round % 4 == 3)
                    cell -= cell % 64;
                if (random_below(&random, 12) < round)
                    take(cell);
                else
                    set(cell, random_below(&random, 2) ? one : other,
                        (void *)random_below(&random, 3));
            }
            check_all();
        }
        take_all();
    }
}

static void nothing_is_found_where_nothing_was_set(void **unused)
{
    span = small_span(SH_KIND_SCAN, 64);
    check_all();
    take(3);
    set(3, one, NULL);
    take(4);
    check_all();
    take(3);
    sh_run_give(span);
}

static void a_dropped_table_is_gone(void **unused)
{
    span = small_span(SH_KIND_SCAN, 64);
    set(5, one, span);
    sh_finaliser_drop(span);
    wanted[5] = (struct sh_finaliser){NULL, NULL};
    check_all();
    sh_finaliser_drop(span);
    sh_run_give(span);
}

/* Twenty bytes each, where every cell has one. */
static void a_full_table_takes_little(void **unused)
{
    span = small_span(SH_KIND_SCAN, 64);
    for (unsigned round = 0; round < 2; round++) {
        size_t before = sh_meta_bytes();
        for (uint32_t cell = 0; cell < span->cell_count; cell++)
            set(cell, one, NULL);
        /* What it needed on the way is kept for others, and there the second time. */
        assert_true(sh_meta_bytes() - before <= (round ? 0 : (size_t)1 << 20));
        take_all();
    }
    sh_run_give(span);
}

static void add_roots(void)
{
    sh_finaliser_add_roots();
}

static void contexts_are_roots(void **unused)
{
    span = small_span(SH_KIND_SCAN, 64);
    void *context = hand_cell_out(span, 7);
    hand_cell_out(span, 8);
    set(8, one, context);
    mark_all(add_roots);
    assert_true(is_marked(span, 7));
    assert_false(is_marked(span, 8));
    set(8, one, NULL);
    clear_marks(span);
    mark_all(add_roots);
    assert_false(is_marked(span, 7));
    take(8);
    sh_run_give(span);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(what_was_set_is_found),
        SPAN_TEST(random_ones_too),
        SPAN_TEST(nothing_is_found_where_nothing_was_set),
        SPAN_TEST(a_dropped_table_is_gone),
        SPAN_TEST(a_full_table_takes_little),
        SPAN_TEST(contexts_are_roots),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
