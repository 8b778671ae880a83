/* SPDX-License-Identifier: MIT */
/* Threads as the heap sees them: how they come and go, block, and fork. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static _Atomic uint32_t step;

/* ---- Coming ---- */

static void *allocate_first(void *unused)
{
    void *volatile p = gc_alloc(100, 0);
    MUST(p && sh_tls.self);
    fill(p, 100, 1);
    set_flag(&step, 1);
    await_flag(&step, 2);
    MUST(gc_nbytes(p) >= 100 && filled(p, 100, 1));
    return NULL;
}

static void the_first_allocation_registers(void **unused)
{
    step = 0;
    assert_int_equal(gc_thread_register(), 0);
    size_t before = sh_registry_count();
    pthread_t thread = start(allocate_first, NULL);
    await_flag(&step, 1);
    assert_int_equal(sh_registry_count(), before + 1);
    gc_collect();
    gc_collect();
    set_flag(&step, 2);
    join(thread);
    assert_int_equal(sh_registry_count(), before);
}

static void *register_and_hold(void *arg)
{
    MUST(gc_thread_register() == 0);
    MUST(gc_thread_register() == 0);
    void *volatile p = reveal(*(uintptr_t *)arg);
    set_flag(&step, 1);
    await_flag(&step, 2);
    MUST(filled(p, 100, 7));
    p = NULL;
    gc_thread_unregister();
    gc_thread_unregister();
    set_flag(&step, 3);
    await_flag(&step, 4);
    MUST(gc_thread_register() == 0);
    void *q = gc_alloc(100, 0);
    MUST(q);
    gc_thread_unregister();
    return NULL;
}

static SH_NOINLINE uintptr_t make_hidden(void)
{
    void *p = gc_alloc(100, 0);
    fill(p, 100, 7);
    return hide(p);
}

static void registering_by_hand_makes_a_stack_a_root(void **unused)
{
    step = 0;
    assert_int_equal(gc_thread_register(), 0);
    size_t before = sh_registry_count();
    uintptr_t hidden = make_hidden();
    gc_lock(); /* until the thread holds it */
    pthread_t thread = start(register_and_hold, &hidden);
    await_flag(&step, 1);
    gc_unlock();
    clear_stack();
    gc_collect();
    gc_collect();
    set_flag(&step, 2);
    await_flag(&step, 3);
    assert_int_equal(sh_registry_count(), before);
    set_flag(&step, 4);
    join(thread);
}

/* ---- Going ---- */

static void *leave_by_exit(void *unused)
{
    gc_free(gc_alloc(100, 0));
    pthread_exit(NULL);
}

static void *wait_to_be_cancelled(void *unused)
{
    gc_free(gc_alloc(100, 0));
    set_flag(&step, 1);
    for (;;)
        pause();
    return NULL;
}

static void *just_return(void *unused)
{
    gc_free(gc_alloc(100, 0));
    return NULL;
}

static void threads_go_in_every_way(void **unused)
{
    assert_int_equal(gc_thread_register(), 0);
    size_t before = sh_registry_count();
    for (int i = 0; i < 20; i++) {
        in_thread(just_return, NULL);
        in_thread(leave_by_exit, NULL);
        step = 0;
        pthread_t thread = start(wait_to_be_cancelled, NULL);
        await_flag(&step, 1);
        pthread_cancel(thread);
        assert_ptr_equal(join(thread), PTHREAD_CANCELED);
        assert_int_equal(sh_registry_count(), before);
        gc_collect();
    }
}

static pthread_key_t key;
static _Atomic unsigned destroyed;

/* In every round; but the thread sanitizer knows the thread no more in the last. */
#define ROUNDS (SH_TSAN ? 2 : 100)

/* Frees, allocates and sets itself again. */
static void destroy(void *p)
{
    destroyed++;
    MUST(filled(p, 50, 3));
    gc_free(p);
    if (destroyed == ROUNDS)
        return;
    void *q = sh_malloc(50);
    fill(q, 50, 3);
    MUST(pthread_setspecific(key, q) == 0);
}

