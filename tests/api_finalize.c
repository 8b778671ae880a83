/* SPDX-License-Identifier: MIT */
/* Finalizes of <splitheap/weakref.h>. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <splitheap/weakref.h>

#include "heaps/weak_table.h"
#include "tests/heap.h"

static uintptr_t called[2 * BATCH];
static size_t call_count;
static unsigned last_count;

static void note(unsigned count, void *const args[])
{
    MUST(!gc_is_locked() && call_count < sizeof called / sizeof *called);
    last_count = count;
    called[call_count++] = count ? (uintptr_t)args[0] : 0;
}

static int reset(void **unused)
{
    gc_sweep_all();
    call_count = 0;
    return 0;
}

/* ---- Called ---- */

static void *drop_batch(void *unused)
{
    for (uintptr_t i = 0; i < BATCH; i++)
        MUST(gc_finalize_new(gc_alloc(64, 0), note, 1, word(i)));
    return NULL;
}

/* Nobody but the library has them. */
static void each_is_called_once(void **unused)
{
    apart(drop_batch, NULL);
    gc_collect();
    assert_in_range(call_count, BATCH - SLACK, BATCH);
    static bool seen[BATCH];
    for (size_t i = 0; i < call_count; i++) {
        assert_false(seen[called[i]]);
        seen[called[i]] = true;
    }
    gc_collect();
    gc_collect();
    assert_in_range(sh_weak_count(), 0, 2 * SLACK);
}

static void *held;

static void it_waits_for_its_object(void **unused)
{
    held = gc_alloc(64, 0);
    assert_non_null(gc_finalize_new(held, note, 0));
    for (int i = 0; i < 3; i++)
        gc_collect();
    assert_int_equal(call_count, 0);
    gc_free(held);
    held = NULL;
    gc_collect();
    assert_int_equal(call_count, 1);
    assert_int_equal(last_count, 0);
}

static unsigned long sum;

static void add_up(unsigned count, void *const args[])
{
    for (unsigned i = 0; i < count; i++)
        sum += *(unsigned long *)args[i];
}

static void *make_with_arguments(void *unused)
{
    void *args[GC_FINALIZE_ARGS_MAX];
    for (unsigned i = 0; i < GC_FINALIZE_ARGS_MAX; i++) {
        args[i] = gc_alloc(sizeof sum, 0);
        *(unsigned long *)args[i] = 1;
    }
    void *object = gc_alloc(64, 0);
    MUST(gc_finalize_new_array(object, add_up, GC_FINALIZE_ARGS_MAX, args));
    held = object;
    return NULL;
}

static void arguments_are_kept(void **unused)
{
    apart(make_with_arguments, NULL);
    sum = 0;
    gc_collect();
    gc_collect();
    apart(drop_batch, NULL);
    held = NULL;
    clear_stack();
    gc_collect();
    assert_int_equal(sum, GC_FINALIZE_ARGS_MAX);
}

/* Where roots would be made of them, these would live for ever. */
static void *drop_cycles(void *unused)
{
    for (uintptr_t i = 0; i < BATCH; i++) {
        void *object = gc_alloc(64, 0);
        MUST(gc_finalize_new(object, note, 2, word(i), object));
    }
    return NULL;
}

static void arguments_do_not_keep_the_object(void **unused)
{
    apart(drop_cycles, NULL);
    gc_collect();
    assert_in_range(call_count, BATCH - SLACK, BATCH);
    gc_collect();
    assert_in_range(sh_weak_count(), 0, 2 * SLACK);
}

/* A chain of them, each of an object that only the one before leads to. */
static void *drop_chain(void *unused)
{
    void *object = gc_alloc(64, 0);
    held = object;
    for (uintptr_t i = 0; i < BATCH; i++) {
        void *next = gc_alloc(64, 0);
        MUST(gc_finalize_new(object, note, 2, word(i), next));
        object = next;
    }
    return NULL;
}

static void a_chain_is_kept_by_its_first(void **unused)
{
    apart(drop_chain, NULL);
    gc_collect();
    gc_collect();
    assert_int_equal(call_count, 0);
    held = NULL;
    clear_stack();
    gc_collect();
    assert_in_range(call_count, 0, BATCH);
    for (int i = 0; i < 3; i++)
        gc_collect();
    gc_sweep_all();
    assert_int_equal(call_count, BATCH);
}

