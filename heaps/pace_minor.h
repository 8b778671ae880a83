/* SPDX-License-Identifier: MIT */
/*
 * Pacing of minor collections (heaps/minor.h): whether there are any, and how much is
 * handed out before one.
 *
 * Full collections have their budget (heaps/pace.h). What a minor one frees is given back
 * to it, so that only what it keeps uses it up:
 *
 *      full -- each -- minor -- each -- minor -- ... -- what is left of the budget -- full
 *
 * How much `each` is goes by time: while a minor collection takes more than an eighth of
 * the time that the program ran before it, it is doubled; below a thirty-second, halved.
 * It is a pace floor at least, for so the caches' share counts, and half the budget at
 * most.
 *
 * Where minor collections stop the program for longer than full ones alone would, for as
 * much handed out, or none came where all was ready, as where the program collects itself,
 * they are given up: until the next full collection but one, and after each failure in a row
 * for twice as many. They begin again after one that found most of what was new dead. Where
 * a full one takes less than a millisecond there are none.
 *
 * The collector's, with the world stopped. Of collections' pauses what has passed by then
 * is known.
 */
#ifndef SH_HEAPS_PACE_MINOR_H
#define SH_HEAPS_PACE_MINOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <splitheap/gc.h>

/* A full collection ends, after which so much is to be handed out before the next. */
void sh_minor_paced_full(const struct gc_collection *collection, size_t budget);

/* A minor one ends; `floor`: the least that is to be handed out before another. */
void sh_minor_paced(const struct gc_collection *collection, size_t floor);

/* After either it took so long to get ready for a minor one. */
void sh_minor_paid(uint64_t ns);

/* What is left of the budget; what of that to hand out before a minor collection, 0: the
 * next is a full one. */
size_t sh_minor_left(void);
size_t sh_minor_next(size_t floor);

/* Since the last full collection: what minor ones kept, and the time that they took. */
size_t sh_minor_kept(void);
uint64_t sh_minor_ns(void);

#endif /* SH_HEAPS_PACE_MINOR_H */
