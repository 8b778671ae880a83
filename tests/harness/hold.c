/* SPDX-License-Identifier: MIT */
/*
 * splitheap-hold: runs a program and holds its threads and those of its children, each by
 * itself, at random moments: at its birth, after it made another, when a signal comes, and
 * wherever it stands. Orders of events that a scheduler brings about once in a thousand
 * runs come often; nothing in the program is changed, but that a debugger traces it.
 *
 * See ptrace(2): PTRACE_SEIZE, PTRACE_INTERRUPT and PTRACE_LISTEN.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/random.h"

static const char usage[] =
    "splitheap-hold [--seed N] [--every US] PROGRAM ARGUMENTS...\n"
    "\n"
    "  --seed N    where chance begins (the clock)\n"
    "  --every US  how often a thread is held wherever it stands, on average (3000)\n"
    "\n"
    "Exit status: that of the program; 125 it cannot be traced; 127 it cannot be "
    "run.\n";

#define LONGEST_BIRTH_US 200000

struct thread {
    pid_t id;
    bool born, stopped, in_group_stop;
    int signal;   /* to be delivered when it goes on */
    uint64_t due; /* in us; while stopped */
};

static struct thread *threads;
static size_t thread_count, thread_room;
static struct random chance;
static size_t every_us = 3000;

/* By chance, how many in a hundred are held after their births, and after giving birth. */
static size_t late_births, late_parents;
static size_t births_left_us = 40 * LONGEST_BIRTH_US; /* so that the program ends */

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- How long ---- */

static size_t birth_us(size_t late_of_100)
{
    if (random_below(&chance, 100) >= late_of_100)
        return random_below(&chance, 2) ? 0 : random_below(&chance, 1000);
    size_t us = random_below(&chance, LONGEST_BIRTH_US);
    if (us > births_left_us)
        return 0;
    births_left_us -= us;
    return us;
}

static size_t anywhere_us(void)
{
    size_t kind = random_below(&chance, 100);
    if (kind < 60)
        return 0;
    return random_below(&chance, kind < 85 ? 2000 : kind < 97 ? 30000 : 300000);
}

/* ---- Threads ---- */

static struct thread *find(pid_t id)
{
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].id == id)
            return &threads[i];
    return NULL;
}

static struct thread *find_or_add(pid_t id)
{
    struct thread *found = find(id);
    if (found)
        return found;
    if (thread_count == thread_room) {
        thread_room = thread_room * 2 + 64;
        threads = realloc(threads, thread_room * sizeof *threads);
        if (!threads)
            abort();
    }
    threads[thread_count] = (struct thread){.id = id};
    return &threads[thread_count++];
}

static void drop(pid_t id)
{
    struct thread *thread = find(id);
    if (thread)
        *thread = threads[--thread_count];
}

/* It may have ended: then waiting tells. */
static void go_on(struct thread *thread)
{
    thread->stopped = false;
    if (thread->in_group_stop)
        ptrace(PTRACE_LISTEN, thread->id, NULL, NULL);
    else
        ptrace(PTRACE_CONT, thread->id, NULL, (void *)(intptr_t)thread->signal);
}

static bool stops_groups(int signal)
{
    return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN ||
           signal == SIGTTOU;
}

/* What stopped it, and for how long it is held. */
static size_t look(struct thread *thread, int status)
{
    int event = status >> 16, signal = WSTOPSIG(status);
    thread->in_group_stop = event == PTRACE_EVENT_STOP && stops_groups(signal);
    thread->signal = event ? 0 : signal;
    if (thread->in_group_stop)
        return 0;
    if (!thread->born) {
        thread->born = true;
        return birth_us(late_births);
    }
    if (event && event != PTRACE_EVENT_STOP)
        return birth_us(late_parents);
    return event || random_below(&chance, 4) == 0 ? anywhere_us() : 0;
}

/* A thread that execs becomes its process's first, and the others are gone. */
static void note_exec(pid_t id)
{
    unsigned long before = 0;
    ptrace(PTRACE_GETEVENTMSG, id, NULL, &before);
    if ((pid_t)before != id)
        drop((pid_t)before);
}

