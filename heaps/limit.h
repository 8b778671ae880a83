/* SPDX-License-Identifier: MIT */
/*
 * The pages in use by spans, and the most that may be: gc_set_max_heap.
 *
 * Whoever is about to use pages takes them from what is left first, and gives them back
 * when they are a span's no more; so the limit holds whatever several threads do at
 * once. Every span counts, small, large and huge, in memory from the system or the user.
 * Beside these, dirty free pages cost memory: heaps/purge.c sees that both together keep
 * to the limit.
 *
 * Lock-free; only slow paths come here.
 */
#ifndef SH_HEAPS_LIMIT_H
#define SH_HEAPS_LIMIT_H

#include <stdbool.h>
#include <stddef.h>

#define SH_NO_LIMIT ((size_t)-1)

/* So many pages more are in use; false: that would be too many. */
bool sh_limit_take(size_t pages);
void sh_limit_give(size_t pages);

size_t sh_limit_used(void); /* pages in use by spans */
size_t sh_limit_left(void); /* pages that may still be taken */
size_t sh_limit_most(void); /* pages, or SH_NO_LIMIT */

/* In the child of a fork, under the heap's lock: so many are in use. */
void sh_limit_recount(size_t pages);

/* gc_set_max_heap. */
size_t sh_limit_set(size_t bytes);

#endif /* SH_HEAPS_LIMIT_H */
