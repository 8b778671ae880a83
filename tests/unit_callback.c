/* SPDX-License-Identifier: MIT */
/* heaps/callback.h: what dies with a final or weak bit is queued, kept, and told of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/callback.h"
#include "heaps/finalise.h"
#include "heaps/tables.h"
#include "heaps/weak_link.h"
#include "tests/spans.h"

enum what { FINALISED, TOLD };

/* Every call to the program, in order. */
static struct call {
    enum what what;
    uint32_t cell;
} calls[2000];
static size_t call_count, sweeps;

static struct sh_span *span;
static void (*in_finaliser)(void *object);

static void note(enum what what, const void *object)
{
    MUST(call_count < sizeof calls / sizeof *calls);
    calls[call_count++] = (struct call){what, sh_span_cell_of(span, (uintptr_t)object)};
}

void gc_finalise(void *object)
{
    note(FINALISED, object);
    if (in_finaliser)
        in_finaliser(object);
}

void gc_weakref_about_to_be_freed(void *object)
{
    note(TOLD, object);
}

void gc_weakref_sweep(void)
{
    sweeps++;
}

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

static int begin_one(void **unused)
{
    enter(unused);
    span = small_span(SH_KIND_SCAN, 64);
    call_count = sweeps = 0;
    in_finaliser = NULL;
    return 0;
}

static int end_one(void **unused)
{
    sh_run_give(span);
    return leave(unused);
}

#define CALLBACK_TEST(function)                                                        \
    cmocka_unit_test_setup_teardown(function, begin_one, end_one)

static struct sh_cell cell_at(uint32_t index)
{
    return (struct sh_cell){.span = span, .index = index};
}

/* An object whose type is set. */
static void **make_object(uint32_t cell, bool final, bool weak)
{
    static int type;
    void **object = hand_cell_out(span, cell);
    object[0] = &type;
    if (final)
        assert_true(sh_table_set(cell_at(cell), &span->final_bits));
    if (weak)
        assert_true(sh_table_set(cell_at(cell), &span->weak_bits));
    return object;
}

/* Callbacks are run outside critical sections. */
static bool run_queued(void)
{
    sh_critical_leave();
    bool any = sh_finalise_all();
    sh_critical_enter();
    return any;
}

static void assert_call(size_t i, enum what what, uint32_t cell)
{
    assert_true(i < call_count);
    assert_int_equal(calls[i].what, what);
    assert_int_equal(calls[i].cell, cell);
}

static void nothing_queued_is_nothing_run(void **unused)
{
    make_object(1, false, false);
    mark_all(sh_callback_gather);
    assert_false(run_queued());
    assert_int_equal(call_count, 0);
    assert_int_equal(sweeps, 1);
    assert_int_equal(marked_bytes(), 0);
}

static void the_reached_are_left_alone(void **unused)
{
    make_object(1, true, true);
    make_object(2, true, true);
    set_marked(span, 1, true);
    mark_all(sh_callback_gather);
    assert_true(sh_table_test(cell_at(1), &span->final_bits));
    assert_true(sh_table_test(cell_at(1), &span->weak_bits));
    assert_true(run_queued());
    assert_int_equal(call_count, 2);
    assert_call(0, TOLD, 2);
    assert_call(1, FINALISED, 2);
}

static void the_dead_are_told_of_once(void **unused)
{
    make_object(3, true, false);
    make_object(70, false, true);
    mark_all(sh_callback_gather);
    assert_true(sh_table_test(cell_at(3), &span->waiting_bits));
    assert_true(sh_table_test(cell_at(70), &span->waiting_bits));
    clear_marks(span);
    mark_all(sh_callback_add_roots);
    mark_all(sh_callback_gather);
    assert_int_equal(sh_callback_waiting(), 1);
    assert_true(run_queued());
    assert_int_equal(call_count, 2);
    assert_call(0, TOLD, 70);
    assert_call(1, FINALISED, 3);
    for (uint32_t cell = 3; cell <= 70; cell += 67) {
        assert_false(sh_table_test(cell_at(cell), &span->waiting_bits));
        assert_false(sh_table_test(cell_at(cell), &span->final_bits));
        assert_false(sh_table_test(cell_at(cell), &span->weak_bits));
    }
    assert_false(run_queued());
    assert_int_equal(call_count, 2);
}

static void free_cells_have_no_callbacks(void **unused)
{
    make_object(3, true, true);
    sh_cell_set(span, 3, SH_CELL_REMOTE);
    mark_all(sh_callback_gather);
    assert_false(run_queued());
}

/* Without a type there is nothing to finalise; weak references hear of it all the same. */
static void an_object_without_a_type_is_not_finalised(void **unused)
{
    make_object(3, true, true)[0] = NULL;
    mark_all(sh_callback_gather);
    assert_true(run_queued());
    assert_int_equal(call_count, 1);
    assert_call(0, TOLD, 3);
}

/* Over more than two of the queue's chunks. */
/* As a thread without a record may: it is not stopped. */
static void what_is_queued_meanwhile_is_kept(void **unused)
{
    struct sh_span *malloced = small_span(SH_KIND_EXPLICIT, 64);
    struct sh_weak_link *link = (struct sh_weak_link *)make_object(1, false, false);
    sh_cell_set(malloced, 0, SH_CELL_LIVE);
    sh_weak_link_init(link, SH_WEAK_FINALIZE, true);
    assert_true(sh_weak_link_prepare(link, (void *)malloced->base));
    assert_int_equal(sh_weak_link_attach(link, (void *)malloced->base), 0);
    mark_all(sh_callback_add_roots);
    sh_weak_freed((struct sh_cell){.span = malloced, .index = 0});
    mark_all(sh_callback_gather);
    assert_true(sh_cell_marked(span, 1));
    assert_true(sh_weak_link_cancel(link));
    sh_run_give(malloced);
}

