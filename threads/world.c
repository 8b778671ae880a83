/* SPDX-License-Identifier: MIT */
/*
 * Stop the world: the collector's side. The protocol is described in threads/stop.c.
 *
 *      ask and signal every registered thread --> await their answers
 *      has the kernel threads that we do not know? ask, signal and await those, too,
 *      until it names no other
 *
 * A thread that does not answer is looked after: at first after a millisecond, then
 * after twice as long each time, up to a hundredth of our patience. It may have ended
 * without a word (the kernel does not know it, or gave its number to another); its
 * signal may have been taken by the program (it is sent again); it may block the signal
 * since before that was in use (it is told to park when it leaves its next critical
 * section, as every allocation in the slow way does). When patience is over, it is
 * reported with where it stands. sh_world_try_stop then takes back what it asked for:
 * WANTED goes back to RUNNING, and the others go on, uncollected.
 *
 * Locks: SH_RANK_REGISTRY, held from stop to resume.
 */
#include <errno.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "lib/print.h"
#include "threads/registry.h"
#include "threads/stop.h"
#include "threads/strangers.h"

uint64_t sh_stop_patience_ns = 10000000000u;

/* Of our patience: the longest time between two looks, and between two signals. */
#define LOOK_PART (SH_TSAN ? 10000 : 100)
#define RESEND_PART (SH_TSAN ? 10000 : 10)
#define FIRST_LOOK_NS 1000000

/* From here on what a thread is doing is read from the kernel, for which it takes as
 * long as stopping some. */
#define STUDY_NS 50000000

/* ---- Asking ---- */

/* Whether the thread was running, and is WANTED now. */
static bool ask(struct sh_thread *thread)
{
    sh_add_seq_cst(&sh_stop_pending, 1);
    uint32_t state = sh_load_relaxed(&thread->state);
    while (state == SH_THREAD_RUNNING || state == SH_THREAD_BLOCKING) {
        uint32_t asked = state == SH_THREAD_RUNNING ? SH_THREAD_WANTED : SH_THREAD_HELD;
        /* Of a BLOCKING thread: pairs with the swap in try_to_block. */
        if (sh_cas_seq_cst(&thread->state, &state, asked)) {
            state = asked;
            break;
        }
    }
    SH_CHECK1(state != SH_THREAD_PARKED);
    if (state == SH_THREAD_WANTED)
        return true;
    sh_sub_seq_cst(&sh_stop_pending, 1);
    return false;
}

/* A record stays where the heap finds what its thread owned; the stack is no more. */
static void give_up(struct sh_thread *thread)
{
    uint32_t state = SH_THREAD_WANTED;
    if (sh_cas_seq_cst(&thread->state, &state, SH_THREAD_GONE))
        sh_sub_seq_cst(&sh_stop_pending, 1);
}

/* Where too many signals wait, threads must run to take them; else the signal is sent
 * again later. */
#define SEND_TRIES 100

static void send(struct sh_thread *thread, int signal)
{
    int error = EAGAIN;
    for (int i = 0; i < SEND_TRIES && error == EAGAIN; i++) {
        if (i > 0)
            sh_os_yield();
        error = sh_os_signal_thread(thread->tid, signal);
    }
    if (error == ESRCH)
        give_up(thread);
    else if (error != 0 && error != EAGAIN)
        sh_stop_forbidden(error); /* a filter that came after the first use */
}

/* ---- Looking after who does not answer ---- */

struct wait {
    uint64_t since, pause, next, resend;
    bool told;
};

static bool is_wanted(const struct sh_thread *thread)
{
    return sh_load_relaxed(&thread->state) == SH_THREAD_WANTED;
}

/* Blocked and not pending, the signal is being handled. */
static bool is_deaf(const struct sh_os_task *task)
{
    return (task->blocked & task->pending) >> (sh_stop_signal_number() - 1) & 1;
}

/* Why it may be that it did not stop. */
static const char *reason(const struct sh_os_task *task)
{
    switch (task->state) {
    case 'D':
        return "sleeps where no signal reaches it (vfork, a device)";
    case 'T':
    case 't':
        return "is stopped, by a debugger perhaps";
    case 'R':
        return "gets no time to run, or stays in the kernel";
    default:
        return "does not take it";
    }
}

/* Under the registry's lock, for once, as the program may hang otherwise, silently. */
static void report(const struct sh_thread *thread, uint64_t waited_ns)
{
    struct sh_os_task task;
    struct sh_os_place place;
    sh_os_thread_look(thread->tid, &task);
    sh_os_thread_where(thread->tid, &place);
    sh_print(&sh_stderr_sink,
        "splitheap: thread %u (%s) has not stopped for %u ms; it %s (signal %d%s, "
        "state "
        "%c, in %s, system call %ld, at %p)\n",
        (unsigned)thread->tid, place.name, (unsigned)(waited_ns / 1000000),
        is_deaf(&task) ? "blocks the signal that stops threads" : reason(&task),
        sh_stop_signal_number(), is_deaf(&task) ? " blocked" : "", task.state,
        *place.wait ? place.wait : "?", place.call, (void *)place.pc);
}

