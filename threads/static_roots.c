/* SPDX-License-Identifier: MIT */
/*
 * Roots that belong to no thread.
 *
 * The list of loaded objects is the loader's, and changes by dlopen and dlclose in any
 * thread. It is read while the world is stopped, and the world is stopped while the
 * loader's lock is held, in the first callback of a walk over the list:
 *
 *      loader's lock --> [GC mutex] --> stop --> list the segments --> lock released
 *
 * so that no stopped thread is half-way through a change of the list, and what is
 * listed stays mapped until the world resumes: see lib/os_linux_thread.c.
 *
 * A program may hold the loader's lock, too, in a callback of its own dl_iterate_phdr,
 * allocate there, and so wait for a collection to end. A collector that first took the
 * GC mutex and then waited for the loader would wait for ever. So the lock comes first,
 * and the GC mutex is only tried under it; whoever is in the way is waited for after
 * the lock is released. sh_world_stop_with_roots is for callers that hold the mutex all
 * the same, where no such program is to be served.
 *
 * Locks: SH_RANK_ROOTS, for the added and the excluded ranges. The list of segments is
 * the collector's alone.
 */
#include "threads/static_roots.h"

#include <errno.h>
#include <string.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/meta.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "threads/gc_mutex.h"
#include "threads/stacks.h"

struct sh_lock sh_roots_lock = SH_LOCK_INIT(SH_RANK_ROOTS);

/* ---- Ranges ---- */

/* In metadata memory, but for a first piece that cannot fail. */
struct ranges {
    struct sh_range *at;
    size_t count, room;
};

static int grow(struct ranges *ranges, const struct sh_range *first)
{
    size_t room = ranges->room * 2, bytes = ranges->room * sizeof *ranges->at;
    struct sh_range *at = sh_meta_alloc(2 * bytes);
    if (!at)
        return ENOMEM;
    memcpy(at, ranges->at, ranges->count * sizeof *at);
    if (ranges->at != first)
        sh_meta_free(ranges->at, bytes);
    ranges->at = at;
    ranges->room = room;
    return 0;
}

#define FIRST_ADDED 64
#define FIRST_SEGMENTS 512
#define EXCLUDED_MAX 32

static struct sh_range first_added[FIRST_ADDED], first_segments[FIRST_SEGMENTS];
static struct ranges added = {first_added, 0, FIRST_ADDED};          /* lock */
static struct ranges segments = {first_segments, 0, FIRST_SEGMENTS}; /* collector */
static struct sh_range excluded[EXCLUDED_MAX];                       /* lock; sorted */
static size_t excluded_count;
static _Atomic bool segments_off;

void sh_roots_enter(void)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_roots_lock);
}

void sh_roots_leave(void)
{
    sh_lock_release(&sh_roots_lock);
    sh_critical_leave();
}

/* ---- What the program says ---- */

static int add(struct sh_range range)
{
    int error = 0;
    if (added.count == added.room)
        error = grow(&added, first_added);
    if (error == 0)
        added.at[added.count++] = range;
    return error;
}

int sh_roots_add(void *start, void *end)
{
    if (start > end)
        return EINVAL;
    sh_roots_enter();
    int error = add((struct sh_range){(uintptr_t)start, (uintptr_t)end});
    sh_roots_leave();
    return error;
}

static int take_out(struct sh_range range)
{
    for (size_t i = added.count; i-- > 0;) {
        if (added.at[i].low != range.low || added.at[i].high != range.high)
            continue;
        added.at[i] = added.at[--added.count];
        return 0;
    }
    return ENOENT;
}

int sh_roots_remove(void *start, void *end)
{
    sh_roots_enter();
    int error = take_out((struct sh_range){(uintptr_t)start, (uintptr_t)end});
    sh_roots_leave();
    return error;
}

bool sh_roots_scan_segments(bool on)
{
    return !sh_exchange_seq_cst(&segments_off, !on);
}

void sh_roots_exclude(const void *start, const void *end)
{
    sh_roots_enter();
    if (excluded_count == EXCLUDED_MAX)
        sh_fatal("more than %d ranges kept out of the roots", EXCLUDED_MAX);
    size_t i = excluded_count++;
    for (; i > 0 && excluded[i - 1].low > (uintptr_t)start; i--)
        excluded[i] = excluded[i - 1];
    excluded[i] = (struct sh_range){(uintptr_t)start, (uintptr_t)end};
    sh_roots_leave();
}

void sh_roots_init(void)
{
    sh_roots_exclude(first_added, first_added + FIRST_ADDED);
    sh_roots_exclude(first_segments, first_segments + FIRST_SEGMENTS);
    sh_roots_exclude(excluded, excluded + EXCLUDED_MAX);
}

/* ---- What the loader says ---- */

