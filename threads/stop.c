/* SPDX-License-Identifier: MIT */
/*
 * Stop the world: the stopped thread's side; the collector's is threads/world.c.
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
 * that the collector gives up a thread which the kernel does not know, or takes all back
 * where one does not stop (threads/world.c). PARKED and HELD
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
 * A thread that is not registered parks by a stranger's record (threads/strangers.c) in
 * the same way, but that the handler finds the record by the thread's number. Three
 * things differ, for it may be about to register, or past its end:
 *   in a critical section it may wait for the registry's lock, so it is not waited for:
 *   the handler publishes sp and copies the registers, answers as HELD, and lets it go
 *   on, to the end of that section. It runs code of ours alone there;
 *   after its last destructor round, or gc_thread_unregister, it answers as GONE, and
 *   goes on: it holds nothing;
 *   one that sleeps with the signal blocked is made GONE by the collector, and not
 *   scanned. When it takes the signal after all, it stands still until the world resumes.
 *
 * Under the thread sanitizer a thread may be inside its runtime when the signal comes,
 * and is not parked there, for it may hold the runtime's locks, which the collector
 * needs. It is asked again until it is found outside (see lib/os_linux_signal.c). Up to
 * that question the handler is not instrumented; the rest is, so that the sanitizer
 * sees the order that stopping makes. In the C library's pthread_create, called by the
 * runtime, it is parked, but the runtime overlooks atomic operations there, so the order
 * is said once more (SH_TSAN_RELEASE and _ACQUIRE).
 *
 * Locks: SH_RANK_REGISTRY, held from stop to resume.
 */
#include "threads/stop.h"

#include <errno.h>

#include "lib/check.h"
#include "lib/options.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "lib/print.h"
#include "threads/registry.h"
#include "threads/strangers.h"

_Atomic uint32_t sh_stop_generation, sh_stop_pending;

/* 0 until chosen, negative once it cannot be changed; in_use is set once the handler is
 * installed, and stays. */
static _Atomic int stop_signal;
static _Atomic bool in_use;

/* ---- In the stopped thread ---- */

static void answer(void)
{
    /* Pairs with the acquire in await_answers. */
    SH_TSAN_RELEASE(&sh_stop_pending);
    if (sh_sub_seq_cst(&sh_stop_pending, 1) == 1)
        sh_os_park_wake(&sh_stop_pending);
}

static void wait_while(struct sh_thread *self, uint32_t state)
{
    for (;;) {
        uint32_t seen = sh_load_acquire(&sh_stop_generation);
        /* Pairs with the release in let_go. */
        if (sh_load_acquire(&self->state) != state)
            break;
        sh_os_park_wait(&sh_stop_generation, seen);
    }
    SH_TSAN_ACQUIRE(&self->state);
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

/* ---- In a stranger ---- */

static void stand_as_gone(struct sh_thread *record)
{
    uint32_t state = SH_THREAD_WANTED;
    if (sh_cas_seq_cst(&record->state, &state, SH_THREAD_GONE))
        answer();
}

/* It goes on, to the end of its critical section, and then stands still. */
static void stand_in_section(struct sh_stranger *stranger, const void *context)
{
    struct sh_thread *record = &stranger->record;
    uint32_t state = SH_THREAD_WANTED;
    sh_tls.stranger = stranger;
    sh_store_relaxed(&sh_tls.stop_wanted, 1);
    if (!sh_cas_seq_cst(&record->state, &state, SH_THREAD_HELD))
        return;
    sh_thread_find_stack(record);
    uintptr_t sp = sh_os_interrupted(context, record->spilled);
    publish(record, sp, sh_os_alt_stack(context, sp));
    answer();
}

/* As far as the collector wants it; without a context at the end of a section. With one
 * the registers are in the signal's frame; errno may be nobody's. */
static void stand_still(struct sh_thread *record, const void *context)
{
    uint64_t mask = sh_os_signals_block();
    for (;;) {
        uint32_t state = sh_load_acquire(&record->state);
        if (state == SH_THREAD_WANTED && context)
            park_below(record, context);
        else if (state == SH_THREAD_WANTED)
            spill_and_park(record, NULL);
        else if (state == SH_THREAD_HELD || state == SH_THREAD_GONE)
            wait_while(record, state);
        else
            break;
    }
    sh_os_signals_restore(mask);
}

/* What was made by hand may have no thread-locals, or share its maker's. */
SH_NO_SANITIZE static void on_strangers_signal(
    struct sh_stranger *stranger, const void *context)
{
    struct sh_thread *record = &stranger->record;
    sh_store_seq_cst(&stranger->in_handler, true);
    bool has_locals = sh_os_has_thread_locals() && !sh_tls.self;
    if (has_locals && (sh_tls.phase == SH_PHASE_ENDED || sh_tls.left)) {
        stand_as_gone(record);
    } else if (has_locals && sh_tls.critical) {
        stand_in_section(stranger, context);
    } else {
        if (has_locals && sh_load_relaxed(&record->state) == SH_THREAD_WANTED)
            sh_thread_find_stack(record);
        else if (!has_locals)
            sh_thread_forget_stack(record); /* of the last stop */
        stand_still(record, context);
    }
    sh_store_seq_cst(&stranger->in_handler, false);
}

static void stand_as_stranger(void)
{
    struct sh_stranger *stranger = sh_tls.stranger;
    sh_tls.stranger = NULL;
    if (stranger && sh_load_relaxed(&stranger->tid) == sh_os_thread_id())
        stand_still(&stranger->record, NULL);
}

/* NULL too where the thread has no thread-locals, or another's. */
SH_NO_SANITIZE static struct sh_thread *my_record(uint32_t tid)
{
    struct sh_thread *self = sh_os_has_thread_locals() ? sh_tls.self : NULL;
    return self && self->tid == tid ? self : NULL;
}

/* On whatever stack the thread was, and whoever sent it. */
SH_NO_SANITIZE static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    uint32_t tid = sh_os_thread_id();
    struct sh_thread *self = my_record(tid);
    if (SH_UNLIKELY(!self)) {
        struct sh_stranger *stranger = sh_strangers_me(tid);
        if (stranger)
            on_strangers_signal(stranger, context);
        return;
    }
    if (sh_tls.critical || !sh_os_may_park(context))
        sh_store_relaxed(&sh_tls.stop_wanted, 1);
    else if (sh_load_relaxed(&self->state) == SH_THREAD_WANTED)
        spill_and_park(self, context);
}

