/* SPDX-License-Identifier: MIT */
/*
 * Signals and collections: what the program does with signals goes on as if nobody
 * stopped its threads, and what it does not keep threads from being stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/heap.h"

#define COLLECTIONS 30

static void collect_often(void)
{
    for (int i = 0; i < COLLECTIONS; i++) {
        gc_collect();
        sleep_us(200);
    }
}

/* ---- Calls that go on ---- */

static int pipe_fds[2], socket_fds[2], event_fd, locked_fd;
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_t awaited;
static bool told;

static bool by_read(void)
{
    char c;
    return read(pipe_fds[0], &c, 1) == 1;
}

static bool by_recv(void)
{
    char c;
    return recv(socket_fds[0], &c, 1, 0) == 1;
}

static bool by_eventfd(void)
{
    uint64_t n;
    return read(event_fd, &n, sizeof n) == sizeof n;
}

static bool by_semaphore(void)
{
    return sem_wait(&semaphore) == 0;
}

static bool by_mutex(void)
{
    bool done = pthread_mutex_lock(&mutex) == 0;
    pthread_mutex_unlock(&mutex);
    return done;
}

static bool by_join(void)
{
    return pthread_join(awaited, NULL) == 0;
}

static bool by_flock(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    bool done = flock(fd, LOCK_EX) == 0;
    close(fd);
    return done;
}

static struct waiter {
    bool (*wait)(void);
    _Atomic uint32_t state; /* 1 waits, 2 was right, 3 was not */
} waiters[] = {{by_read, 0}, {by_recv, 0}, {by_eventfd, 0}, {by_semaphore, 0},
    {by_mutex, 0}, {by_join, 0}, {by_flock, 0}};
#define WAITERS (sizeof waiters / sizeof waiters[0])

static void *be_waiter(void *arg)
{
    struct waiter *waiter = arg;
    MUST(gc_thread_register() == 0);
    sh_store_seq_cst(&waiter->state, 1u);
    errno = 0;
    bool right = waiter->wait();
    sh_store_seq_cst(&waiter->state, right && errno == 0 ? 2u : 3u);
    return NULL;
}

static void *wait_to_be_told(void *unused)
{
    pthread_mutex_lock(&mutex);
    while (!told)
        pthread_cond_wait(&condition, &mutex);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void open_all(void)
{
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds), 0);
    event_fd = eventfd(0, EFD_CLOEXEC);
    locked_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(locked_fd, LOCK_EX), 0);
    sem_init(&semaphore, 0, 0);
    awaited = start(wait_to_be_told, NULL);
}

static void end_all_waits(void)
{
    uint64_t one = 1;
    told = true;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    sem_post(&semaphore);
    MUST(write(pipe_fds[1], "x", 1) == 1 && write(socket_fds[1], "x", 1) == 1);
    MUST(write(event_fd, &one, sizeof one) == sizeof one);
    flock(locked_fd, LOCK_UN);
}

static void waiting_calls_go_on(void **unused)
{
    pthread_t threads[WAITERS];
    open_all();
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < WAITERS; i++) {
        threads[i] = start(be_waiter, &waiters[i]);
        while (sh_load_relaxed(&waiters[i].state) == 0)
            sleep_us(100);
    }
    collect_often();
    for (size_t i = 0; i < WAITERS; i++)
        assert_int_equal(sh_load_relaxed(&waiters[i].state), 1);
    end_all_waits();
    for (size_t i = 0; i < WAITERS; i++) {
        join(threads[i]);
        assert_int_equal(sh_load_relaxed(&waiters[i].state), 2);
    }
}

/* ---- Calls that do not, but in gc_blocking_begin ---- */

static _Atomic uint32_t stage;

static void *sleep_blocking(void *unused)
{
    struct timespec time = {0, 50000000}, left;
    struct pollfd nothing = {.fd = -1};
    MUST(gc_thread_register() == 0);
    while (sh_load_relaxed(&stage) == 0) {
        gc_blocking_begin();
        int slept = nanosleep(&time, &left), polled = poll(&nothing, 1, 50);
        gc_blocking_end();
        MUST(slept == 0 && polled == 0);
    }
    return NULL;
}

static void who_says_that_it_blocks_is_not_interrupted(void **unused)
{
    stage = 0;
    pthread_t thread = start(sleep_blocking, NULL);
    for (int i = 0; i < 5; i++)
        collect_often();
    stage = 1;
    join(thread);
}

/* ---- Signals that the program waits for ---- */

static void *take_by_sigwait(void *unused)
{
    sigset_t all;
    int got;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    set_flag(&stage, 1);
    MUST(sigwait(&all, &got) == 0 && got == SIGUSR1);
    return NULL;
}

static void *take_by_signalfd(void *unused)
{
    sigset_t all;
    struct signalfd_siginfo got;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    int fd = signalfd(-1, &all, SFD_CLOEXEC);
    set_flag(&stage, 1);
    MUST(read(fd, &got, sizeof got) == sizeof got && got.ssi_signo == SIGUSR1);
    close(fd);
    return NULL;
}

