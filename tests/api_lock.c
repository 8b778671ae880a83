/* SPDX-License-Identifier: MIT */
/* gc_lock, gc_unlock, gc_is_locked: what a thread inside may do, and what others. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {1, 16, 100, 4096, 32768, 100000, 40 << 20};
#define SIZES (sizeof sizes / sizeof sizes[0])

/* ---- The thread inside ---- */

static void a_locked_threads_alloc_returns_null(void **unused)
{
    for (size_t i = 0; i < SIZES; i++)
        for (unsigned flags = 0; flags < 4; flags++)
            gc_free(gc_alloc(sizes[i], flags)); /* so that the fast path has a cell */
    gc_lock();
    for (size_t i = 0; i < SIZES; i++)
        for (unsigned flags = 0; flags < 4; flags++)
            assert_null(gc_alloc(sizes[i], flags));
    gc_unlock();
    for (size_t i = 0; i < SIZES; i++) {
        for (unsigned flags = 0; flags < 4; flags++) {
            void *p = gc_alloc(sizes[i], flags);
            assert_non_null(p);
            gc_free(p);
        }
    }
}

static void a_locked_threads_realloc_returns_null(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = gc_alloc(sizes[i], 0);
        fill(p, sizes[i], 1);
        gc_lock();
        assert_null(gc_realloc(p, sizes[i], true));
        assert_null(gc_realloc(p, sizes[i], false));
        assert_null(gc_realloc(p, 2 * sizes[i], true));
        assert_null(gc_realloc(NULL, sizes[i], true));
        gc_unlock();
        assert_true(gc_nbytes(p) >= sizes[i] && filled(p, sizes[i], 1));
        gc_free(p);
    }
}

static void a_locked_threads_free_is_put_off(void **unused)
{
    for (size_t i = 0; i < SIZES; i++) {
        void *p = gc_alloc(sizes[i], 0), *q = sh_malloc(sizes[i]);
        void *r = gc_alloc(sizes[i], 0);
        fill(p, sizes[i], 2);
        gc_lock();
        errno = EDOM;
        gc_free(p);
        gc_free(q);
        gc_free(NULL);
        assert_null(gc_realloc(r, 0, true));
        assert_int_equal(errno, EDOM);
        assert_true(gc_nbytes(p) >= sizes[i] && gc_nbytes(q) >= sizes[i]);
        assert_true(gc_nbytes(r) >= sizes[i]);
        assert_true(filled(p, sizes[i], 2));
        gc_unlock();
        assert_int_equal(gc_nbytes(p), 0);
        assert_int_equal(gc_nbytes(q), 0);
        assert_int_equal(gc_nbytes(r), 0);
    }
}

static void as_many_frees_as_there_are_are_put_off(void **unused)
{
    static void *at[20000];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 20000; i++)
            at[i] = i % 2 ? gc_alloc(i % 300 + 1, 0) : sh_malloc(i % 300);
        gc_lock();
        for (size_t i = 0; i < 20000; i++)
            gc_free(at[i]);
        for (size_t i = 0; i < 20000; i++)
            assert_true(gc_nbytes(at[i]) > 0);
        gc_unlock();
        for (size_t i = 0; i < 20000; i++)
            assert_int_equal(gc_nbytes(at[i]), 0);
    }
    memset(at, 0, sizeof at);
}

/* Only at the last gc_unlock. */
static void locks_nest(void **unused)
{
    void *p = gc_alloc(100, 0);
    for (int i = 0; i < 100; i++)
        gc_lock();
    gc_free(p);
    for (int i = 0; i < 99; i++) {
        gc_unlock();
        assert_true(gc_is_locked());
        assert_null(gc_alloc(16, 0));
        assert_true(gc_nbytes(p) > 0);
    }
    gc_unlock();
    assert_false(gc_is_locked());
    assert_int_equal(gc_nbytes(p), 0);
    assert_non_null(gc_alloc(16, 0));
}

