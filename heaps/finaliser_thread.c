/* SPDX-License-Identifier: MIT */
/*
 * The thread that runs finalisers.
 *
 *                 start                    nothing waits
 *      NONE ---> STARTING ---> AWAKE ---------------------> ASLEEP
 *        ^ ^        | failed     |  <-----------------------  |
 *        | `--------'            |           wake             |
 *        |                       v                            |
 *        `------- joined ---- ENDING <------------------------'
 *                              the program's last thread has gone
 *
 * Asleep it is a helper (threads/helper.h): no thread of the heap's, so that a program
 * whose own threads have all ended, ends. While it runs finalisers it is one, for it
 * holds objects, allocates and can be stopped. So it may be the last that goes: then it
 * is GONE, and who needs one again, in a thread that came since, joins it first.
 *
 * The state is the word that it sleeps on. Before it sleeps it looks once more, after
 * ASLEEP was stored; who makes something wait counts it first and loads the state after
 * (all sequentially consistent): one of the two sees the other.
 */
#include "heaps/finaliser_thread.h"

#include <limits.h>

#include "heaps/finalise.h"
#include "lib/compiler.h"
#include "lib/os.h"
#include "threads/helper.h"

enum { NONE, STARTING, AWAKE, ASLEEP, ENDING, GONE };

#define NO_MEMORY_NS ((uint64_t)100000000) /* until it tries again to be registered */

static struct sh_helper thread;
static _Atomic uint32_t state;
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
    sh_store_seq_cst(&at_work, 0u);
    sh_os_wake(&at_work, INT_MAX);
    return entered || !may;
}

static void fall_asleep(void)
{
    uint32_t awake = AWAKE, asleep = ASLEEP;
    if (!sh_cas_seq_cst(&state, &awake, ASLEEP))
        return;
    if (is_wanted()) {
        sh_cas_seq_cst(&state, &asleep, AWAKE);
        return;
    }
    while (sh_load_seq_cst(&state) == ASLEEP)
        sh_os_wait(&state, ASLEEP, 0);
}

/* In the child of a fork by a finaliser this is not it any more, and ends, too. */
static void run(void)
{
    is_it = true;
    while (sh_load_seq_cst(&state) == STARTING)
        sh_os_wait(&state, STARTING, 0);
    while (is_it && sh_load_seq_cst(&state) == AWAKE) {
        if (is_wanted() && !work_off())
            sh_os_wait(&state, AWAKE, NO_MEMORY_NS);
        else
            fall_asleep();
    }
}

/* ---- From outside ---- */

/* From NONE or GONE. */
static void start(uint32_t from)
{
    if (!sh_helper_may_be_made_here() || !sh_helper_is_possible() ||
        sh_os_now_coarse_ns() < sh_load_relaxed(&retry) ||
        !sh_cas_seq_cst(&state, &from, STARTING))
        return;
    if (from == GONE)
        sh_helper_join(&thread);
    int error = sh_helper_start_large(&thread, run);
    if (error)
        sh_store_relaxed(&retry, sh_os_now_coarse_ns() + SH_HELPER_RETRY_NS);
    sh_store_seq_cst(&state, error ? NONE : AWAKE);
    sh_os_wake(&state, 1);
}

void sh_finaliser_thread_wake(void)
{
    uint32_t now = ASLEEP;
    if (sh_cas_seq_cst(&state, &now, AWAKE))
        sh_os_wake(&state, 1);
    else if (now == NONE || now == GONE)
        start(now);
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
    uint32_t now = sh_load_seq_cst(&state);
    do {
        if (now != AWAKE && now != ASLEEP)
            return;
    } while (!sh_cas_seq_cst(&state, &now, is_it ? GONE : ENDING));
    if (is_it)
        return;
    sh_os_wake(&state, 1);
    sh_helper_join(&thread);
    sh_store_seq_cst(&state, NONE);
}

void sh_finaliser_thread_fork_child(void)
{
    sh_store_relaxed(&state, NONE);
    sh_store_relaxed(&retry, 0);
    sh_store_relaxed(&at_work, 0u);
    sh_store_relaxed(&held, 0u);
    is_it = false;
}
