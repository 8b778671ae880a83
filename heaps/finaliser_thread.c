/* SPDX-License-Identifier: MIT */
/*
 * The thread that runs finalisers: a sleeper (threads/helper.h).
 *
 * Asleep it is no thread of the heap's, so that a program whose own threads have all ended,
 * ends. While it runs finalisers it is one, for it holds objects, allocates and can be
 * stopped. So it may be the last that goes: then it ends by itself.
 */
#include "heaps/finaliser_thread.h"

#include <errno.h>
#include <limits.h>

#include "heaps/finalise.h"
#include "lib/compiler.h"
#include "lib/os.h"
#include "threads/helper.h"

#define NO_MEMORY_NS ((uint64_t)100000000) /* until it tries again to be registered */

static struct sh_helper thread;
static _Atomic uint64_t retry;   /* not to be tried before */
static _Atomic uint32_t at_work; /* 1: it runs finalisers */
static _Atomic uint32_t held;    /* by so many it is kept from that */
static SH_TLS bool is_it;        /* the calling thread is the one */

/* ---- The thread ---- */

/* Who holds it counts that first and waits for its work after; it looks the other way
 * round: one of the two sees the other. */
static bool is_wanted(void)
{
    return !sh_load_seq_cst(&held) && sh_finalise_thread_wanted();
}

/* False: no memory to be registered. */
static bool work_off(void)
{
    sh_store_seq_cst(&at_work, 1u);
    bool may = !sh_load_seq_cst(&held), entered = may && sh_helper_enter();
    if (entered) {
        sh_finalise_for_thread();
        sh_helper_leave();
    }
    if (is_it) {
        sh_store_seq_cst(&at_work, 0u);
        sh_os_wake(&at_work, INT_MAX);
    }
    return entered || !may;
}

/* In the child of a fork by a finaliser this is not it any more, and ends, too: another
 * may be it by then. */
static void run(void)
{
    is_it = true;
    while (is_it && sh_helper_state(&thread) == SH_HELPER_AWAKE) {
        if (!is_wanted())
            sh_helper_sleep(&thread, is_wanted);
        else if (!work_off())
            sh_helper_doze(&thread, NO_MEMORY_NS);
    }
}

/* ---- From outside ---- */

static void start(void)
{
    if (!sh_helper_may_be_made_here() || !sh_helper_is_possible() ||
        sh_os_now_coarse_ns() < sh_load_relaxed(&retry))
        return;
    int error = sh_helper_start_sleeper(&thread, run, true);
    if (error && error != EBUSY)
        sh_store_relaxed(&retry, sh_os_now_coarse_ns() + SH_HELPER_RETRY_NS);
}

void sh_finaliser_thread_wake(void)
{
    if (!sh_helper_ring(&thread))
        start();
}

bool sh_finaliser_thread_is_held(void)
{
    return sh_load_seq_cst(&held) != 0;
}

void sh_finaliser_thread_hold(void)
{
    sh_add_seq_cst(&held, 1u);
    while (!is_it && sh_load_seq_cst(&at_work))
        sh_os_wait(&at_work, 1, 0);
}

void sh_finaliser_thread_let_go(void)
{
    if (sh_sub_seq_cst(&held, 1u) == 1 && sh_finalise_thread_wanted())
        sh_finaliser_thread_wake();
}

/* It may be the caller itself: the process ends with it, unless a thread that is not
 * registered is left. */
void sh_finaliser_thread_end(void)
{
    sh_helper_end(&thread, is_it);
}

void sh_finaliser_thread_fork_child(void)
{
    sh_store_relaxed(&thread.state, SH_HELPER_NONE);
    sh_store_relaxed(&retry, 0);
    sh_store_relaxed(&at_work, 0u);
    sh_store_relaxed(&held, 0u);
    is_it = false;
}
