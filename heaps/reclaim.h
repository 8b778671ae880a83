/* SPDX-License-Identifier: MIT */
/*
 * What lies empty in caches: given back for threads that do not do it themselves.
 *
 * Locks: SH_RANK_SHARED and SH_RANK_HEAP. Callers hold no lock, and but for
 * sh_reclaim_idle are in a critical section.
 */
#ifndef SH_HEAPS_RECLAIM_H
#define SH_HEAPS_RECLAIM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Gives back what it is time for. Returns when to come again, on sh_purge_clock;
 * SH_PURGE_NEVER: when sh_reclaim_waits.
 */
uint64_t sh_reclaim_by_time(void);

/* Gives back what lies empty in the caches of all threads that are not just then in a
 * slow path, however long they have been idle. In critical sections of its own. */
void sh_reclaim_idle(void);

/* There is something for it to do, now or later. */
bool sh_reclaim_waits(void);

/* The same for threads that come by, where no background thread does it; cheap where it
 * is not time. */
void sh_reclaim_tick(void);

#endif /* SH_HEAPS_RECLAIM_H */
