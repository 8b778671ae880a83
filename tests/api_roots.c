/* SPDX-License-Identifier: MIT */
/*
 * Roots that the program names: slots, callbacks; and what it leaves out: stacks, malloc'd
 * memory, data segments. What holds objects lies in memory that is no root by itself.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <splitheap/weakref.h>

#include "tests/child.h"
#include "tests/heap.h"

static struct batch batch;
static void **outside; /* pointers to the batch, where nobody looks */

static int map_outside(void **unused)
{
    outside = mmap(NULL, 4 * BATCH * sizeof *outside, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return outside == MAP_FAILED;
}

static void *make(void *unused)
{
    batch.size = 48;
    make_batch(&batch);
    for (size_t i = 0; i < BATCH; i++)
        outside[i] = reveal(batch.hidden[i]);
    return NULL;
}

static void make_outside(void)
{
    in_thread(make, NULL);
    clear_stack();
}

static size_t left(void)
{
    clear_stack();
    gc_collect();
    return count_live(&batch);
}

/* ---- Slots ---- */

static void slots_hold(void **unused)
{
    make_outside();
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(gc_add_root_slot(&outside[i]), 0);
    assert_int_equal(left(), BATCH);
    /* What a slot holds is what it held when the collection began. */
    outside[7] = NULL;
    outside[8] = outside[9];
    assert_int_equal(left(), BATCH - 2);
    for (size_t i = 0; i < BATCH; i += 2)
        assert_int_equal(gc_remove_root_slot(&outside[i]), 0);
    assert_in_range(left(), BATCH / 2 - 1, BATCH / 2 - 1 + SLACK);
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(gc_remove_root_slot(&outside[i]), i % 2 ? 0 : ENOENT);
    assert_in_range(left(), 0, SLACK);
}

static void bad_slots_are_refused(void **unused)
{
    assert_int_equal(gc_remove_root_slot(&outside[0]), ENOENT);
    assert_int_equal(gc_add_root_slot(NULL), EINVAL);
    assert_int_equal(gc_add_root_slot((void **)(void *)((char *)outside + 4)), EINVAL);
    assert_int_equal(gc_remove_root_slot(NULL), ENOENT);
}

static void a_slot_counts_as_often_as_it_was_added(void **unused)
{
    make_outside();
    for (int times = 0; times < 3; times++)
        for (size_t i = 0; i < BATCH; i++)
            assert_int_equal(gc_add_root_slot(&outside[i]), 0);
    for (int times = 0; times < 3; times++) {
        assert_int_equal(left(), BATCH);
        for (size_t i = 0; i < BATCH; i++)
            assert_int_equal(gc_remove_root_slot(&outside[i]), 0);
    }
    assert_int_equal(gc_remove_root_slot(&outside[0]), ENOENT);
    assert_in_range(left(), 0, SLACK);
}

/* Against an array that says which are added. */
static void slots_come_and_go_in_any_order(void **unused)
{
    static uint8_t added[4 * BATCH];
    struct random chance = {42};
    for (int phase = 0; phase < 6; phase++) {
        size_t odds = phase % 2 ? 1 : 7; /* of 8 that one is added: it grows, shrinks */
        for (int i = 0; i < 20 * BATCH; i++) {
            size_t s = random_below(&chance, 4 * BATCH);
            if (random_below(&chance, 8) < odds && added[s] < 2) {
                assert_int_equal(gc_add_root_slot(&outside[s]), 0);
                added[s]++;
            } else {
                int expected = added[s] ? 0 : ENOENT;
                assert_int_equal(gc_remove_root_slot(&outside[s]), expected);
                if (added[s])
                    added[s]--;
            }
        }
        memset(outside, 0, 4 * BATCH * sizeof *outside);
        make_outside();
        gc_collect();
        for (size_t i = 0; i < BATCH; i++)
            if (added[i])
                assert_true(gc_nbytes(reveal(batch.hidden[i])) != 0);
        size_t held = 0;
        for (size_t i = 0; i < BATCH; i++)
            held += added[i] != 0;
        assert_in_range(left(), held, held + SLACK);
    }
    for (size_t i = 0; i < 4 * BATCH; i++)
        while (added[i]--)
            assert_int_equal(gc_remove_root_slot(&outside[i]), 0);
}

/* ---- Callbacks ---- */

static unsigned called[2];

static void report_pointers(void *context, struct gc_marker *marker)
{
    called[0]++;
    gc_mark_pointer(marker, NULL);
    gc_mark_pointer(marker, context);
    for (size_t i = 0; i < BATCH / 4; i++)
        gc_mark_pointer(marker, outside[i]);
    gc_mark_words(marker, outside + BATCH / 4, BATCH / 4);
}

static void report_as_the_seed_does(void *context, struct gc_marker *marker)
{
    called[1]++;
    assert_true(context == &called);
    gc_collect_root(outside + BATCH / 2, BATCH / 2);
}

static void callbacks_hold(void **unused)
{
    make_outside();
    called[0] = called[1] = 0;
    assert_int_equal(gc_add_root_callback(report_pointers, NULL), 0);
    assert_in_range(left(), BATCH / 2, BATCH / 2 + SLACK);
    assert_int_equal(called[0], 1);
    make_outside();
    assert_int_equal(gc_add_root_callback(report_as_the_seed_does, &called), 0);
    assert_int_equal(left(), BATCH);
    assert_int_equal(called[0], 2);
    assert_int_equal(called[1], 1);
    /* Each by both its arguments. */
    assert_int_equal(gc_remove_root_callback(report_pointers, &called), ENOENT);
    assert_int_equal(gc_add_root_callback(report_pointers, &called), 0);
    assert_int_equal(gc_remove_root_callback(report_pointers, NULL), 0);
    assert_int_equal(left(), BATCH);
    assert_int_equal(called[0], 3);
    assert_int_equal(gc_remove_root_callback(report_pointers, &called), 0);
    assert_int_equal(gc_remove_root_callback(report_pointers, &called), ENOENT);
    assert_in_range(left(), BATCH / 2, BATCH / 2 + SLACK);
    assert_int_equal(gc_remove_root_callback(report_as_the_seed_does, &called), 0);
    assert_in_range(left(), 0, SLACK);
    assert_int_equal(called[0], 3);
    assert_int_equal(gc_add_root_callback(NULL, NULL), EINVAL);
}

/* ---- Threads and forks ---- */

enum { WORKERS = 4, ROUNDS = 150 };

static _Atomic uint32_t working;

static void **slots_of(size_t worker)
{
    return outside + worker * 8;
}

static void report_slot(void *context, struct gc_marker *marker)
{
    gc_mark_pointer(marker, *(void **)context);
}

static SH_NOINLINE uintptr_t new_hidden(void **slot)
{
    uintptr_t *p = gc_alloc(64, 0);
    MUST(p);
    *p = (uintptr_t)slot;
    *slot = p;
    return hide(p);
}

static SH_NOINLINE void check_hidden(uintptr_t hidden, void **slot)
{
    MUST(gc_nbytes(reveal(hidden)) == 64);
    MUST(*(uintptr_t *)reveal(hidden) == (uintptr_t)slot);
}

/* While it is a root in one way or the other, the object lives. */
static void come_and_go(void **slot)
{
    uintptr_t hidden = new_hidden(slot);
    MUST(gc_add_root_slot(slot) == 0);
    clear_stack();
    sched_yield();
    check_hidden(hidden, slot);
    MUST(gc_add_root_callback(report_slot, slot) == 0);
    MUST(gc_remove_root_slot(slot) == 0);
    sched_yield();
    check_hidden(hidden, slot);
    MUST(gc_add_roots(slot, slot + 1) == 0);
    MUST(gc_remove_root_callback(report_slot, slot) == 0);
    sched_yield();
    check_hidden(hidden, slot);
    MUST(gc_remove_roots(slot, slot + 1) == 0);
    *slot = NULL;
}

static void *work(void *arg)
{
    for (int i = 0; i < ROUNDS; i++)
        come_and_go(slots_of((uintptr_t)arg));
    sh_sub_seq_cst(&working, 1u);
    return NULL;
}

/* A thread that is not stopped, whose objects somebody else holds. */
static void *work_unregistered(void *arg)
{
    void **slot = slots_of((uintptr_t)arg);
    gc_thread_unregister();
    for (int i = 0; i < 20 * ROUNDS; i++) {
        MUST(gc_add_root_slot(slot) == 0);
        MUST(gc_add_root_callback(report_slot, slot) == 0);
        MUST(gc_remove_root_slot(slot) == 0);
        MUST(gc_remove_root_callback(report_slot, slot) == 0);
    }
    sh_sub_seq_cst(&working, 1u);
    return NULL;
}

static void roots_come_and_go_while_others_collect(void **unused)
{
    pthread_t threads[WORKERS + 1];
    memset(outside, 0, 4 * BATCH * sizeof *outside);
    sh_store_seq_cst(&working, WORKERS + 1u);
    for (uintptr_t i = 0; i < WORKERS; i++)
        threads[i] = start(work, (void *)i);
    threads[WORKERS] = start(work_unregistered, (void *)(uintptr_t)WORKERS);
    while (sh_load_seq_cst(&working))
        gc_collect();
    for (size_t i = 0; i <= WORKERS; i++)
        join(threads[i]);
    assert_int_equal(gc_remove_root_slot(slots_of(0)), ENOENT);
    assert_int_equal(gc_remove_root_callback(report_slot, slots_of(0)), ENOENT);
}

static void live_on(void *unused)
{
    MUST(left() == BATCH);
    for (size_t i = 0; i < BATCH / 2; i++)
        MUST(gc_remove_root_slot(&outside[i]) == 0);
    MUST(left() <= BATCH / 2 + SLACK);
    MUST(gc_remove_root_callback(report_slot, &outside[BATCH - 1]) == 0);
    MUST(left() <= BATCH / 2 + SLACK);
    come_and_go(slots_of(BATCH / 4));
}

/* One that others are changing at the time. */
static void a_child_has_its_parents_roots(void **unused)
{
    if (SH_TSAN)
        skip(); /* it counts the threads that the child does not have as leaked */
    pthread_t threads[WORKERS];
    make_outside();
    for (size_t i = 0; i < BATCH - 1; i++)
        MUST(gc_add_root_slot(&outside[i]) == 0);
    MUST(gc_add_root_callback(report_slot, &outside[BATCH - 1]) == 0);
    sh_store_seq_cst(&working, (uint32_t)WORKERS);
    for (uintptr_t i = 0; i < WORKERS; i++)
        threads[i] = start(work, (void *)(i + BATCH / 4));
    for (int i = 0; i < 5; i++) {
        struct child child;
        child_run(&child, live_on, NULL);
        assert_true(child_returned(&child));
    }
    for (size_t i = 0; i < WORKERS; i++)
        join(threads[i]);
    assert_int_equal(left(), BATCH);
    for (size_t i = 0; i < BATCH - 1; i++)
        MUST(gc_remove_root_slot(&outside[i]) == 0);
    MUST(gc_remove_root_callback(report_slot, &outside[BATCH - 1]) == 0);
    assert_in_range(left(), 0, SLACK);
}

/* ---- Leaving out ---- */

static SH_TLS void *volatile in_tls;
static void *volatile in_data;
static _Atomic uint32_t stage;

static SH_NOINLINE void put_object(void *volatile *where, size_t i)
{
    for (int k = 0; k < 3; k++)
        *where = gc_alloc(48, 0); /* a span's first is where others point, too */
    *where = gc_alloc(48, 0);
    MUST(*where);
    batch.hidden[i] = hide(*where);
}

/* Holds one object each way, in a thread of its own. */
static void *hold_all_ways(void *arg)
{
    void *volatile on_stack;
    void *volatile *in_malloc = sh_malloc(sizeof *in_malloc);
    put_object(&on_stack, 0);
    put_object(&in_tls, 1);
    put_object(in_malloc, 2);
    clear_stack();
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    on_stack = NULL;
    sh_free((void *)(uintptr_t)in_malloc);
    return NULL;
}

static bool lives(size_t i)
{
    return gc_nbytes(reveal(batch.hidden[i])) != 0;
}

static void *hold_in_data(void *unused)
{
    put_object(&in_data, 3);
    clear_stack(); /* the next thread may have the same */
    return NULL;
}

static void what_is_left_out_does_not_hold(void **unused)
{
    bool (*const set[])(bool) = {
        gc_set_scan_stacks, gc_set_scan_malloc, gc_set_scan_data_segments};
    static const bool held[][4] = {{false, false, true, true},
        {true, true, false, true}, {true, true, true, false}};
    for (size_t i = 0; i < 3; i++) {
        sh_store_seq_cst(&stage, 0u);
        in_thread(hold_in_data, NULL);
        pthread_t thread = start(hold_all_ways, NULL);
        await_flag(&stage, 1);
        clear_stack();
        gc_collect();
        for (size_t w = 0; w < 4; w++)
            assert_true(lives(w));
        assert_true(set[i](false));
        clear_stack();
        gc_collect();
        assert_false(set[i](true));
        for (size_t w = 0; w < 4; w++)
            assert_int_equal(lives(w), held[i][w]);
        set_flag(&stage, 2);
        join(thread);
    }
}

/* So an embedder's own collection finds what the embedder says, and nothing else. */
static void what_is_left_is_what_the_program_says(void **unused)
{
    make_outside();
    void **copy = sh_malloc(BATCH * sizeof *copy);
    memcpy(copy, outside, BATCH * sizeof *copy);
    gc_set_scan_stacks(false);
    gc_set_scan_malloc(false);
    gc_set_scan_data_segments(false);
    gc_collect_start();
    gc_collect_root(outside + 100, 50);
    gc_collect_root(outside + 300, 50);
    gc_collect_end();
    assert_int_equal(count_live(&batch), 100);
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(lives(i), (i >= 100 && i < 150) || (i >= 300 && i < 350));
    gc_collect();
    assert_int_equal(count_live(&batch), 0);
    gc_set_scan_stacks(true);
    gc_set_scan_malloc(true);
    gc_set_scan_data_segments(true);
    sh_free(copy);
}

/* In malloc'd memory, too, which is then not scanned for its own sake. */
static void announced_stacks_hold_whatever_is_left_out(void **unused)
{
    enum { WORDS = 8192 };
    void **memory = sh_malloc(WORDS * sizeof *memory);
    struct gc_stack *stack = gc_stack_add(memory, memory + WORDS);
    assert_non_null(stack);
    make_outside();
    memcpy(memory, outside, BATCH * sizeof *memory);
    gc_set_scan_stacks(false);
    gc_set_scan_malloc(false);
    assert_int_equal(left(), BATCH);
    gc_stack_remove(stack);
    assert_in_range(left(), 0, SLACK);
    gc_set_scan_stacks(true);
    gc_set_scan_malloc(true);
    sh_free(memory);
}

/* ---- What callbacks were given ---- */

struct given {
    const struct gc_type *type;
    size_t number;
    size_t *rest;
};

static size_t given_back, lost;

/* Overwrites what is free. */
static void churn(void)
{
    for (size_t i = 0; i < 1000; i++) {
        size_t *words = gc_alloc(sizeof(struct given), 0);
        MUST(words);
        words[1] = words[2] = ~(size_t)0;
    }
}

static void look_and_collect(struct given *given, const size_t *number)
{
    given_back++;
    for (int i = 0; i < 3; i++) {
        gc_collect();
        churn();
        lost += given && (given->number != 7 || *given->rest != 7);
        lost += *number != 7;
    }
}

static void finalise_given(void *object)
{
    struct given *given = object;
    look_and_collect(given, given->rest);
}

static void finalise_with_context(void *object, void *context)
{
    look_and_collect(object, context);
}

static void called_back(struct gc_weakref *ref, void *context)
{
    look_and_collect(NULL, context);
    lost += gc_nbytes(ref) == 0;
}

static void finalize_given(unsigned count, void *const args[])
{
    for (unsigned i = 0; i < count; i++)
        look_and_collect(NULL, args[i]);
}

static size_t *make_number(void)
{
    size_t *number = gc_alloc(sizeof(struct given), 0);
    MUST(number);
    *number = 7;
    return number;
}

static void *make_given(void *unused)
{
    static const struct gc_type type = {.finalise = finalise_given};
    for (unsigned i = 0; i < 40; i++) {
        unsigned flags = i % 4 ? 0 : GC_ALLOC_FLAG_HAS_FINALISER;
        struct given *given = gc_alloc(sizeof *given, flags);
        MUST(given);
        *given = (struct given){&type, 7, make_number()};
        if (i % 4 == 1)
            MUST(gc_set_finaliser(given, finalise_with_context, make_number()) == 0);
        else if (i % 4 == 2)
            MUST(gc_weakref_new(given, called_back, make_number()));
        else if (i % 4 == 3)
            MUST(gc_finalize_new(given, finalize_given, 1, make_number()));
        outside[i] = given;
    }
    return NULL;
}

static void what_callbacks_were_given_stays(void **unused)
{
    void **slots = outside;
    in_thread(make_given, NULL);
    clear_stack();
    gc_set_scan_stacks(false);
    gc_collect_start();
    gc_collect_root(slots, 40);
    gc_collect_end();
    assert_int_equal(given_back, 0);
    memset(slots, 0, 40 * sizeof *slots);
    gc_collect();
    gc_set_scan_stacks(true);
    /* A reference that nobody holds dies untold; a stale pointer may hold one or two. */
    assert_in_range(given_back, 20, 40);
    assert_int_equal(lost, 0);
}

/* ---- Where a range ends ---- */

#define LARGE ((size_t)1 << 20)
#define LARGE_COUNT 16

static void *make_large(void *objects)
{
    uintptr_t *hidden = objects;
    for (int i = 0; i < LARGE_COUNT; i++)
        hidden[i] = hide(gc_alloc(LARGE, GC_ALLOC_FLAG_LEAF));
    return NULL;
}

/* One that begins where another ends, or 0; hidden. */
static uintptr_t second_of_two(const uintptr_t *hidden)
{
    for (int i = 0; i < LARGE_COUNT; i++)
        for (int j = 0; j < LARGE_COUNT; j++)
            if (hidden[j] == hidden[i] - LARGE)
                return hidden[j];
    return 0;
}

/* The words before it; out of line, so that no register keeps where they end. */
static SH_NOINLINE int call_for_end(int (*call)(void *, void *), uintptr_t hidden)
{
    return call(reveal(hidden + 64), reveal(hidden));
}

static SH_NOINLINE bool is_there(uintptr_t hidden)
{
    return gc_nbytes(reveal(hidden)) != 0;
}

/* The list of ranges is in the data segment, too. */
static void the_end_of_a_range_is_no_root(void **unused)
{
    uintptr_t hidden[LARGE_COUNT], second;
    gc_set_auto_collect(false);
    apart(make_large, hidden);
    second = second_of_two(hidden);
    assert_int_not_equal(second, 0);
    assert_true(is_there(second));
    assert_int_equal(call_for_end(gc_add_roots, second), 0);
    clear_stack();
    gc_collect();
    assert_false(is_there(second));
    assert_int_equal(call_for_end(gc_remove_roots, second), 0);
    gc_set_auto_collect(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_hold),
        cmocka_unit_test(bad_slots_are_refused),
        cmocka_unit_test(a_slot_counts_as_often_as_it_was_added),
        cmocka_unit_test(slots_come_and_go_in_any_order),
        cmocka_unit_test(callbacks_hold),
        cmocka_unit_test(roots_come_and_go_while_others_collect),
        cmocka_unit_test(a_child_has_its_parents_roots),
        cmocka_unit_test(what_is_left_out_does_not_hold),
        cmocka_unit_test(what_is_left_is_what_the_program_says),
        cmocka_unit_test(announced_stacks_hold_whatever_is_left_out),
        cmocka_unit_test(what_callbacks_were_given_stays),
        cmocka_unit_test(the_end_of_a_range_is_no_root),
    };
    return run_on_clean_stack(tests, map_outside, NULL);
}
