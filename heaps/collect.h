/* SPDX-License-Identifier: MIT */
/*
 * A collection, as a flat list of phases.
 *
 *   start   take the GC mutex, stop the world, prepare the spans, register roots
 *   root    more roots, any number of times
 *   end     mark; gather callbacks; release what is wholly dead; resume; run callbacks
 *
 * Its state belongs to the holder of the GC mutex.
 */
#ifndef SH_HEAPS_COLLECT_H
#define SH_HEAPS_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Before the first collection, without a lock. */
void sh_collect_init(void);

void sh_collect_start(void);
void sh_collect_root(void **words, size_t count);
void sh_collect_end(void);

/* Calls gc_collect, unless some thread is inside gc_lock: then the heap grows instead; or
 * another has collected since the epoch was `seen`. The calling thread must not be in a
 * critical section. */
void sh_collect_if_unlocked(uint32_t seen);

/* Collects because an allocation found no memory, waiting for gc_lock holders. False:
 * there is nothing to collect, or this thread may not. */
bool sh_collect_for_memory(void);

/* Finalises and frees all collected cells. */
void sh_collect_everything(void);

/* Finalises all that has a finaliser, reachable or not, and frees nothing. */
void sh_collect_finalise_all(void);

/* Runs `visit` with the world stopped; it must not call out. */
void sh_with_world_stopped(void (*visit)(void *context), void *context);

#endif /* SH_HEAPS_COLLECT_H */
