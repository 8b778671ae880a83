/* SPDX-License-Identifier: MIT */
/*
 * Stop the world.
 *
 * One thread at a time collects: the holder of the GC mutex. It takes the registry's
 * lock, asks every registered thread to park, waits for the answers, and keeps the lock
 * until the world resumes, so that nobody comes or goes meanwhile. Scanning what the
 * stopped threads hold is threads/scan.c.
 *
 * A record's `state`, and who moves it:
 *
 *                     collector stops          thread parks
 *            RUNNING ----------------> WANTED ---------------> PARKED
 *              | ^  ^                    |                        |
 *     begin()  | |   `-------------------|------------------------'
 *              v | end()                 |        collector resumes
 *            BLOCKING <---------------> HELD      (WANTED, no such thread: GONE)
 *                     collector stops,
 *                     and resumes
 *
 * RUNNING and BLOCKING are the thread's own to leave by compare-and-swap, and so are
 * they the collector's: one of the two wins. WANTED is left by the thread alone, but
 * that the collector gives up a thread which the kernel does not know. PARKED and HELD
 * are left by the collector alone. The thread only waits, for as long as its state is
 * what it parked with:
 *
 *      thread   g = generation (acquire); state still PARKED? (acquire); wait(g)
 *      resume   all states (release); generation++ (seq_cst); wake all
 *
 * A wake is not lost: a thread that saw the old state read `generation` before it was
 * raised, and the kernel compares again before it sleeps. Waiting on the state and not
 * on the generation is what makes the next stop safe: a thread still on its way out of
 * the last one is RUNNING to the collector, becomes WANTED, and parks again, from where
 * it waits or from the next signal. An old signal that comes late finds the state
 * neither WANTED nor, if it does, wrong: it is obeyed or ignored by the state alone.
 *
 * Answers are counted down in `pending`, which starts with one for the collector
 * itself. It is raised for a thread before the thread can see WANTED, and lowered once
 * for each WANTED: by who takes the record out of WANTED. Each lowering is a release,
 * and the collector's acquire of 0 pairs with all of them, so that it sees what the
 * threads did, and the sp that they published, up to there.
 *
 * Where a thread parks:
 *   in our handler, if it was outside critical sections: the interrupted registers are
 *   in the signal frame, above the handler's sp on the same stack;
 *   when it leaves its critical section, if the handler found it inside and set
 *   stop_wanted. Leaving first lowers `critical` and then looks, so a signal between
 *   the two parks at once, and one before is seen;
 *   in gc_blocking_begin, where it finds itself WANTED, in the same way.
 * All signals are blocked while a thread is parked, so that none of the program's
 * handlers runs in it. In a BLOCKING thread they may; they must not touch the heap, nor
 * move pointers.
 *
 * Invariants, when sh_world_stop returns:
 *   1  every registered thread but the collector is PARKED, HELD or GONE;
 *   2  no PARKED or HELD thread is in a critical section, so none holds a lock of ours,
 *      the registry's included;
 *   3  pending is 0, and no thread will lower it before the next stop;
 *   4  a PARKED or HELD thread executes no code of the program's, but for handlers in a
 *      HELD one, before the world resumes.
 * After sh_world_resume every thread that was PARKED runs again, and every BLOCKING one
 * comes back from gc_blocking_end: nobody waits for ever. A stop ends if every thread
 * gets its signal and every critical section ends; none of them waits for the
 * collector, for within them only locks are waited for whose holders are in critical
 * sections too, and the collector asks while it holds no lock but the registry's, which
 * no registered thread waits for when RUNNING (see sh_thread_leave).
 *
 * Under the thread sanitizer a thread may be inside its runtime when the signal comes,
 * and is not parked there, for it may hold the runtime's locks, which the collector
 * needs. It is asked again until it is found outside (see lib/os_linux_signal.c). Up to
 * that question the handler is not instrumented; the rest is, so that the sanitizer
 * sees the order that stopping makes.
 *
 * Locks: SH_RANK_REGISTRY, held from stop to resume.
 */
