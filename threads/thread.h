/* SPDX-License-Identifier: MIT */
/*
 * The thread record, and the critical section that defers a stop.
 *
 * A thread is registered (has a record in the registry) from its interposed start, its
 * first allocation or gc_thread_register, until its last thread-specific destructor
 * round. Before and after, sh_thread_enter returns NULL and the heap serves the thread
 * from its shared cache.
 */
#ifndef SH_THREADS_THREAD_H
#define SH_THREADS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/compiler.h"

/* Enough for the frames of gc_blocking_begin and what it calls: see threads/stop.c. */
#define SH_SPILLED_WORDS 96

/* What a callback that runs was given, which stays meanwhile: heaps/callback.c. */
struct sh_held {
    struct sh_held *outer; /* of the callback inside which it runs */
    uintptr_t frame, object, context;
};

struct sh_thread {
    struct sh_thread *next, *prev; /* registry; under the registry's lock */
    pthread_t handle;
    uint32_t tid; /* the kernel's; owner, at registration and in a fork's child */

    /*
     * The stack grows down from stack_base, and was mapped from stack_low when last
     * looked at (0: not yet); stack_size is what was asked for, or 0. Owner, at
     * registration; the collector, while the owner is stopped: see threads/scan.c.
     */
    uintptr_t stack_base, stack_low, stack_size;
    bool initial; /* runs on the stack that the process began with */

    /* Where it left its stack for another (gc_stack_switch), or 0. Owner. */
    _Atomic uintptr_t left_sp;

    struct sh_thread_tls *tls; /* the owner's own */

    /* Where the stopped thread stands: see threads/stop.c. */
    _Atomic uint32_t state;
    _Atomic uintptr_t stopped_sp;
    uintptr_t alt_low, alt_high; /* alternate signal stack in use when stopped, or 0 */
    uintptr_t spilled[SH_SPILLED_WORDS]; /* registers at gc_blocking_begin */

    /* gc_lock depth; between gc_collect_start and _end it is raised by one. Owner. */
    uint32_t lock_depth;
    bool collecting;

    /* The heap's: its cache of this thread, and the frees put off by gc_lock. */
    void *cache;
    void *deferred;

    struct sh_held *held; /* the innermost */
    struct sh_held outermost;
};

/* What fast paths and our signal handler need of the running thread. */
struct sh_thread_tls {
    struct sh_thread *self;       /* NULL: not registered (yet, or any more) */
    uint32_t critical;            /* depth of critical sections */
    _Atomic uint32_t stop_wanted; /* set inside one, by our handler or the collector:
                                     park when leaving */
    uint16_t phase;               /* enum sh_phase */
    bool left;                    /* by gc_thread_unregister: not to be stopped */
    struct sh_stranger *stranger; /* its record, where it is to park without another */
};

enum sh_phase {
    SH_PHASE_OPEN,        /* sh_thread_enter registers */
    SH_PHASE_REGISTERING, /* what registering calls is not registered again */
    SH_PHASE_ENDED        /* the last destructor round is over */
};

extern SH_TLS struct sh_thread_tls sh_tls;

/* Parks the calling thread until the world resumes, and does what was put off
 * (threads/stop.c). */
SH_COLD void sh_stop_park_self(void);

/*
 * Between enter and leave the thread is not stopped, and may hold structure locks and
 * change what the collector reads. Nests. Must not wait for another thread that may be
 * stopped, nor call out.
 */
SH_INLINE void sh_critical_enter(void)
{
    sh_tls.critical++;
    SH_BARRIER();
}

/* In a critical section, of a signal handler that found itself in one: `deed` is done
 * when the section ends. Of several at once one may be done for all. (handler) */
void sh_thread_later(void (*deed)(void));

SH_INLINE void sh_critical_leave(void)
{
    SH_BARRIER();
    if (--sh_tls.critical == 0) {
        SH_BARRIER();
        if (SH_UNLIKELY(sh_load_relaxed(&sh_tls.stop_wanted)))
            sh_stop_park_self();
    }
}

#endif /* SH_THREADS_THREAD_H */