static void first_come_first_served(void **unused)
{
    for (uint32_t cell = 0; cell < 800; cell++)
        make_object(cell, true, false);
    /* Two gatherings: what the first queued comes first. */
    for (uint32_t w = 0; w < 5; w++)
        set_marks(span, w, UINT64_MAX);
    mark_all(sh_callback_gather);
    for (uint32_t w = 0; w < 5; w++)
        set_marks(span, w, ~sh_span_word(span, w, SH_CELL_LIVE));
    mark_all(sh_callback_gather);
    assert_true(run_queued());
    assert_int_equal(call_count, 800);
    for (uint32_t i = 0; i < 800; i++)
        assert_call(i, FINALISED, i < 480 ? i + 320 : i - 480);
    assert_int_equal(sweeps, 1);
    /* It starts again from nothing. */
    make_object(801, true, false);
    mark_all(sh_callback_gather);
    assert_true(run_queued());
    assert_int_equal(call_count, 801);
    assert_call(800, FINALISED, 801);
}

static void the_gathered_are_kept_with_all_they_reach(void **unused)
{
    void **object = make_object(3, true, false);
    void **held = make_object(4, false, false);
    object[7] = held;
    held[7] = make_object(5, true, false);
    make_object(6, false, false);
    mark_all(sh_callback_gather);
    assert_true(is_marked(span, 3) && is_marked(span, 4) && is_marked(span, 5));
    assert_false(is_marked(span, 6));
    assert_int_equal(marked_bytes(), 3 * 64);
    /* Until they have run they are roots of the next collection. */
    clear_marks(span);
    mark_all(sh_callback_add_roots);
    assert_int_equal(marked_word(span, 0), 0x38);
    assert_true(run_queued());
    /* What another gathered one holds is finalised with it. */
    assert_int_equal(call_count, 2);
    clear_marks(span);
    mark_all(sh_callback_add_roots);
    assert_int_equal(marked_word(span, 0), 0);
}

static void what_was_freed_is_forgotten(void **unused)
{
    for (uint32_t cell = 0; cell < 300; cell++)
        make_object(cell, true, true);
    mark_all(sh_callback_gather);
    for (uint32_t cell = 0; cell < 300; cell++)
        if (cell % 3 != 1)
            sh_callback_forget(cell_at(cell));
    clear_marks(span);
    mark_all(sh_callback_add_roots);
    assert_int_equal(count_marked(span), 100);
    assert_true(run_queued());
    assert_int_equal(call_count, 200);
    for (uint32_t i = 0; i < 100; i++) {
        assert_call(i, TOLD, i * 3 + 1);
        assert_call(i + 100, FINALISED, i * 3 + 1);
    }
}

/* ---- Out of callbacks ---- */

static unsigned nested_any, nested_runs;

static void run_nested(void *object)
{
    size_t before = call_count;
    nested_any += sh_finalise_all();
    nested_runs++;
    MUST(call_count == before);
}

static void a_run_within_a_run_does_nothing(void **unused)
{
    for (uint32_t cell = 0; cell < 5; cell++)
        make_object(cell, true, false);
    mark_all(sh_callback_gather);
    nested_any = nested_runs = 0;
    in_finaliser = run_nested;
    assert_true(run_queued());
    assert_int_equal(nested_runs, 5);
    assert_int_equal(nested_any, 0);
    assert_int_equal(sweeps, 1);
    for (uint32_t i = 0; i < 5; i++)
        assert_call(i, FINALISED, i);
}

static void gather_one_more(void *object)
{
    static int type;
    uint32_t cell = sh_span_cell_of(span, (uintptr_t)object);
    if (cell >= 9)
        return;
    sh_critical_enter();
    *(void **)hand_cell_out(span, cell + 1) = &type;
    MUST(sh_table_set(cell_at(cell + 1), &span->final_bits));
    mark_all(sh_callback_gather);
    sh_critical_leave();
}

/* What callbacks cause to be queued is run by the same run. */
static void what_comes_meanwhile_is_run_after(void **unused)
{
    make_object(0, true, false);
    mark_all(sh_callback_gather);
    in_finaliser = gather_one_more;
    assert_true(run_queued());
    assert_int_equal(call_count, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_call(i, FINALISED, i);
    assert_int_equal(sweeps, 1);
}

static void forget_the_next(void *object)
{
    sh_critical_enter();
    sh_callback_forget(cell_at(sh_span_cell_of(span, (uintptr_t)object) + 1));
    sh_critical_leave();
}

static void a_callback_may_free_what_waits(void **unused)
{
    for (uint32_t cell = 0; cell < 6; cell++)
        make_object(cell, true, false);
    mark_all(sh_callback_gather);
    in_finaliser = forget_the_next;
    assert_true(run_queued());
    assert_int_equal(call_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_call(i, FINALISED, i * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CALLBACK_TEST(nothing_queued_is_nothing_run),
        CALLBACK_TEST(the_reached_are_left_alone),
        CALLBACK_TEST(the_dead_are_told_of_once),
        CALLBACK_TEST(free_cells_have_no_callbacks),
        CALLBACK_TEST(an_object_without_a_type_is_not_finalised),
        CALLBACK_TEST(what_is_queued_meanwhile_is_kept),
        CALLBACK_TEST(first_come_first_served),
        CALLBACK_TEST(the_gathered_are_kept_with_all_they_reach),
        CALLBACK_TEST(what_was_freed_is_forgotten),
        CALLBACK_TEST(a_run_within_a_run_does_nothing),
        CALLBACK_TEST(what_comes_meanwhile_is_run_after),
        CALLBACK_TEST(a_callback_may_free_what_waits),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