static void check_taking(void *(*take)(void *))
{
    stage = 0;
    pthread_t thread = start(take, NULL);
    await_flag(&stage, 1);
    collect_often();
    pthread_kill(thread, SIGUSR1);
    join(thread);
}

static void signals_are_waited_for_as_ever(void **unused)
{
    check_taking(take_by_sigwait);
    check_taking(take_by_signalfd);
}

/* As in a program that sets its threads up before it first uses gc.h. */
static void begin_late(void *unused)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    check_taking(take_by_sigwait);
}

static void who_waited_before_the_first_use_is_not_in_the_way(void **unused)
{
    struct child child;
    child_run(&child, begin_late, NULL);
    if (!child_returned(&child) || *child.text)
        fail_msg("status %#x: %s", child.status, child.text);
}

/* ---- The whole process is stopped, or looked into ---- */

static _Atomic bool over;

static void *spin(void *unused)
{
    while (!sh_load_relaxed(&over))
        gc_free(gc_alloc(30, 0));
    return NULL;
}

static void *sleep_long(void *unused)
{
    while (!sh_load_relaxed(&over))
        sleep_us(1000);
    return NULL;
}

/* Ends by itself, with status 0, when the parent closed the pipe. */
static void collect_until_told(int fd)
{
    pthread_t threads[2] = {start(spin, NULL), start(sleep_long, NULL)};
    struct pollfd end = {.fd = fd, .events = POLLIN};
    do {
        gc_collect();
        MUST(write(STDOUT_FILENO, "", 0) == 0);
    } while (poll(&end, 1, 0) == 0);
    over = true;
    join(threads[0]);
    join(threads[1]);
    _exit(0);
}

static pid_t start_collecting_child(int *end)
{
    int fds[2];
    MUST(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[1]);
        collect_until_told(fds[0]);
    }
    close(fds[0]);
    *end = fds[1];
    return pid;
}

static void check_end(pid_t pid, int end)
{
    int status;
    close(end);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void stopping_the_process_is_harmless(void **unused)
{
    int end;
    pid_t pid = start_collecting_child(&end);
    for (int i = 0; i < 30; i++) {
        sleep_us(3000);
        kill(pid, SIGSTOP);
        sleep_us(1000);
        kill(pid, SIGCONT);
    }
    check_end(pid, end);
}

static void a_debugger_may_come_and_go(void **unused)
{
    int end, status;
    pid_t pid = start_collecting_child(&end);
    for (int i = 0; i < 20; i++) {
        sleep_us(3000);
        if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0)
            break; /* not allowed here */
        assert_int_equal(waitpid(pid, &status, 0), pid);
        int signal = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        sleep_us(1000);
        ptrace(PTRACE_DETACH, pid, NULL, (void *)(uintptr_t)signal);
        kill(pid, SIGCONT);
    }
    check_end(pid, end);
}

/* ---- The program's own ---- */

static _Atomic unsigned handled;

static void count(int signal)
{
    int error = errno;
    sh_add_relaxed(&handled, 1u);
    errno = error;
}

static void *be_signalled(void *unused)
{
    errno = EDOM;
    while (!sh_load_relaxed(&over)) {
        gc_free(gc_alloc(50, 0));
        MUST(errno == EDOM);
    }
    return NULL;
}

static void the_programs_signals_come_meanwhile(void **unused)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGRTMIN + 1, &action, NULL);
    over = false;
    handled = 0;
    pthread_t thread = start(be_signalled, NULL);
    for (int i = 0; i < 300; i++) {
        pthread_kill(thread, SIGUSR1);
        pthread_kill(thread, SIGRTMIN + 1);
        gc_collect();
    }
    over = true;
    join(thread);
    assert_true(handled >= 300);
}

/* In the middle of the heap's own work, which is not to be entered again. */
static void allocate_in_handler(int signal)
{
    for (int i = 0; i < 3000; i++)
        (void)gc_alloc(3000, 0);
}

static void allocate_in_section(void *unused)
{
    struct sigaction action = {.sa_handler = allocate_in_handler};
    sigaction(SIGUSR1, &action, NULL);
    MUST(gc_alloc(10, 0));
    sh_critical_enter();
    raise(SIGUSR1);
}

static void a_handler_that_allocates_inside_is_told(void **unused)
{
    struct child child;
    child_run(&child, allocate_in_section, NULL);
    if (!child_aborted_with(&child,
            "splitheap: the heap is entered from a signal handler that interrupted it; "
            "a handler may call nothing that allocates or frees\n"))
        fail_msg("status %#x: %s", child.status, child.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waited_before_the_first_use_is_not_in_the_way),
        cmocka_unit_test(waiting_calls_go_on),
        cmocka_unit_test(who_says_that_it_blocks_is_not_interrupted),
        cmocka_unit_test(signals_are_waited_for_as_ever),
        cmocka_unit_test(stopping_the_process_is_harmless),
        cmocka_unit_test(a_debugger_may_come_and_go),
        cmocka_unit_test(the_programs_signals_come_meanwhile),
        cmocka_unit_test(a_handler_that_allocates_inside_is_told),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
