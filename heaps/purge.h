/* SPDX-License-Identifier: MIT */
/*
 * Purging: memory that was freed goes back to the system when it was not used again for
 * a while, the decay (the option decay_ms), or when it is more than a limit.
 *
 * Lock: SH_RANK_HEAP; the system is called outside of it. Callers are in a critical
 * section.
 */
#ifndef SH_HEAPS_PURGE_H
#define SH_HEAPS_PURGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"

/* A dirty run, not of the user's memory, goes into its bucket, or out. Under the lock. */
void sh_purge_enlist(struct sh_span *run);
void sh_purge_delist(struct sh_span *run);

/* So many pages are in use: what the limit goes by. Under the lock. */
void sh_purge_note_use(void);

/* Purges what it is time for, a batch of it; cheap where it is not. Takes the lock. */
void sh_purge_tick(void);

/*
 * The same for the thread that does nothing else: all that it is time for. Returns when
 * to come again, on sh_purge_clock; SH_PURGE_NEVER: when more is dirty.
 */
uint64_t sh_purge_by_time(void);
#define SH_PURGE_NEVER UINT64_MAX

/* Purges every dirty run, whatever the time. True: there were some. Takes the lock. */
bool sh_purge_dirty(void);

/* In the child of a fork, under the lock: what others were purging is dirty again. */
void sh_purge_fork_child(void);

/* Nanoseconds that only rise, coarse; for tests to replace. */
extern uint64_t (*sh_purge_clock)(void);

#endif /* SH_HEAPS_PURGE_H */