/* The kernel gave its number to a newer thread, so it is gone. */
static bool has_namesake(const struct sh_thread *thread)
{
    const struct sh_thread *other = sh_registry_first();
    for (; other && other != thread; other = other->next) {
        if (other->tid == thread->tid)
            return true;
    }
    return false;
}

static bool is_over(char state)
{
    return state == 'Z' || state == 'X';
}

/* Blocking the signal, it may still come by where it looks. */
static void study(struct sh_thread *thread)
{
    struct sh_os_task task;
    if (!sh_os_thread_look(thread->tid, &task))
        return;
    if (is_over(task.state))
        give_up(thread);
    else if (is_deaf(&task))
        sh_store_relaxed(&thread->tls->stop_wanted, 1);
}

static void look_after(struct sh_thread *thread, bool resend, bool closely)
{
    if (closely && has_namesake(thread))
        give_up(thread);
    else
        send(thread, resend ? sh_stop_signal_number() : 0);
    if (closely && is_wanted(thread))
        study(thread);
}

/*
 * One that sleeps with the signal blocked is not waited for. Awake it may be on its way
 * out of our handler, about to unblock signals, or ending: for these it is, for as long
 * as our patience, since it may be kept from running.
 */
static bool is_to_be_left(
    const struct sh_stranger *stranger, const struct sh_os_task *task)
{
    if (is_over(task->state))
        return true;
    if (!is_deaf(task) || sh_load_seq_cst(&stranger->in_handler))
        return false;
    return task->state == 'S' || stranger->silent;
}

static void look_after_stranger(struct sh_stranger *stranger, bool resend)
{
    struct sh_thread *record = &stranger->record;
    struct sh_os_task task;
    bool there = sh_os_thread_look(record->tid, &task);
    bool left = !there || is_to_be_left(stranger, &task);
    if (left)
        give_up(record);
    else
        send(record, resend ? sh_stop_signal_number() : 0);
    stranger->silent = left;
}

static void look_after_all(bool resend, uint64_t waited)
{
    bool closely = waited >= STUDY_NS;
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        if (is_wanted(t))
            look_after(t, resend, closely);
    for (struct sh_stranger *s = sh_strangers_first(); s; s = sh_strangers_next(s))
        if (is_wanted(&s->record))
            look_after_stranger(s, resend);
}

static void report_all(uint64_t waited_ns)
{
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        if (is_wanted(t))
            report(t, waited_ns);
    for (struct sh_stranger *s = sh_strangers_first(); s; s = sh_strangers_next(s))
        if (is_wanted(&s->record))
            report(&s->record, waited_ns);
}

static struct wait begin_to_wait(void)
{
    uint64_t now = sh_os_now_ns();
    struct wait wait = {.since = now, .pause = FIRST_LOOK_NS, .told = false};
    wait.next = now + wait.pause;
    wait.resend = now + sh_stop_patience_ns / RESEND_PART;
    return wait;
}

/*
 * Time in which the collector itself did not run is not the others' fault: the process
 * was stopped (SIGSTOP, a debugger, a suspended machine), or got no time.
 */
#define OVERSLEPT_NS 100000000

static void leave_out_absence(struct wait *wait, uint64_t now)
{
    if (now < wait->next + OVERSLEPT_NS)
        return;
    wait->since += now - wait->next;
    wait->resend += now - wait->next;
}

/* False: patience is over, for the first time. */
static bool look(struct wait *wait, uint64_t now)
{
    leave_out_absence(wait, now);
    bool resend = now >= wait->resend;
    look_after_all(resend, now - wait->since);
    if (resend)
        wait->resend = now + sh_stop_patience_ns / RESEND_PART;
    wait->pause = sh_min(wait->pause * 2, sh_stop_patience_ns / LOOK_PART + 1);
    wait->next = sh_os_now_ns() + wait->pause;
    if (wait->told || now - wait->since < sh_stop_patience_ns)
        return true;
    wait->told = true;
    return false;
}

/* False: a thread does not answer, and was reported; or none can be asked any more. */
static bool await_answers(bool patient)
{
    struct wait wait = begin_to_wait();
    uint32_t left;
    /* Pairs with the lowering in answer. */
    while ((left = sh_load_acquire(&sh_stop_pending)) != 0) {
        if (sh_stop_is_impossible())
            return false;
        sh_os_wait(&sh_stop_pending, left, wait.pause);
        uint64_t now = sh_os_now_ns();
        if (now < wait.next || look(&wait, now))
            continue;
        report_all(now - wait.since);
        if (!patient && sh_load_acquire(&sh_stop_pending) != 0)
            return false;
    }
    return true;
}

