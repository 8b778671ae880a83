/* SPDX-License-Identifier: MIT */
/*
 * The thread that runs finalisers, where the program wants them in one of the library's
 * own. See heaps/finaliser_thread.c.
 */
#ifndef SH_HEAPS_FINALISER_THREAD_H
#define SH_HEAPS_FINALISER_THREAD_H

/* Something waits for it: it is woken, or made. In no critical section, where the program
 * may make a thread; where none can be made, what waits goes on waiting. */
void sh_finaliser_thread_wake(void);

/* Waits until it runs no finaliser, unless the caller is that thread. */
void sh_finaliser_thread_await(void);

/* No thread of the program's is registered any more: it ends. Outside critical sections. */
void sh_finaliser_thread_end(void);

/* In the child of a fork. */
void sh_finaliser_thread_fork_child(void);

#endif /* SH_HEAPS_FINALISER_THREAD_H */
