/* SPDX-License-Identifier: MIT */
/* Pacing. Lock-free: counters that may be a little late. */
#include "heaps/pace.h"

#include <stdint.h>

#include "heaps/limit.h"
#include "heaps/pace_minor.h"
#include "lib/atomic.h"
#include "lib/bits.h"
#include "lib/options.h"

#define TELL_BYTES ((size_t)64 << 10) /* what a cache keeps to itself */

/* `balance` is as `proportional` where so much survives, and as much is allocated as
 * could be marked meanwhile. */
#define BALANCE_BYTES ((size_t)48 << 20)

/* In which what the heap stood higher is forgotten, but for 1/e. */
#define LATELY_NS 10e9

/* Of the time, in a heap with a limit: collecting is one part in so many, if there is
 * room. */
#define LIMITED_TIMES 16

static _Atomic size_t taken;     /* since the last collection */
static _Atomic size_t trigger;   /* by what survived it */
static _Atomic size_t threshold; /* the program's; 0: none */
static _Atomic bool minor_next;  /* the next collection is a minor one; */
static size_t if_full;           /* the trigger, if it cannot be; the collector's */
static _Atomic bool anything;
static _Atomic bool minors; /* there may be minor collections */
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

void sh_pace_init(void)
{
    sh_store_relaxed(&trigger, sh_options.pace_floor);
    sh_store_relaxed(&minors, sh_options.generations != SH_GENERATIONS_FALSE);
}

/* ---- The budget ---- */

/*
 * Most of the room. The rest serves classes that have no cells yet: a thirty-second of
 * the limit, and more where the limit was reached before the collection came.
 */
static size_t spare; /* the collector's */

static size_t share_of(size_t room)
{
    if (room == SIZE_MAX)
        return room;
    size_t rest = sh_max(spare, sh_limit_most() / 32 * SH_PAGE_SIZE);
    return sh_max(room - sh_min(rest, room / 4), TELL_BYTES);
}

static void learn_to_spare(const struct gc_collection *collection, size_t room)
{
    size_t least = sh_limit_most() / 32 * SH_PAGE_SIZE;
    if (room == SIZE_MAX)
        spare = 0;
    else if (collection->cause == GC_CAUSE_MEMORY)
        spare = sh_min(sh_max(spare * 2, least), least * 8);
    else
        spare -= spare / 16;
}

static size_t percent_of(size_t bytes)
{
    size_t percent = (size_t)sh_options.pace_percent;
    return bytes / 100 * percent + bytes % 100 * percent / 100;
}

/* Rounded down. */
static size_t square_root(size_t n)
{
    size_t root = 0;
    for (size_t bit = (size_t)1 << 31; bit; bit >>= 1)
        if ((root + bit) * (root + bit) <= n && root + bit <= UINT32_MAX)
            root += bit;
    return root;
}

/* Bytes a second, half of what they were and half of what they are now. */
static double smoothed(double before, size_t bytes, uint64_t ns)
{
    double now = (double)bytes * 1e9 / (double)sh_max(ns, 1);
    return before > 0 ? (before + now) / 2 : now;
}

/* What collections so far have told. The collector's. */
static struct {
    double allocation, marking; /* bytes a second */
    uint64_t ended;             /* when the last one did */
    size_t survived;            /* of the last one, */
    size_t share;               /* which was to be handed out after it */
    size_t height;              /* how high the heap stood lately, or ought to have */
} past;

static void learn(const struct gc_collection *collection, size_t lasting)
{
    /* What minor collections freed counts as if it had not been handed out. */
    size_t taken_up = sh_minor_kept() + collection->allocated_bytes;
    /* Not what was handed out because it once stood high: that is forgotten. */
    size_t height = past.survived + sh_min(taken_up, past.share);
    uint64_t since = collection->began - past.ended;
    if (past.ended)
        past.allocation =
            smoothed(past.allocation, taken_up, since - sh_min(sh_minor_ns(), since));
    past.marking = smoothed(past.marking,
        collection->marked_bytes + collection->root_bytes, collection->mark_ns);
    past.ended = collection->began + collection->stop_ns + collection->mark_ns;
    past.survived = lasting;
    /* What it is above what lives now goes with time. */
    size_t above = past.height - sh_min(past.height, past.survived);
    above = (size_t)((double)above * LATELY_NS / (LATELY_NS + (double)since));
    past.height = sh_max(height, past.survived + above);
}

