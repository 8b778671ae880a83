/* SPDX-License-Identifier: MIT */
/* Pacing. Lock-free: counters that may be a little late. */
#include "heaps/pace.h"

#include <stdint.h>

#include "lib/atomic.h"
#include "lib/bits.h"

#define FLOOR_BYTES ((size_t)16 << 20)
#define TELL_BYTES ((size_t)64 << 10) /* what a cache keeps to itself */

static _Atomic size_t taken;                 /* since the last collection */
static _Atomic size_t trigger = FLOOR_BYTES; /* by what survived it */
static _Atomic size_t threshold;             /* the program's; 0: none */
static _Atomic bool anything;
static _Atomic bool manual; /* automatic collection is off */

void sh_pace_flush(struct sh_cache *cache)
{
    sh_add_relaxed(&taken, cache->taken);
    cache->taken = 0;
}

void sh_pace_taken(struct sh_cache *cache, size_t bytes)
{
    if (SH_UNLIKELY(!sh_load_relaxed(&anything)))
        sh_store_relaxed(&anything, true);
    cache->taken += bytes;
    if (cache->taken >= TELL_BYTES)
        sh_pace_flush(cache);
}

void sh_pace_taken_large(size_t bytes)
{
    sh_store_relaxed(&anything, true);
    sh_add_relaxed(&taken, bytes);
}

bool sh_pace_due(size_t bytes)
{
    if (sh_load_relaxed(&manual))
        return false;
    size_t limit = sh_load_relaxed(&threshold);
    if (!limit)
        limit = sh_load_relaxed(&trigger);
    return sh_load_relaxed(&taken) + bytes > limit;
}

size_t sh_pace_taken_bytes(void)
{
    return sh_load_relaxed(&taken);
}

bool sh_pace_anything(void)
{
    return sh_load_relaxed(&anything);
}

/* Three quarters of the room: what is left then serves classes that have no cells yet. */
static size_t share_of(size_t room)
{
    return sh_max(room - room / 4, TELL_BYTES);
}

void sh_pace_collected(size_t live_bytes, size_t room)
{
    sh_store_relaxed(&taken, (size_t)0);
    sh_store_relaxed(&trigger, sh_min(sh_max(FLOOR_BYTES, live_bytes), share_of(room)));
}

void sh_pace_limited(size_t room)
{
    size_t bytes = sh_load_relaxed(&taken), most = share_of(room);
    if (most < SIZE_MAX - bytes && sh_load_relaxed(&trigger) > bytes + most)
        sh_store_relaxed(&trigger, bytes + most);
}

bool sh_pace_set_auto(bool on)
{
    return !atomic_exchange_explicit(&manual, !on, memory_order_relaxed);
}

size_t sh_pace_set_threshold(size_t bytes)
{
    return atomic_exchange_explicit(&threshold, bytes, memory_order_relaxed);
}
