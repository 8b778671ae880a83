/* SPDX-License-Identifier: MIT */
/*
 * The gang. See threads/gang.h.
 *
 *      call      how many jobs there were; what helpers sleep on
 *      doors     OPEN while a job may be joined, and how many are inside
 *
 *      caller    job, context are set;  doors = OPEN;  call++, wake
 *                ... its part ...
 *                doors &= ~OPEN;  until doors == 0
 *      helper    until call != the last one seen
 *                doors: OPEN | n -> OPEN | n + 1, else back to sleep
 *                ... its part ...
 *                doors--;  0: wake the caller
 *
 * The caller's release of OPEN is acquired by who joins, and the helper's release of its
 * place by the caller. A helper that comes so late that the doors are closed, or that
 * joins the next job with the last one's call, does no harm.
 */
#include "threads/gang.h"

#include "lib/atomic.h"
#include "lib/compiler.h"
#include "lib/os.h"
#include "threads/helper.h"

#define OPEN ((uint32_t)1 << 31)
#define AWAIT_NS ((uint64_t)100000000)

enum { SPINS = 200 };

static struct sh_helper helpers[SH_GANG_MAX - 1];
static _Atomic unsigned count;
static _Atomic uint32_t there;  /* helpers that have said who they are */
static _Atomic bool recruiting; /* a thread is at it */
static _Atomic uint64_t retry;  /* not to be tried before */

static sh_gang_job *job;
static void *job_context;
static uint32_t most; /* helpers, of this job */
static _Atomic uint32_t call, doors, places;
static _Atomic bool ending;

/* ---- A helper ---- */

static bool enter(void)
{
    uint32_t now = sh_load_relaxed(&doors);
    while (now & OPEN)
        if (sh_cas_acquire(&doors, &now, now + 1))
            return true;
    return false;
}

static void leave(void)
{
    if (sh_sub_seq_cst(&doors, 1u) == 1)
        sh_os_wake(&doors, 1);
}

static void work(void)
{
    if (!enter())
        return;
    uint32_t place = sh_add_relaxed(&places, 1u) + 1;
    if (place <= most)
        job(job_context, place);
    leave();
}

static void run(void)
{
    uint32_t seen = 0;
    sh_add_seq_cst(&there, 1u);
    sh_os_wake(&there, 1);
    while (!sh_load_seq_cst(&ending)) {
        uint32_t now = sh_load_seq_cst(&call);
        if (now == seen) {
            sh_os_wait(&call, seen, 0);
            continue;
        }
        seen = now;
        work();
    }
}

/* ---- The caller ---- */

unsigned sh_gang_helpers(void)
{
    return sh_load_acquire(&count);
}

static bool may_recruit(void)
{
    return sh_helper_is_possible() && sh_helper_may_be_made_here() &&
           sh_os_now_coarse_ns() >= sh_load_relaxed(&retry);
}

/* Not long: the next stop would take them for strangers, which is slower, not wrong. */
static void await_recruits(unsigned made)
{
    uint64_t end = sh_os_now_ns() + AWAIT_NS;
    uint32_t said;
    while ((said = sh_load_seq_cst(&there)) < made && sh_os_now_ns() < end)
        sh_os_wait(&there, said, AWAIT_NS);
}

static void recruit(unsigned wanted)
{
    unsigned had = sh_load_relaxed(&count), now = had;
    sh_store_seq_cst(&there, had);
    for (; now < wanted && now < SH_GANG_MAX - 1; now++) {
        if (sh_helper_start(&helpers[now], run)) {
            sh_store_relaxed(&retry, sh_os_now_coarse_ns() + SH_HELPER_RETRY_NS);
            break;
        }
        sh_store_release(&count, now + 1);
    }
    await_recruits(now);
}

void sh_gang_recruit(unsigned wanted)
{
    if (sh_load_relaxed(&count) >= wanted || !may_recruit() ||
        sh_exchange_seq_cst(&recruiting, true))
        return;
    recruit(wanted);
    sh_store_seq_cst(&recruiting, false);
}

void sh_gang_open(sh_gang_job *what, void *context, unsigned wanted)
{
    job = what;
    job_context = context;
    sh_store_relaxed(&places, 0u);
    most = wanted < SH_GANG_MAX ? wanted : SH_GANG_MAX - 1;
    sh_store_release(&doors, OPEN);
    sh_add_seq_cst(&call, 1u);
    if (wanted)
        sh_os_wake(&call, wanted);
}

void sh_gang_close(void)
{
    uint32_t inside = sh_and_seq_cst(&doors, ~OPEN) & ~OPEN;
    for (unsigned i = 0; inside && i < SPINS; i++) {
        sh_cpu_pause();
        inside = sh_load_acquire(&doors);
    }
    while ((inside = sh_load_acquire(&doors)))
        sh_os_wait(&doors, inside, 0);
}

void sh_gang_end(void)
{
    if (!sh_load_relaxed(&count))
        return;
    /* One at a time; and nobody makes any meanwhile. */
    while (sh_exchange_seq_cst(&recruiting, true))
        sh_os_yield();
    sh_store_seq_cst(&ending, true);
    sh_add_seq_cst(&call, 1u);
    sh_os_wake(&call, SH_GANG_MAX);
    for (unsigned left = sh_load_acquire(&count); left;) {
        sh_helper_join(&helpers[--left]);
        sh_store_relaxed(&count, left);
    }
    sh_store_seq_cst(&ending, false);
    sh_store_seq_cst(&recruiting, false);
}

void sh_gang_fork_child(void)
{
    sh_store_relaxed(&count, 0u);
    sh_store_relaxed(&retry, 0);
    sh_store_relaxed(&recruiting, false);
    sh_store_relaxed(&ending, false);
    sh_store_relaxed(&doors, 0u);
}