static void *set_key(void *unused)
{
    void *p = gc_alloc(50, 0);
    fill(p, 50, 3);
    MUST(pthread_setspecific(key, p) == 0);
    return NULL;
}

static void destructors_use_the_heap(void **unused)
{
    assert_int_equal(pthread_key_create(&key, destroy), 0);
    for (int i = 0; i < 50; i++) {
        destroyed = 0;
        in_thread(set_key, NULL);
        assert_true(destroyed >= 2);
    }
    pthread_key_delete(key);
}

/* ---- What they leave behind ---- */

#define LEFT 2000

static void *left[LEFT];

static void *leave_objects(void *unused)
{
    for (size_t i = 0; i < LEFT; i++) {
        left[i] = sh_malloc(i % 500);
        fill(left[i], i % 500, (unsigned)i);
    }
    return NULL;
}

static void *free_left(void *unused)
{
    for (size_t i = 0; i < LEFT; i++) {
        MUST(filled(left[i], i % 500, (unsigned)i));
        sh_free(left[i]);
    }
    return NULL;
}

static size_t total_bytes(void)
{
    gc_info_t info;
    gc_info_fast(&info);
    return info.used;
}

static void what_a_dead_thread_left_is_freed_and_used_again(void **unused)
{
    size_t early = 0;
    for (int round = 0; round < 60; round++) {
        in_thread(leave_objects, NULL);
        in_thread(free_left, NULL);
        if (round == 10)
            early = total_bytes();
    }
    assert_true(total_bytes() <= early + 2 * MIB);
}

/* New threads adopt what others left half empty, instead of taking more. */
static void dead_threads_spans_are_adopted(void **unused)
{
    size_t early = 0;
    for (int round = 0; round < 60; round++) {
        in_thread(leave_objects, NULL);
        for (size_t i = 0; i < LEFT; i++)
            if (i % 8)
                sh_free(left[i]);
        if (round == 10)
            early = total_bytes();
    }
    /* An eighth of what 49 rounds left stays, and little else. */
    size_t kept = 49 * LEFT / 8 * 290;
    assert_true(total_bytes() <= early + 2 * kept);
}

static uintptr_t hidden_left[BATCH];

static void *leave_collected(void *unused)
{
    for (size_t i = 0; i < BATCH; i++) {
        void *p = gc_alloc(200, 0);
        fill(p, 200, (unsigned)i);
        left[i] = p;
        hidden_left[i] = hide(p);
    }
    return NULL;
}

static void collected_objects_outlive_their_thread(void **unused)
{
    memset(left, 0, sizeof left);
    in_thread(leave_collected, NULL);
    gc_collect();
    for (size_t i = 0; i < BATCH; i++)
        assert_true(filled(left[i], 200, (unsigned)i));
    memset(left, 0, sizeof left);
    clear_stack();
    gc_collect();
    size_t live = 0;
    for (size_t i = 0; i < BATCH; i++)
        live += gc_nbytes(reveal(hidden_left[i])) != 0;
    assert_in_range(live, 0, SLACK);
}

/* ---- Blocking ---- */

static void *block(void *unused)
{
    void *volatile p = gc_alloc(300, 0);
    fill(p, 300, 5);
    errno = EDOM;
    gc_blocking_begin();
    MUST(errno == EDOM);
    set_flag(&step, 1);
    await_flag(&step, 2);
    gc_blocking_end();
    MUST(filled(p, 300, 5) && gc_nbytes(p) >= 300);
    return NULL;
}

static void a_blocking_thread_is_not_waited_for_and_holds(void **unused)
{
    step = 0;
    pthread_t thread = start(block, NULL);
    await_flag(&step, 1);
    for (int i = 0; i < 10; i++)
        gc_collect();
    set_flag(&step, 2);
    join(thread);
}

static void blocking_in_a_thread_that_is_not_known_does_nothing(void **unused)
{
    gc_thread_unregister();
    gc_blocking_begin();
    gc_blocking_end();
    assert_int_equal(gc_thread_register(), 0);
}

/* ---- Forking ---- */