static void note_stop(pid_t id, int status)
{
    if (status >> 16 == PTRACE_EVENT_EXEC)
        note_exec(id);
    struct thread *thread = find_or_add(id);
    thread->due = now_us() + look(thread, status);
    thread->stopped = true;
}

/* The next moment at which something is to be done. */
static uint64_t let_go_on(uint64_t next)
{
    uint64_t now = now_us();
    for (size_t i = 0; i < thread_count; i++) {
        if (!threads[i].stopped)
            continue;
        if (threads[i].due <= now)
            go_on(&threads[i]);
        else if (threads[i].due < next)
            next = threads[i].due;
    }
    return next;
}

static void hold_one(void)
{
    struct thread *thread = &threads[random_below(&chance, thread_count)];
    if (!thread->stopped)
        ptrace(PTRACE_INTERRUPT, thread->id, NULL, NULL);
}

/* ---- The program ---- */

static void nothing(int signal)
{
    (void)signal;
}

/* The signal comes again until waiting has begun for certain. */
static void wait_until(timer_t timer, uint64_t then)
{
    uint64_t now = now_us(), us = then > now ? then - now : 1;
    struct itimerspec at = {
        .it_value = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000},
        .it_interval = {0, 20000000},
    };
    siginfo_t info;
    timer_settime(timer, 0, &at, NULL);
    waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | __WALL);
}

static int follow(pid_t program)
{
    timer_t timer;
    struct sigaction action = {.sa_handler = nothing};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    sigaction(SIGALRM, &action, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    int result = 0;
    uint64_t next = now_us();
    while (thread_count > 0) {
        int status;
        pid_t id = waitpid(-1, &status, __WALL | WNOHANG);
        if (id < 0 && errno == ECHILD)
            break;
        if (id > 0 && WIFSTOPPED(status)) {
            note_stop(id, status);
        } else if (id > 0) {
            drop(id);
            result = id == program ? status : result;
        } else if (now_us() >= next) {
            hold_one();
            next = now_us() + every_us / 2 + random_below(&chance, every_us);
        }
        uint64_t then = let_go_on(next);
        if (id == 0)
            wait_until(timer, then);
    }
    return result;
}

/* It waits until it is traced. */
static pid_t start(char **words)
{
    int gate[2];
    if (pipe(gate) != 0)
        return -1;
    pid_t id = fork();
    if (id == 0) {
        char none;
        close(gate[1]);
        bool traced = read(gate[0], &none, 1) == 1;
        close(gate[0]);
        if (traced)
            execvp(words[0], words);
        _exit(127);
    }
    close(gate[0]);
    long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    bool traced = id > 0 && ptrace(PTRACE_SEIZE, id, NULL, (void *)options) == 0;
    traced = traced && write(gate[1], "", 1) == 1;
    close(gate[1]);
    if (!traced)
        return -1;
    find_or_add(id)->born = true;
    return id;
}

/* Ends as the program did. */
static int end_as(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}

static char **read_options(char **word, uint64_t *seed)
{
    while (*word && strncmp(*word, "--", 2) == 0) {
        bool is_seed = strcmp(*word, "--seed") == 0;
        char *end = NULL;
        uint64_t n = word[1] ? strtoull(word[1], &end, 10) : 0;
        bool good = (is_seed || strcmp(*word, "--every") == 0) && end && !*end;
        if (!good || (!is_seed && (n == 0 || n > 1000000000)))
            return NULL;
        if (is_seed)
            *seed = n;
        else
            every_us = (size_t)n;
        word += 2;
    }
    return *word ? word : NULL;
}

int main(int count, char **words)
{
    static const size_t of_100[] = {0, 5, 30, 80};
    uint64_t seed = now_us();
    char **program = count > 1 ? read_options(words + 1, &seed) : NULL;
    if (!program) {
        fputs(usage, stderr);
        return 2;
    }
    fprintf(stderr, "splitheap-hold: seed %" PRIu64 "\n", seed);
    chance = random_of(seed, 0, 0);
    late_births = of_100[random_below(&chance, 4)];
    late_parents = of_100[random_below(&chance, 3)];
    pid_t id = start(program);
    if (id < 0) {
        perror("splitheap-hold");
        return 125;
    }
    return end_as(follow(id));
}
