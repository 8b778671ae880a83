/* SPDX-License-Identifier: MIT */
/* Where finalisers run: at once, on demand, in a thread of the library's own; at exit. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/heap.h"

static _Atomic size_t finalised;
static _Atomic pthread_t by;
static void (*_Atomic deed)(void *object);

static void finalise(void *object, void *context)
{
    MUST(gc_nbytes(object) > 0);
    by = pthread_self();
    if (deed)
        deed(object);
    finalised++;
}

static void *make(void *many)
{
    for (uintptr_t i = 0; i < (uintptr_t)many; i++)
        MUST(gc_set_finaliser(gc_alloc(48, 0), finalise, NULL) == 0);
    return NULL;
}

/* So many die in a collection; some may be held by stale words. */
static void let_die(size_t many)
{
    in_thread(make, (void *)many);
    clear_stack();
    gc_collect();
}

static int begin(void **unused)
{
    MUST(gc_set_finaliser_mode(GC_FINALISE_AT_ONCE) == 0);
    MUST(gc_set_finaliser_notifier(NULL, NULL) == 0);
    deed = NULL;
    clear_stack();
    gc_sweep_all();
    finalised = 0;
    return 0;
}

#define MODE_TEST(function) cmocka_unit_test_setup(function, begin)

/* Not asserted from another thread: the test fails here. */
static void await(size_t least)
{
    for (int i = 0; i < 3000 && finalised < least; i++)
        usleep(10000);
    assert_true(finalised >= least);
}

/* ---- At once ---- */

static void at_once_is_the_default(void **unused)
{
    let_die(100);
    assert_in_range(finalised, 98, 100);
    assert_true(pthread_equal(by, pthread_self()));
    assert_int_equal(gc_run_finalisers(SIZE_MAX), 0);
    assert_int_equal(gc_set_finaliser_mode((enum gc_finaliser_mode)3), EINVAL);
    assert_int_equal(gc_set_finaliser_mode((enum gc_finaliser_mode) - 1), EINVAL);
}

/* ---- On demand ---- */

static size_t let_wait(size_t many)
{
    assert_int_equal(gc_set_finaliser_mode(GC_FINALISE_ON_DEMAND), 0);
    let_die(many);
    assert_int_equal(finalised, 0);
    return many;
}

static void on_demand_so_many_run(void **unused)
{
    let_wait(1000);
    for (int round = 0; round < 3; round++) /* they are kept */
        gc_collect();
    assert_int_equal(finalised, 0);
    assert_int_equal(gc_run_finalisers(0), 0);
    assert_int_equal(gc_run_finalisers(1), 1);
    assert_int_equal(finalised, 1);
    assert_int_equal(gc_run_finalisers(99), 99);
    assert_int_equal(finalised, 100);
    assert_in_range(gc_run_finalisers(SIZE_MAX), 890, 900);
    assert_int_equal(gc_run_finalisers(SIZE_MAX), 0);
    assert_in_range(finalised, 990, 1000);
}

static void inside_gc_lock_none_run(void **unused)
{
    let_wait(10);
    gc_lock();
    assert_int_equal(gc_run_finalisers(SIZE_MAX), 0);
    gc_unlock();
    assert_in_range(gc_run_finalisers(SIZE_MAX), 8, 10);
}

static void run_inside(void *object)
{
    MUST(gc_run_finalisers(SIZE_MAX) == 0);
}

static void inside_a_finaliser_none_run(void **unused)
{
    let_wait(10);
    deed = run_inside;
    assert_in_range(gc_run_finalisers(SIZE_MAX), 8, 10);
}

static void who_turns_to_at_once_has_them_run_then(void **unused)
{
    let_wait(100);
    gc_set_finaliser_mode(GC_FINALISE_AT_ONCE);
    gc_collect();
    assert_in_range(finalised, 98, 100);
}

static void gc_sweep_all_runs_them_in_any_mode(void **unused)
{
    let_wait(100);
    make((void *)100);
    gc_sweep_all();
    assert_int_equal(finalised, 200);
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    make((void *)100);
    gc_sweep_all();
    await(300);
    assert_int_equal(finalised, 300);
}