static _Atomic bool over;

static void *churn(void *number)
{
    struct random random = {.state = (uintptr_t)number + 1};
    void *own[50] = {NULL};
    while (!sh_load_relaxed(&over)) {
        size_t i = random_below(&random, 50);
        if (i % 2)
            sh_free(own[i]);
        own[i] = i % 2 ? sh_malloc(random_below(&random, 1000))
                       : gc_alloc(random_below(&random, 1000) + 1, 0);
    }
    for (size_t i = 1; i < 50; i += 2)
        sh_free(own[i]);
    return NULL;
}

/* In the child: it has what the parent had, and its heap works. */
static void use_the_childs_heap(void *kept)
{
    MUST(filled(kept, 500, 9));
    for (int i = 0; i < 3; i++) {
        for (size_t size = 1; size < 60000; size = size * 3 / 2 + 1) {
            void *p = gc_alloc(size, 0), *q = sh_malloc(size);
            MUST(p && q && all_zero(p, size));
            gc_free(p);
            sh_free(q);
        }
        gc_collect();
    }
    MUST(filled(kept, 500, 9));
    gc_free(kept);
    MUST(gc_nbytes(kept) == 0);
#if SH_INTERPOSE /* a sanitizer's locks are not freed in a child */
    in_thread(just_return, NULL);
    gc_collect();
#endif
}

static void a_threaded_program_forks(void **unused)
{
    pthread_t threads[4];
    over = false;
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(churn, (void *)i);
    static void *kept;
    for (int i = 0; i < 30; i++) {
        kept = gc_alloc(500, 0);
        fill(kept, 500, 9);
        struct child child;
        child_run(&child, use_the_childs_heap, kept);
        if (!child_returned(&child))
            fail_msg("status %#x: %s", child.status, child.text);
        assert_true(filled(kept, 500, 9));
    }
    kept = NULL;
    gc_collect();
    over = true;
    for (int i = 0; i < 4; i++)
        join(threads[i]);
}

/* After a collection, and with remote frees waiting to be taken back. */
static void *free_each(void *arg)
{
    void **at = arg;
    for (size_t i = 0; i < LEFT; i++)
        sh_free(at[i]);
    return NULL;
}

static void use_all_classes(void *kept)
{
    for (int i = 0; i < 3; i++) {
        for (size_t n = 0; n < LEFT; n++)
            left[n] = n % 2 ? gc_alloc(n % 500 + 1, 0) : sh_malloc(n % 500);
        for (size_t n = 0; n < LEFT; n++)
            gc_free(left[n]);
        gc_collect();
    }
    MUST(filled(kept, 500, 9));
}

static void forking_with_frees_under_way(void **unused)
{
    static void *kept;
    kept = gc_alloc(500, 0);
    fill(kept, 500, 9);
    for (int i = 0; i < 10; i++) {
        for (size_t n = 0; n < LEFT; n++)
            left[n] = n % 2 ? gc_alloc(n % 500 + 1, 0) : sh_malloc(n % 500);
        in_thread(free_each, left);
        if (i % 2)
            gc_collect();
        struct child child;
        child_run(&child, use_all_classes, kept);
        if (!child_returned(&child))
            fail_msg("status %#x: %s", child.status, child.text);
        use_all_classes(kept);
    }
    gc_free(kept);
    kept = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_allocation_registers),
        cmocka_unit_test(registering_by_hand_makes_a_stack_a_root),
        cmocka_unit_test(threads_go_in_every_way),
        cmocka_unit_test(destructors_use_the_heap),
        cmocka_unit_test(what_a_dead_thread_left_is_freed_and_used_again),
        cmocka_unit_test(dead_threads_spans_are_adopted),
        cmocka_unit_test(collected_objects_outlive_their_thread),
        cmocka_unit_test(a_blocking_thread_is_not_waited_for_and_holds),
        cmocka_unit_test(blocking_in_a_thread_that_is_not_known_does_nothing),
        cmocka_unit_test(a_threaded_program_forks),
        cmocka_unit_test(forking_with_frees_under_way),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
