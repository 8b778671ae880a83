/* SPDX-License-Identifier: MIT */
/* The heap's part of a fork; called by threads/fork.c in a critical section. */
#include "heaps/fork.h"

#include "heaps/background.h"
#include "heaps/cache.h"
#include "heaps/callback.h"
#include "heaps/finalise.h"
#include "heaps/limit.h"
#include "heaps/minor.h"
#include "heaps/purge.h"
#include "heaps/run.h"
#include "heaps/weak_link.h"
#include "threads/gang.h"
#include "threads/helper.h"

void sh_heap_fork_prepare(void)
{
    sh_lock_acquire(&sh_shared_lock);
    sh_lock_acquire(&sh_callback_lock);
    sh_lock_acquire(&sh_heap_lock);
    sh_lock_acquire(&sh_weak_lock);
}

void sh_heap_fork_parent(void)
{
    sh_lock_release(&sh_weak_lock);
    sh_lock_release(&sh_heap_lock);
    sh_lock_release(&sh_callback_lock);
    sh_lock_release(&sh_shared_lock);
}

/* A thread that is no more may have taken pages that never became a span's. */
static void recount_limit(void)
{
    size_t pages = 0;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        pages += span->pages;
    sh_limit_recount(pages);
}

void sh_heap_fork_child(bool others)
{
    sh_lock_reset(&sh_weak_lock);
    sh_lock_reset(&sh_heap_lock);
    sh_lock_reset(&sh_callback_lock);
    sh_lock_reset(&sh_shared_lock);
    sh_helper_fork_child(others);
    sh_background_fork_child();
    sh_finalise_fork_child();
    sh_gang_fork_child();
    sh_purge_fork_child();
    sh_minor_fork_child();
    recount_limit();
    sh_cache_fork_child(sh_tls.self ? sh_tls.self->cache : NULL);
    sh_cache_give_back(sh_cache_detach_dead(&sh_shared_cache));
    if (sh_tls.self && sh_tls.self->cache)
        sh_cache_give_back(sh_cache_detach_dead(sh_tls.self->cache));
}