/* ---- Stopping ---- */

static bool stop_registered(bool patient)
{
    int signal = sh_stop_signal_number();
    sh_store_relaxed(&sh_stop_pending, 1);
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next) {
        if (t != sh_tls.self && ask(t))
            send(t, signal);
    }
    sh_sub_seq_cst(&sh_stop_pending, 1);
    return await_answers(patient);
}

/* Whether there were any to ask. */
static bool ask_strangers(void)
{
    bool asked = false;
    sh_store_relaxed(&sh_stop_pending, 1);
    for (struct sh_stranger *s = sh_strangers_first(); s; s = sh_strangers_next(s)) {
        if (sh_load_relaxed(&s->record.state) != SH_THREAD_RUNNING || !ask(&s->record))
            continue;
        asked = true;
        if (s->silent)
            look_after_stranger(s, true);
        else
            send(&s->record, sh_stop_signal_number());
    }
    sh_sub_seq_cst(&sh_stop_pending, 1);
    return asked;
}

/* Threads that make threads that make threads are stopped in as many rounds. */
#define STRANGER_ROUNDS 16

static bool stop_strangers(bool patient)
{
    if (!sh_strangers_suspected())
        return true;
    for (int i = 0; i < STRANGER_ROUNDS; i++) {
        enum sh_strangers_told told = sh_strangers_look();
        /* What they hold must not be freed. Who is patient frees nothing for that. */
        if (told == SH_STRANGERS_NO_MEMORY && !patient)
            return false;
        if (told == SH_STRANGERS_UNTOLD || !ask_strangers())
            return true;
        if (!await_answers(patient))
            return false;
    }
    return true;
}

/* ---- Letting go ---- */

/* The release pairs with the acquires in wait_while and sh_blocking_end. */
static void let_go(struct sh_thread *thread)
{
    uint32_t state = sh_load_relaxed(&thread->state);
    if (state == SH_THREAD_PARKED)
        sh_store_release(&thread->state, SH_THREAD_RUNNING);
    else if (state == SH_THREAD_HELD)
        sh_store_release(&thread->state, SH_THREAD_BLOCKING);
}

static void let_stranger_go(struct sh_thread *record)
{
    if (sh_load_relaxed(&record->state) != SH_THREAD_RUNNING)
        sh_store_release(&record->state, SH_THREAD_RUNNING);
}

void sh_world_resume(void)
{
    sh_assert_held(&sh_registry_lock);
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        let_go(t);
    for (struct sh_stranger *s = sh_strangers_first(); s; s = sh_strangers_next(s))
        let_stranger_go(&s->record);
    sh_add_seq_cst(&sh_stop_generation, 1);
    sh_os_park_wake(&sh_stop_generation);
    sh_lock_release(&sh_registry_lock);
}

static void withdraw(struct sh_thread *thread)
{
    uint32_t state = SH_THREAD_WANTED;
    if (sh_cas_seq_cst(&thread->state, &state, SH_THREAD_RUNNING))
        sh_sub_seq_cst(&sh_stop_pending, 1);
}

/* Who parked just now has yet to lower `pending`, with all signals blocked. */
static void take_back(void)
{
    uint32_t left;
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        withdraw(t);
    for (struct sh_stranger *s = sh_strangers_first(); s; s = sh_strangers_next(s))
        withdraw(&s->record);
    while ((left = sh_load_acquire(&sh_stop_pending)) != 0)
        sh_os_wait(&sh_stop_pending, left, 0);
    sh_world_resume();
}

/* ---- The world ---- */

static uint64_t stop_began; /* the collector's */

uint64_t sh_world_stop_began(void)
{
    return stop_began;
}

static bool is_alone(void)
{
    struct sh_thread *thread = sh_registry_first();
    return !thread || (thread == sh_tls.self && !thread->next);
}

static bool try_all(bool patient)
{
    if (stop_registered(patient) && stop_strangers(patient))
        return true;
    take_back();
    return false;
}

static bool stop(bool patient)
{
    SH_CHECK1(sh_tls.critical > 0);
    stop_began = sh_os_now_ns();
    sh_stop_prepare();
    sh_registry_lock_politely();
    if (!sh_stop_is_impossible()) {
        if (try_all(patient))
            return true;
    } else if (is_alone()) {
        return true;
    } else {
        sh_lock_release(&sh_registry_lock);
    }
    if (patient)
        sh_fatal("threads have to be stopped, and the system does not let them be");
    return false;
}

void sh_world_stop(void)
{
    stop(true);
}

bool sh_world_try_stop(void)
{
    return stop(false);
}
