/* SPDX-License-Identifier: MIT */
/*
 * The background thread: a sleeper (threads/helper.h). See heaps/background.h.
 *
 * Awake it comes again at the time that its work asks for; asleep it sleeps until something
 * has changed, so an idle process with nothing to give back has no wakeups. Woken, it pauses
 * first, so that much comes at once.
 *
 * When it is there. A second thread costs a program what the C library, the C++ library
 * and the kernel save where there is one: so a program that never made another gets it
 * only when more than half of what it had in use, and no less than ALONE_PAGES, is dirty.
 * Where there were threads before, it comes once so much is in use or dirty that it will
 * be worth it.
 *
 * Where it is made. pthread_create must not be called where the C library holds a lock
 * that it takes. It calls free with the lock of its cached stacks held, where it frees
 * one after a thread's end; so free does not make the thread in a program that made
 * another, and there malloc does, early. Nor is it made in critical sections, while the
 * caller collects (a stopped thread may hold any lock), registers, or is past its end;
 * nor in some children of forks (threads/helper.h), nor under memcheck, to which what the
 * C library allocates for a thread that is there at exit may look lost.
 *
 * Where it cannot be made (limits, a filter of system calls), that is tried again only
 * later; until then threads do its work as they take and give pages.
 *
 * It ends with the program's last registered thread, which waits for it: the process
 * ends with its last thread, and that is then the program's, with its stack and mask.
 */
#include "heaps/background.h"

#include <errno.h>

#include "heaps/area.h"
#include "heaps/memcheck.h"
#include "heaps/purge.h"
#include "heaps/reclaim.h"
#include "lib/bits.h"
#include "lib/options.h"
#include "threads/helper.h"
#include "threads/registry.h"

#define PAGES(mib) (((size_t)(mib) << 20) / SH_PAGE_SIZE)
#define ALONE_PAGES PAGES(8)   /* dirty, of a program with one thread */
#define DIRTY_PAGES PAGES(4)   /* dirty, of one that has or had more */
#define IN_USE_PAGES PAGES(16) /* or in use */
#define WAKE_PAGES (PAGES(1) / 4)

_Atomic bool sh_background_wanted;

static struct sh_helper thread;
static _Atomic uint64_t retry; /* not to be tried before */
static _Atomic bool was_alone; /* but for this thread of ours, or before a fork */

bool sh_background_runs(void)
{
    uint32_t now = sh_load_relaxed(&thread.state);
    return now == SH_HELPER_AWAKE || now == SH_HELPER_ASLEEP;
}

/* ---- The thread ---- */

static uint64_t pause_ns(void)
{
    return (uint64_t)sh_options.decay_ms * (1000000 / 20);
}

static bool something_to_do(void)
{
    return sh_load_seq_cst(&sh_heap_counts.dirty_pages) >= WAKE_PAGES ||
           sh_reclaim_waits();
}

static void sleep_until(uint64_t when)
{
    if (when == SH_PURGE_NEVER) {
        sh_helper_sleep(&thread, something_to_do);
        sh_helper_doze(&thread, pause_ns());
        return;
    }
    uint64_t now = sh_purge_clock();
    /* The clock is coarse: a little more, so as not to come just before. */
    sh_helper_doze(&thread, sh_max(when > now ? when - now : 0, 1000000));
}

static void run(void)
{
    while (sh_helper_state(&thread) != SH_HELPER_ENDING) {
        uint64_t when = sh_reclaim_by_time();
        sleep_until(sh_min(when, sh_purge_by_time()));
    }
}

/* ---- Waking ---- */

void sh_background_notice(void)
{
    if (SH_UNLIKELY(sh_helper_state(&thread) == SH_HELPER_ASLEEP))
        sh_helper_ring(&thread);
}

/* The program never made a thread: nobody holds a lock of the C library's. */
static bool alone(void)
{
    return !sh_registry_ever_many() &&
           (sh_os_single_threaded() || sh_load_relaxed(&was_alone));
}

static bool pays(void)
{
    size_t dirty = sh_load_relaxed(&sh_heap_counts.dirty_pages);
    size_t in_use = sh_load_relaxed(&sh_heap_counts.total_pages) -
                    sh_load_relaxed(&sh_heap_counts.free_pages);
    if (alone())
        return dirty >= ALONE_PAGES && dirty > in_use;
    return dirty >= DIRTY_PAGES || in_use >= IN_USE_PAGES;
}

static bool may_start(void)
{
    return sh_options.background && sh_options.decay_ms > 0 && !sh_memcheck_on() &&
           sh_helper_is_possible() && sh_purge_clock() >= sh_load_relaxed(&retry);
}

void sh_background_consider(void)
{
    enum sh_helper_state now = sh_helper_state(&thread);
    if (now == SH_HELPER_ASLEEP)
        sh_helper_ring(&thread);
    else if (now == SH_HELPER_NONE && pays() && may_start())
        sh_store_relaxed(&sh_background_wanted, true);
}

/* ---- Birth and end ---- */

void sh_background_start(bool freeing)
{
    bool were_alone = alone();
    if (!sh_helper_may_be_made_here() || (freeing && !were_alone))
        return;
    sh_store_relaxed(&sh_background_wanted, false);
    int error = sh_helper_start_sleeper(&thread, run, false);
    if (error == EBUSY)
        return;
    sh_store_relaxed(&was_alone, were_alone);
    if (error)
        sh_store_relaxed(&retry, sh_purge_clock() + SH_HELPER_RETRY_NS);
}

void sh_background_end(void)
{
    sh_helper_end(&thread, false);
}

/* The thread is not there, and what the C library had for it is gone. */
void sh_background_fork_child(void)
{
    sh_store_relaxed(&thread.state, SH_HELPER_NONE);
    sh_store_relaxed(&sh_background_wanted, false);
    sh_store_relaxed(&retry, 0);
    sh_store_relaxed(&was_alone, true);
}
