/* SPDX-License-Identifier: MIT */
/*
 * Helpers: threads of the library's own (heaps/background.c and finaliser_thread.c have
 * one each, threads/gang.c several), and where one may be made.
 *
 * A helper has no record and no cache, but between enter and leave; collections do not
 * stop it, and what it frees is the shared cache's affair. All signals are blocked in it.
 *
 * It must not be made where the C library holds a lock that making a thread takes, nor,
 * in the child of a fork with other threads, before the child makes a thread itself:
 * glibc's thread-local storage may be half-way through a change there, and ours shall
 * not be the thread that finds it.
 */
#ifndef SH_THREADS_HELPER_H
#define SH_THREADS_HELPER_H

#include <stdbool.h>

#include "lib/os_thread.h"

#define SH_HELPER_RETRY_NS ((uint64_t)10000000000) /* after one could not be made */

struct sh_helper {
    struct sh_os_helper os;
    void (*work)(void);
};

/* In this process; any thread, under any lock. */
bool sh_helper_is_possible(void);

/* By the calling thread: it is registered, in no critical section, does not collect, and
 * is not about to end. */
bool sh_helper_may_be_made_here(void);

/* 0, or why not. Keeps errno. */
int sh_helper_start(struct sh_helper *helper, void (*work)(void));

/* The same with as much stack as the program's threads have. */
int sh_helper_start_large(struct sh_helper *helper, void (*work)(void));

/* The calling helper becomes a thread of the heap's, that may run what the program's
 * threads run, outside critical sections; until leave. False: no memory. */
bool sh_helper_enter(void);
void sh_helper_leave(void);

/* Waits for its end. */
void sh_helper_join(struct sh_helper *helper);

/* In the child of a fork; `others`: threads that are no more were in the midst of
 * something. */
void sh_helper_fork_child(bool others);

#endif /* SH_THREADS_HELPER_H */