static void a_locked_threads_collect_does_nothing(void **unused)
{
    static struct batch batch;
    batch = (struct batch){.size = 48};
    in_thread(make_batch, &batch);
    clear_stack();
    gc_lock();
    gc_collect();
    gc_collect_start();
    gc_collect_end();
    assert_int_equal(count_live(&batch), BATCH);
    gc_unlock();
    gc_collect();
    assert_in_range(count_live(&batch), 0, SLACK);
}

/* Neither may gc_sweep_all take what it could not finalise. */
static void a_locked_threads_sweep_all_does_nothing(void **unused)
{
    void *p = gc_alloc(100, 0);
    gc_lock();
    gc_sweep_all();
    assert_true(gc_nbytes(p) > 0);
    gc_unlock();
}

static void looking_is_allowed_inside(void **unused)
{
    gc_info_t info;
    gc_lock();
    gc_info(&info);
    assert_true(info.total > 0);
    gc_info_fast(&info);
    assert_true(info.total > 0);
    gc_unlock();
}

/* As in a collection: gc_lock inside gc_collect_start and _end is a nesting. */
static void a_collection_of_ones_own_is_locked(void **unused)
{
    gc_collect_start();
    assert_true(gc_is_locked());
    gc_lock();
    gc_unlock();
    assert_true(gc_is_locked());
    gc_collect_end();
    assert_false(gc_is_locked());
    struct sh_cache *cache = sh_tls.self->cache;
    assert_ptr_equal(sh_my_cache, cache); /* the fast paths are back */
}

/* ---- Others ---- */

static _Atomic uint32_t step;

static void *use_the_heap(void *unused)
{
    MUST(!gc_is_locked());
    for (size_t i = 0; i < SIZES; i++) {
        void *p = gc_alloc(sizes[i], 0);
        MUST(p);
        p = gc_realloc(p, sizes[i] + 100, true);
        MUST(p);
        gc_free(p);
        MUST(gc_nbytes(p) == 0);
    }
    return NULL;
}

static void others_allocate_and_free_meanwhile(void **unused)
{
    gc_lock();
    in_thread(use_the_heap, NULL);
    gc_unlock();
}

static void *collect(void *unused)
{
    set_flag(&step, 1);
    gc_collect();
    set_flag(&step, 2);
    return NULL;
}

static void an_explicit_collect_elsewhere_waits(void **unused)
{
    step = 0;
    gc_lock();
    pthread_t thread = start(collect, NULL);
    await_flag(&step, 1);
    sleep_us(50000);
    assert_int_equal(step, 1);
    gc_unlock();
    join(thread);
    assert_int_equal(step, 2);
}

static void *lock_until_3(void *unused)
{
    gc_lock();
    set_flag(&step, 1);
    await_flag(&step, 3);
    gc_unlock();
    return NULL;
}

static void several_are_inside_at_once(void **unused)
{
    step = 0;
    pthread_t thread = start(lock_until_3, NULL);
    await_flag(&step, 1);
    gc_lock();
    assert_true(gc_is_locked());
    gc_unlock();
    assert_false(gc_is_locked());
    assert_non_null(gc_alloc(16, 0));
    set_flag(&step, 3);
    join(thread);
}

/* What allocation wants collected makes the heap grow instead, and is counted on. */
static void an_allocation_that_wants_a_collection_does_not_wait(void **unused)
{
    static struct batch batch;
    step = 0;
    pthread_t thread = start(lock_until_3, NULL);
    await_flag(&step, 1);
    size_t before = gc_set_threshold(MIB);
    batch = (struct batch){.size = 32000};
    make_batch(&batch);
    assert_int_equal(count_live(&batch), BATCH);
    set_flag(&step, 3);
    join(thread);
    in_thread(make_batch, &batch);
    clear_stack();
    gc_collect();
    assert_true(count_live(&batch) < BATCH / 2);
    gc_set_threshold(before);
}

/* ---- Many, deep, across a collection that is wanted ---- */

#define DEEP 1000
#define LOCKERS 8

static _Atomic uint32_t inside, outside;