/* How much faster the program allocates than the collector marks; within bounds, for
 * either may have been kept from running. */
static double allocation_to_marking(void)
{
    double ratio =
        past.allocation > 0 && past.marking > 0 ? past.allocation / past.marking : 1;
    return ratio < 1.0 / 16 ? 1.0 / 16 : ratio > 4 ? 4 : ratio;
}

/* Of a heap so large that the square root is little beside it, a third; of one so small
 * that it is much, twice as much. */
static size_t balanced(size_t cost)
{
    double scale = (double)BALANCE_BYTES * allocation_to_marking();
    size_t root = square_root(cost) * square_root((size_t)scale);
    return sh_max(sh_min(root, cost < SIZE_MAX / 2 ? cost * 2 : cost), cost / 3);
}

/* The heap may go up to where it stood lately, which costs no memory that was not had;
 * but by no more than twice its share. */
static size_t lately(size_t share)
{
    size_t above = past.height - sh_min(past.height, past.survived);
    return sh_min(above, 2 * share);
}

/* Until it is handed out, the program runs so many times longer than it was stopped. */
static size_t worth_the_pause(const struct gc_collection *collection)
{
    double seconds = (double)(collection->stop_ns + collection->mark_ns) / 1e9;
    double bytes = past.allocation * seconds * LIMITED_TIMES;
    return bytes < (double)(SIZE_MAX / 2) ? (size_t)bytes : SIZE_MAX / 2;
}

/* Each thread's cache may keep something to itself. */
static size_t floor_of(const struct gc_collection *collection)
{
    return sh_options.pace_floor + collection->threads * (TELL_BYTES / 4);
}

static size_t budget(const struct gc_collection *collection, size_t room)
{
    size_t cost = past.survived + collection->root_bytes; /* of the next */
    if (sh_options.pace != SH_PACE_BALANCE)
        return percent_of(cost);
    size_t share = percent_of(balanced(cost));
    size_t bytes = sh_max(share, lately(share));
    past.share = share;
    if (room != SIZE_MAX)
        bytes = sh_max(bytes, percent_of(worth_the_pause(collection)));
    return bytes;
}

/* ---- The next one ---- */

/* What that is, and when. */
static void plan(const struct gc_collection *collection, size_t room)
{
    size_t full = sh_min(sh_minor_left(), share_of(room));
    size_t each = sh_load_relaxed(&minors) ? sh_minor_next(floor_of(collection)) : 0;
    bool minor = each && each < full;
    sh_store_relaxed(&minor_next, minor);
    if_full = full;
    sh_store_relaxed(&taken, (size_t)0);
    sh_store_relaxed(&trigger, minor ? each : full);
}

void sh_pace_no_minor(void)
{
    sh_store_relaxed(&minor_next, false);
    sh_store_relaxed(&trigger, if_full);
}

bool sh_pace_wants_minor(void)
{
    return sh_load_relaxed(&minor_next) && sh_load_relaxed(&minors) &&
           !sh_load_relaxed(&threshold) && !sh_load_relaxed(&manual);
}

void sh_pace_collected(
    const struct gc_collection *collection, size_t dying, size_t room)
{
    size_t lasting = collection->marked_bytes - sh_min(dying, collection->marked_bytes);
    size_t floor = floor_of(collection);
    if (collection->minor) {
        sh_minor_paced(collection, floor);
    } else {
        learn(collection, lasting);
        size_t bytes = sh_max(budget(collection, room), floor);
        sh_minor_paced_full(collection, sh_min(bytes, share_of(room)));
    }
    learn_to_spare(collection, room);
    plan(collection, room);
}

void sh_pace_limited(size_t room)
{
    size_t bytes = sh_load_relaxed(&taken), most = share_of(room);
    if (most < SIZE_MAX - bytes && sh_load_relaxed(&trigger) > bytes + most)
        sh_store_relaxed(&trigger, bytes + most);
}

/* ---- Settings ---- */

bool sh_pace_set_minor(bool on)
{
    return atomic_exchange_explicit(&minors, on, memory_order_relaxed);
}

bool sh_pace_set_auto(bool on)
{
    return !atomic_exchange_explicit(&manual, !on, memory_order_relaxed);
}

size_t sh_pace_set_threshold(size_t bytes)
{
    return atomic_exchange_explicit(&threshold, bytes, memory_order_relaxed);
}
