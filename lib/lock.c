/* SPDX-License-Identifier: MIT */
/*
 * Ranked mutexes on one futex word.
 *
 *          acquire             another waits           release, waking one
 *   0 free ------> 1 held ------------------> 2 held and waited for ------> 0 free
 *
 * Who slept takes the lock as 2, for it cannot know whether others still sleep. Every
 * way of taking a lock is an acquire that pairs with the exchange in sh_lock_release.
 *
 * Any thread, in a critical section. errno stays as it was.
 */
#include "lib/lock.h"

#include <stddef.h>

#include "lib/compiler.h"
#include "lib/os.h"

enum { FREE, HELD, WAITED_FOR };

/* Looks at a held lock before sleeping: about what a short critical section takes. */
#define SPINS 40

/*
 * held[rank] is the lock of that rank that this thread holds, or NULL; kept with
 * checks >= 2 only. Ranks rise strictly, so one of each is all a thread can hold.
 */
static SH_TLS const struct sh_lock *held[SH_RANK_COUNT];

static void check_rank(const struct sh_lock *lock)
{
    if (SH_CHECKS < 2)
        return;
    SH_CHECK2(lock->rank > 0 && lock->rank < SH_RANK_COUNT);
    for (unsigned rank = lock->rank; rank < SH_RANK_COUNT; rank++) {
        if (held[rank])
            sh_fatal("lock of rank %u taken while holding one of rank %u",
                (unsigned)lock->rank, rank);
    }
}

static void note_taken(const struct sh_lock *lock)
{
    if (SH_CHECKS >= 2)
        held[lock->rank] = lock;
}

static void note_released(const struct sh_lock *lock)
{
    if (SH_CHECKS < 2)
        return;
    if (held[lock->rank] != lock)
        sh_fatal("lock of rank %u released by a thread that does not hold it",
            (unsigned)lock->rank);
    held[lock->rank] = NULL;
}

static bool take_free(struct sh_lock *lock)
{
    uint32_t seen = FREE;
    return sh_cas_acquire(&lock->state, &seen, HELD);
}

/* Others asleep mean that spinning would be long, and unfair to them. */
static bool take_spinning(struct sh_lock *lock)
{
    for (int i = 0; i < SPINS; i++) {
        uint32_t state = sh_load_relaxed(&lock->state);
        if (state == FREE && take_free(lock))
            return true;
        if (state == WAITED_FOR)
            return false;
        sh_cpu_pause();
    }
    return false;
}

static SH_NOINLINE void take_slowly(struct sh_lock *lock)
{
    if (take_spinning(lock))
        return;
    while (sh_exchange_acquire(&lock->state, WAITED_FOR) != FREE)
        sh_os_wait(&lock->state, WAITED_FOR, 0);
}

void sh_lock_acquire(struct sh_lock *lock)
{
    check_rank(lock);
    if (SH_UNLIKELY(!take_free(lock)))
        take_slowly(lock);
    note_taken(lock);
}

bool sh_lock_try(struct sh_lock *lock)
{
    check_rank(lock);
    if (!take_free(lock))
        return false;
    note_taken(lock);
    return true;
}

void sh_lock_release(struct sh_lock *lock)
{
    note_released(lock);
    uint32_t was = sh_exchange_release(&lock->state, FREE);
    SH_CHECK1(was != FREE);
    if (SH_UNLIKELY(was == WAITED_FOR))
        sh_os_wake(&lock->state, 1);
}

/* The child has no other thread yet: nothing to order, nobody to wake. */
void sh_lock_reset(struct sh_lock *lock)
{
    if (SH_CHECKS >= 2 && held[lock->rank] == lock)
        held[lock->rank] = NULL;
    sh_store_relaxed(&lock->state, FREE);
}