static void *lock_deep(void *unused)
{
    void *p = gc_alloc(64, 0), *q = sh_malloc(64);
    for (int i = 0; i < DEEP; i++)
        gc_lock();
    gc_free(p);
    gc_free(q);
    sh_add_seq_cst(&inside, 1u);
    while (sh_load_relaxed(&inside) < LOCKERS)
        sleep_us(100);
    for (int i = 0; i < DEEP; i++) {
        MUST(gc_is_locked() && !gc_alloc(16, 0));
        MUST(gc_nbytes(p) > 0 && gc_nbytes(q) > 0);
        gc_collect();
        if (i == DEEP / 2)
            sleep_us(20000);
        gc_unlock();
    }
    MUST(!gc_is_locked() && gc_nbytes(p) == 0 && gc_nbytes(q) == 0);
    sh_add_seq_cst(&outside, 1u);
    return NULL;
}

/* Meanwhile one allocates, which wants collections and gets none, and one waits. */
static void many_lock_deep_across_a_wanted_collection(void **unused)
{
    pthread_t lockers[LOCKERS];
    inside = outside = step = 0;
    size_t before = gc_set_threshold(MIB);
    for (int i = 0; i < LOCKERS; i++)
        lockers[i] = start(lock_deep, NULL);
    while (sh_load_relaxed(&inside) < LOCKERS)
        sleep_us(100);
    pthread_t collector = start(collect, NULL);
    static struct batch batch;
    batch = (struct batch){.size = 16000};
    make_batch(&batch);
    join(collector);
    assert_int_equal(step, 2);
    for (int i = 0; i < LOCKERS; i++)
        join(lockers[i]);
    assert_int_equal(outside, LOCKERS);
    gc_set_threshold(before);
}

static void *start_and_end(void *unused)
{
    gc_collect_start();
    set_flag(&step, 1);
    sleep_us(50000);
    set_flag(&step, 2);
    gc_collect_end();
    return NULL;
}

static void a_lock_waits_for_the_collection_under_way(void **unused)
{
    step = 0;
    pthread_t thread = start(start_and_end, NULL);
    while (step == 0)
        sleep_us(100);
    gc_lock();
    assert_int_equal(step, 2);
    gc_unlock();
    join(thread);
}

static void *end_inside(void *arg)
{
    void **at = arg;
    gc_lock();
    gc_lock();
    for (size_t i = 0; i < 2000; i++)
        gc_free(at[i]);
    return NULL;
}

/* The lock is given up, and what it put off is freed all the same. */
static void a_thread_may_end_inside(void **unused)
{
    static void *at[2000];
    for (size_t i = 0; i < 2000; i++)
        at[i] = sh_malloc(i % 200);
    in_thread(end_inside, at);
    gc_collect();
    for (size_t i = 0; i < 2000; i++)
        assert_int_equal(gc_nbytes(at[i]), 0);
    memset(at, 0, sizeof at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_locked_threads_alloc_returns_null),
        cmocka_unit_test(a_locked_threads_realloc_returns_null),
        cmocka_unit_test(a_locked_threads_free_is_put_off),
        cmocka_unit_test(as_many_frees_as_there_are_are_put_off),
        cmocka_unit_test(locks_nest),
        cmocka_unit_test(a_locked_threads_collect_does_nothing),
        cmocka_unit_test(a_locked_threads_sweep_all_does_nothing),
        cmocka_unit_test(looking_is_allowed_inside),
        cmocka_unit_test(a_collection_of_ones_own_is_locked),
        cmocka_unit_test(others_allocate_and_free_meanwhile),
        cmocka_unit_test(an_explicit_collect_elsewhere_waits),
        cmocka_unit_test(several_are_inside_at_once),
        cmocka_unit_test(an_allocation_that_wants_a_collection_does_not_wait),
        cmocka_unit_test(a_lock_waits_for_the_collection_under_way),
        cmocka_unit_test(many_lock_deep_across_a_wanted_collection),
        cmocka_unit_test(a_thread_may_end_inside),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