static void *run_all(void *unused)
{
    while (gc_run_finalisers(3))
        ;
    return NULL;
}

static void several_threads_may_run_them(void **unused)
{
    pthread_t threads[4];
    let_wait(5000);
    for (int i = 0; i < 4; i++)
        threads[i] = start(run_all, NULL);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    assert_in_range(finalised, 4950, 5000);
}

static jmp_buf out;
static size_t called;

static void jump(void *object)
{
    if (called++ % 5 == 4)
        longjmp(out, 1);
}

static void the_rest_can_be_run_after_a_longjmp(void **unused)
{
    static volatile size_t left;
    let_wait(100);
    deed = jump;
    left = called = 0;
    if (setjmp(out))
        left++;
    while (gc_run_finalisers(SIZE_MAX))
        ;
    assert_in_range(called, 98, 100);
    assert_int_equal(left, called / 5);
    assert_int_equal(finalised, called - left);
}

/* ---- Finalisers do not pile up on the stack ---- */

static unsigned depth, deepest, questions;
static void (*ask)(void);

static void ask_on(void *object)
{
    if (++depth > deepest)
        deepest = depth;
    for (unsigned i = 0; i < questions; i++)
        ask();
    depth--;
}

static void ask_for_all(void)
{
    gc_run_finalisers(SIZE_MAX);
}

static void *on_a_small_stack(void *unused)
{
    ask();
    return NULL;
}

/* How deep they got inside one another. */
static unsigned depth_of(void (*what)(void), unsigned times)
{
    pthread_attr_t small;
    pthread_t thread;
    deed = ask_on;
    ask = what;
    questions = times;
    depth = deepest = 0;
    MUST(pthread_attr_init(&small) == 0);
    MUST(pthread_attr_setstacksize(&small, 64 << 10) == 0);
    MUST(pthread_create(&thread, &small, on_a_small_stack, NULL) == 0);
    join(thread);
    MUST(pthread_attr_destroy(&small) == 0);
    assert_int_equal(depth, 0);
    return deepest;
}

static void those_that_run_more_stay_flat(void **unused)
{
    static const struct {
        unsigned times, depth;
    } cases[] = {{1, 1}, {16, 1}, {17, 2}, {1000, 3}};
    for (size_t i = 0; i < 4; i++) {
        size_t many = i < 2 ? 100000 : 10000;
        finalised = 0;
        let_wait(many);
        assert_int_equal(depth_of(ask_for_all, cases[i].times), cases[i].depth);
        assert_in_range(finalised, many - 100, many);
    }
}

static void those_that_collect_stay_flat(void **unused)
{
    let_wait(100);
    gc_set_finaliser_mode(GC_FINALISE_AT_ONCE);
    assert_int_equal(depth_of(gc_collect, 1), 1);
    assert_in_range(finalised, 98, 100);
    finalised = 0;
    let_wait(100);
    gc_set_finaliser_mode(GC_FINALISE_AT_ONCE);
    assert_in_range(depth_of(gc_collect, 20), 1, 2);
    assert_in_range(finalised, 98, 100);
}

/* From a frame that lies far below the one that was left. */
static SH_NOINLINE unsigned asked_below(unsigned many)
{
    static unsigned asked;
    static size_t before;
    volatile char frame[512];
    frame[0] = 0;
    if (many)
        return asked_below(many - 1) + (unsigned)frame[0];
    before = called;
    for (asked = 0; called == before && asked < 10000; asked++)
        if (setjmp(out) == 0)
            gc_run_finalisers(1);
    return asked;
}

/* Each time from deeper: nothing says that the one before was left. */
static void a_run_that_was_left_is_not_waited_for(void **unused)
{
    let_wait(100);
    deed = jump;
    called = 4;
    assert_int_equal(asked_below(0), 1);
    called = 9;
    assert_int_equal(asked_below(10), 17);
    called = 14;
    assert_int_equal(asked_below(20), 257);
    assert_int_equal(asked_below(0), 1); /* and none of these is in the way here */
    assert_int_equal(asked_below(0), 1);
    deed = NULL;
    gc_run_finalisers(SIZE_MAX);
    assert_in_range(finalised, 90, 97);
}

