/* SPDX-License-Identifier: MIT */
/* Pacing of minor collections. See heaps/pace_minor.h. */
#include "heaps/pace_minor.h"

#include "lib/bits.h"
#include "lib/options.h"

/* Of the time, what they may take before they come more rarely; and less than which, they
 * come more often. */
#define TIMES 8
#define TIMES_FEW 32

#define FAILURES_MOST 4 /* that make a difference */
#define WORTH_NS 1000000

/* After so many budgets a full one comes though little became old, for some of what was old
 * died. */
#define BUDGETS 16

static size_t each;       /* what is handed out before one; 0: there are none */
static size_t budget;     /* until a full one is due, */
static size_t kept;       /* and what of that was taken */
static size_t marked;     /* by the last collection, with what was old */
static size_t handed_out; /* since the last full one, before minor ones; */
static uint64_t ns;       /* what these took, */
static uint64_t full_ns;  /* and what that took */
static uint64_t ended;    /* when the last collection did */
static unsigned failures; /* in a row, */
static unsigned rest;     /* and full collections to come before they are tried again */

static size_t added(size_t now, size_t before)
{
    return now - sh_min(now, before);
}

size_t sh_minor_left(void)
{
    return added(budget, kept);
}

size_t sh_minor_next(size_t floor)
{
    size_t next = sh_max(each, floor);
    return each && next < sh_minor_left() && handed_out / BUDGETS < budget ? next : 0;
}

size_t sh_minor_kept(void)
{
    return kept;
}

uint64_t sh_minor_ns(void)
{
    return ns;
}

/* ---- Whether ---- */

/* Time for what is handed out. */
static double price(uint64_t time, size_t bytes)
{
    return (double)time / (double)sh_max(bytes, 1);
}

static bool always(void)
{
    return sh_options.generations == SH_GENERATIONS_ALWAYS;
}

static void fail(void)
{
    if (always())
        return;
    failures += failures < FAILURES_MOST;
    rest = 1u << failures;
    each = 0;
}

static bool most_died(const struct gc_collection *collection)
{
    return added(collection->marked_bytes, marked) < collection->allocated_bytes / 2;
}

/* With the full collection that ends them. */
static bool were_in_vain(const struct gc_collection *collection)
{
    return price(ns + full_ns, handed_out + collection->allocated_bytes) >
           price(full_ns, budget);
}

static void judge(const struct gc_collection *collection)
{
    if (always())
        each = sh_max(each, 1);
    else if (full_ns < WORTH_NS)
        each = 0;
    else if (rest)
        rest--;
    else if (!handed_out && !ns)
        each = most_died(collection) ? SIZE_MAX : 0;
    else if (!handed_out || were_in_vain(collection))
        fail();
    else
        failures = 0;
}

/* ---- After one ---- */

void sh_minor_paid(uint64_t took)
{
    ns += took;
    ended += took;
}

static void collected(const struct gc_collection *collection)
{
    marked = collection->marked_bytes;
    ended = collection->began + collection->pause_ns;
}

void sh_minor_paced_full(const struct gc_collection *collection, size_t bytes)
{
    full_ns = collection->pause_ns;
    judge(collection);
    budget = bytes;
    each = sh_min(each, budget / 4);
    kept = handed_out = 0;
    ns = 0;
    collected(collection);
}

static void adapt(uint64_t took, uint64_t ran, size_t floor)
{
    each = sh_max(each, floor);
    if (took > ran / TIMES)
        each = sh_min(each, SIZE_MAX / 2) * 2;
    else if (took < ran / TIMES_FEW)
        each /= 2;
    each = sh_max(sh_min(each, budget / 2), floor);
}

void sh_minor_paced(const struct gc_collection *collection, size_t floor)
{
    handed_out += collection->allocated_bytes;
    kept += added(collection->marked_bytes, marked);
    ns += collection->pause_ns;
    adapt(collection->pause_ns, collection->began - ended, floor);
    if (price(ns, handed_out) > price(full_ns, budget))
        fail();
    collected(collection);
}
