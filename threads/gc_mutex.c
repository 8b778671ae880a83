/* SPDX-License-Identifier: MIT */
/*
 * The GC mutex: one word, slept on.
 *
 *      bit 31          bit 30                              bits 0..29
 *      COLLECTING      WAITED_FOR: who lowers the count    threads inside gc_lock (and
 *                      to 0, or ends collecting, wakes     a fork under way)
 *
 *      COLLECTING  =>  count == 0
 *      count == sum over threads of (lock_depth > 0 and not collecting), and forks
 *
 * Taking it in either way is a compare-and-swap with acquire, giving it up one with
 * release (both seq_cst), each on the word itself. An explicit collector that waits for
 * holders keeps no new holder out: gc_lock never waits for who only waits itself.
 *
 * The nesting is the thread's own, in its record. A thread without one (after its last
 * destructor round, or where there was no memory for it) has a thread-local stand-in.
 *
 * Nobody sleeps here in a critical section. Who sleeps counts as stopped, and need not
 * be woken for a collection that is not for it to wait for.
 *
 * Locks: none. Any thread, outside critical sections.
 */
#include "threads/gc_mutex.h"

#include <limits.h>

#include "lib/check.h"
#include "lib/os.h"
#include "threads/registry.h"
#include "threads/stop.h"

#define COLLECTING ((uint32_t)1 << 31)
#define WAITED_FOR ((uint32_t)1 << 30)
#define COUNT (WAITED_FOR - 1)

static _Atomic uint32_t word;

/* ---- What the calling thread holds ---- */

static SH_TLS uint32_t spare_depth;
static SH_TLS bool spare_collecting;

/* What a thread began without a record it ends so. */
static uint32_t *my_depth(void)
{
    struct sh_thread *self = sh_thread_enter();
    return self && spare_depth == 0 ? &self->lock_depth : &spare_depth;
}

static bool *my_collecting(void)
{
    struct sh_thread *self = sh_thread_enter();
    return self && spare_depth == 0 ? &self->collecting : &spare_collecting;
}

/* ---- The word ---- */

/* As a thread inside gc_blocking_begin, unless it is one already (and forks). */
static SH_NOINLINE void sleep_stopped(uint32_t seen)
{
    struct sh_thread *self = sh_tls.self;
    if (self && sh_load_relaxed(&self->state) == SH_THREAD_BLOCKING)
        self = NULL;
    if (self)
        sh_blocking_begin(__builtin_frame_address(0));
    sh_os_wait(&word, seen, 0);
    if (self)
        sh_blocking_end();
}

/* Sleeps while the word is `seen`, which has bits in the way; returns it anew. */
static uint32_t sleep_on(uint32_t seen)
{
    SH_CHECK1(sh_tls.critical == 0);
    if (!(seen & WAITED_FOR)) {
        if (!sh_cas_seq_cst(&word, &seen, seen | WAITED_FOR))
            return seen;
        seen |= WAITED_FOR;
    }
    sleep_stopped(seen);
    return sh_load_relaxed(&word);
}

static void share(void)
{
    uint32_t seen = sh_load_relaxed(&word);
    for (;;) {
        if (seen & COLLECTING)
            seen = sleep_on(seen);
        else if (sh_cas_weak_seq_cst(&word, &seen, seen + 1))
            return;
    }
}

/* Lowers the count, or ends collecting; wakes who waited if nothing is left. */
static void give_up(uint32_t what)
{
    uint32_t seen = sh_load_relaxed(&word), left;
    do {
        left = seen - what;
        if ((left & COUNT) == 0)
            left &= ~WAITED_FOR;
    } while (!sh_cas_weak_seq_cst(&word, &seen, left));
    if ((seen & WAITED_FOR) && !(left & WAITED_FOR))
        sh_os_wake(&word, INT_MAX);
}

/* ---- Shared ---- */