/* ---- Who is told ---- */

static _Atomic size_t notified;
static void *notified_with;

static void notice(void *context)
{
    MUST(!gc_is_locked());
    notified++;
    notified_with = context;
    gc_free(gc_alloc(100, 0));
}

static void the_notifier_is_called(void **unused)
{
    static int context;
    notified = 0;
    assert_int_equal(gc_set_finaliser_notifier(notice, &context), 0);
    let_die(10);
    assert_int_equal(notified, 0);
    finalised = 0;
    let_wait(10);
    assert_int_equal(notified, 1);
    assert_true(notified_with == &context);
    gc_collect(); /* they wait still */
    assert_int_equal(notified, 2);
    gc_run_finalisers(SIZE_MAX);
    gc_collect();
    assert_int_equal(notified, 2);
    gc_set_finaliser_notifier(NULL, NULL);
    let_die(10);
    assert_int_equal(notified, 2);
}

static void notice_and_collect(void *context)
{
    MUST(notified++ < 10);
    gc_collect();
}

static void a_notifier_may_collect(void **unused)
{
    notified = 0;
    gc_set_finaliser_notifier(notice_and_collect, NULL);
    let_wait(10);
    assert_int_equal(notified, 1);
    gc_collect();
    assert_int_equal(notified, 2);
    gc_set_finaliser_notifier(NULL, NULL);
    gc_run_finalisers(SIZE_MAX);
}

static bool readable(int fd)
{
    struct pollfd poll_for = {.fd = fd, .events = POLLIN};
    MUST(poll(&poll_for, 1, 0) >= 0);
    return poll_for.revents & POLLIN;
}

static void the_descriptor_is_readable_while_some_wait(void **unused)
{
    int fd = gc_finaliser_fd();
    assert_true(fd >= 0);
    assert_int_equal(gc_finaliser_fd(), fd);
    assert_false(readable(fd));
    let_wait(100);
    assert_true(readable(fd));
    assert_int_equal(gc_run_finalisers(10), 10);
    assert_true(readable(fd));
    gc_run_finalisers(SIZE_MAX);
    assert_false(readable(fd));
    gc_collect();
    assert_false(readable(fd));
}

/* ---- In a thread of the library's own ---- */

static void allocate_and_collect(void *object)
{
    void *p = gc_alloc(5000, 0);
    MUST(p && gc_set_finaliser(p, NULL, NULL) == 0);
    if (finalised % 50 == 0)
        gc_collect();
    MUST(gc_nbytes(p) >= 5000);
    MUST(!gc_is_locked());
}

static void in_a_thread_another_runs_them(void **unused)
{
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    for (size_t round = 1; round <= 5; round++) {
        deed = round % 2 ? allocate_and_collect : NULL;
        let_die(200);
        await(round * 200 - 20);
        assert_false(pthread_equal(by, pthread_self()));
    }
}

static _Atomic uint32_t step;

static void wait_for_step(void *object)
{
    void *volatile held = gc_alloc(64, 0);
    memset(held, 7, 64);
    set_flag(&step, 1);
    await_flag(&step, 2);
    for (int i = 0; i < 64; i++)
        MUST(((char *)held)[i] == 7);
    deed = NULL;
}

/* Its stack is scanned, and collections stop it. */
static void what_that_thread_holds_is_kept(void **unused)
{
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    step = 0;
    deed = wait_for_step;
    let_die(20);
    await_flag(&step, 1);
    for (int round = 0; round < 3; round++) {
        gc_collect();
        for (int i = 0; i < 1000; i++)
            memset(gc_alloc(64, 0), 1, 64);
    }
    set_flag(&step, 2);
    await(15);
}

static void gc_sweep_all_waits_for_that_thread(void **unused)
{
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    for (int round = 0; round < 50; round++) {
        finalised = 0;
        let_die(50);
        make((void *)10);
        gc_sweep_all();
        assert_int_equal(finalised, 60);
    }
}

static void take_a_while(void *object)
{
    for (int i = 0; i < 20; i++) {
        MUST(gc_nbytes(object) > 0);
        usleep(100);
    }
}