#include "threads/stop.h"

#include <errno.h>

#include "lib/check.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "lib/print.h"
#include "threads/registry.h"

/* Raised by each resume; who is parked waits on it. */
static _Atomic uint32_t generation;

/* Threads that have not answered yet, and one for the collector; it waits on it. */
static _Atomic uint32_t pending;

/* 0 until chosen; in_use is set once the handler is installed, and stays. */
static _Atomic int stop_signal;
static _Atomic bool in_use;

/* ---- In the stopped thread ---- */

static void answer(void)
{
    /* Pairs with the acquire in await_answers. */
    if (sh_sub_seq_cst(&pending, 1) == 1)
        sh_os_park_wake(&pending);
}

static void wait_while(struct sh_thread *self, uint32_t state)
{
    for (;;) {
        uint32_t seen = sh_load_acquire(&generation);
        /* Pairs with the release in let_go. */
        if (sh_load_acquire(&self->state) != state)
            return;
        sh_os_park_wait(&generation, seen);
    }
}

static void publish(struct sh_thread *self, uintptr_t sp, struct sh_range alt)
{
    sh_store_relaxed(&self->stopped_sp, sp);
    self->alt_low = alt.low;
    self->alt_high = alt.high;
}

/*
 * With all signals blocked. Everything at and above `sp` on the stack is as it was, and
 * holds the registers. Stops again where the next stop came before this one was left.
 */
static void park(struct sh_thread *self, uintptr_t sp, struct sh_range alt)
{
    uint32_t state = SH_THREAD_WANTED;
    while (sh_cas_seq_cst(&self->state, &state, SH_THREAD_PARKED)) {
        publish(self, sp, alt);
        answer();
        wait_while(self, SH_THREAD_PARKED);
        state = SH_THREAD_WANTED;
    }
}

/* Its frame lies below the caller's, into which the registers were spilled. `context`
 * is the handler's, where signals are blocked already, or NULL. */
static SH_NOINLINE void park_below(struct sh_thread *self, const void *context)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    struct sh_range alt = sh_os_alt_stack(context, sp);
    uint64_t mask = context ? 0 : sh_os_signals_block();
    park(self, sp, alt);
    if (!context)
        sh_os_signals_restore(mask);
}

static SH_NOINLINE void spill_and_park(struct sh_thread *self, const void *context)
{
    int error = errno;
    __builtin_unwind_init();
    park_below(self, context);
    SH_BARRIER();
    errno = error;
}

/* On whatever stack the thread was. */
SH_NO_SANITIZE static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    struct sh_thread *self = sh_tls.self;
    if (!self)
        return;
    if (sh_tls.critical || !sh_os_may_park(context))
        sh_tls.stop_wanted = 1;
    else if (sh_load_relaxed(&self->state) == SH_THREAD_WANTED)
        spill_and_park(self, context);
}

/* What some thread is to do when its critical section ends; done by the first that
 * comes by. */
static _Atomic(void (*)(void)) put_off;

void sh_thread_later(void (*deed)(void))
{
    sh_store_seq_cst(&put_off, deed);
    sh_tls.stop_wanted = 1;
}

/* The signal that set stop_wanted may be of a stop that another way has answered. */
void sh_stop_park_self(void)
{
    sh_tls.stop_wanted = 0;
    SH_BARRIER();
    struct sh_thread *self = sh_tls.self;
    if (self && sh_load_relaxed(&self->state) == SH_THREAD_WANTED)
        spill_and_park(self, NULL);
    if (SH_UNLIKELY(sh_load_relaxed(&put_off) != NULL)) {
        void (*deed)(void) = sh_exchange_seq_cst(&put_off, NULL);
        if (deed)
            deed();
    }
}

/* ---- Blocking ---- */

/*
 * The frames from here up to `end`, those of gc_blocking_begin, are gone when it
 * returns, and with them the registers that they saved; what the thread calls then
 * saves them where we do not look. So they are copied.
 */