void sh_gc_mutex_lock(void)
{
    uint32_t *depth = my_depth();
    if (*depth == 0)
        share();
    ++*depth;
}

/* Of a collection, collect_end alone undoes the last. */
bool sh_gc_mutex_unlock(void)
{
    bool collecting = *my_collecting();
    uint32_t *depth = my_depth();
    if (*depth <= (collecting ? 1 : 0)) {
        sh_misused("gc_unlock without gc_lock");
        return false;
    }
    if (--*depth > 0)
        return false;
    give_up(1);
    return true;
}

bool sh_gc_mutex_is_locked(void)
{
    struct sh_thread *self = sh_tls.self;
    return spare_depth > 0 || (self && self->lock_depth > 0);
}

bool sh_gc_mutex_is_collecting(void)
{
    struct sh_thread *self = sh_tls.self;
    return spare_collecting || (self && self->collecting);
}

void sh_gc_mutex_abandon(void)
{
    if (*my_collecting())
        sh_fatal("a thread ended between gc_collect_start and gc_collect_end");
    uint32_t *depth = my_depth();
    if (*depth > 0)
        give_up(1);
    *depth = 0;
}

/* ---- Alone ---- */

static enum sh_gc_attempt in_the_way(uint32_t seen)
{
    if (seen & COLLECTING)
        return SH_GC_COLLECTING;
    return seen & COUNT ? SH_GC_LOCKED : SH_GC_TAKEN;
}

enum sh_gc_attempt sh_gc_mutex_look(void)
{
    return in_the_way(sh_load_seq_cst(&word));
}

enum sh_gc_attempt sh_gc_mutex_attempt(void)
{
    bool *collecting = my_collecting();
    uint32_t *depth = my_depth();
    if (*collecting || *depth > 0)
        sh_fatal("a collection begins inside gc_lock or another one");
    uint32_t seen = sh_load_relaxed(&word);
    do {
        if (in_the_way(seen) != SH_GC_TAKEN)
            return in_the_way(seen);
    } while (!sh_cas_weak_seq_cst(&word, &seen, seen | COLLECTING));
    *collecting = true;
    *depth = 1;
    return SH_GC_TAKEN;
}

void sh_gc_mutex_await(enum sh_gc_attempt obstacle)
{
    uint32_t bits = obstacle == SH_GC_COLLECTING ? COLLECTING : COUNT;
    uint32_t seen = sh_load_relaxed(&word);
    while (seen & bits)
        seen = sleep_on(seen);
}

void sh_gc_mutex_collect_begin(void)
{
    enum sh_gc_attempt result;
    while ((result = sh_gc_mutex_attempt()) != SH_GC_TAKEN)
        sh_gc_mutex_await(result);
}

bool sh_gc_mutex_collect_try(void)
{
    enum sh_gc_attempt result = sh_gc_mutex_attempt();
    if (result == SH_GC_COLLECTING)
        sh_gc_mutex_await(result);
    return result == SH_GC_TAKEN;
}

void sh_gc_mutex_collect_end(void)
{
    bool *collecting = my_collecting();
    uint32_t *depth = my_depth();
    SH_CHECK1(*collecting);
    if (*depth != 1)
        sh_fatal("gc_collect_end inside gc_lock");
    *collecting = false;
    *depth = 0;
    give_up(COLLECTING);
}

/* ---- Fork ---- */

static SH_TLS bool shared_for_fork;

void sh_gc_mutex_fork_prepare(void)
{
    shared_for_fork = !sh_gc_mutex_is_locked();
    if (shared_for_fork)
        share();
}

void sh_gc_mutex_fork_parent(void)
{
    if (shared_for_fork)
        give_up(1);
}

void sh_gc_mutex_fork_child(void)
{
    uint32_t mine = 0;
    if (sh_gc_mutex_is_collecting())
        mine = COLLECTING;
    else if (sh_gc_mutex_is_locked())
        mine = 1;
    sh_store_relaxed(&word, mine);
}
