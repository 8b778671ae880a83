/* SPDX-License-Identifier: MIT */
/* threads/registry.h, threads/thread.h and pthread_create: how threads come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <limits.h>

#include <cmocka.h>

#include "tests/workers.h"
#include "threads/life.h"

/* Around the heap's own hooks, where there is a heap. */
static const struct sh_thread_hooks *heap;
static _Atomic unsigned started_count, ending_count;
static _Atomic bool no_memory;
static SH_TLS struct sh_thread *seen_while_registering;

static int started(struct sh_thread *self)
{
    MUST(sh_tls.critical > 0);
    seen_while_registering = sh_thread_enter();
    if (sh_load_relaxed(&no_memory))
        return ENOMEM;
    sh_add_relaxed(&started_count, 1u);
    return heap->started ? heap->started(self) : 0;
}

static void ending(struct sh_thread *self)
{
    MUST(sh_tls.critical > 0 && sh_tls.self == self);
    sh_add_relaxed(&ending_count, 1u);
    if (heap->ending)
        heap->ending(self);
}

static struct sh_thread_hooks hooks;

static int set_hooks(void **unused)
{
    sh_thread_enter();
    heap = sh_registry_hooks();
    hooks = *heap;
    hooks.started = started;
    hooks.ending = ending;
    sh_registry_set_hooks(&hooks);
    return 0;
}

/* ---- Entering ---- */

static void enter_gives_one_record(void **unused)
{
    struct sh_thread *self = sh_thread_enter();
    assert_non_null(self);
    assert_ptr_equal(sh_thread_enter(), self);
    assert_ptr_equal(sh_tls.self, self);
    assert_true(pthread_equal(self->handle, pthread_self()));
    assert_true(self->initial);
}

static void *enter_keeping_errno(void *unused)
{
    errno = EDOM;
    MUST(sh_thread_enter());
    MUST(errno == EDOM);
    return NULL;
}

static void enter_keeps_errno(void **unused)
{
    join(start(enter_keeping_errno, NULL));
}

static void *enter_and_look_around(void *unused)
{
    struct sh_thread *self = sh_thread_enter();
    MUST(self && seen_while_registering == NULL);
    MUST(!self->initial && self->lock_depth == 0 && !self->collecting);
    bool listed = false;
    sh_critical_enter();
    sh_lock_acquire(&sh_registry_lock);
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        listed = listed || t == self;
    sh_lock_release(&sh_registry_lock);
    sh_critical_leave();
    MUST(listed);
    return NULL;
}

static void entering_is_seen_and_is_not_nested(void **unused)
{
    join(start(enter_and_look_around, NULL));
}

static void *fail_to_enter(void *unused)
{
    sh_thread_leave(false);
    sh_store_relaxed(&no_memory, true);
    size_t count = sh_registry_count();
    MUST(sh_thread_enter() == NULL && sh_thread_enter() == NULL);
    MUST(sh_registry_count() == count && sh_tls.critical == 0);
    sh_store_relaxed(&no_memory, false);
    MUST(sh_thread_enter() != NULL);
    return NULL;
}

static void without_memory_enter_can_be_tried_again(void **unused)
{
    join(start(fail_to_enter, NULL));
}

static SH_TLS uintptr_t thread_local_word;

static void *check_bounds(void *unused)
{
    struct sh_thread *self = sh_thread_enter();
    uintptr_t local = (uintptr_t)__builtin_frame_address(0);
    MUST(local < self->stack_base);
    MUST(self->stack_size == 0 || self->stack_base - local <= self->stack_size);
    if (!self->initial) {
        uintptr_t word = (uintptr_t)&thread_local_word;
        MUST(word > local && word < self->stack_base);
        MUST((uintptr_t)&errno > local && (uintptr_t)&errno < self->stack_base);
    }
    return NULL;
}

static void stacks_hold_frames_and_thread_locals(void **unused)
{
    check_bounds(NULL);
    join(start(check_bounds, NULL));
}

/* ---- Leaving ---- */

static void *leave_and_come_back(void *unused)
{
    sh_thread_enter();
    size_t count = sh_registry_count();
    errno = EDOM;
    sh_thread_leave(false);
    MUST(sh_tls.self == NULL && sh_registry_count() == count - 1 && errno == EDOM);
    sh_thread_leave(false);
    MUST(sh_thread_enter() != NULL && sh_registry_count() == count);
    return NULL;
}

static void leaving_can_be_undone(void **unused)
{
    join(start(leave_and_come_back, NULL));
}

static void *enter_and_return(void *arg)
{
    sh_thread_enter();
    return arg;
}

static void *enter_and_exit(void *arg)
{
    sh_thread_enter();
    pthread_exit(arg);
}

static void *enter_and_wait(void *entered)
{
    sh_thread_enter();
    set_flag(entered, 1);
    for (;;)
        sleep_us(1000), pthread_testcancel();
    return NULL;
}

static void returning_ends(void **unused)
{
    size_t count = sh_registry_count();
    unsigned ends = sh_load_relaxed(&ending_count);
    assert_ptr_equal(join(start(enter_and_return, &count)), &count);
    assert_int_equal(sh_registry_count(), count);
    assert_int_equal(sh_load_relaxed(&ending_count), ends + 1);
}

static void pthread_exit_ends(void **unused)
{
    size_t count = sh_registry_count();
    unsigned ends = sh_load_relaxed(&ending_count);
    assert_ptr_equal(join(start(enter_and_exit, &count)), &count);
    assert_int_equal(sh_registry_count(), count);
    assert_int_equal(sh_load_relaxed(&ending_count), ends + 1);
}

