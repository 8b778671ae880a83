/* SPDX-License-Identifier: MIT */
/*
 * Finalisers and weak reference hooks of dead objects.
 *
 * A collection gathers, before it frees anything, the objects it did not reach that
 * have a final or weak bit; gives them a waiting bit; queues them; and marks from them,
 * so that they and all they reach are intact when their callbacks run, after the world
 * resumed, under no lock:
 *
 *      dead, weak    --> told      gc_weakref_about_to_be_freed, in the collecting thread
 *      dead, final   --> finals    its finaliser, where heaps/finalise.h has it run
 *      both          --> told, and when that has returned --> finals: while one thread is
 *                                  about to tell of it, no other finalises it
 *
 * An object waits as long as its waiting bit says so: then it is a root. Who frees it,
 * resizes it or sets another finaliser clears the bit, and what stays in the queue means
 * nothing. Just before a callback begins its bit goes: the next collection finds the
 * object without.
 *
 * Lock: SH_RANK_CALLBACK, over the queues and the tables of heaps/finaliser.h.
 */
#ifndef SH_HEAPS_CALLBACK_H
#define SH_HEAPS_CALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/finaliser.h"
#include "heaps/heap.h"
#include "heaps/weak_link.h"
#include "lib/lock.h"

extern struct sh_lock sh_callback_lock;

/* ---- By a collection: world stopped, the heap's locks held ---- */

/* What waits, the contexts of finalisers, and what running callbacks were given, are
 * roots. */
void sh_callback_add_roots(void);

/* Marking is done: queues what died and marks from it. */
void sh_callback_gather(void);

/* The bytes of what that queued: once it was told of, the next collection finds most of it
 * dead. */
size_t sh_callback_gathered(void);

/* Nothing has a finaliser any more. */
void sh_callback_drop_all(void);

/* Queues all that have a finaliser, reachable or not. Under its lock and the heap's; the
 * world need not stand still. */
void sh_callback_queue_all(void);

/* ---- Of one object, in a critical section ---- */

/* In place of the finaliser that the object at `p` has; `call` NULL: it has none. It waits
 * no longer. 0, or EINVAL: no live object of a collected kind starts there; ENOMEM. */
int sh_callback_set_finaliser(const void *p, struct sh_finaliser finaliser);

/* Gives q, which is new, the finaliser of the object in `cell`, which has none then, also
 * where another thread forks. False: no memory, and it keeps it. */
bool sh_callback_move_finaliser(struct sh_cell cell, const void *q);

/* It is about to move: it does not wait any more, but for its death. */
void sh_callback_withdraw(struct sh_cell cell);

/* It is being freed: it has no finaliser any more, and does not wait. */
void sh_callback_forget(struct sh_cell cell);

/* ---- Running: in no critical section ---- */

/* A thread's running of callbacks, one after the other; on its stack. */
struct sh_callback_run {
    uintptr_t frame;
    unsigned number; /* 1, or more where one was left or seems to be */
};

/* False: the calling thread is in the midst of a run, which will see to what waits. A run
 * may be left by an exception or longjmp without end. */
bool sh_callback_begin(struct sh_callback_run *run);
void sh_callback_end(const struct sh_callback_run *run);

/* The program says that no callback of the calling thread is under way. */
void sh_callback_none_running(void);

/*
 * What the calling thread's callback is given stays until let_go, though stacks may be no
 * roots; what one inside another is given does not where there is no memory. Returns what
 * let_go takes. Before a collection may find it dead: in a critical section, or while it is a
 * root.
 */
void *sh_callback_hold(const void *object, const void *context);
void sh_callback_let_go(void *outer);

/* Calls back for the links that wait and are wanted, until no link waits; NULL: for all.
 * True: there was one. */
bool sh_callback_run_links(const struct sh_callback_run *run, sh_weak_filter *wanted);

/* Tells of all that are to be told of, links included; true: there was one. */
bool sh_callback_tell(const struct sh_callback_run *run);

/* Runs a finaliser that waits; false: there is none. */
bool sh_callback_finalise(const struct sh_callback_run *run);

/* How many finalisers wait, at most: some may be of objects that were freed. */
size_t sh_callback_waiting(void);

/* How many finalisers were taken out to be run, since ever. */
size_t sh_callback_taken(void);

#endif /* SH_HEAPS_CALLBACK_H */
