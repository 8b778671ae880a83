/* SPDX-License-Identifier: MIT */
/*
 * Filling what is handed out and what is freed with bytes that show mistakes (junk), or
 * clearing what is handed out (zero): options, and the C library's M_PERTURB.
 *
 * While anything is filled, threads stay on the empty cache and spans are born with
 * SH_OWNER_SLOW, so that allocations and frees all come by the slow paths, which fill.
 * Any thread; where it is switched on in mid-run, other threads that are at work then
 * take part once they next choose their cache.
 */
#ifndef SH_HEAPS_FILL_H
#define SH_HEAPS_FILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"

/* Anything is filled. Read by slow paths. */
extern _Atomic bool sh_fill_on;

/* What the options say; once, before the first allocation. */
void sh_fill_init(void);

/* M_PERTURB: `byte` is what is freed filled with, its complement what is handed out; 0:
 * nothing. Takes SH_RANK_HEAP; not in a critical section. */
void sh_fill_perturb(uint8_t byte);

/* What is handed out is to be cleared. */
bool sh_fill_clears(void);

/* Memory of malloc's that nothing is said to be in, and an object about to be freed. */
void sh_fill_new(void *start, size_t bytes);
void sh_fill_freed(void *start, size_t bytes);

#endif /* SH_HEAPS_FILL_H */
