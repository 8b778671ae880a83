/* SPDX-License-Identifier: MIT */
/*
 * fork in a threaded program: afterwards parent and child allocate and collect.
 *
 * The child has one thread, and memory as it was at the fork, with whatever locks the
 * others held. So the forking thread takes all of ours first, in the order of rank:
 *
 *      prepare   the C library's list of streams
 *                GC mutex (shared: no collection is under way or can begin)
 *                (none of us holds the loader's lock)
 *                fork lock, registry, roots, the heap's, metadata memory
 *      parent    gives them back in the reverse order
 *      child     makes them free, forgets the other threads, and lets the heap take
 *                over what these left behind
 *
 * From the fork lock on it is in a critical section; nobody stops it before that ends,
 * for no collection is under way. The exception is a thread that forks while it
 * collects itself, between gc_collect_start and _end: the GC mutex and the registry's
 * lock are its own already, and stay so on both sides.
 *
 * The list of streams fork itself takes after the handlers, whose malloc, it believes, is
 * the C library's and locked later still. Who has it (fflush of all streams) may wait for a
 * stream whose reader waits in malloc for a lock of ours. So it comes first.
 *
 * Handlers run last registered first in prepare, and the other way round afterwards. So
 * ours are registered as early as can be, at the first registration of a thread (the
 * first allocation, before most constructors) or by our constructor, and others'
 * handlers, which may allocate, find the heap unlocked.
 *
 * Locks: all.
 */
#include "threads/fork.h"

#include <pthread.h>
#include <stdbool.h>

#include "lib/check.h"
#include "lib/lock.h"
#include "lib/meta.h"
#include "lib/os_thread.h"
#include "threads/gc_mutex.h"
#include "threads/registry.h"
#include "threads/static_roots.h"
#include "threads/stop.h"

static struct sh_lock fork_lock = SH_LOCK_INIT(SH_RANK_FORK);

/* Of the forking thread; under the fork lock, or while it collects. */
static bool collects, on_initial_stack;

static void prepare(void)
{
    sh_os_streams_lock();
    sh_gc_mutex_fork_prepare();
    bool collecting = sh_gc_mutex_is_collecting();
    if (!collecting)
        sh_roots_fork_prepare();
    sh_critical_enter();
    if (!collecting) {
        sh_lock_acquire(&fork_lock);
        sh_lock_acquire(&sh_registry_lock);
    }
    collects = collecting;
    on_initial_stack = sh_os_on_initial_stack();
    sh_lock_acquire(&sh_roots_lock);
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    if (heap->fork_prepare)
        heap->fork_prepare();
    sh_meta_fork_prepare();
}

static void parent(void)
{
    bool collecting = collects;
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    sh_meta_fork_parent();
    if (heap->fork_parent)
        heap->fork_parent();
    sh_lock_release(&sh_roots_lock);
    if (!collecting) {
        sh_lock_release(&sh_registry_lock);
        sh_lock_release(&fork_lock);
    }
    sh_critical_leave();
    sh_gc_mutex_fork_parent();
    sh_os_streams_unlock();
}

static void free_locks(void)
{
    sh_meta_fork_child();
    sh_lock_reset(&sh_roots_lock);
    if (!collects) {
        sh_lock_reset(&sh_registry_lock);
        sh_lock_reset(&fork_lock);
    }
}

static void child(void)
{
    if (!on_initial_stack)
        sh_os_initial_stack_gone();
    free_locks();
    sh_os_streams_reset();
    sh_gc_mutex_fork_child();
    sh_roots_fork_child();
    sh_stop_fork_child();
    struct sh_thread *gone = sh_registry_keep_self();
    if (gone)
        sh_os_loader_lock_lost();
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    if (heap->fork_child)
        heap->fork_child(gone != NULL);
    sh_registry_discard(gone);
    sh_critical_leave();
}

/* A program may register handlers that allocate before it allocates itself. */
__attribute__((constructor(101))) static void begin_early(void)
{
    sh_fork_begin();
}

void sh_fork_begin(void)
{
    static _Atomic bool begun;
    if (sh_load_relaxed(&begun) || sh_exchange_seq_cst(&begun, true))
        return;
    if (pthread_atfork(prepare, parent, child) != 0)
        sh_fatal("no memory for the fork handlers");
}
