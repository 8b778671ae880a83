/* SPDX-License-Identifier: MIT */
/*
 * threads/stop.h: threads in every state stop, stand still, and go on.
 *
 * Each worker steps a counter of its own wherever the protocol lets it run. While the
 * world is stopped no counter may change, and the stopper may change what is theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/options.h"
#include "lib/os_thread.h"
#include "tests/child.h"
#include "tests/workers.h"

#define WORKERS_MAX 24

struct worker {
    _Atomic uint64_t steps;
    uint64_t children; /* plain: stopping alone keeps its readers in order */
    _Atomic bool critical;
    pthread_t thread;
} SH_ALIGNED(SH_CACHE_LINE);

static struct worker workers[WORKERS_MAX];
static _Atomic bool over;

/* As gc_blocking_begin does. */
static SH_NOINLINE void blocking_begin(void)
{
    sh_blocking_begin(__builtin_frame_address(0));
}

static void step(struct worker *worker)
{
    sh_add_relaxed(&worker->steps, 1u);
}

/* ---- What workers do ---- */

static void *spin(void *arg)
{
    sh_thread_enter();
    errno = EDOM;
    while (!sh_load_relaxed(&over)) {
        step(arg);
        MUST(errno == EDOM);
    }
    return NULL;
}

static int pipe_fds[2];

static void *block_in_read(void *arg)
{
    char byte;
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        MUST(read(pipe_fds[0], &byte, 1) == 1);
        step(arg);
    }
    return NULL;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void *wait_on_condition(void *arg)
{
    sh_thread_enter();
    pthread_mutex_lock(&mutex);
    while (!sh_load_relaxed(&over)) {
        step(arg);
        pthread_cond_wait(&condition, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void *poke(void *arg)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        step(arg);
        pthread_mutex_lock(&mutex);
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
        MUST(write(pipe_fds[1], "x", 1) == 1);
        sleep_us(50);
    }
    return NULL;
}

static void *sleep_a_little(void *arg)
{
    struct timespec time = {0, 20000};
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        step(arg);
        nanosleep(&time, NULL);
    }
    return NULL;
}

static struct sh_lock lock = SH_LOCK_INIT(SH_RANK_HEAP);

static void *be_critical(void *arg)
{
    struct worker *worker = arg;
    sh_thread_enter();
    errno = EDOM;
    while (!sh_load_relaxed(&over)) {
        step(worker);
        sh_critical_enter();
        sh_store_relaxed(&worker->critical, true);
        sh_lock_acquire(&lock);
        for (volatile int i = 0; i < 300; i++)
            ;
        sh_lock_release(&lock);
        sh_critical_enter();
        sh_critical_leave();
        sh_store_relaxed(&worker->critical, false);
        sh_critical_leave();
        MUST(errno == EDOM);
    }
    return NULL;
}

static void *be_blocking(void *arg)
{
    sh_thread_enter();
    errno = EDOM;
    while (!sh_load_relaxed(&over)) {
        step(arg);
        blocking_begin();
        for (volatile int i = 0; i < 300; i++)
            ;
        sh_blocking_end();
        MUST(errno == EDOM);
    }
    return NULL;
}

static void *come_and_go(void *arg)
{
    while (!sh_load_relaxed(&over)) {
        sh_thread_enter();
        step(arg);
        sh_thread_leave(false);
    }
    return NULL;
}

static void *live_briefly(void *arg)
{
    sh_thread_enter();
    step(arg);
    return NULL;
}

static void *have_children(void *arg)
{
    struct worker *worker = arg;
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        worker->children++;
        join(start(live_briefly, arg));
    }
    return NULL;
}

static void on_user_signal(int signal)
{
    (void)signal;
    for (volatile int i = 0; i < 300; i++)
        ;
}

static void *signal_on_alt_stack(void *arg)
{
    static SH_TLS char stack[64 << 10];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    sh_thread_enter();
    sigaltstack(&alt, NULL);
    while (!sh_load_relaxed(&over)) {
        step(arg);
        raise(SIGUSR2);
    }
    alt.ss_flags = SS_DISABLE;
    sigaltstack(&alt, NULL);
    return NULL;
}

