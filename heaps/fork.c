/* SPDX-License-Identifier: MIT */
/* The heap's part of a fork; called by threads/fork.c in a critical section. */
#include "heaps/fork.h"

#include "heaps/background.h"
#include "heaps/cache.h"
#include "heaps/callback.h"
#include "heaps/purge.h"
#include "heaps/run.h"

void sh_heap_fork_prepare(void)
{
    sh_lock_acquire(&sh_shared_lock);
    sh_lock_acquire(&sh_callback_lock);
    sh_lock_acquire(&sh_heap_lock);
}

void sh_heap_fork_parent(void)
{
    sh_lock_release(&sh_heap_lock);
    sh_lock_release(&sh_callback_lock);
    sh_lock_release(&sh_shared_lock);
}

void sh_heap_fork_child(bool others)
{
    sh_lock_reset(&sh_heap_lock);
    sh_lock_reset(&sh_callback_lock);
    sh_lock_reset(&sh_shared_lock);
    sh_background_fork_child(others);
    sh_purge_fork_child();
    sh_cache_fork_child(sh_tls.self ? sh_tls.self->cache : NULL);
    sh_cache_give_back(sh_cache_detach_dead(&sh_shared_cache));
    if (sh_tls.self && sh_tls.self->cache)
        sh_cache_give_back(sh_cache_detach_dead(sh_tls.self->cache));
}
