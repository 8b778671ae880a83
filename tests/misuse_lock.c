/* SPDX-License-Identifier: MIT */
/* gc_lock, gc_unlock and the collection's begin and end, unpaired. */
#include "tests/misuse.h"

static void unlock(void *unused)
{
    gc_unlock();
}

static void lock_and_unlock_twice(void *unused)
{
    gc_lock();
    gc_unlock();
    gc_unlock();
}

static void lock_twice_and_unlock_three_times(void *unused)
{
    gc_lock();
    gc_lock();
    gc_unlock();
    gc_unlock();
    gc_unlock();
}

static void *unlock_elsewhere(void *unused)
{
    gc_unlock();
    return NULL;
}

static void lock_here_unlock_there(void *unused)
{
    gc_lock();
    in_thread(unlock_elsewhere, NULL);
}

static void *use_the_heap_and_unlock(void *unused)
{
    gc_free(gc_alloc(10, 0));
    gc_unlock();
    return NULL;
}

static void lock_here_unlock_there_registered(void *unused)
{
    gc_lock();
    in_thread(use_the_heap_and_unlock, NULL);
}

static void unlock_a_collection(void *unused)
{
    gc_collect_start();
    gc_unlock();
}

static void more_unlocks_than_locks(void **unused)
{
    static const char *const message = "gc_unlock without gc_lock";
    expect_end(unlock, NULL, "%s", message);
    expect_end(lock_and_unlock_twice, NULL, "%s", message);
    expect_end(lock_twice_and_unlock_three_times, NULL, "%s", message);
    expect_end(lock_here_unlock_there, NULL, "%s", message);
    expect_end(lock_here_unlock_there_registered, NULL, "%s", message);
    expect_end(unlock_a_collection, NULL, "%s", message);
}

static void end_inside_a_lock(void *unused)
{
    gc_collect_start();
    gc_lock();
    gc_collect_end();
}

static void a_collection_ends_inside_a_lock_of_its_own(void **unused)
{
    expect_end(end_inside_a_lock, NULL, "gc_collect_end inside gc_lock");
}

static void *only_start(void *unused)
{
    gc_collect_start();
    return NULL;
}

static void start_in_a_thread(void *unused)
{
    in_thread(only_start, NULL);
}

static void a_thread_ends_while_it_collects(void **unused)
{
    expect_end(start_in_a_thread, NULL,
        "a thread ended between gc_collect_start and gc_collect_end");
}

static void begin_twice(void *unused)
{
    gc_blocking_begin();
    gc_blocking_begin();
}

static void end_only(void *unused)
{
    gc_blocking_end();
}

static void blocking_unpaired(void **unused)
{
    gc_thread_register();
    expect_end(begin_twice, NULL, "gc_blocking_begin inside gc_blocking_begin");
    expect_end(end_only, NULL, "gc_blocking_end without gc_blocking_begin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_unlocks_than_locks),
        cmocka_unit_test(a_collection_ends_inside_a_lock_of_its_own),
        cmocka_unit_test(a_thread_ends_while_it_collects),
        cmocka_unit_test(blocking_unpaired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
