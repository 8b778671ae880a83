/* SPDX-License-Identifier: MIT */
/*
 * threads/interpose.c and interpose_signals.c: the C library's functions that are ours,
 * and that programs can tell by nothing but that collecting works.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/os_thread.h"
#include "tests/child.h"
#include "tests/workers.h"

static _Atomic uint32_t stage;

static void stop_often(void)
{
    for (int i = 0; i < 20; i++) {
        stop_to_collect();
        resume();
        sleep_us(500);
    }
}

/* ---- thrd_create ---- */

static int answer(void *arg)
{
    MUST(sh_tls.self != NULL);
    return *(int *)arg;
}

static int answer_by_exit(void *arg)
{
    thrd_exit(*(int *)arg);
}

static void thrd_create_registers_and_returns_an_int(void **unused)
{
    const int answers[] = {0, 1, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 5; i++) {
        int given = answers[i], got = 12345;
        thrd_t thread;
        assert_int_equal(thrd_create(&thread, i % 2 ? answer_by_exit : answer, &given),
            thrd_success);
        assert_int_equal(thrd_join(thread, &got), thrd_success);
        assert_int_equal(got, given);
    }
}

static pthread_t created;

static void *give_equal(void *arg)
{
    return pthread_equal(created, pthread_self()) ? arg : NULL;
}

static void pthread_create_gives_the_handle(void **unused)
{
    assert_int_equal(pthread_create(&created, NULL, give_equal, &stage), 0);
    assert_ptr_equal(join(created), &stage);
}

static void pthread_create_refuses_as_the_c_library_does(void **unused)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    cpu_set_t none;
    CPU_ZERO(&none);
    assert_int_equal(pthread_attr_setaffinity_np(&attr, sizeof none, &none), 0);
    assert_int_equal(pthread_create(&thread, &attr, give_equal, NULL), EINVAL);
    pthread_attr_destroy(&attr);
}

/* ---- Threads that want no signals ---- */