SH_NO_SANITIZE static SH_NOINLINE void copy_frames(
    struct sh_thread *self, uintptr_t end)
{
    const volatile uintptr_t *from = __builtin_frame_address(0);
    size_t words = (end - (uintptr_t)from) / sizeof *from;
    if (words > SH_SPILLED_WORDS)
        sh_fatal("gc_blocking_begin has frames of %zu words", words);
    for (size_t i = 0; i < SH_SPILLED_WORDS; i++)
        self->spilled[i] = i < words ? from[i] : 0;
}

/*
 * In a critical section, so that no park comes between publishing and the swap and
 * publishes another sp. Leaving one is where a thread that is WANTED parks.
 */
static bool try_to_block(struct sh_thread *self, uintptr_t sp, struct sh_range alt)
{
    uint32_t state = SH_THREAD_RUNNING;
    sh_critical_enter();
    publish(self, sp, alt);
    /* Pairs with the swap in ask. */
    bool done = sh_cas_seq_cst(&self->state, &state, SH_THREAD_BLOCKING);
    if (!done && state != SH_THREAD_WANTED)
        sh_fatal("gc_blocking_begin inside gc_blocking_begin");
    if (!done)
        sh_tls.stop_wanted = 1;
    sh_critical_leave();
    return done;
}

SH_NOINLINE void sh_blocking_begin(const void *frame)
{
    struct sh_thread *self = sh_tls.self;
    if (!self)
        return;
    SH_CHECK1(sh_tls.critical == 0);
    int error = errno;
    __builtin_unwind_init();
    /* The frame pointer and the return address that `frame` points to are gone too. */
    copy_frames(self, (uintptr_t)frame + 2 * sizeof(void *));
    struct sh_range alt = sh_os_alt_stack(NULL, (uintptr_t)frame);
    while (!try_to_block(self, (uintptr_t)frame, alt))
        ;
    errno = error;
}

void sh_blocking_end(void)
{
    struct sh_thread *self = sh_tls.self;
    if (!self)
        return;
    int error = errno;
    for (;;) {
        uint32_t state = SH_THREAD_BLOCKING;
        /* Pairs with the release in let_go. */
        if (sh_cas_seq_cst(&self->state, &state, SH_THREAD_RUNNING))
            break;
        if (state != SH_THREAD_HELD)
            sh_fatal("gc_blocking_end without gc_blocking_begin");
        wait_while(self, SH_THREAD_HELD);
    }
    errno = error;
}

/* ---- The signal ---- */

static int signal_number(void)
{
    int set = sh_load_relaxed(&stop_signal);
    return set ? set : sh_os_stop_signal();
}

int sh_stop_set_signal(int signal)
{
    if (signal < 1 || signal > SIGRTMAX || signal == SIGKILL || signal == SIGSTOP)
        return EINVAL;
    if (sh_load_relaxed(&in_use))
        return EBUSY;
    sh_store_relaxed(&stop_signal, signal);
    return 0;
}

static void take_into_use(int signal)
{
    if (sh_os_signal_handle(signal, on_signal) != 0)
        sh_fatal("signal %d, which stops threads, is handled by the program", signal);
    sh_os_signal_unblock(signal);
    /* Pairs with the acquires of in_use. */
    sh_store_release(&in_use, true);
}

/* Who comes second waits for the first, whom nobody can stop before that. */
void sh_stop_prepare(void)
{
    static _Atomic bool begun;
    if (SH_LIKELY(sh_load_acquire(&in_use)))
        return;
    if (!sh_exchange_seq_cst(&begun, true))
        take_into_use(signal_number());
    while (!sh_load_acquire(&in_use))
        sh_os_yield();
    sh_os_signal_unblock(signal_number());
}

int sh_stop_signal_in_use(void)
{
    return sh_load_acquire(&in_use) ? signal_number() : 0;
}

/* Before that the mask is left alone: the signal may be the program's after all. */
void sh_stop_let_in(void)
{
    if (sh_load_acquire(&in_use))
        sh_os_signal_unblock(signal_number());
}

/* ---- In the collector ---- */