static void *mask_signals(void *arg)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        step(arg);
        uint64_t mask = sh_os_signals_block();
        sh_critical_enter();
        sh_critical_leave();
        sh_os_signals_restore(mask);
    }
    return NULL;
}

/* ---- Stopping them ---- */

static void start_worker(int i, void *(*routine)(void *))
{
    sh_store_relaxed(&workers[i].steps, 0);
    sh_store_relaxed(&workers[i].critical, false);
    workers[i].thread = start(routine, &workers[i]);
}

static void check_states(void)
{
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next) {
        uint32_t state = sh_load_relaxed(&t->state);
        if (t != sh_tls.self)
            assert_true(state == SH_THREAD_PARKED || state == SH_THREAD_HELD);
    }
}

/* Long enough that a thread that was not stopped would step. */
static void check_stillness(int count, unsigned us)
{
    uint64_t before[WORKERS_MAX];
    for (int i = 0; i < count; i++)
        before[i] = sh_load_relaxed(&workers[i].steps);
    sleep_us(us);
    for (int i = 0; i < count; i++) {
        assert_int_equal(sh_load_relaxed(&workers[i].steps), before[i]);
        workers[i].children++;
    }
}

static void stop_and_check(int count, int times, unsigned us, bool critical_is_ours)
{
    for (int n = 0; n < times; n++) {
        stop_to_collect();
        check_states();
        check_stillness(count, n % 8 ? us : us * 20);
        for (int i = 0; critical_is_ours && i < count; i++)
            assert_false(sh_load_relaxed(&workers[i].critical));
        resume();
        if (n % 3 == 0)
            sleep_us((unsigned)n % 100);
    }
}

static void finish(int count)
{
    for (int i = 0; i < count; i++) {
        while (sh_load_relaxed(&workers[i].steps) == 0)
            sleep_us(100);
    }
    sh_store_seq_cst(&over, true);
    for (int i = 0; i < 100; i++) {
        pthread_cond_broadcast(&condition);
        MUST(write(pipe_fds[1], "x", 1) == 1);
        sleep_us(100);
    }
    for (int i = 0; i < count; i++) {
        join(workers[i].thread);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    sh_store_seq_cst(&over, false);
}

/* SPLITHEAP_TEST_ROUNDS=n: n times as often. */
static int rounds(void)
{
    const char *text = getenv("SPLITHEAP_TEST_ROUNDS");
    return text ? atoi(text) : 1;
}

static void run(void *(*const *routines)(void *), int kinds, int count, int times)
{
    times *= rounds();
    MUST(pipe(pipe_fds) == 0);
    for (int i = 0; i < count; i++)
        start_worker(i, routines[i % kinds]);
    stop_and_check(count, times, 10, true);
    finish(count);
}

static void run_one(void *(*routine)(void *))
{
    run(&routine, 1, 4, 100);
}

static void spinning_threads_stop(void **unused)
{
    run_one(spin);
}

static void threads_in_read_and_conditions_stop(void **unused)
{
    void *(*const routines[])(void *) = {block_in_read, wait_on_condition, poke};
    run(routines, 3, 6, 100);
}

static void sleeping_threads_stop(void **unused)
{
    run_one(sleep_a_little);
}

static void critical_sections_end_first(void **unused)
{
    run_one(be_critical);
}

static void blocking_threads_count_as_stopped(void **unused)
{
    run_one(be_blocking);
}

static void threads_that_come_and_go_stop(void **unused)
{
    run_one(come_and_go);
}

static void threads_being_born_and_ending_stop(void **unused)
{
    run_one(have_children);
}

static void threads_on_alternate_stacks_stop(void **unused)
{
    struct sigaction action = {.sa_handler = on_user_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    run_one(signal_on_alt_stack);
}

static void threads_that_mask_signals_for_a_while_stop(void **unused)
{
    run_one(mask_signals);
}

static void all_kinds_stop_together(void **unused)
{
    void *(*const routines[])(void *) = {spin, block_in_read, wait_on_condition, poke,
        sleep_a_little, be_critical, be_blocking, come_and_go, have_children,
        signal_on_alt_stack, mask_signals};
    run(routines, 11, 22, 30);
}

static void the_next_stop_may_follow_at_once(void **unused)
{
    void *(*const routines[])(void *) = {spin, be_critical, be_blocking};
    for (int i = 0; i < 6; i++)
        start_worker(i, routines[i % 3]);
    MUST(pipe(pipe_fds) == 0);
    for (int i = 0; i < 300 * rounds(); i++) {
        stop_to_collect();
        resume();
    }
    finish(6);
}

static void *collect_often(void *arg)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        stop_to_collect();
        step(arg);
        resume();
        step(arg);
    }
    return NULL;
}