/* What that thread is finalising is not taken away under it. */
static void gc_sweep_all_frees_nothing_that_is_being_finalised(void **unused)
{
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    for (int round = 0; round < 60; round++) {
        finalised = 0;
        deed = take_a_while;
        let_die(3);
        make((void *)1);
        gc_sweep_all();
        assert_int_equal(finalised, 4);
    }
}

/* No other thread is there, the library's included. */
static bool alone(void)
{
    struct stat tasks;
    MUST(stat("/proc/self/task", &tasks) == 0);
    return tasks.st_nlink == 2 + 1;
}

/* It ended with the last registered thread, but the program did not. */
static void that_thread_comes_back(void **unused)
{
    if (SH_TSAN)
        skip(); /* it has a thread of its own */
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    for (size_t round = 1; round <= 3; round++) {
        step = 0;
        finalised = 0;
        deed = wait_for_step;
        let_die(20);
        await_flag(&step, 1);
        gc_thread_unregister();
        set_flag(&step, 2);
        for (int i = 0; i < 3000 && !alone(); i++)
            usleep(10000);
        assert_true(alone());
        assert_true(finalised >= 15);
        assert_int_equal(gc_thread_register(), 0);
        finalised = 0;
        let_die(100);
        await(95);
    }
}

/* ---- Forks and the end ---- */