/* Children fork before the first stop of this process: see main. */
static void mask_before_use(void *unused)
{
    sigset_t all, old;
    sigfillset(&all);
    MUST(sh_stop_signal_in_use() == 0);
    MUST(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    MUST(pthread_sigmask(SIG_SETMASK, NULL, &old) == 0);
    MUST(sigismember(&old, sh_os_stop_signal()) && sigismember(&old, SIGUSR1));
    struct sigaction action = {.sa_handler = SIG_IGN};
    MUST(sigaction(sh_os_stop_signal(), &action, NULL) == 0);
    MUST(signal(sh_os_stop_signal(), SIG_DFL) == SIG_IGN);
}

static void before_its_use_the_signal_is_the_programs(void **unused)
{
    struct child child;
    child_run(&child, mask_before_use, NULL);
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
}

static void *block_all(void *by_process)
{
    sigset_t all, old;
    sigfillset(&all);
    if (by_process)
        MUST(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    else
        MUST(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    MUST(pthread_sigmask(SIG_BLOCK, NULL, &old) == 0);
    MUST(!sigismember(&old, sh_os_stop_signal()));
    MUST(sigismember(&old, SIGUSR1) && sigismember(&old, SIGRTMIN));
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    return NULL;
}

static void threads_that_block_all_signals_stop(void **unused)
{
    sh_stop_prepare();
    for (int i = 0; i < 2; i++) {
        sh_store_relaxed(&stage, 0);
        pthread_t thread = start(block_all, i ? &stage : NULL);
        await_flag(&stage, 1);
        stop_often();
        set_flag(&stage, 2);
        join(thread);
    }
}

static volatile sig_atomic_t caught;

static void catch (int signal)
{
    caught = signal;
}

static void *suspend(void *unused)
{
    sigset_t mask;
    sigfillset(&mask);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    sigdelset(&mask, SIGUSR1);
    set_flag(&stage, 1);
    while (!caught)
        MUST(sigsuspend(&mask) == -1 && errno == EINTR);
    return NULL;
}

static void threads_in_sigsuspend_stop(void **unused)
{
    struct sigaction action = {.sa_handler = catch};
    sigaction(SIGUSR1, &action, NULL);
    caught = 0;
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(suspend, NULL);
    await_flag(&stage, 1);
    stop_often();
    assert_int_equal(caught, 0);
    pthread_kill(thread, SIGUSR1);
    join(thread);
    assert_int_equal(caught, SIGUSR1);
}

static void *wait_by_sigwait(void *unused)
{
    sigset_t all;
    int signal = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    set_flag(&stage, 1);
    errno = EDOM;
    MUST(sigwait(&all, &signal) == 0 && errno == EDOM);
    return (void *)(intptr_t)signal;
}

static void *wait_by_sigwaitinfo(void *unused)
{
    sigset_t all;
    siginfo_t info = {.si_signo = 0};
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    set_flag(&stage, 1);
    int signal;
    while ((signal = sigwaitinfo(&all, &info)) < 0)
        MUST(errno == EINTR);
    MUST(info.si_signo == signal);
    return (void *)(intptr_t)signal;
}

static void check_waiting(void *(*routine)(void *))
{
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(routine, NULL);
    await_flag(&stage, 1);
    stop_often();
    pthread_kill(thread, SIGUSR2);
    assert_int_equal((intptr_t)join(thread), SIGUSR2);
}

static void threads_that_wait_for_all_signals_stop(void **unused)
{
    check_waiting(wait_by_sigwait);
    check_waiting(wait_by_sigwaitinfo);
}

static void waiting_takes_no_longer_than_asked(void **unused)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    struct timespec soon = {0, 1000000};
    assert_int_equal(sigtimedwait(&set, NULL, &soon), -1);
    assert_int_equal(errno, EAGAIN);
}

static void *cancel_me(void *suspends)
{
    sigset_t set;
    int signal;
    sigfillset(&set);
    set_flag(&stage, 1);
    if (suspends)
        sigsuspend(&set);
    else
        sigwait(&set, &signal);
    return NULL;
}

static void waiting_can_be_cancelled(void **unused)
{
    for (int i = 0; i < 2; i++) {
        sh_store_relaxed(&stage, 0);
        pthread_t thread = start(cancel_me, i ? &stage : NULL);
        await_flag(&stage, 1);
        pthread_cancel(thread);
        assert_ptr_equal(join(thread), PTHREAD_CANCELED);
    }
}

/* ---- Programs that want all signals ---- */

static void the_signal_cannot_be_handled(void **unused)
{
    sh_stop_prepare();
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction old;
        if (sigaction(number, NULL, &old) != 0 || number == SIGCHLD)
            continue;
        bool can =
            number != sh_stop_signal_in_use() && number != SIGKILL && number != SIGSTOP;
        errno = 0;
        assert_int_equal(sigaction(number, &old, NULL), can ? 0 : -1);
        assert_int_equal(errno, can ? 0 : EINVAL);
        if (!can)
            assert_ptr_equal(signal(number, SIG_DFL), SIG_ERR);
    }
    stop_often();
}

static void handlers_are_set_as_ever(void **unused)
{
    assert_ptr_not_equal(signal(SIGUSR1, catch), SIG_ERR);
    assert_ptr_equal(signal(SIGUSR1, SIG_DFL), catch);
    assert_int_equal(pthread_sigmask(99, &(sigset_t){0}, NULL), EINVAL);
    assert_int_equal(sigprocmask(99, &(sigset_t){0}, NULL), -1);
    assert_int_equal(errno, EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_its_use_the_signal_is_the_programs),
        cmocka_unit_test(thrd_create_registers_and_returns_an_int),
        cmocka_unit_test(pthread_create_gives_the_handle),
        cmocka_unit_test(pthread_create_refuses_as_the_c_library_does),
        cmocka_unit_test(threads_that_block_all_signals_stop),
        cmocka_unit_test(threads_in_sigsuspend_stop),
        cmocka_unit_test(threads_that_wait_for_all_signals_stop),
        cmocka_unit_test(waiting_takes_no_longer_than_asked),
        cmocka_unit_test(waiting_can_be_cancelled),
        cmocka_unit_test(the_signal_cannot_be_handled),
        cmocka_unit_test(handlers_are_set_as_ever),
    };
    sh_thread_enter();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