static void collectors_stop_each_other(void **unused)
{
    void *(*const routines[])(void *) = {collect_often, collect_often, spin};
    run(routines, 3, 6, 100);
}

/* ---- One at a time ---- */

static void a_world_of_one_stops(void **unused)
{
    stop_to_collect();
    resume();
    assert_int_equal(sh_tls.critical, 0);
}

static void *stop_unregistered(void *unused)
{
    sh_thread_leave(true);
    stop_to_collect();
    resume();
    return NULL;
}

static void an_ended_thread_can_collect(void **unused)
{
    start_worker(0, spin);
    join(start(stop_unregistered, NULL));
    MUST(pipe(pipe_fds) == 0);
    finish(1);
}

static _Atomic uint32_t stage;

static void *block_and_come_back(void *unused)
{
    sh_thread_enter();
    blocking_begin();
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    set_flag(&stage, 3);
    sh_blocking_end();
    set_flag(&stage, 4);
    return NULL;
}

static void blocking_end_waits_for_the_world(void **unused)
{
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(block_and_come_back, NULL);
    await_flag(&stage, 1);
    stop_to_collect();
    set_flag(&stage, 2);
    await_flag(&stage, 3);
    sleep_us(20000);
    assert_int_equal(sh_load_relaxed(&stage), 3);
    resume();
    await_flag(&stage, 4);
    join(thread);
}

static void *be_born_late(void *born)
{
    sh_thread_enter();
    set_flag(born, 1);
    return NULL;
}

static void *create_one(void *born)
{
    sh_thread_enter();
    sh_thread_leave(true);
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    return (void *)start(be_born_late, born);
}

static void nobody_is_born_into_a_stopped_world(void **unused)
{
    _Atomic uint32_t born = 0;
    sh_store_relaxed(&stage, 0);
    pthread_t parent = start(create_one, (void *)&born);
    await_flag(&stage, 1);
    stop_to_collect();
    size_t count = sh_registry_count();
    set_flag(&stage, 2);
    sleep_us(20000);
    assert_int_equal(sh_load_relaxed(&born), 0);
    assert_int_equal(sh_registry_count(), count);
    resume();
    await_flag(&born, 1);
    join((pthread_t)join(parent));
}

static void *vanish(void *unused)
{
    sh_thread_enter();
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    syscall(SYS_exit, 0);
    return NULL;
}

static void vanish_in_child(void *unused)
{
    sh_store_relaxed(&stage, 0);
    start(vanish, NULL);
    await_flag(&stage, 1);
    set_flag(&stage, 2);
    sleep_us(20000);
    for (int i = 0; i < 3; i++) {
        stop_to_collect();
        resume();
    }
}

static void a_vanished_thread_is_given_up(void **unused)
{
    struct child child;
    child_run(&child, vanish_in_child, NULL);
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
}

static void *mask_until_told(void *unused)
{
    sh_thread_enter();
    uint64_t mask = sh_os_signals_block();
    set_flag(&stage, sh_os_thread_id());
    while (sh_load_relaxed(&stage) != 1)
        sleep_us(1000);
    sh_os_signals_restore(mask);
    set_flag(&stage, 2);
    return NULL;
}

/* One that blocks signals for ever keeps collections from happening, not the program
 * from running: nothing is stopped, and later all is well. */