/*
 * After so long without an answer a thread is reported. Before, it is looked after about
 * a hundred times, and sent the signal again ten times, as the program's sigwait may have
 * taken it; far more often where the first may have been refused. One signal too many
 * does no harm.
 */
uint64_t sh_stop_patience_ns = 10000000000u;
#define LOOKS (SH_TSAN ? 10000u : 100u)
#define LOOKS_BEFORE_RESEND (SH_TSAN ? 1u : 10u)

/* Whether the thread was running, and is WANTED now. */
static bool ask(struct sh_thread *thread)
{
    sh_add_seq_cst(&pending, 1);
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
    sh_sub_seq_cst(&pending, 1);
    return false;
}

/* Its record stays where the heap finds what it owned; its stack is no more. */
static void give_up(struct sh_thread *thread)
{
    uint32_t state = SH_THREAD_WANTED;
    if (sh_cas_seq_cst(&thread->state, &state, SH_THREAD_GONE))
        sh_sub_seq_cst(&pending, 1);
}

/* Where too many signals wait, threads must run to take them; else await_answers sends
 * it again. */
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
        sh_fatal("signalling thread %u failed: error %d", thread->tid, error);
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

/* Under the registry's lock, for once, as the program may hang otherwise, silently. */
static void report(const struct sh_thread *thread)
{
    sh_print(&sh_stderr_sink,
        "splitheap: thread %u has not stopped for 10 seconds; it may block signal %d\n",
        (unsigned)thread->tid, signal_number());
}

static void look_after(struct sh_thread *thread, bool resend)
{
    if (has_namesake(thread))
        give_up(thread);
    else
        send(thread, resend ? signal_number() : 0);
}

static void look_after_all(bool resend, bool tell)
{
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next) {
        if (sh_load_relaxed(&t->state) != SH_THREAD_WANTED)
            continue;
        look_after(t, resend);
        if (tell)
            report(t);
    }
}

static void await_answers(void)
{
    unsigned looks = 0;
    bool told = false;
    uint64_t pause = sh_stop_patience_ns / LOOKS, since = sh_os_now_ns();
    uint64_t next = since + pause;
    uint32_t left;
    /* Pairs with the lowering in answer. */
    while ((left = sh_load_acquire(&pending)) != 0) {
        sh_os_wait(&pending, left, pause);
        uint64_t now = sh_os_now_ns();
        if (now < next)
            continue;
        next = now + pause;
        bool tell = !told && now - since >= sh_stop_patience_ns;
        told = told || tell;
        look_after_all(++looks % LOOKS_BEFORE_RESEND == 0, tell);
    }
}

static uint64_t stop_began; /* the collector's */

uint64_t sh_world_stop_began(void)
{
    return stop_began;
}

void sh_world_stop(void)
{
    SH_CHECK1(sh_tls.critical > 0);
    stop_began = sh_os_now_ns();
    sh_stop_prepare();
    sh_registry_lock_politely();
    int signal = signal_number();
    sh_store_relaxed(&pending, 1);
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next) {
        if (t != sh_tls.self && ask(t))
            send(t, signal);
    }
    sh_sub_seq_cst(&pending, 1);
    await_answers();
}

/* The release pairs with the acquires in wait_while and sh_blocking_end. */
static void let_go(struct sh_thread *thread)
{
    uint32_t state = sh_load_relaxed(&thread->state);
    if (state == SH_THREAD_PARKED)
        sh_store_release(&thread->state, SH_THREAD_RUNNING);
    else if (state == SH_THREAD_HELD)
        sh_store_release(&thread->state, SH_THREAD_BLOCKING);
}

void sh_world_resume(void)
{
    sh_assert_held(&sh_registry_lock);
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        let_go(t);
    sh_add_seq_cst(&generation, 1);
    sh_os_park_wake(&generation);
    sh_lock_release(&sh_registry_lock);
}

/* The only thread runs; where it collects, resume finds nobody to let go. */
void sh_stop_fork_child(void)
{
    sh_store_relaxed(&pending, 0);
}
