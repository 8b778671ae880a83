/* SPDX-License-Identifier: MIT */
/* Helpers. See threads/helper.h. */
#include "threads/helper.h"

#include <errno.h>

#include "lib/atomic.h"
#include "lib/compiler.h"
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

int sh_helper_start_large(struct sh_helper *helper, void (*work)(void))
{
    return start(helper, work, true);
}

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