static void report_in_child(void *unused)
{
    sh_store_relaxed(&stage, 0);
    sh_stop_patience_ns = 200000000;
    sh_stop_prepare();
    start_worker(0, spin);
    pthread_t thread = start(mask_until_told, NULL);
    while (sh_load_relaxed(&stage) == 0)
        sleep_us(100);
    MUST(!sh_world_stop_to_collect(true, false, NULL));
    uint64_t steps = sh_load_relaxed(&workers[0].steps);
    while (sh_load_relaxed(&workers[0].steps) == steps)
        sleep_us(100);
    MUST(sh_tls.critical == 0 && !sh_gc_mutex_is_locked());
    MUST(!sh_world_stop_to_collect(
        false, true, NULL)); /* not so soon: no second report */
    MUST(!sh_world_stop_to_collect(true, true, NULL));
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    stop_to_collect();
    resume();
    join(thread);
}

static void a_thread_that_masks_signals_is_reported_and_left_alone(void **unused)
{
    struct child child;
    child_run(&child, report_in_child, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
    unsigned tid, ms;
    int signal, end = 0;
    char state, name[16], in[64], place[32];
    assert_int_equal(
        sscanf(child.text,
            "splitheap: thread %u (%15[^)]) has not stopped for %u ms; it blocks the "
            "signal that stops threads (signal %d blocked, state %c, in %63[^,], "
            "system "
            "call %*d, at %31[^)])\n%n",
            &tid, name, &ms, &signal, &state, in, place, &end),
        7);
    assert_int_equal(end, strlen(child.text));
    assert_int_equal(child.writes, 1);
    assert_int_equal(signal, sh_os_stop_signal());
    assert_string_equal(name, "unit_stop");
    assert_in_range(ms, 200, 60000);
}

/* ---- What others do to threads and to the process ---- */

/* With a process beside this one, which lives as long; in memory that both see. */
struct beside {
    _Atomic uint32_t stage, tid;
    _Atomic bool refused, fifo;
    pid_t ours, pid;
};

static struct beside *beside;

static void await_beside(uint32_t value)
{
    while (sh_load_acquire(&beside->stage) < value)
        sleep_us(1000);
}

static void begin_beside(void (*routine)(void))
{
    beside = mmap(NULL, sizeof *beside, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(beside != MAP_FAILED);
    beside->ours = getpid();
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        routine();
        _exit(0);
    }
    beside->pid = pid;
    prctl(PR_SET_PTRACER, pid);
}

static void end_beside(void)
{
    kill(beside->pid, SIGKILL);
    waitpid(beside->pid, NULL, 0);
}

/* The one report in `text`; returns what comes after it. */
static const char *check_report(const char *text, const char *thread, const char *why)
{
    unsigned tid, ms;
    int end = 0;
    char name[16], reason[80], state;
    assert_int_equal(sscanf(text,
                         "splitheap: thread %u (%15[^)]) has not stopped for %u ms; it "
                         "%79[^(](signal %*d, state %c, in %*[^,], system call %*d, at "
                         "%*[^)])\n%n",
                         &tid, name, &ms, reason, &state, &end),
        5);
    assert_true(end > 0);
    assert_string_equal(name, thread);
    assert_memory_equal(reason, why, strlen(why));
    return text + end;
}

static void *be_named(void *name)
{
    sh_thread_enter();
    prctl(PR_SET_NAME, name);
    set_flag(&stage, sh_os_thread_id());
    while (!sh_load_relaxed(&over))
        step(&workers[0]);
    return NULL;
}

static pthread_t start_named(const char *name)
{
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(be_named, (void *)(uintptr_t)name);
    while (sh_load_acquire(&stage) == 0)
        sleep_us(100);
    return thread;
}

static void hold_thread(void)
{
    await_beside(1);
    pid_t tid = (pid_t)beside->tid;
    beside->refused = ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0 ||
                      ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0 ||
                      waitpid(tid, NULL, __WALL) != tid;
    sh_store_seq_cst(&beside->stage, 2u);
    await_beside(3);
    ptrace(PTRACE_DETACH, tid, NULL, NULL);
    await_beside(4);
}

static void debug_in_child(void *unused)
{
    sh_stop_patience_ns = 200000000;
    begin_beside(hold_thread);
    pthread_t thread = start_named("debugged");
    beside->tid = sh_load_relaxed(&stage);
    sh_store_seq_cst(&beside->stage, 1u);
    await_beside(2);
    if (beside->refused)
        _exit(77);
    MUST(!sh_world_stop_to_collect(true, false, NULL));
    sh_stop_patience_ns = 100000000000;
    sh_store_seq_cst(&beside->stage, 3u);
    stop_to_collect();
    resume();
    sh_store_seq_cst(&over, true);
    join(thread);
    end_beside();
}

static void a_thread_that_a_debugger_holds_is_reported(void **unused)
{
    struct child child;
    child_run(&child, debug_in_child, NULL);
    if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == 77)
        skip(); /* not allowed here */
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
    const char *rest =
        check_report(child.text, "debugged", "is stopped, by a debugger");
    assert_string_equal(rest, "");
}

