/* SPDX-License-Identifier: MIT */
/* lib/lock.h: exclusion, sleeping and waking, ranks, fork. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/lock.h"
#include "lib/os.h"
#include "tests/child.h"

#define THREADS 4
#define MS 1000000u

/* Low ranks: threads are made while they are held, which takes others. */
static struct sh_lock lock = SH_LOCK_INIT(SH_RANK_REGISTRY);

static uint32_t state(void)
{
    return sh_load_relaxed(&lock.state);
}

static void sleep_ms(unsigned ms)
{
    _Atomic uint32_t word = 0;
    uint64_t end = sh_os_now_ns() + (uint64_t)ms * MS;
    for (uint64_t now = sh_os_now_ns(); now < end; now = sh_os_now_ns())
        sh_os_wait(&word, 0, end - now);
}

/* ---- One thread ---- */

static void take_and_give_back(void **unused)
{
    errno = E2BIG;
    for (int i = 0; i < 1000; i++) {
        sh_lock_acquire(&lock);
        assert_int_equal(state(), 1);
        sh_assert_held(&lock);
        sh_lock_release(&lock);
        assert_int_equal(state(), 0);
    }
    assert_int_equal(errno, E2BIG);
}

static void *try_elsewhere(void *unused)
{
    return sh_lock_try(&lock) ? "taken" : NULL;
}

static void try_takes_a_free_one_only(void **unused)
{
    assert_true(sh_lock_try(&lock));
    pthread_t thread;
    void *taken;
    pthread_create(&thread, NULL, try_elsewhere, NULL);
    pthread_join(thread, &taken);
    assert_null(taken);
    sh_lock_release(&lock);
    assert_true(sh_lock_try(&lock));
    sh_lock_release(&lock);
}

/* ---- Several threads ---- */

static struct {
    uint64_t count; /* plain, under the lock */
    unsigned inside;
} shared;

#define ROUNDS 50000

static bool step_inside(void)
{
    bool alone = ++shared.inside == 1;
    shared.count++;
    shared.inside--;
    return alone;
}

static void *count_up(void *unused)
{
    void *complaint = NULL;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 3 != 0)
            sh_lock_acquire(&lock);
        else
            while (!sh_lock_try(&lock))
                sh_os_yield();
        if (!step_inside())
            complaint = "two threads inside";
        sh_lock_release(&lock);
    }
    return complaint;
}

static void one_at_a_time(void **unused)
{
    pthread_t threads[THREADS];
    shared.count = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_up, NULL);
    for (int i = 0; i < THREADS; i++) {
        void *complaint;
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
    assert_int_equal(shared.count, THREADS * ROUNDS);
    assert_int_equal(state(), 0);
}

static void *wait_in_line(void *unused)
{
    sh_lock_acquire(&lock);
    shared.count++;
    sh_lock_release(&lock);
    return NULL;
}

/* Each release wakes one sleeper, who wakes the next: none is forgotten. */
static void sleepers_are_woken(void **unused)
{
    pthread_t threads[THREADS];
    shared.count = 0;
    sh_lock_acquire(&lock);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, wait_in_line, NULL);
    while (state() != 2)
        sh_os_yield();
    sleep_ms(20); /* time for the others to fall asleep too */
    assert_int_equal(shared.count, 0);
    sh_lock_release(&lock);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(shared.count, THREADS);
    assert_int_equal(state(), 0);
}

static _Atomic int interrupts;

static void interrupt(int signal)
{
    sh_add_relaxed(&interrupts, 1);
}

/* A sleeper that a signal wakes does not have the lock, and sleeps again. */
static void signals_do_not_let_in(void **unused)
{
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGUSR1, &action, NULL);
    shared.count = 0;
    pthread_t thread;
    sh_lock_acquire(&lock);
    pthread_create(&thread, NULL, wait_in_line, NULL);
    while (state() != 2)
        sh_os_yield();
    for (int i = 0; i < 5; i++) {
        pthread_kill(thread, SIGUSR1);
        sleep_ms(2);
        assert_int_equal(state(), 2);
        assert_int_equal(shared.count, 0);
    }
    sh_lock_release(&lock);
    pthread_join(thread, NULL);
    assert_int_equal(shared.count, 1);
    assert_true(sh_load_relaxed(&interrupts) > 0);
}

/* ---- Ranks: checks >= 2 ---- */

static struct sh_lock low = SH_LOCK_INIT(SH_RANK_FORK);
static struct sh_lock middle = SH_LOCK_INIT(SH_RANK_REGISTRY);
static struct sh_lock high = SH_LOCK_INIT(SH_RANK_META);
static struct sh_lock high_too = SH_LOCK_INIT(SH_RANK_META);

static void need_rank_checks(void)
{
    if (SH_CHECKS < 2)
        skip();
}