static void note(uintptr_t low, uintptr_t high)
{
    low = sh_round_up(low, sizeof(void *));
    high = sh_round_down(high, sizeof(void *));
    if (low >= high)
        return;
    if (segments.count == segments.room && grow(&segments, first_segments) != 0)
        sh_fatal("no memory for the list of %zu segments", segments.count);
    segments.at[segments.count++] = (struct sh_range){low, high};
}

/* The world is stopped: the excluded ranges are as some thread left them, in full. */
static void note_segment(void *context, uintptr_t start, uintptr_t end)
{
    (void)context;
    for (size_t i = 0; i < excluded_count; i++) {
        if (excluded[i].high <= start || excluded[i].low >= end)
            continue;
        note(start, excluded[i].low);
        start = sh_max(start, excluded[i].high);
    }
    note(start, end);
}

static bool stop_in_loader(void *context)
{
    (void)context;
    segments.count = 0;
    sh_world_stop();
    return true;
}

/*
 * Where a thread could not be stopped, all others have stood for as long as that took to
 * be found. So collections that only allocation asks for are left out for a while.
 */
#define REST_FACTOR 10

static _Atomic uint64_t rest_until;

static bool try_to_stop(void)
{
    uint64_t began = sh_os_now_ns();
    segments.count = 0;
    if (sh_world_try_stop())
        return true;
    uint64_t now = sh_os_now_ns();
    sh_store_relaxed(&rest_until, now + (now - began) * REST_FACTOR);
    return false;
}

static bool may_try(void)
{
    return SH_LIKELY(sh_load_relaxed(&rest_until) == 0) ||
           sh_os_now_ns() >= sh_load_relaxed(&rest_until);
}

void sh_world_stop_with_roots(void)
{
    sh_os_each_segment(stop_in_loader, note_segment, NULL);
}

struct attempt {
    bool (*wanted)(void);
    enum sh_gc_attempt result;
    bool stopped; /* where the mutex was taken */
};

static bool try_in_loader(void *context)
{
    struct attempt *attempt = context;
    attempt->result = sh_gc_mutex_attempt();
    if (attempt->result != SH_GC_TAKEN)
        return false;
    sh_critical_enter();
    attempt->stopped = (!attempt->wanted || attempt->wanted()) && try_to_stop();
    if (!attempt->stopped) {
        sh_critical_leave();
        sh_gc_mutex_collect_end();
    }
    return attempt->stopped;
}

/*
 * Threads that walk, or are about to. Who forks holds the GC mutex shared and waits for
 * them to be none; who walks says so and then looks whether the mutex is free. One of
 * the two sees the other (all seq_cst).
 */
static _Atomic uint32_t walkers;

static struct attempt walk(bool (*wanted)(void))
{
    sh_add_seq_cst(&walkers, 1u);
    struct attempt attempt = {wanted, sh_gc_mutex_look(), false};
    if (attempt.result == SH_GC_TAKEN)
        sh_os_each_segment(try_in_loader, note_segment, &attempt);
    sh_sub_seq_cst(&walkers, 1u);
    return attempt;
}

bool sh_world_stop_to_collect(bool wait, bool rest, bool (*wanted)(void))
{
    while (!rest || may_try()) {
        struct attempt attempt = walk(wanted);
        if (attempt.result == SH_GC_TAKEN)
            return attempt.stopped;
        if (attempt.result == SH_GC_COLLECTING || wait)
            sh_gc_mutex_await(attempt.result);
        if (!wait)
            return false;
    }
    return false;
}

/*
 * A program that forks in a callback of its dl_iterate_phdr would be waited for by a
 * walker; glibc leaves the lock taken in its child anyhow, so it is not waited long.
 */
#define FORK_WAITS 1000
#define FORK_WAIT_NS 1000000

void sh_roots_fork_prepare(void)
{
    for (int i = 0; i < FORK_WAITS; i++) {
        uint32_t left = sh_load_seq_cst(&walkers);
        if (left == 0)
            return;
        sh_os_wait(&walkers, left, FORK_WAIT_NS);
    }
}

void sh_roots_fork_child(void)
{
    sh_store_relaxed(&walkers, 0);
}

/* ---- Scanning ---- */

static void visit_all(const struct ranges *ranges, sh_range_fn *visit, void *context)
{
    for (size_t i = 0; i < ranges->count; i++)
        visit(
            context, (const void *)ranges->at[i].low, (const void *)ranges->at[i].high);
}

/* A thread that is not registered may be adding a range, or taking one back. */
void sh_scan_static_roots(sh_range_fn *visit, void *context)
{
    sh_assert_held(&sh_roots_lock);
    if (!sh_load_relaxed(&segments_off))
        visit_all(&segments, visit, context);
    visit_all(&added, visit, context);
    sh_stacks_scan(visit, context);
}
