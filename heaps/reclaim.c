/* SPDX-License-Identifier: MIT */
/*
 * What lies empty in caches. See heaps/reclaim.h.
 *
 * A thread that ends leaves its cache whole for the next one. If none comes within a
 * decay, the cache is dissolved: its magazines are emptied, and its spans become the
 * shared cache's, which gives back the empty ones.
 *
 * What is freed in the shared cache's spans comes to its inbox, and stays there until
 * somebody looks: a thread whose bin runs dry, on its way to adopt a span, or the
 * functions here.
 */
#include "heaps/reclaim.h"

#include "heaps/background.h"
#include "heaps/cache.h"
#include "heaps/purge.h"
#include "lib/options.h"

static _Atomic uint64_t due; /* when to look again */

static uint64_t decay_ns(void)
{
    return (uint64_t)sh_options.decay_ms * 1000000;
}

bool sh_reclaim_waits(void)
{
    return sh_load_seq_cst(&sh_shared_cache.inbox) || sh_cache_any_idle();
}

uint64_t sh_reclaim_by_time(void)
{
    if (!sh_reclaim_waits())
        return SH_PURGE_NEVER;
    uint64_t now = sh_purge_clock(), decay = decay_ns();
    sh_cache_give_back(sh_cache_dissolve_idle_by(now > decay ? now - decay : 0));
    return sh_cache_any_idle() ? now + decay / 4 : SH_PURGE_NEVER;
}

void sh_reclaim_tick(void)
{
    if (sh_options.decay_ms < 0 || sh_background_runs() || !sh_reclaim_waits())
        return;
    uint64_t now = sh_purge_clock();
    if (now <= sh_load_relaxed(&due))
        return;
    sh_store_relaxed(&due, now + decay_ns() / 4);
    sh_reclaim_by_time();
}
