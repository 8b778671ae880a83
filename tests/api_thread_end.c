/* SPDX-License-Identifier: MIT */
/*
 * How threads and the process end while others allocate and collect: cancellation,
 * pthread_exit, thread-specific destructors, exit, quick_exit, abort.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/heap.h"

static _Atomic bool over;
static _Atomic uint32_t ready;
static pthread_t collector;

static void *collect_often(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        gc_collect();
        sleep_us(500);
    }
    return NULL;
}

static void begin_collecting(void)
{
    over = false;
    collector = start(collect_often, NULL);
}

static void end_collecting(void)
{
    over = true;
    join(collector);
}

/* ---- Threads ---- */

static void *allocate_and_test(void *unused)
{
    for (;;) {
        void *volatile p = gc_alloc(100, 0);
        MUST(p);
        sh_free(sh_malloc(500));
        pthread_testcancel();
    }
    return NULL;
}

/* It computes only: no function may be cancelled asynchronously, malloc least of all. */
static void *compute(void *unused)
{
    void *volatile p = gc_alloc(100, 0);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    sh_store_seq_cst(&ready, 1u);
    for (volatile unsigned i = 0;; i++)
        SH_KEEP(p);
    return NULL;
}

static void *wait_in_pause(void *unused)
{
    MUST(gc_thread_register() == 0);
    for (;;)
        pause();
    return NULL;
}

static void exit_deep(unsigned depth);
static void (*volatile go_deeper)(unsigned) = exit_deep;

static void exit_deep(unsigned depth)
{
    void *volatile p = gc_alloc(100, 0);
    if (depth > 0)
        go_deeper(depth - 1);
    MUST(p);
    pthread_exit((void *)7);
}

static void *exit_somewhere(void *unused)
{
    exit_deep(20);
    return NULL;
}

static void threads_are_cancelled(void **unused)
{
    size_t before = (gc_thread_register(), sh_registry_count());
    begin_collecting();
    for (int i = 0; i < 12; i++) {
        pthread_t one = start(allocate_and_test, NULL),
                  other = start(wait_in_pause, NULL);
        sh_store_seq_cst(&ready, 0u);
        pthread_t third = start(compute, NULL);
        while (!sh_load_relaxed(&ready))
            sleep_us(10);
        pthread_cancel(one);
        pthread_cancel(other);
        pthread_cancel(third);
        assert_ptr_equal(join(one), PTHREAD_CANCELED);
        assert_ptr_equal(join(other), PTHREAD_CANCELED);
        assert_ptr_equal(join(third), PTHREAD_CANCELED);
        assert_ptr_equal(join(start(exit_somewhere, NULL)), (void *)7);
    }
    end_collecting();
    assert_int_equal(sh_registry_count(), before);
}

static pthread_key_t keys[3];
static _Atomic unsigned destroyed;

static void destroy(void *p)
{
    MUST(filled(p, 60, 5) && gc_nbytes(p) >= 60);
    gc_free(p);
    sh_free(sh_malloc(1000));
    void *volatile q = gc_alloc(3000, 0);
    MUST(q);
    sh_add_relaxed(&destroyed, 1u);
}

static void *set_keys(void *unused)
{
    for (int i = 0; i < 3; i++) {
        void *p = i == 1 ? sh_malloc(60) : gc_alloc(60, 0);
        fill(p, 60, 5);
        pthread_setspecific(keys[i], p);
    }
    return NULL;
}

static void destructors_allocate_and_free(void **unused)
{
    for (int i = 0; i < 3; i++)
        pthread_key_create(&keys[i], destroy);
    begin_collecting();
    destroyed = 0;
    for (int i = 0; i < 100; i++) {
        pthread_t thread = start(set_keys, NULL);
        if (i % 2)
            join(thread);
        else
            pthread_detach(thread);
    }
    while (destroyed < 300)
        sleep_us(100);
    end_collecting();
}

/* ---- The process ---- */

static void *allocate_for_ever(void *unused)
{
    for (;;) {
        void *volatile p = gc_alloc(64, 0);
        MUST(p);
        sh_free(sh_malloc(64));
    }
    return NULL;
}

static void allocate_at_the_end(void)
{
    for (int i = 0; i < 100; i++) {
        void *volatile p = gc_alloc(200, 0);
        MUST(p);
        sh_free(sh_malloc(200));
    }
    gc_collect();
}

static void end_by(void *how)
{
    over = false;
    start(allocate_for_ever, NULL);
    start(allocate_for_ever, NULL);
    start(collect_often, NULL);
    atexit(allocate_at_the_end);
    at_quick_exit(allocate_at_the_end);
    sleep_us(3000);
    void (*end)(void) = *(void (**)(void))how;
    end();
}

static void by_exit(void)
{
    exit(0);
}

static void by_quick_exit(void)
{
    quick_exit(0);
}

static void *call(void *how)
{
    (*(void (**)(void))how)();
    return NULL;
}

static void by_exit_elsewhere(void)
{
    static void (*how)(void) = by_exit;
    join(start(call, &how));
}

static void by_abort(void)
{
    abort();
}

static void by_last_pthread_exit(void)
{
    over = true;
    pthread_exit(NULL); /* the others go on */
}

static void check_end(void (*how)(void), bool aborts)
{
    for (int i = 0; i < 4; i++) {
        struct child child;
        child_run(&child, end_by, &how);
        bool right =
            aborts ? WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT
                   : child_returned(&child);
        if (!right || *child.text)
            fail_msg("status %#x: %s", child.status, child.text);
    }
}

static void the_process_ends_while_threads_run(void **unused)
{
    check_end(by_exit, false);
    check_end(by_exit_elsewhere, false);
    check_end(by_quick_exit, false);
    check_end(by_abort, true);
}

static void *outlive(void *unused)
{
    sleep_us(5000);
    for (int i = 0; i < 10; i++)
        allocate_at_the_end();
    _exit(0);
}

static void leave_first(void *unused)
{
    start(outlive, NULL);
    void *volatile p = gc_alloc(30, 0);
    MUST(p);
    by_last_pthread_exit();
}

/* The kernel keeps the first thread's number until the process ends. */
static void the_first_thread_may_end_first(void **unused)
{
    struct child child;
    child_run(&child, leave_first, NULL);
    if (!child_returned(&child) || *child.text)
        fail_msg("status %#x: %s", child.status, child.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_cancelled),
        cmocka_unit_test(destructors_allocate_and_free),
        cmocka_unit_test(the_process_ends_while_threads_run),
        cmocka_unit_test(the_first_thread_may_end_first),
    };
    if (SH_TSAN)
        return 77; /* it does not end while threads run */
    return run_on_clean_stack(tests, NULL, NULL);
}
