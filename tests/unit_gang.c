/* SPDX-License-Identifier: MIT */
/* threads/gang.h: who takes part in a job, and that nobody is at it after its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "lib/os.h"
#include "tests/child.h"
#include "tests/workers.h"
#include "threads/gang.h"
#include "threads/registry.h"

static _Atomic uint32_t inside, most, visits, members;

static void recruit(unsigned helpers)
{
    sh_heap_init();
    MUST(sh_thread_enter());
    sh_gang_recruit(helpers);
}

static void note(void *context, unsigned member)
{
    uint32_t now = sh_add_seq_cst(&inside, 1u) + 1;
    MUST(member > 0 && member < SH_GANG_MAX && context == &inside);
    sh_or_seq_cst(&members, 1u << member);
    if (now > sh_load_seq_cst(&most))
        sh_store_seq_cst(&most, now);
    sh_add_seq_cst(&visits, 1u);
    sh_sub_seq_cst(&inside, 1u);
}

/* Open long enough for somebody to come. */
static void helpers_come_when_there_is_a_job(void **unused)
{
    recruit(2);
    assert_int_equal(sh_gang_helpers(), 2);
    sh_gang_open(note, &inside, 2);
    while (!sh_load_seq_cst(&visits))
        sh_os_yield();
    sh_gang_close();
    assert_int_equal(sh_load_seq_cst(&inside), 0);
    assert_int_equal(sh_load_seq_cst(&members) & ~6u, 0);
}

/* Whoever comes, and when: after close nobody is inside. */
static void jobs_may_follow_at_once(void **unused)
{
    recruit(3);
    for (unsigned i = 0; i < 20000; i++) {
        sh_gang_open(note, &inside, i % 4);
        for (unsigned n = i % 64; n > 0; n--)
            sh_cpu_pause();
        sh_gang_close();
        MUST(!sh_load_seq_cst(&inside));
    }
    assert_true(sh_load_seq_cst(&visits) > 0);
}

static _Atomic uint32_t held;

static void hold(void *unused, unsigned member)
{
    sh_add_seq_cst(&inside, 1u);
    while (sh_load_seq_cst(&held))
        sh_os_yield();
    sh_os_yield();
    sh_sub_seq_cst(&inside, 1u);
}

/* The caller waits for who is at it. */
static void close_waits(void **unused)
{
    recruit(1);
    for (unsigned i = 0; i < 50; i++) {
        sh_store_seq_cst(&held, 1u);
        sh_gang_open(hold, NULL, 1);
        while (!sh_load_seq_cst(&inside))
            sh_os_yield();
        sh_store_seq_cst(&held, 0u);
        sh_gang_close();
        assert_int_equal(sh_load_seq_cst(&inside), 0);
    }
}

static void no_more_than_there_may_be(void **unused)
{
    recruit(1000);
    assert_in_range(sh_gang_helpers(), 1, SH_GANG_MAX - 1);
}

static void it_ends_and_comes_again(void **unused)
{
    for (unsigned i = 0; i < 20; i++) {
        recruit(2);
        assert_int_equal(sh_gang_helpers(), 2);
        sh_gang_end();
        assert_int_equal(sh_gang_helpers(), 0);
    }
}

static void work_in_child(void *unused)
{
    MUST(sh_gang_helpers() == 0);
    sh_gang_open(note, &inside, 0);
    sh_gang_close();
    if (SH_TSAN)
        return;
    recruit(2);
    MUST(sh_gang_helpers() == 2);
    sh_store_seq_cst(&visits, 0u);
    sh_gang_open(note, &inside, 2);
    while (!sh_load_seq_cst(&visits))
        sh_os_yield();
    sh_gang_close();
}

static void a_child_of_fork_has_its_own(void **unused)
{
    struct child child;
    recruit(2);
    child_run(&child, work_in_child, NULL);
    assert_true(child_returned(&child));
    assert_int_equal(sh_gang_helpers(), 2);
}

static int forget(void **unused)
{
    sh_gang_end();
    sh_store_seq_cst(&visits, 0u);
    sh_store_seq_cst(&members, 0u);
    return 0;
}

#define GANG_TEST(function) cmocka_unit_test_teardown(function, forget)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GANG_TEST(helpers_come_when_there_is_a_job),
        GANG_TEST(jobs_may_follow_at_once),
        GANG_TEST(close_waits),
        GANG_TEST(no_more_than_there_may_be),
        GANG_TEST(it_ends_and_comes_again),
        GANG_TEST(a_child_of_fork_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