/* The child of vfork has this memory, too, and keeps the thread from running. */
static void *vfork_until_told(void *unused)
{
    sh_thread_enter();
    prctl(PR_SET_NAME, "vforks");
    pid_t pid = vfork();
    if (pid == 0) {
        sh_store_seq_cst(&stage, 1u);
        while (sh_load_acquire(&stage) == 1)
            sleep_us(1000);
        _exit(0);
    }
    MUST(pid > 0 && waitpid(pid, NULL, 0) == pid);
    sh_store_seq_cst(&stage, 3u);
    while (!sh_load_relaxed(&over))
        step(&workers[0]);
    return NULL;
}

static void await_stage(uint32_t value)
{
    while (sh_load_acquire(&stage) != value)
        sleep_us(1000);
}

static void vfork_in_child(void *unused)
{
    sh_stop_patience_ns = 200000000;
    sh_store_relaxed(&stage, 0);
    sh_store_relaxed(&over, false);
    pthread_t thread = start(vfork_until_told, NULL);
    await_stage(1);
    MUST(!sh_world_stop_to_collect(true, false, NULL));
    sh_stop_patience_ns = 100000000000;
    sh_store_seq_cst(&stage, 2u);
    stop_to_collect(); /* it waits no longer, or soon */
    resume();
    await_stage(3);
    stop_to_collect();
    resume();
    sh_store_seq_cst(&over, true);
    join(thread);
}

static void a_thread_that_its_vforked_child_keeps_is_reported(void **unused)
{
    if (SH_TSAN)
        skip(); /* its vfork is a fork */
    struct child child;
    child_run(&child, vfork_in_child, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
    assert_int_equal(child.writes, 1);
    assert_non_null(strstr(child.text, " (vforks) has not stopped for "));
    assert_non_null(
        strstr(child.text, " ms; it sleeps where no signal reaches it (vfork, "));
}

static void use_processor(pid_t tid, size_t number)
{
    cpu_set_t all, one;
    MUST(sched_getaffinity(0, sizeof all, &all) == 0);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && number-- == 0)
            CPU_SET(i, &one);
    if (CPU_COUNT(&one))
        MUST(sched_setaffinity(tid, sizeof one, &one) == 0);
}

/* At a real-time priority, where that is allowed: then others have a twentieth. */
static void be_busy(void)
{
    struct sched_param priority = {.sched_priority = 1};
    await_beside(1);
    beside->fifo = sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
    sh_store_seq_cst(&beside->stage, 2u);
    for (;;)
        sh_cpu_pause();
}

/* The stopper has another processor. */
static void stop_low_priority_in_child(void *unused)
{
    struct sched_param none = {.sched_priority = 0};
    cpu_set_t all;
    MUST(sched_getaffinity(0, sizeof all, &all) == 0);
    if (CPU_COUNT(&all) < 2)
        _exit(77);
    begin_beside(be_busy);
    pthread_t thread = start_named("low");
    pid_t low = (pid_t)sh_load_relaxed(&stage);
    use_processor(low, 0);
    use_processor(beside->pid, 0);
    use_processor(0, 1);
    MUST(sched_setscheduler(low, SCHED_IDLE, &none) == 0);
    sh_store_seq_cst(&beside->stage, 1u);
    await_beside(2);
    sh_stop_patience_ns = 100000000;
    unsigned failed = 0;
    for (int i = 0; i < 10 && !failed; i++) {
        if (sh_world_stop_to_collect(true, false, NULL))
            resume();
        else
            failed++;
        sleep_us(10000);
    }
    MUST(failed || !beside->fifo);
    end_beside();
    sh_stop_patience_ns = 100000000000;
    stop_to_collect();
    resume();
    sh_store_seq_cst(&over, true);
    join(thread);
}

