/* SPDX-License-Identifier: MIT */
/* Helpers. See threads/helper.h. */
#include "threads/helper.h"

#include <errno.h>

#include "lib/os.h"
#include "threads/registry.h"
#include "threads/strangers.h"

static _Atomic bool delicate; /* the child of a fork with other threads */

bool sh_helper_is_possible(void)
{
    return !sh_load_relaxed(&delicate) || sh_registry_ever_many();
}

bool sh_helper_may_be_made_here(void)
{
    struct sh_thread *self = sh_tls.self;
    return self && !self->collecting && sh_tls.critical == 0 &&
           sh_tls.phase == SH_PHASE_OPEN;
}

static void run(struct sh_os_helper *os)
{
    struct sh_helper *helper = (struct sh_helper *)os; /* its first member */
    sh_tls.phase = SH_PHASE_ENDED;
    sh_critical_enter();
    sh_strangers_ours_begin();
    while (sh_helper_state(helper) == SH_HELPER_STARTING)
        sh_os_wait(&helper->state, SH_HELPER_STARTING, 0);
    helper->work();
    sh_strangers_ours_end();
    sh_critical_leave();
}

static int start(struct sh_helper *helper, void (*work)(void), bool large)
{
    int saved = errno;
    helper->work = work;
    int error = sh_os_helper_start(&helper->os, run, large);
    errno = saved;
    return error;
}

int sh_helper_start(struct sh_helper *helper, void (*work)(void))
{
    return start(helper, work, false);
}

/* ---- Sleepers ---- */

int sh_helper_start_sleeper(struct sh_helper *helper, void (*work)(void), bool large)
{
    uint32_t from = sh_helper_state(helper);
    if ((from != SH_HELPER_NONE && from != SH_HELPER_GONE) ||
        !sh_cas_seq_cst(&helper->state, &from, SH_HELPER_STARTING))
        return EBUSY;
    if (from == SH_HELPER_GONE)
        sh_helper_join(helper);
    int error = start(helper, work, large);
    sh_store_seq_cst(&helper->state, error ? SH_HELPER_NONE : SH_HELPER_AWAKE);
    sh_os_wake(&helper->state, 1);
    return error;
}

void sh_helper_sleep(struct sh_helper *helper, bool (*wanted)(void))
{
    uint32_t awake = SH_HELPER_AWAKE, asleep = SH_HELPER_ASLEEP;
    if (!sh_cas_seq_cst(&helper->state, &awake, SH_HELPER_ASLEEP))
        return;
    if (wanted()) {
        sh_cas_seq_cst(&helper->state, &asleep, SH_HELPER_AWAKE);
        return;
    }
    while (sh_helper_state(helper) == SH_HELPER_ASLEEP)
        sh_os_wait(&helper->state, SH_HELPER_ASLEEP, 0);
}

void sh_helper_doze(struct sh_helper *helper, uint64_t ns)
{
    if (ns && sh_load_relaxed(&helper->state) == SH_HELPER_AWAKE)
        sh_os_wait(&helper->state, SH_HELPER_AWAKE, ns);
}

bool sh_helper_ring(struct sh_helper *helper)
{
    uint32_t asleep = SH_HELPER_ASLEEP;
    if (!sh_cas_seq_cst(&helper->state, &asleep, SH_HELPER_AWAKE))
        return false;
    sh_os_wake(&helper->state, 1);
    return true;
}

void sh_helper_end(struct sh_helper *helper, bool itself)
{
    uint32_t now = sh_helper_state(helper);
    uint32_t ending = itself ? SH_HELPER_GONE : SH_HELPER_ENDING;
    do {
        if (now != SH_HELPER_AWAKE && now != SH_HELPER_ASLEEP)
            return;
    } while (!sh_cas_seq_cst(&helper->state, &now, ending));
    if (itself)
        return;
    sh_os_wake(&helper->state, 1);
    sh_helper_join(helper);
    sh_store_seq_cst(&helper->state, SH_HELPER_NONE);
}

/* ---- As a thread of the heap's ---- */

/* As a thread of the program's between its start and its registration: see
 * threads/strangers.c. */
bool sh_helper_enter(void)
{
    sh_strangers_ours_end();
    sh_critical_leave();
    sh_tls.phase = SH_PHASE_OPEN;
    if (sh_thread_enter())
        return true;
    sh_helper_leave();
    return false;
}

void sh_helper_leave(void)
{
    sh_thread_leave(false);
    sh_tls.phase = SH_PHASE_ENDED;
    sh_critical_enter();
    sh_strangers_ours_begin();
}

void sh_helper_join(struct sh_helper *helper)
{
    sh_os_helper_join(&helper->os);
}

void sh_helper_fork_child(bool others)
{
    if (others || SH_TSAN) /* the thread sanitizer wants none in children at all */
        sh_store_relaxed(&delicate, true);
}
