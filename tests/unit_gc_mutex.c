/* SPDX-License-Identifier: MIT */
/* threads/gc_mutex.h: the semantics of gc_lock and of collecting, each by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/workers.h"

#define LATER_US 20000

static _Atomic uint32_t stage;

/* ---- One thread ---- */

static void locking_nests(void **unused)
{
    assert_false(sh_gc_mutex_is_locked());
    sh_gc_mutex_lock();
    sh_gc_mutex_lock();
    assert_int_equal(sh_tls.self->lock_depth, 2);
    assert_false(sh_gc_mutex_unlock());
    assert_true(sh_gc_mutex_is_locked());
    assert_true(sh_gc_mutex_unlock());
    assert_false(sh_gc_mutex_is_locked());
}

static void unlock_alone(void *unused)
{
    sh_gc_mutex_unlock();
}

static void unlock_a_collection(void *unused)
{
    sh_gc_mutex_collect_begin();
    sh_gc_mutex_unlock();
}

static void unlocking_without_a_lock_is_fatal(void **unused)
{
    static const char message[] = "splitheap: gc_unlock without gc_lock\n";
    struct child child;
    child_run(&child, unlock_alone, NULL);
    assert_true(child_aborted_with(&child, message));
    child_run(&child, unlock_a_collection, NULL);
    assert_true(child_aborted_with(&child, message));
}

static void lock_in_collection(void *unused)
{
    sh_gc_mutex_collect_begin();
    sh_gc_mutex_lock();
    sh_gc_mutex_collect_end();
}

static void ending_a_collection_inside_gc_lock_is_fatal(void **unused)
{
    struct child child;
    child_run(&child, lock_in_collection, NULL);
    assert_true(
        child_aborted_with(&child, "splitheap: gc_collect_end inside gc_lock\n"));
}

static void collecting_counts_as_locked(void **unused)
{
    sh_gc_mutex_collect_begin();
    assert_true(sh_gc_mutex_is_locked());
    assert_true(sh_tls.self->collecting);
    assert_int_equal(sh_tls.self->lock_depth, 1);
    sh_gc_mutex_collect_end();
    assert_false(sh_gc_mutex_is_locked());
    assert_false(sh_tls.self->collecting);
}

static void the_collector_can_lock(void **unused)
{
    sh_gc_mutex_collect_begin();
    sh_gc_mutex_lock();
    assert_int_equal(sh_tls.self->lock_depth, 2);
    assert_false(sh_gc_mutex_unlock());
    assert_true(sh_gc_mutex_is_locked());
    sh_gc_mutex_collect_end();
}

/* ---- Two threads ---- */

static void *lock_until_told(void *unused)
{
    sh_gc_mutex_lock();
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    sh_gc_mutex_unlock();
    return NULL;
}

static pthread_t start_holder(void)
{
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(lock_until_told, NULL);
    await_flag(&stage, 1);
    return thread;
}

static void end_holder(pthread_t thread)
{
    set_flag(&stage, 2);
    join(thread);
}

static void several_threads_lock_at_once(void **unused)
{
    pthread_t holder = start_holder();
    sh_gc_mutex_lock();
    assert_true(sh_gc_mutex_is_locked());
    assert_true(sh_gc_mutex_unlock());
    end_holder(holder);
}

static void is_locked_speaks_of_the_caller(void **unused)
{
    pthread_t holder = start_holder();
    assert_false(sh_gc_mutex_is_locked());
    end_holder(holder);
}

static void trying_to_collect_does_not_wait_for_gc_lock(void **unused)
{
    pthread_t holder = start_holder();
    assert_false(sh_gc_mutex_collect_try());
    assert_false(sh_world_stop_to_collect(false, true, NULL));
    assert_false(sh_gc_mutex_is_locked());
    assert_int_equal(sh_tls.critical, 0);
    end_holder(holder);
    assert_true(sh_gc_mutex_collect_try());
    sh_gc_mutex_collect_end();
}

static _Atomic uint32_t collected;

static void *collect(void *unused)
{
    sh_gc_mutex_collect_begin();
    set_flag(&collected, 1);
    sh_gc_mutex_collect_end();
    return NULL;
}

static void *collect_stopping(void *unused)
{
    stop_to_collect();
    sh_store_seq_cst(&collected, 1);
    resume();
    return NULL;
}

static void check_collecting_waits(void *(*routine)(void *))
{
    pthread_t holder = start_holder();
    sh_store_relaxed(&collected, 0);
    pthread_t collector = start(routine, NULL);
    sleep_us(LATER_US);
    assert_int_equal(sh_load_relaxed(&collected), 0);
    end_holder(holder);
    join(collector);
    assert_int_equal(sh_load_relaxed(&collected), 1);
}

static void collecting_waits_for_gc_lock(void **unused)
{
    check_collecting_waits(collect);
    check_collecting_waits(collect_stopping);
}

static void a_waiting_collector_keeps_nobody_from_locking(void **unused)
{
    pthread_t holder = start_holder();
    sh_store_relaxed(&collected, 0);
    pthread_t collector = start(collect, NULL);
    sleep_us(LATER_US);
    sh_gc_mutex_lock();
    end_holder(holder);
    sleep_us(LATER_US);
    assert_int_equal(sh_load_relaxed(&collected), 0);
    assert_true(sh_gc_mutex_unlock());
    join(collector);
}

static _Atomic uint32_t locked;

static void *lock_once(void *unused)
{
    sh_gc_mutex_lock();
    set_flag(&locked, 1);
    sh_gc_mutex_unlock();
    return NULL;
}