static void a_thread_that_gets_no_time_is_reported(void **unused)
{
    struct child child;
    child_run(&child, stop_low_priority_in_child, NULL);
    if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == 77)
        skip(); /* one processor */
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
    if (*child.text)
        assert_string_equal(check_report(child.text, "low", "gets no time to run"), "");
}

/* ---- The process is stopped ---- */

#define STANDS_US 2500000

static void let_go_on(void)
{
    await_beside(1);
    for (;;) {
        sleep_us(STANDS_US);
        kill(beside->ours, SIGCONT);
    }
}

/* It takes the signal for stopping only after the process stood, in the midst of a stop. */
static void *stop_the_process(void *unused)
{
    uint64_t before, stood = (uint64_t)STANDS_US * 800;
    sh_thread_enter();
    uint64_t mask = sh_os_signals_block();
    set_flag(&stage, 1);
    while (sh_load_acquire(&sh_tls.self->state) != SH_THREAD_WANTED)
        sleep_us(100);
    sh_store_seq_cst(&beside->stage, 1u);
    do {
        before = sh_os_now_ns();
        kill(beside->ours, SIGSTOP);
        sleep_us(1000);
    } while (sh_os_now_ns() - before < stood);
    sh_os_signals_restore(mask);
    return NULL;
}

static void stand_in_child(void *unused)
{
    begin_beside(let_go_on);
    sh_store_relaxed(&stage, 0);
    sh_stop_patience_ns = (uint64_t)STANDS_US * 800;
    sh_stop_prepare();
    pthread_t thread = start(stop_the_process, NULL);
    await_flag(&stage, 1);
    stop_to_collect();
    resume();
    join(thread);
    end_beside();
}

static void time_in_which_the_process_stood_does_not_count(void **unused)
{
    struct child child;
    child_run(&child, stand_in_child, NULL);
    if (!child_returned(&child) || *child.text)
        fail_msg("status %#x: %s", child.status, child.text);
}

/* It does not get the signal, but looks when it leaves a critical section. */
static void *mask_and_be_critical(void *arg)
{
    uint64_t mask = sh_os_signals_block();
    be_critical(arg);
    sh_os_signals_restore(mask);
    return NULL;
}

static void a_thread_that_masks_signals_stops_where_it_comes_by(void **unused)
{
    void *(*const routine)(void *) = mask_and_be_critical;
    run(&routine, 1, 2, 3);
}

static void use_the_signal(void *unused)
{
    sh_stop_set_signal(SIGUSR2);
    signal(SIGUSR2, on_user_signal);
    stop_to_collect();
}

static void a_signal_of_the_programs_is_refused(void **unused)
{
    struct child child;
    /* In a process that never stopped its world: see main. */
    child_run(&child, use_the_signal, NULL);
    assert_true(child_aborted_with(&child,
        "splitheap: signal 12, which stops threads, is handled by the program\n"));
}

