/* SPDX-License-Identifier: MIT */
/*
 * Pacing: when allocation ought to collect.
 *
 * A collection is due when the bytes of collected kinds handed out since the last one
 * exceed what survived it, or a floor, or the program's own threshold. Where the heap's
 * limit is near (heaps/limit.h), three quarters of what is left before it are enough.
 * Caches count by refills and tell the sum now and then.
 */
#ifndef SH_HEAPS_PACE_H
#define SH_HEAPS_PACE_H

#include <stdbool.h>
#include <stddef.h>

#include "heaps/cache.h"

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

/* A collection ends, with this much alive; `room`: about as much may be allocated
 * before the heap's limit is reached, or SIZE_MAX. */
void sh_pace_collected(size_t live_bytes, size_t room);

/* The heap has a new limit, before which there is so much room. */
void sh_pace_limited(size_t room);

/* The public settings; each returns what was set before. */
bool sh_pace_set_auto(bool on);
size_t sh_pace_set_threshold(size_t bytes);

#endif /* SH_HEAPS_PACE_H */
