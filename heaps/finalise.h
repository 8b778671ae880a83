/* SPDX-License-Identifier: MIT */
/*
 * Who runs the finalisers that wait (heaps/callback.h), by the mode that the program
 * chose:
 *
 *   at once      the thread that collected, before its collection returns
 *   on demand    whoever calls gc_run_finalisers; a notifier and a descriptor say when
 *   in a thread  one of the library's own: see heaps/finaliser_thread.h
 *
 * Weak references are told of by the thread that collected, in any mode.
 *
 * No lock is held here while the program's functions run. Outside critical sections.
 */
#ifndef SH_HEAPS_FINALISE_H
#define SH_HEAPS_FINALISE_H

#include <stdbool.h>

/* After a collection, in the collecting thread: tells of weak references, then runs what
 * waits or lets it be known. */
void sh_finalise_collected(void);

/* Runs all that waits, in any mode; true: there was something. */
bool sh_finalise_all(void);

/* For that thread: whether something waits for it; and running it. */
bool sh_finalise_thread_wanted(void);
void sh_finalise_for_thread(void);

/* In the child of a fork. */
void sh_finalise_fork_child(void);

#endif /* SH_HEAPS_FINALISE_H */
