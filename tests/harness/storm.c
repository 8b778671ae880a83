/* SPDX-License-Identifier: MIT */
/*
 * Storms: signals, pauses and forks from threads of their own; stops of the whole process
 * from another process. See fault.h.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/atomic.h"
#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/helper.h"
#include "tests/harness/hooks.h"
#include "tests/harness/report.h"

_Atomic uint64_t storm_events[STORMS];

static _Atomic bool calm;
static pthread_t threads[STORMS];
static bool started[STORMS];
static pid_t stopper;

static void count(enum storm storm)
{
    sh_add_relaxed(&storm_events[storm], (uint64_t)1);
}

/* ---- From inside ---- */

/* To whatever thread has the lane now; one that is gone gets nothing. */
static void signal_some_thread(struct random *random, enum storm storm)
{
    struct lane *lane = &lanes[random_below(random, settings.threads)];
    pid_t thread = sh_load_relaxed(&lane->thread);
    int signal = storm == STORM_SIGNALS ? HELPER_SIGNAL : HELPER_PAUSE;
    if (thread && syscall(SYS_tgkill, getpid(), thread, signal) == 0)
        count(storm);
}

/* Nothing of the ledger: threads that hold objects are no more here. */
static _Noreturn void be_a_short_child(pid_t parent)
{
    hooks_off();
    report_fork_child(parent);
    for (unsigned i = 0; i < 100; i++) {
        char *p = i % 2 ? backend->malloc(i * 10) : backend->gc_alloc(i * 10 + 1, 0);
        if (p)
            memset(p, (int)i, i * 10);
        if (p && i % 4 == 1)
            backend->free(p);
    }
    if (backend->collects)
        gc_collect();
    _exit(0);
}

static void fork_once(void)
{
    int status = 0;
    pid_t parent = getpid(), child = fork();
    if (child == 0)
        be_a_short_child(parent);
    if (child < 0)
        return;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        fail("fork", NULL, "a child of the storm ended with status %#x",
            (unsigned)status);
    count(STORM_FORKS);
}

static void *storm(void *arg)
{
    enum storm which = (enum storm)((const bool *)arg - started);
    struct random random = random_of(settings.seed, which, 2);
    unsigned us = 2000000 / (settings.storms[which] + 1);
    while (!sh_load_relaxed(&calm)) {
        own_sleep_us((unsigned)random_below(&random, us + 1));
        if (which == STORM_FORKS)
            fork_once();
        else
            signal_some_thread(&random, which);
    }
    return NULL;
}

/* ---- From outside ---- */

static _Atomic uint64_t *stops; /* shared with the process that stops us */

static _Noreturn void stop_the_parent(pid_t parent)
{
    struct random random = random_of(settings.seed, STORM_STOPS, 2);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (getppid() == parent) {
        own_sleep_us(
            (unsigned)random_below(&random, 2000000 / settings.storms[STORM_STOPS]));
        kill(parent, SIGSTOP);
        own_sleep_us((unsigned)random_below(&random, 20000));
        kill(parent, SIGCONT);
        sh_add_relaxed(stops, (uint64_t)1);
    }
    _exit(0);
}

void storms_prepare(void)
{
    if (!settings.storms[STORM_STOPS])
        return;
    pid_t parent = getpid();
    stops = own_map_shared(4096);
    stopper = fork();
    if (stopper == 0)
        stop_the_parent(parent);
}

void storms_start(void)
{
    for (int i = 0; i < STORM_STOPS; i++) {
        if (!settings.storms[i])
            continue;
        if (pthread_create(&threads[i], NULL, storm, &started[i]) != 0)
            give_up("no thread for a storm");
        sh_add_relaxed(&threads_created, (uint64_t)1);
        started[i] = true;
    }
}

/* The one that stops us may be between stopping and going on: then it is that that we
 * were waiting for. */
void storms_stop(void)
{
    sh_store_relaxed(&calm, true);
    for (int i = 0; i < STORM_STOPS; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
    if (stopper > 0) {
        kill(stopper, SIGKILL);
        waitpid(stopper, NULL, 0);
        sh_store_relaxed(&storm_events[STORM_STOPS], sh_load_relaxed(stops));
    }
}

void storms_fork_child(void)
{
    sh_store_relaxed(&calm, true);
}
