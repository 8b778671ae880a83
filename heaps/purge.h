/* SPDX-License-Identifier: MIT */
/*
 * Purging: pages of free runs that were touched go back to the system when they are
 * more than a limit, the largest runs first, outside the heap's lock.
 */
#ifndef SH_HEAPS_PURGE_H
#define SH_HEAPS_PURGE_H

#include <stdbool.h>

/* Purges what is too much. In a critical section; takes SH_RANK_HEAP. */
void sh_purge_excess(void);

/* Purges every dirty run. True: there were some. As sh_purge_excess. */
bool sh_purge_dirty(void);

#endif /* SH_HEAPS_PURGE_H */