/* What some thread is to do when its critical section ends; done by the first that
 * comes by. */
static _Atomic(void (*)(void)) put_off;

void sh_thread_later(void (*deed)(void))
{
    sh_store_seq_cst(&put_off, deed);
    sh_store_relaxed(&sh_tls.stop_wanted, 1);
}

/* The signal that set stop_wanted may be of a stop that another way has answered; or
 * the collector set it, in a thread that does not get the signal. */
void sh_stop_park_self(void)
{
    sh_store_relaxed(&sh_tls.stop_wanted, 0);
    SH_BARRIER();
    struct sh_thread *self = sh_tls.self;
    sh_stop_let_in();
    if (SH_UNLIKELY(!self))
        stand_as_stranger();
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
        sh_store_relaxed(&sh_tls.stop_wanted, 1);
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

int sh_stop_signal_number(void)
{
    int set = sh_load_relaxed(&stop_signal);
    if (!set)
        set = sh_options.stop_signal;
    if (set < 0)
        set = -set;
    return set ? set : sh_os_stop_signal();
}

/* Those that cannot be handled, and those that a thread causes itself: blocked, as in our
 * handler, they kill. */
static bool is_for_stopping(int signal)
{
    static const int others[] = {
        SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (signal == others[i])
            return false;
    return signal >= 1 && signal <= SIGRTMAX;
}

/* Once it is taken into use the number stays: its sign says so. */
int sh_stop_set_signal(int signal)
{
    int chosen = sh_load_relaxed(&stop_signal);
    if (!is_for_stopping(signal))
        return EINVAL;
    do {
        if (chosen < 0)
            return EBUSY;
    } while (!sh_cas_seq_cst(&stop_signal, &chosen, signal));
    return 0;
}

static int settle_signal(void)
{
    int chosen = sh_load_relaxed(&stop_signal);
    while (!sh_cas_seq_cst(&stop_signal, &chosen, -sh_stop_signal_number()))
        ;
    return sh_stop_signal_number();
}

/* A sandbox may forbid what stopping takes. */
static _Atomic bool impossible;

bool sh_stop_is_impossible(void)
{
    return sh_load_relaxed(&impossible);
}

void sh_stop_forbidden(int error)
{
    if (sh_exchange_seq_cst(&impossible, true))
        return;
    sh_print(&sh_stderr_sink,
        "splitheap: the system does not let threads be stopped (rt_sigaction or "
        "tgkill fails with error %d): while there are several, nothing is "
        "collected\n",
        error);
}

static void take_into_use(int signal)
{
    int error = sh_os_signal_handle(signal, on_signal);
    if (error == EBUSY)
        sh_fatal("signal %d, which stops threads, is handled by the program", signal);
    if (!error)
        error = sh_os_signal_thread(sh_os_thread_id(), 0);
    if (error)
        sh_stop_forbidden(error);
    sh_os_signal_unblock(signal);
    sh_critical_enter();
    sh_strangers_prepare();
    sh_critical_leave();
    /* Pairs with the acquires of in_use. */
    sh_store_release(&in_use, true);
}

static _Atomic bool taken; /* by the thread that is taking it into use, or has */

/* Who comes second waits for the first, whom nobody can stop before that. */
void sh_stop_prepare(void)
{
    if (SH_LIKELY(sh_load_acquire(&in_use)))
        return;
    if (!sh_exchange_seq_cst(&taken, true))
        take_into_use(settle_signal());
    while (!sh_load_acquire(&in_use))
        sh_os_yield();
    sh_os_signal_unblock(sh_stop_signal_number());
}

int sh_stop_signal_in_use(void)
{
    return sh_load_acquire(&in_use) ? sh_stop_signal_number() : 0;
}

/* Before that the mask is left alone: the signal may be the program's after all. */
void sh_stop_let_in(void)
{
    if (sh_load_acquire(&in_use))
        sh_os_signal_unblock(sh_stop_signal_number());
}

/* The only thread runs; where it collects, resume finds nobody to let go. Who was taking
 * the signal into use is no more: the next one does it. */
void sh_stop_fork_child(void)
{
    sh_store_relaxed(&sh_stop_pending, 0);
    if (!sh_load_relaxed(&in_use))
        sh_store_relaxed(&taken, false);
    sh_strangers_fork_child();
}
