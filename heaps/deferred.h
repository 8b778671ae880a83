/* SPDX-License-Identifier: MIT */
/* Frees that gc_lock puts off: a thread's own list, emptied by its last gc_unlock. */
#ifndef SH_HEAPS_DEFERRED_H
#define SH_HEAPS_DEFERRED_H

#include <stdbool.h>

#include "threads/thread.h"

/* Puts off the free of p. False: the thread has no record to keep it in. Without
 * memory for the list the object is left to the collector; what can never be collected
 * is then lost to reuse, and said so. */
bool sh_deferred_add(void *p);

/* Frees what was put off: while the thread is still inside gc_lock, or a collection
 * might take it first. */
void sh_deferred_free(struct sh_thread *self);

#endif /* SH_HEAPS_DEFERRED_H */