/* ---- Asked and cancelled ---- */

static void it_can_be_asked(void **unused)
{
    void *object = gc_alloc(64, 0);
    struct gc_finalize *finalize = gc_finalize_new(object, note, 2, word(5), word(6));
    struct gc_finalize_info call = {NULL, 0, NULL};
    assert_true(gc_finalize_alive(finalize));
    assert_ptr_equal(gc_finalize_peek(finalize, NULL), object);
    assert_ptr_equal(gc_finalize_peek(finalize, &call), object);
    assert_ptr_equal(call.callback, note);
    assert_int_equal(call.count, 2);
    assert_ptr_equal(call.args[1], word(6));
    assert_true(gc_finalize_alive(finalize));
    assert_ptr_equal(gc_finalize_detach(finalize, &call), object);
    assert_ptr_equal(call.args[0], word(5));
    assert_false(gc_finalize_alive(finalize));
    assert_null(gc_finalize_detach(finalize, &call));
    assert_null(gc_finalize_peek(finalize, NULL));
    assert_false(gc_finalize_call(finalize));
    gc_free(object);
    gc_collect();
    assert_int_equal(call_count, 0);
    assert_int_equal(sh_weak_count(), 0);
}

static void it_can_be_called(void **unused)
{
    void *object = gc_alloc(64, 0);
    struct gc_finalize *finalize = gc_finalize_new(object, note, 1, word(5));
    assert_true(gc_finalize_call(finalize));
    assert_int_equal(call_count, 1);
    assert_int_equal(called[0], 5);
    assert_false(gc_finalize_alive(finalize));
    assert_false(gc_finalize_call(finalize));
    gc_free(object);
    gc_collect();
    assert_int_equal(call_count, 1);
}

static void one_that_is_queued_can_be_called_or_cancelled(void **unused)
{
    void *one = gc_alloc(64, 0), *other = gc_alloc(64, 0), *third = gc_alloc(64, 0);
    struct gc_finalize *a = gc_finalize_new(one, note, 1, word(1));
    struct gc_finalize *b = gc_finalize_new(other, note, 1, word(2));
    assert_non_null(gc_finalize_new(third, note, 1, word(3)));
    gc_free(one);
    gc_free(other);
    gc_free(third);
    assert_true(gc_finalize_alive(a) && gc_finalize_alive(b));
    assert_null(gc_finalize_peek(a, NULL));
    assert_true(gc_finalize_call(a));
    assert_null(gc_finalize_detach(b, NULL));
    assert_false(gc_finalize_alive(b));
    gc_collect();
    assert_int_equal(call_count, 2);
    assert_int_equal(called[0], 1);
    assert_int_equal(called[1], 3);
}

static void what_is_wrong_is_refused(void **unused)
{
    static char data[64];
    void *object = gc_alloc(64, 0);
    errno = 0;
    assert_null(gc_finalize_new(data, note, 0));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(gc_finalize_new(object, NULL, 0));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(gc_finalize_new_array(object, note, GC_FINALIZE_ARGS_MAX + 1, NULL));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(gc_finalize_new(object, note, 1u << 31));
    assert_int_equal(errno, EINVAL);
    gc_free(object);
    gc_collect();
    assert_int_equal(call_count, 0);
}

/* ---- Called by many ---- */

enum { THREADS = 4 };

static struct gc_finalize *shared[BATCH];
static _Atomic size_t calls, claimed;

static void count_call(unsigned count, void *const args[])
{
    calls++;
}

static void *call_all(void *unused)
{
    for (unsigned i = 0; i < BATCH; i++)
        claimed += gc_finalize_call(shared[i]);
    return NULL;
}

