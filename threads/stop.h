/* SPDX-License-Identifier: MIT */
/*
 * Stop the world: every registered thread but the caller parks in a signal handler (or
 * at the end of its critical section), its registers on its stack.
 */
#ifndef SH_THREADS_STOP_H
#define SH_THREADS_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "threads/thread.h"

/* What `state` of a record says; the moves are in threads/stop.c. */
enum sh_thread_state {
    SH_THREAD_RUNNING,
    SH_THREAD_WANTED,   /* the collector asked it to park */
    SH_THREAD_PARKED,   /* stands still until the world resumes */
    SH_THREAD_BLOCKING, /* between gc_blocking_begin and _end: as good as parked */
    SH_THREAD_HELD,     /* the same, and may not come back before the world resumes */
    SH_THREAD_GONE      /* ended without a word, or does not answer; not scanned */
};

/*
 * The caller holds the GC mutex for collecting and is in a critical section. On return
 * every other thread stands still, registered ones outside critical sections, and the
 * registry is locked, so that none is born or ends. Resume lets all go.
 *
 * Try gives up when a thread cannot be stopped, having reported it: then it returns
 * false, and nobody is stopped. The other one goes on waiting.
 */
void sh_world_stop(void);
bool sh_world_try_stop(void);
void sh_world_resume(void);

/* When the last stop was asked for, on sh_os_now_ns. The collector. */
uint64_t sh_world_stop_began(void);

/*
 * Takes the signal for stopping into use, so that threads which register from here on
 * can be stopped even where they inherited a mask that blocks it. The first stop does
 * it too; a heap that means to collect does it early.
 */
void sh_stop_prepare(void);

/* The system does not let threads be signalled; probed when the signal is taken into
 * use, or found by a stop later on (`forbidden`), and told. */
bool sh_stop_is_impossible(void);
void sh_stop_forbidden(int error);

/* Chooses the signal, before it is in use; 0 or EBUSY. */
int sh_stop_set_signal(int signal);

/* The signal once it is in use, else 0. (handler) */
int sh_stop_signal_in_use(void);

int sh_stop_signal_number(void); /* the same that is or will be. (handler) */

/* When a thread that does not answer is reported; for tests to shorten. */
extern uint64_t sh_stop_patience_ns;

/* Between threads/stop.c and world.c: raised by each resume, who is parked waits on it;
 * threads that have not answered yet, and one for the collector, which waits on it. */
extern _Atomic uint32_t sh_stop_generation, sh_stop_pending;

/* The calling thread registers: see sh_stop_prepare. */
void sh_stop_let_in(void);

/* In the child of a fork. */
void sh_stop_fork_child(void);

/* Calls visit for each range of roots [start, end) in turn. */
typedef void sh_range_fn(void *context, const void *start, const void *end);

/*
 * The roots of all other threads, with the world stopped: stacks, registers,
 * thread-local storage, alternate signal stacks in use.
 */
void sh_scan_stopped_threads(sh_range_fn *visit, void *context);

/* The same of the calling thread, whose registers it spills first. */
void sh_scan_self(sh_range_fn *visit, void *context);

/* Whether these two have anything to say; returns what was set before. */
bool sh_scan_set_stacks(bool on);

/*
 * gc_blocking_begin and _end; nothing in a thread that is not registered. `frame` is
 * __builtin_frame_address(0) of the function that returns to the program.
 */
void sh_blocking_begin(const void *frame);
void sh_blocking_end(void);

#endif /* SH_THREADS_STOP_H */