static void locking_waits_for_a_collection(void **unused)
{
    sh_store_relaxed(&locked, 0);
    sh_gc_mutex_collect_begin();
    pthread_t thread = start(lock_once, NULL);
    sleep_us(LATER_US);
    assert_int_equal(sh_load_relaxed(&locked), 0);
    sh_gc_mutex_collect_end();
    join(thread);
    assert_int_equal(sh_load_relaxed(&locked), 1);
}

static void *try_once(void *unused)
{
    MUST(!sh_gc_mutex_collect_try());
    set_flag(&locked, 1);
    return NULL;
}

static void trying_waits_for_a_collection_and_is_content(void **unused)
{
    sh_store_relaxed(&locked, 0);
    sh_gc_mutex_collect_begin();
    pthread_t thread = start(try_once, NULL);
    sleep_us(LATER_US);
    assert_int_equal(sh_load_relaxed(&locked), 0);
    sh_gc_mutex_collect_end();
    join(thread);
}

/* Who waits stands still in the eyes of a collector, and goes on after it. */
static void who_waits_can_be_stopped(void **unused)
{
    pthread_t threads[3];
    sh_store_relaxed(&collected, 0);
    sh_store_relaxed(&locked, 0);
    sh_gc_mutex_collect_begin();
    threads[0] = start(lock_once, NULL);
    threads[1] = start(collect, NULL);
    threads[2] = start(collect_stopping, NULL);
    sleep_us(LATER_US);
    for (int i = 0; i < 10; i++) {
        sh_critical_enter();
        sh_world_stop();
        sh_world_resume();
        sh_critical_leave();
    }
    assert_int_equal(sh_load_relaxed(&locked), 0);
    assert_int_equal(sh_load_relaxed(&collected), 0);
    sh_gc_mutex_collect_end();
    for (int i = 0; i < 3; i++)
        join(threads[i]);
}

/* ---- Threads that end ---- */

static void *lock_and_end(void *unused)
{
    sh_gc_mutex_lock();
    sh_gc_mutex_lock();
    return NULL;
}

static void a_thread_that_ends_gives_its_lock_up(void **unused)
{
    join(start(lock_and_end, NULL));
    assert_true(sh_gc_mutex_collect_try());
    sh_gc_mutex_collect_end();
}

static void *collect_and_end(void *unused)
{
    sh_gc_mutex_collect_begin();
    return NULL;
}

static void end_collecting(void *unused)
{
    join(start(collect_and_end, NULL));
}

static void a_collecting_thread_must_not_end(void **unused)
{
    struct child child;
    child_run(&child, end_collecting, NULL);
    assert_true(child_aborted_with(&child,
        "splitheap: a thread ended between gc_collect_start and gc_collect_end\n"));
}

static void *lock_after_the_end(void *unused)
{
    sh_thread_leave(true);
    MUST(!sh_gc_mutex_is_locked());
    sh_gc_mutex_lock();
    sh_gc_mutex_lock();
    MUST(sh_gc_mutex_is_locked());
    MUST(!sh_gc_mutex_unlock() && sh_gc_mutex_unlock());
    MUST(!sh_gc_mutex_is_locked());
    sh_gc_mutex_collect_begin();
    MUST(sh_gc_mutex_is_locked());
    sh_gc_mutex_collect_end();
    return NULL;
}

static void an_ended_thread_can_lock_and_collect(void **unused)
{
    join(start(lock_after_the_end, NULL));
    assert_true(sh_gc_mutex_collect_try());
    sh_gc_mutex_collect_end();
}

/* ---- Many ---- */

static _Atomic int inside_lock, inside_collection;
static _Atomic bool over;

static void *lock_often(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        sh_gc_mutex_lock();
        sh_add_seq_cst(&inside_lock, 1);
        MUST(sh_load_seq_cst(&inside_collection) == 0);
        sh_sub_seq_cst(&inside_lock, 1);
        sh_gc_mutex_unlock();
        sleep_us(10);
    }
    return NULL;
}

static void *collect_often(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        sh_gc_mutex_collect_begin();
        MUST(sh_add_seq_cst(&inside_collection, 1) == 0);
        MUST(sh_load_seq_cst(&inside_lock) == 0);
        sh_sub_seq_cst(&inside_collection, 1);
        sh_gc_mutex_collect_end();
    }
    return NULL;
}

static void locks_and_collections_exclude_each_other(void **unused)
{
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        threads[i] = start(i % 2 ? lock_often : collect_often, NULL);
    sleep_us(300000);
    sh_store_relaxed(&over, true);
    for (int i = 0; i < 6; i++)
        join(threads[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locking_nests),
        cmocka_unit_test(unlocking_without_a_lock_is_fatal),
        cmocka_unit_test(ending_a_collection_inside_gc_lock_is_fatal),
        cmocka_unit_test(collecting_counts_as_locked),
        cmocka_unit_test(the_collector_can_lock),
        cmocka_unit_test(several_threads_lock_at_once),
        cmocka_unit_test(is_locked_speaks_of_the_caller),
        cmocka_unit_test(trying_to_collect_does_not_wait_for_gc_lock),
        cmocka_unit_test(collecting_waits_for_gc_lock),
        cmocka_unit_test(a_waiting_collector_keeps_nobody_from_locking),
        cmocka_unit_test(locking_waits_for_a_collection),
        cmocka_unit_test(trying_waits_for_a_collection_and_is_content),
        cmocka_unit_test(who_waits_can_be_stopped),
        cmocka_unit_test(a_thread_that_ends_gives_its_lock_up),
        cmocka_unit_test(a_collecting_thread_must_not_end),
        cmocka_unit_test(an_ended_thread_can_lock_and_collect),
        cmocka_unit_test(locks_and_collections_exclude_each_other),
    };
    sh_thread_enter();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
