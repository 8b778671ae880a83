/* SPDX-License-Identifier: MIT */
/*
 * The thread that runs finalisers, where the program wants them in one of the library's
 * own. See heaps/finaliser_thread.c.
 */
#ifndef SH_HEAPS_FINALISER_THREAD_H
#define SH_HEAPS_FINALISER_THREAD_H

#include <stdbool.h>

/* Something waits for it: it is woken, or made. In no critical section, where the program
 * may make a thread; where none can be made, what waits goes on waiting. */
void sh_finaliser_thread_wake(void);

/* Waits until it runs no finaliser, unless the caller is that thread; it begins none until
 * it is let go. Not to be held where finalisers are run. */
void sh_finaliser_thread_hold(void);
void sh_finaliser_thread_let_go(void);
bool sh_finaliser_thread_is_held(void);

/* No thread of the program's is registered any more: it ends. Outside critical sections. */
void sh_finaliser_thread_end(void);

/* In the child of a fork. */
void sh_finaliser_thread_fork_child(void);

#endif /* SH_HEAPS_FINALISER_THREAD_H */
