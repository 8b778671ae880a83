/* SPDX-License-Identifier: MIT */
/*
 * Finalisers and weak reference hooks of dead objects.
 *
 * A collection gathers, before it frees anything, the objects it did not reach that
 * have a final or weak bit; clears the bits; and marks from the objects, so that they
 * and all they reach are intact when their callbacks run, after the world resumed, in
 * the collecting thread, under no lock. The next collection finds them without bits.
 * Until its callback has begun a gathered object is a root.
 *
 * Lock: SH_RANK_CALLBACK, over the queue.
 */
#ifndef SH_HEAPS_CALLBACK_H
#define SH_HEAPS_CALLBACK_H

#include <stdbool.h>

#include "lib/lock.h"

extern struct sh_lock sh_callback_lock;

/* World stopped, marking done: queues what died and marks from it. */
void sh_callback_gather(void);

/* World stopped: the objects queued are roots. */
void sh_callback_add_queued(void);

/* The object is being freed: it has no callbacks any more. In a critical section. */
void sh_callback_forget(const void *object);

/* The program says that no callback of the calling thread is under way. */
void sh_callback_none_running(void);

/* Runs what is queued; true: there was something. Not in a critical section. */
bool sh_callback_run(void);

#endif /* SH_HEAPS_CALLBACK_H */
