/* SPDX-License-Identifier: MIT */
/*
 * The life of a thread, as far as it is one thread's own affair: its thread-local
 * words, and how it is told that it ends.
 *
 * A value of a pthread key makes the C library call a destructor when the thread
 * returns from its start routine, calls pthread_exit or is cancelled, whoever created
 * it. Other keys' destructors free memory, so ours puts itself off, setting its value
 * again, to the last round. The value counts the rounds:
 *
 *      registered: 1 --round 1--> 2 --round 2--> 3 --round 3--> 4 --round 4--> leave
 *
 * A thread that registers in a destructor, having first allocated there, may run out
 * of rounds before it leaves. Its record is then found at the next stop, when the
 * kernel knows no such thread: see threads/stop.c.
 *
 * Locks: that of the registry, to make the key. Any thread.
 */
#include "threads/thread.h"

#include <errno.h>
#include <limits.h>

#include "lib/check.h"
#include "threads/life.h"
#include "threads/registry.h"

SH_TLS struct sh_thread_tls sh_tls;

static pthread_key_t key;
static _Atomic bool key_made;

static void thread_ends(void *value)
{
    uintptr_t round = (uintptr_t)value;
    if (round < SH_LIFE_ROUNDS && pthread_setspecific(key, (void *)(round + 1)) == 0)
        return;
    sh_thread_leave(true);
}

/* pthread_key_create allocates nothing. The release pairs with the acquire above it. */
static int make_key(void)
{
    if (sh_load_acquire(&key_made))
        return 0;
    int error = 0;
    sh_critical_enter();
    sh_lock_acquire(&sh_registry_lock);
    if (!sh_load_relaxed(&key_made)) {
        error = pthread_key_create(&key, thread_ends);
        if (error == 0)
            sh_store_release(&key_made, true);
    }
    sh_lock_release(&sh_registry_lock);
    sh_critical_leave();
    return error;
}

int sh_life_begin(void)
{
    int error = make_key();
    if (error || pthread_getspecific(key))
        return error;
    return pthread_setspecific(key, (void *)1);
}
