/* SPDX-License-Identifier: MIT */
/*
 * The background thread. See heaps/background.h.
 *
 *                 start                       nothing to do
 *      NONE ---> STARTING ---> AWAKE -------------------------> ASLEEP
 *        ^ ^        | failed     |  <-------------------------    |
 *        | `--------'            |      consider, notice          |
 *        |                       v                                |
 *        `------- joined ---- ENDING <----------------------------'
 *                              the program's last thread has gone
 *
 * The state is the word that the thread sleeps on. AWAKE it comes again at the time that
 * its work asks for; ASLEEP it sleeps until somebody moves the state, so an idle process
 * with nothing to give back has no wakeups. Before it sleeps it looks once more, after
 * ASLEEP was stored; who makes something to do counts it first and loads the state
 * after (all sequentially consistent): one of the two sees the other. Woken, it pauses
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

#include "heaps/area.h"
#include "heaps/memcheck.h"
#include "heaps/purge.h"
#include "heaps/reclaim.h"
#include "lib/bits.h"
#include "lib/options.h"
#include "threads/helper.h"
#include "threads/registry.h"

enum { NONE, STARTING, AWAKE, ASLEEP, ENDING };

#define PAGES(mib) (((size_t)(mib) << 20) / SH_PAGE_SIZE)
#define ALONE_PAGES PAGES(8)   /* dirty, of a program with one thread */
#define DIRTY_PAGES PAGES(4)   /* dirty, of one that has or had more */
#define IN_USE_PAGES PAGES(16) /* or in use */
#define WAKE_PAGES (PAGES(1) / 4)

_Atomic bool sh_background_wanted;

static struct sh_helper thread;
static _Atomic uint32_t state;
static _Atomic uint64_t retry; /* not to be tried before */
static _Atomic bool was_alone; /* but for this thread of ours, or before a fork */

bool sh_background_runs(void)
{
    uint32_t now = sh_load_relaxed(&state);
    return now == AWAKE || now == ASLEEP;
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

static void doze(uint64_t ns)
{
    if (ns && sh_load_relaxed(&state) == AWAKE)
        sh_os_wait(&state, AWAKE, ns);
}

static void fall_asleep(void)
{
    uint32_t awake = AWAKE, asleep = ASLEEP;
    if (!sh_cas_seq_cst(&state, &awake, ASLEEP))
        return;
    if (something_to_do()) {
        sh_cas_seq_cst(&state, &asleep, AWAKE);
        return;
    }
    while (sh_load_seq_cst(&state) == ASLEEP)
        sh_os_wait(&state, ASLEEP, 0);
}

static void sleep_until(uint64_t when)
{
    if (when == SH_PURGE_NEVER) {
        fall_asleep();
        doze(pause_ns());
        return;
    }
    uint64_t now = sh_purge_clock();
    /* The clock is coarse: a little more, so as not to come just before. */
    doze(sh_max(when > now ? when - now : 0, 1000000));
}

static void run(void)
{
    while (sh_load_seq_cst(&state) == STARTING)
        sh_os_wait(&state, STARTING, 0);
    while (sh_load_seq_cst(&state) != ENDING) {
        uint64_t when = sh_reclaim_by_time();
        sleep_until(sh_min(when, sh_purge_by_time()));
    }
}

/* ---- Waking ---- */

static void ring(void)
{
    uint32_t asleep = ASLEEP;
    if (sh_cas_seq_cst(&state, &asleep, AWAKE))
        sh_os_wake(&state, 1);
}

void sh_background_notice(void)
{
    if (SH_UNLIKELY(sh_load_seq_cst(&state) == ASLEEP))
        ring();
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
    uint32_t now = sh_load_seq_cst(&state);
    if (now == ASLEEP) {
        ring();
    } else if (now == NONE && pays() && may_start()) {
        sh_store_relaxed(&sh_background_wanted, true);
    }
}

/* ---- Birth and end ---- */

void sh_background_start(bool freeing)
{
    uint32_t none = NONE;
    if (!sh_helper_may_be_made_here() || (freeing && !alone()))
        return;
    sh_store_relaxed(&sh_background_wanted, false);
    if (!sh_cas_seq_cst(&state, &none, STARTING))
        return;
    sh_store_relaxed(&was_alone, alone());
    int error = sh_helper_start(&thread, run);
    if (error)
        sh_store_relaxed(&retry, sh_purge_clock() + SH_HELPER_RETRY_NS);
    sh_store_seq_cst(&state, error ? NONE : AWAKE);
    sh_os_wake(&state, 1);
}

void sh_background_end(void)
{
    uint32_t now = sh_load_seq_cst(&state);
    do {
        if (now != AWAKE && now != ASLEEP)
            return;
    } while (!sh_cas_seq_cst(&state, &now, ENDING));
    sh_os_wake(&state, 1);
    sh_helper_join(&thread);
    sh_store_seq_cst(&state, NONE);
}

/* The thread is not there, and what the C library had for it is gone. */
void sh_background_fork_child(void)
{
    sh_store_relaxed(&state, NONE);
    sh_store_relaxed(&sh_background_wanted, false);
    sh_store_relaxed(&retry, 0);
    sh_store_relaxed(&was_alone, true);
}