static void one_of_many_calls(void **unused)
{
    static void *objects[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        objects[i] = gc_alloc(64, 0);
        shared[i] = gc_finalize_new(objects[i], count_call, 0);
    }
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = start(call_all, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        join(threads[i]);
    assert_int_equal(calls, BATCH);
    assert_int_equal(claimed, BATCH);
    /* Or they hold what comes to lie there. */
    memset(objects, 0, sizeof objects);
    memset(shared, 0, sizeof shared);
}

/* ---- At exit ---- */

static int pipe_end;

static void write_letter(unsigned count, void *const args[])
{
    char letter = (char)(uintptr_t)args[0];
    MUST(write(pipe_end, &letter, 1) == 1);
}

static void exit_with_finalizes(void)
{
    static void *objects[26];
    for (unsigned i = 0; i < 26; i++) {
        objects[i] = gc_alloc(64, 0);
        struct gc_finalize *finalize =
            gc_finalize_new(objects[i], write_letter, 1, word('a' + i));
        MUST(!gc_finalize_set_at_exit(finalize, i != 2));
        if (i == 3)
            MUST(gc_finalize_set_at_exit(finalize, false));
        if (i == 4)
            gc_finalize_detach(finalize, NULL);
    }
    exit(0);
}

static void write_and_collect(unsigned count, void *const args[])
{
    write_letter(count, args);
    gc_collect();
}

static void write_of_ref(struct gc_weakref *ref, void *letter)
{
    write_letter(1, &letter);
}

static void write_of_object(void *object, void *letter)
{
    write_letter(1, &letter);
}

static void *drop_one_with_a_finaliser(void *unused)
{
    MUST(gc_set_finaliser(unseen(0), write_of_object, word('f')) == 0);
    return NULL;
}

static struct gc_weakref *volatile refs[6];

/* Their objects were freed; what calls back for that waits for a collection. */
static void exit_while_callbacks_wait(void)
{
    void *object, *dead = gc_alloc(64, 0);
    gc_set_finaliser_mode(GC_FINALISE_ON_DEMAND);
    apart(drop_one_with_a_finaliser, NULL);
    gc_collect();
    gc_set_finaliser_mode(GC_FINALISE_AT_ONCE);
    for (unsigned i = 0; i < 6; i++) {
        object = i % 2 ? gc_alloc(64, 0) : dead;
        refs[i] = gc_weakref_new(object, write_of_ref, word('r'));
        gc_finalize_set_at_exit(
            gc_finalize_new(object, write_and_collect, 1, word('a' + i)), i < 4);
        if (i % 2)
            gc_free(object);
    }
    gc_free(dead);
    exit(0);
}

static void write_and_exit(unsigned count, void *const args[])
{
    write_letter(count, args);
    exit(0);
}

static void *drop_one_that_exits(void *unused)
{
    (void)unused;
    MUST(gc_finalize_new(unseen(0), write_and_exit, 1, word('x')));
    return NULL;
}

static void exit_in_a_callback(void)
{
    static void *object;
    object = gc_alloc(64, 0);
    MUST(!gc_finalize_set_at_exit(
        gc_finalize_new(object, write_letter, 1, word('a')), true));
    apart(drop_one_that_exits, NULL);
    gc_collect();
    _exit(1);
}

static void assert_writes(void (*end)(void), const char *letters)
{
    int ends[2];
    char text[64] = "";
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        pipe_end = ends[1];
        end();
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t got;
         (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)got;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(text, letters);
}

/* The newest first; not those that were not asked for, or cancelled. */
static void at_exit_they_are_called(void **unused)
{
    assert_writes(exit_with_finalizes, "zyxwvutsrqponmlkjihgfba");
}

static void at_exit_no_other_callback_is_called(void **unused)
{
    assert_writes(exit_while_callbacks_wait, "dcba");
}

static void also_where_a_callback_calls_exit(void **unused)
{
    assert_writes(exit_in_a_callback, "xa");
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_is_called_once),
        TEST(it_waits_for_its_object),
        TEST(arguments_are_kept),
        TEST(arguments_do_not_keep_the_object),
        TEST(a_chain_is_kept_by_its_first),
        TEST(it_can_be_asked),
        TEST(it_can_be_called),
        TEST(one_that_is_queued_can_be_called_or_cancelled),
        TEST(what_is_wrong_is_refused),
        TEST(one_of_many_calls),
        TEST(at_exit_they_are_called),
        TEST(at_exit_no_other_callback_is_called),
        TEST(also_where_a_callback_calls_exit),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
