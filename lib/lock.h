/* SPDX-License-Identifier: MIT */
/*
 * Ranked mutexes.
 *
 * A thread takes locks in rising rank only; checks >= 2 enforce it. They are short and
 * never held while calling out, and taken only inside a critical section (see
 * threads/thread.h), so that a stopped thread holds none. Not recursive.
 */
#ifndef SH_LIB_LOCK_H
#define SH_LIB_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/check.h"

enum sh_rank {
    SH_RANK_FORK = 1, /* threads/fork.c: one fork at a time */
    SH_RANK_REGISTRY, /* threads/registry.c: the list of threads */
    SH_RANK_ROOTS,    /* threads/static_roots.c: root ranges */
    SH_RANK_SHARED,   /* heaps/cache.c: the shared cache */
    SH_RANK_CALLBACK, /* heaps/callback.c: callbacks queued */
    SH_RANK_HEAP,     /* heaps/run.c: areas, runs, page map, list of spans */
    SH_RANK_WEAK,     /* heaps/weak_link.c: links, and the table of them */
    SH_RANK_MARK,     /* heaps/mark_pool.c, span_walk.c: work that markers share */
    SH_RANK_META,     /* lib/meta.c: metadata memory */
    SH_RANK_COUNT
};

struct sh_lock {
    _Atomic uint32_t state; /* 0 free, 1 held, 2 held and waited for */
    uint32_t rank;
};

#define SH_LOCK_INIT(rank_)                                                            \
    {                                                                                  \
        .state = 0, .rank = (rank_)                                                    \
    }

void sh_lock_acquire(struct sh_lock *lock);
bool sh_lock_try(struct sh_lock *lock);
void sh_lock_release(struct sh_lock *lock);

/* In the child of a fork, of a lock that the forking thread held: it is free. */
void sh_lock_reset(struct sh_lock *lock);

/* Somebody holds it: all that can be said for nothing. */
SH_INLINE void sh_assert_held(struct sh_lock *lock)
{
    SH_CHECK2(sh_load_relaxed(&lock->state) != 0);
    (void)lock;
}

#endif /* SH_LIB_LOCK_H */