/* Released in any order; each thread has ranks of its own. */
static void rising_ranks_are_fine(void **unused)
{
    sh_lock_acquire(&low);
    sh_lock_acquire(&middle);
    sh_lock_acquire(&high);
    sh_lock_release(&low);
    sh_lock_release(&middle);
    sh_lock_release(&high);
    sh_lock_acquire(&low);
    assert_true(sh_lock_try(&high));
    sh_lock_release(&high);
    sh_lock_acquire(&middle);
    sh_lock_release(&middle);
    sh_lock_release(&low);
}

static void fall(void *unused)
{
    sh_lock_acquire(&middle);
    sh_lock_acquire(&low);
}

static void fall_by_try(void *unused)
{
    sh_lock_acquire(&middle);
    (void)sh_lock_try(&low);
}

static void stay_level(void *unused)
{
    sh_lock_acquire(&high);
    sh_lock_acquire(&high_too);
}

static void take_twice(void *unused)
{
    sh_lock_acquire(&middle);
    sh_lock_acquire(&middle);
}

static void assert_rank_abort(
    void (*function)(void *), enum sh_rank taken, enum sh_rank over)
{
    char expected[128];
    snprintf(expected, sizeof expected,
        "splitheap: lock of rank %d taken while holding one of rank %d\n", taken, over);
    struct child child;
    child_run(&child, function, NULL);
    assert_true(child_aborted_with(&child, expected));
}

static void falling_ranks_abort(void **unused)
{
    need_rank_checks();
    assert_rank_abort(fall, SH_RANK_FORK, SH_RANK_REGISTRY);
    assert_rank_abort(fall_by_try, SH_RANK_FORK, SH_RANK_REGISTRY);
}

static void equal_ranks_abort(void **unused)
{
    need_rank_checks();
    assert_rank_abort(take_twice, SH_RANK_REGISTRY, SH_RANK_REGISTRY);
    assert_rank_abort(stay_level, SH_RANK_META, SH_RANK_META);
}

static void *release_middle(void *unused)
{
    sh_lock_release(&middle);
    return NULL;
}

static void release_elsewhere(void *unused)
{
    pthread_t thread;
    sh_lock_acquire(&middle);
    pthread_create(&thread, NULL, release_middle, NULL);
    pthread_join(thread, NULL);
}

static void release_free(void *unused)
{
    sh_lock_release(&middle);
}

static void assert_free(void *unused)
{
    sh_assert_held(&middle);
}

static void wrong_releases_abort(void **unused)
{
    need_rank_checks();
    char expected[128];
    snprintf(expected, sizeof expected,
        "splitheap: lock of rank %d released by a thread that does not hold it\n",
        SH_RANK_REGISTRY);
    struct child child;
    child_run(&child, release_elsewhere, NULL);
    assert_true(child_aborted_with(&child, expected));
    child_run(&child, release_free, NULL);
    assert_true(child_aborted_with(&child, expected));
    child_run(&child, assert_free, NULL);
    assert_true(WIFSIGNALED(child.status));
    assert_non_null(strstr(child.text, "check failed: "));
}

/* Checks == 1 know no owners, but do see that nobody holds it. */
static void release_of_a_free_one_aborts(void **unused)
{
    if (SH_CHECKS < 1)
        skip();
    struct child child;
    child_run(&child, release_free, NULL);
    assert_true(WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGABRT);
}

/* ---- Reset, as a fork's child does ---- */

static _Atomic int taken;

static void *hold_for_ever(void *unused)
{
    sh_lock_acquire(&lock);
    sh_store_release(&taken, 1); /* pairs with the load in reset_held */
    for (;;)
        pause();
    return NULL;
}

/* One lock held by the caller, one by a thread that will never release it. */
static void reset_held(void *unused)
{
    pthread_t thread;
    pthread_create(&thread, NULL, hold_for_ever, NULL);
    while (!sh_load_acquire(&taken))
        sh_os_yield();
    sh_lock_acquire(&middle);
    sh_lock_reset(&middle);
    sh_lock_reset(&lock);

    sh_lock_acquire(&low); /* aborts where the rank of `middle` still counts */
    sh_lock_acquire(&middle);
    sh_lock_release(&middle);
    sh_lock_acquire(&lock);
    sh_lock_release(&lock);
    sh_lock_release(&low);
}

static void reset_frees(void **unused)
{
    struct child child;
    child_run(&child, reset_held, NULL);
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(take_and_give_back),
        cmocka_unit_test(try_takes_a_free_one_only),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(sleepers_are_woken),
        cmocka_unit_test(signals_do_not_let_in),
        cmocka_unit_test(rising_ranks_are_fine),
        cmocka_unit_test(falling_ranks_abort),
        cmocka_unit_test(equal_ranks_abort),
        cmocka_unit_test(wrong_releases_abort),
        cmocka_unit_test(release_of_a_free_one_aborts),
        cmocka_unit_test(reset_frees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