static void cancelling_ends(void **unused)
{
    size_t count = sh_registry_count();
    unsigned ends = sh_load_relaxed(&ending_count);
    _Atomic uint32_t entered = 0;
    pthread_t thread = start(enter_and_wait, &entered);
    await_flag(&entered, 1);
    pthread_cancel(thread);
    assert_ptr_equal(join(thread), PTHREAD_CANCELED);
    assert_int_equal(sh_registry_count(), count);
    assert_int_equal(sh_load_relaxed(&ending_count), ends + 1);
}

static SH_NOINLINE void *end_while_blocking(void *unused)
{
    sh_thread_enter();
    sh_blocking_begin(__builtin_frame_address(0));
    pthread_exit(NULL);
}

static void a_blocking_thread_can_end(void **unused)
{
    size_t count = sh_registry_count();
    join(start(end_while_blocking, NULL));
    assert_int_equal(sh_registry_count(), count);
}

/* A key made after ours: its destructor runs after ours in each round. */
static pthread_key_t late_key;
static SH_TLS int rounds;
static _Atomic int rounds_registered, rounds_ended;

static void late_destructor(void *value)
{
    if (sh_thread_enter())
        sh_add_relaxed(&rounds_registered, 1);
    else
        sh_add_relaxed(&rounds_ended, 1);
    free(malloc(100));
    if (++rounds < SH_LIFE_ROUNDS)
        pthread_setspecific(late_key, value);
}

static void *use_late_key(void *unused)
{
    sh_thread_enter();
    pthread_setspecific(late_key, &rounds);
    return NULL;
}

static void other_destructors_run_registered_or_after_the_end(void **unused)
{
    size_t count = sh_registry_count();
    assert_int_equal(pthread_key_create(&late_key, late_destructor), 0);
    join(start(use_late_key, NULL));
    assert_int_equal(rounds_registered, SH_LIFE_ROUNDS - 1);
    assert_int_equal(rounds_ended, 1);
    assert_int_equal(sh_registry_count(), count);
    pthread_key_delete(late_key);
}

/* ---- pthread_create ---- */

static void *tell_registered(void *arg)
{
    *(struct sh_thread **)arg = sh_tls.self;
    return NULL;
}

static void a_new_thread_is_registered_before_it_runs(void **unused)
{
    if (!SH_INTERPOSE)
        skip();
    struct sh_thread *self = NULL;
    join(start(tell_registered, &self));
    assert_non_null(self);
}

static void stack_size_is_noted(void **unused)
{
    if (!SH_INTERPOSE)
        skip();
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    assert_int_equal(pthread_create(&thread, &attr, check_bounds, NULL), 0);
    join(thread);
    pthread_attr_destroy(&attr);
}

static void *return_arg(void *arg)
{
    return arg;
}

static void a_user_stack_is_taken(void **unused)
{
    static char stack[4 << 20] SH_ALIGNED(64);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstack(&attr, stack, sizeof stack), 0);
    assert_int_equal(pthread_create(&thread, &attr, check_bounds, NULL), 0);
    join(thread);
    pthread_attr_destroy(&attr);
}

static void failing_creates_nothing(void **unused)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    size_t count = sh_registry_count();
    assert_int_equal(pthread_attr_setstacksize(&attr, (size_t)1 << 47), 0);
    assert_int_equal(pthread_create(&thread, &attr, return_arg, NULL), EAGAIN);
    assert_int_equal(sh_registry_count(), count);
    pthread_attr_destroy(&attr);
}

/* ---- Many ---- */

#define PARENTS 8
#define CHILDREN 200

static void *have_children(void *unused)
{
    sh_thread_enter();
    for (int i = 0; i < CHILDREN; i++) {
        pthread_t thread = start(i % 2 ? enter_and_return : enter_and_exit, &rounds);
        MUST(join(thread) == &rounds);
    }
    return NULL;
}

static void many_come_and_go(void **unused)
{
    size_t count = sh_registry_count();
    unsigned starts = sh_load_relaxed(&started_count);
    unsigned ends = sh_load_relaxed(&ending_count);
    pthread_t parents[PARENTS];
    for (int i = 0; i < PARENTS; i++)
        parents[i] = start(have_children, NULL);
    for (int i = 0; i < PARENTS; i++)
        join(parents[i]);
    assert_int_equal(sh_registry_count(), count);
    unsigned all = PARENTS * (CHILDREN + 1);
    assert_int_equal(sh_load_relaxed(&started_count) - starts, all);
    assert_int_equal(sh_load_relaxed(&ending_count) - ends, all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enter_gives_one_record),
        cmocka_unit_test(enter_keeps_errno),
        cmocka_unit_test(entering_is_seen_and_is_not_nested),
        cmocka_unit_test(without_memory_enter_can_be_tried_again),
        cmocka_unit_test(stacks_hold_frames_and_thread_locals),
        cmocka_unit_test(leaving_can_be_undone),
        cmocka_unit_test(returning_ends),
        cmocka_unit_test(pthread_exit_ends),
        cmocka_unit_test(cancelling_ends),
        cmocka_unit_test(a_blocking_thread_can_end),
        cmocka_unit_test(other_destructors_run_registered_or_after_the_end),
        cmocka_unit_test(a_new_thread_is_registered_before_it_runs),
        cmocka_unit_test(stack_size_is_noted),
        cmocka_unit_test(a_user_stack_is_taken),
        cmocka_unit_test(failing_creates_nothing),
        cmocka_unit_test(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, set_hooks, NULL);
}
