/* SPDX-License-Identifier: MIT */
/*
 * Helpers: threads of the library's own (heaps/background.c and finaliser_thread.c have
 * one each, threads/gang.c several), and where one may be made.
 *
 * A helper has no record and no cache, but between enter and leave; collections do not
 * stop it, and what it frees is the shared cache's affair. All signals are blocked in it.
 *
 * One that is not always needed, a sleeper, sleeps meanwhile on the word of its state:
 *
 *                 start                       nothing is wanted
 *      NONE ---> STARTING ---> AWAKE -------------------------> ASLEEP
 *        ^ ^        | failed     |  <-------------------------    |
 *        | `--------'            |            ring                |
 *        |                       v                                |
 *        `------- joined -- ENDING, GONE <------------------------'
 *                        end, by others or itself
 *
 * Before it sleeps it looks once more, after ASLEEP was stored; who wants something counts
 * that first and loads the state after (all sequentially consistent): one of the two sees
 * the other.
 *
 * It must not be made where the C library holds a lock that making a thread takes, nor,
 * in the child of a fork with other threads, before the child makes a thread itself:
 * glibc's thread-local storage may be half-way through a change there, and ours shall
 * not be the thread that finds it.
 */
#ifndef SH_THREADS_HELPER_H
#define SH_THREADS_HELPER_H

#include <stdbool.h>

#include "lib/atomic.h"
#include "lib/compiler.h"
#include "lib/os_thread.h"

#define SH_HELPER_RETRY_NS ((uint64_t)10000000000) /* after one could not be made */

enum sh_helper_state {
    SH_HELPER_NONE, /* also of one that is no sleeper */
    SH_HELPER_STARTING,
    SH_HELPER_AWAKE,
    SH_HELPER_ASLEEP,
    SH_HELPER_ENDING, /* is waited for */
    SH_HELPER_GONE,   /* by itself; who starts it again joins it first */
};

struct sh_helper {
    struct sh_os_helper os;
    void (*work)(void);
    _Atomic uint32_t state;
};

/* In this process; any thread, under any lock. */
bool sh_helper_is_possible(void);

/* By the calling thread: it is registered, in no critical section, does not collect, and
 * is not about to end. */
bool sh_helper_may_be_made_here(void);

/* 0, or why not. Keeps errno. */
int sh_helper_start(struct sh_helper *helper, void (*work)(void));

/* A sleeper; `large`: with as much stack as the program's threads have. EBUSY: it is there,
 * or another thread is at it. */
int sh_helper_start_sleeper(struct sh_helper *helper, void (*work)(void), bool large);

SH_INLINE enum sh_helper_state sh_helper_state(const struct sh_helper *helper)
{
    return (enum sh_helper_state)sh_load_seq_cst(&helper->state);
}

/* By the sleeper, when it is awake: until it is rung for, unless something is wanted; and
 * for some time, or until it ends. */
void sh_helper_sleep(struct sh_helper *helper, bool (*wanted)(void));
void sh_helper_doze(struct sh_helper *helper, uint64_t ns);

/* Something is wanted: wakes it. False: it was not asleep. */
bool sh_helper_ring(struct sh_helper *helper);

/* The sleeper ends, if it is there, and is waited for; `itself`: by itself, later. */
void sh_helper_end(struct sh_helper *helper, bool itself);

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