static void the_signal_can_be_chosen(void **unused)
{
    const int others[] = {-1, 0, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL,
        SIGABRT, SIGRTMAX + 1, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(sh_stop_set_signal(others[i]), EINVAL);
    assert_int_equal(sh_stop_set_signal(SIGUSR1), 0);
    assert_int_equal(sh_stop_set_signal(SIGRTMIN + 3), 0);
    stop_to_collect();
    resume();
    assert_int_equal(sh_stop_set_signal(SIGRTMIN + 4), EBUSY);
    struct sigaction action;
    sigaction(SIGRTMIN + 3, NULL, &action);
    if (!SH_TSAN)
        assert_ptr_not_equal(action.sa_handler, SIG_DFL);
}

static void choose_by_option(void *unused)
{
    sh_options.stop_signal = SIGUSR2;
    stop_to_collect();
    resume();
    MUST(sh_stop_signal_in_use() == SIGUSR2);
}

static void in_child_choose(void *unused)
{
    the_signal_can_be_chosen(NULL);
}

static void the_signal_is_chosen_before_use(void **unused)
{
    struct child child;
    child_run(&child, in_child_choose, NULL);
    assert_true(child_returned(&child));
    child_run(&child, choose_by_option, NULL);
    assert_true(child_returned(&child));
}

static void begin_twice(void *unused)
{
    blocking_begin();
    blocking_begin();
}

static void end_alone(void *unused)
{
    sh_blocking_end();
}

static void blocking_is_begun_and_ended_in_turn(void **unused)
{
    struct child child;
    child_run(&child, begin_twice, NULL);
    assert_true(child_aborted_with(
        &child, "splitheap: gc_blocking_begin inside gc_blocking_begin\n"));
    child_run(&child, end_alone, NULL);
    assert_true(child_aborted_with(
        &child, "splitheap: gc_blocking_end without gc_blocking_begin\n"));
}

static void *block_unregistered(void *unused)
{
    sh_thread_leave(true);
    blocking_begin();
    sh_blocking_end();
    return NULL;
}

/* ---- What is put off ---- */

static unsigned done_later;

static void do_later(void)
{
    assert_int_equal(sh_tls.critical, 0);
    done_later++;
}

static void put_it_off(int signal)
{
    sh_thread_later(do_later);
}

static void what_is_put_off_is_done_at_the_end_of_the_section(void **unused)
{
    void (*before)(int) = signal(SIGUSR2, put_it_off);
    sh_critical_enter();
    sh_critical_enter();
    raise(SIGUSR2);
    raise(SIGUSR2);
    assert_int_equal(done_later, 0);
    sh_critical_leave();
    assert_int_equal(done_later, 0);
    sh_critical_leave();
    assert_int_equal(done_later, 1);
    sh_critical_enter();
    sh_critical_leave();
    assert_int_equal(done_later, 1);
    signal(SIGUSR2, before);
}

static void blocking_means_nothing_to_an_unregistered_thread(void **unused)
{
    join(start(block_unregistered, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_of_the_programs_is_refused),
        cmocka_unit_test(the_signal_is_chosen_before_use),
        cmocka_unit_test(a_thread_that_masks_signals_is_reported_and_left_alone),
        cmocka_unit_test(a_thread_that_masks_signals_stops_where_it_comes_by),
        cmocka_unit_test(a_thread_that_a_debugger_holds_is_reported),
        cmocka_unit_test(a_thread_that_its_vforked_child_keeps_is_reported),
        cmocka_unit_test(a_thread_that_gets_no_time_is_reported),
        cmocka_unit_test(time_in_which_the_process_stood_does_not_count),
        cmocka_unit_test(a_vanished_thread_is_given_up),
        cmocka_unit_test(blocking_is_begun_and_ended_in_turn),
        cmocka_unit_test(a_world_of_one_stops),
        cmocka_unit_test(spinning_threads_stop),
        cmocka_unit_test(threads_in_read_and_conditions_stop),
        cmocka_unit_test(sleeping_threads_stop),
        cmocka_unit_test(critical_sections_end_first),
        cmocka_unit_test(blocking_threads_count_as_stopped),
        cmocka_unit_test(threads_that_come_and_go_stop),
        cmocka_unit_test(threads_being_born_and_ending_stop),
        cmocka_unit_test(threads_on_alternate_stacks_stop),
        cmocka_unit_test(threads_that_mask_signals_for_a_while_stop),
        cmocka_unit_test(all_kinds_stop_together),
        cmocka_unit_test(the_next_stop_may_follow_at_once),
        cmocka_unit_test(collectors_stop_each_other),
        cmocka_unit_test(an_ended_thread_can_collect),
        cmocka_unit_test(blocking_end_waits_for_the_world),
        cmocka_unit_test(nobody_is_born_into_a_stopped_world),
        cmocka_unit_test(blocking_means_nothing_to_an_unregistered_thread),
        cmocka_unit_test(what_is_put_off_is_done_at_the_end_of_the_section),
    };
    sh_thread_enter();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
