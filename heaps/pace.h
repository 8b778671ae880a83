/* SPDX-License-Identifier: MIT */
/*
 * Pacing: when allocation ought to collect.
 *
 * A collection is due when the bytes of collected kinds handed out since the last one
 * exceed a budget, which that one set:
 *
 *   proportional   pace_percent of what the next will have to mark: what survived, but
 *                  for the dead that have only to be told of, and the roots
 *   balance        the square root of what survived, times that of how much faster the
 *                  program allocates than the collector marks (Kirisame, Shenoy,
 *                  Panchekha: Optimal heap limits for reducing browser memory use, 2022).
 *                  Several heaps that keep to it share memory so that none could collect
 *                  less without another's collecting more. But up to where the heap stood
 *                  lately; and in a heap with a limit so much that collecting takes one
 *                  part in sixteen of the time.
 *
 * but at least a floor, and at most three quarters of what is left before the heap's
 * limit (heaps/limit.h). The program's own threshold goes before all this. Caches count
 * by refills and tell the sum now and then.
 */
#ifndef SH_HEAPS_PACE_H
#define SH_HEAPS_PACE_H

#include <stdbool.h>
#include <stddef.h>

#include <splitheap/gc.h>

#include "heaps/cache.h"

/* The options are known. */
void sh_pace_init(void);

/* The cache handed out this much of a collected kind. Its owner. */
void sh_pace_taken(struct sh_cache *cache, size_t bytes);

/* A large object of a collected kind was handed out. */
void sh_pace_taken_large(size_t bytes);

/* Tells what the cache counted. Its owner, or the world stopped. */
void sh_pace_flush(struct sh_cache *cache);

/* Automatic collection is on, and one is due if this much more is handed out. */
bool sh_pace_due(size_t bytes);

/* What was handed out since the last collection. Exact after all caches were flushed. */
size_t sh_pace_taken_bytes(void);

/* Something of a collected kind was ever handed out. */
bool sh_pace_anything(void);

/* A collection ends, having marked what it says, of which so much dies as soon as it was
 * told of; `room`: about as much may be allocated before the heap's limit is reached, or
 * SIZE_MAX. The collector. */
void sh_pace_collected(
    const struct gc_collection *collection, size_t dying, size_t room);

/* The next collection that is due by all this is to be a minor one (heaps/minor.h). */
bool sh_pace_wants_minor(void);

/* It cannot be: it is a full one, and comes later. The collector, before the world goes
 * on. */
void sh_pace_no_minor(void);

/* The heap has a new limit, before which there is so much room. */
void sh_pace_limited(size_t room);

/* The public settings; each returns what was set before. */
bool sh_pace_set_auto(bool on);
bool sh_pace_set_minor(bool on);
size_t sh_pace_set_threshold(size_t bytes);

#endif /* SH_HEAPS_PACE_H */