static int status_of(pid_t child)
{
    int status;
    MUST(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

/* If the thread was at work in the parent, only who made one gets one. */
static int in_child(void)
{
    finalised = 0;
    let_die(100);
    for (int i = 0; i < 3000 && finalised < 90; i++)
        usleep(10000);
    return finalised >= 90 ? 0 : 1;
}

/* Also while that thread is at work. */
static void a_child_has_a_thread_of_its_own(void **unused)
{
    if (SH_TSAN)
        skip(); /* wants no threads in children */
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    for (int i = 0; i < 6; i++) {
        let_die(100);
        if (i % 2)
            await(100 * (size_t)(i + 1) - 60);
        pid_t child = fork();
        MUST(child >= 0);
        if (child == 0)
            _exit(in_child());
        assert_int_equal(status_of(child), 0);
    }
    await(500);
}

static void a_child_has_a_descriptor_of_its_own(void **unused)
{
    int fd = gc_finaliser_fd();
    let_wait(100);
    pid_t child = fork();
    if (child == 0) {
        int own = gc_finaliser_fd();
        bool good = own >= 0 && own != fd && readable(own);
        gc_run_finalisers(SIZE_MAX);
        _exit(!good || readable(own));
    }
    assert_int_equal(status_of(child), 0);
    assert_true(readable(fd));
    gc_run_finalisers(SIZE_MAX);
}

static void say(void *object, void *context)
{
    MUST(write(1, ".", 1) == 1);
}

static void *end_later(void *unused)
{
    make((void *)100);
    gc_collect();
    return NULL;
}

/* In the thread: the first forks. In the child, which has no other thread of the heap's,
 * another thread is made and is in the midst of one while this one ends. */
static _Atomic bool main_gone;
static _Atomic int deeds;
static _Atomic pid_t forked;

static void fork_in_thread(void *object)
{
    int before = deeds++;
    if (before == 1 && forked == 0)
        usleep(300000);
    if (before > 0)
        return;
    while (!main_gone)
        usleep(1000);
    pid_t pid = fork();
    if (pid != 0) {
        forked = pid;
        return;
    }
    gc_collect();
    for (int i = 0; i < 3000 && deeds < 2; i++)
        usleep(10000);
    if (deeds < 2)
        _exit(1);
}

/* Whether the child ended, by itself, as its last thread did. */
static int fork_in_its_thread(void)
{
    int status;
    gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    deed = fork_in_thread;
    let_die(100);
    for (int i = 0; i < 3000 && deeds == 0; i++)
        usleep(10000);
    gc_thread_unregister();
    main_gone = true;
    for (int i = 0; i < 3000; i++) {
        if (forked && waitpid(forked, &status, WNOHANG) == forked)
            return status != 0;
        usleep(10000);
    }
    kill(forked, SIGKILL);
    return 2;
}

/* The program is this one, started anew with an argument. */
static void *volatile held[100];

static int exiting(const char *how)
{
    if (strcmp(how, "last_thread") == 0) {
        gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
        let_die(100);
        start(end_later, NULL);
        pthread_exit(NULL);
    }
    if (strcmp(how, "fork") == 0)
        return fork_in_its_thread();
    for (int i = 0; i < 100; i++) {
        held[i] = gc_alloc(i % 2 ? 64 : 50000, 0);
        MUST(gc_set_finaliser(held[i], say, NULL) == 0);
    }
    if (strcmp(how, "thread") == 0)
        gc_set_finaliser_mode(GC_FINALISE_IN_THREAD);
    if (strcmp(how, "demand") == 0)
        gc_set_finaliser_mode(GC_FINALISE_ON_DEMAND);
    if (strcmp(how, "collected") == 0)
        gc_collect();
    return 0;
}

static size_t bytes_written(const char *how, const char *options, int *status)
{
    int ends[2];
    MUST(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        setenv("SPLITHEAP_CONF", options, 1);
        execl("/proc/self/exe", "api_finaliser_modes", how, (char *)NULL);
        _exit(99);
    }
    close(ends[1]);
    size_t bytes = 0;
    char text[256];
    ssize_t n;
    while ((n = read(ends[0], text, sizeof text)) > 0)
        bytes += (size_t)n;
    close(ends[0]);
    *status = status_of(child);
    return bytes;
}

static void at_exit_all_run_if_so_wanted(void **unused)
{
    static const char *const hows[] = {"at_once", "thread", "demand", "collected"};
    int status;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(bytes_written(hows[i], "finalise_at_exit:true", &status), 100);
        assert_int_equal(status, 0);
        assert_int_equal(bytes_written(hows[i], "", &status), 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(
        bytes_written("at_once", "finalise_at_exit:true,finalise:in_thread", &status),
        100);
}

/* The library's own thread does not keep the process. */
static void the_process_ends_with_its_last_thread(void **unused)
{
    int status;
    if (SH_TSAN)
        skip(); /* a thread of its own keeps the process after its main thread ended */
    for (int i = 0; i < 5; i++) {
        bytes_written("last_thread", "", &status);
        assert_int_equal(status, 0);
    }
}

static void a_child_of_the_thread_ends_with_its_last_one(void **unused)
{
    int status;
    if (SH_TSAN)
        skip(); /* wants no threads in children */
    bytes_written("fork", "", &status);
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return exiting(argv[1]);
    const struct CMUnitTest tests[] = {
        MODE_TEST(at_once_is_the_default),
        MODE_TEST(on_demand_so_many_run),
        MODE_TEST(inside_gc_lock_none_run),
        MODE_TEST(inside_a_finaliser_none_run),
        MODE_TEST(who_turns_to_at_once_has_them_run_then),
        MODE_TEST(gc_sweep_all_runs_them_in_any_mode),
        MODE_TEST(several_threads_may_run_them),
        MODE_TEST(the_rest_can_be_run_after_a_longjmp),
        MODE_TEST(those_that_run_more_stay_flat),
        MODE_TEST(those_that_collect_stay_flat),
        MODE_TEST(a_run_that_was_left_is_not_waited_for),
        MODE_TEST(the_notifier_is_called),
        MODE_TEST(a_notifier_may_collect),
        MODE_TEST(the_descriptor_is_readable_while_some_wait),
        MODE_TEST(in_a_thread_another_runs_them),
        MODE_TEST(what_that_thread_holds_is_kept),
        MODE_TEST(gc_sweep_all_waits_for_that_thread),
        MODE_TEST(gc_sweep_all_frees_nothing_that_is_being_finalised),
        MODE_TEST(that_thread_comes_back),
        MODE_TEST(a_child_has_a_thread_of_its_own),
        MODE_TEST(a_child_has_a_descriptor_of_its_own),
        MODE_TEST(at_exit_all_run_if_so_wanted),
        MODE_TEST(the_process_ends_with_its_last_thread),
        MODE_TEST(a_child_of_the_thread_ends_with_its_last_one),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
