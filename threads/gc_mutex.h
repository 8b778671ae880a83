/* SPDX-License-Identifier: MIT */
/*
 * The GC mutex, the one global lock of the mission: held shared by threads inside
 * gc_lock, alone by the thread that collects.
 *
 * Neither side is waited for in a critical section; who waits can be stopped.
 */
#ifndef SH_THREADS_GC_MUTEX_H
#define SH_THREADS_GC_MUTEX_H

#include <stdbool.h>

/* Shared: waits for a collection under way (unless the caller runs it). Nests through
 * the record's lock_depth. Unlock returns true when it was the thread's last; without
 * a lock it is fatal. */
void sh_gc_mutex_lock(void);
bool sh_gc_mutex_unlock(void);
bool sh_gc_mutex_is_locked(void);     /* by the calling thread, either way */
bool sh_gc_mutex_is_collecting(void); /* the calling thread is */

/* Alone: waits for gc_lock holders and collections, or (try) returns false rather than
 * wait for holders of gc_lock; `try` still waits for a collection under way and then
 * returns false, for it has done the work. */
void sh_gc_mutex_collect_begin(void);
bool sh_gc_mutex_collect_try(void);
void sh_gc_mutex_collect_end(void);

/*
 * The steps of collect_begin, for who must not wait where it tries (see
 * sh_world_stop_to_collect): look says what attempt would say now, and attempt never
 * waits; await returns when what was in the way has gone, perhaps for something else to
 * come.
 */
enum sh_gc_attempt {
    SH_GC_TAKEN,      /* the mutex is the caller's alone */
    SH_GC_COLLECTING, /* another thread collects */
    SH_GC_LOCKED      /* other threads are inside gc_lock */
};
enum sh_gc_attempt sh_gc_mutex_look(void);
enum sh_gc_attempt sh_gc_mutex_attempt(void);
void sh_gc_mutex_await(enum sh_gc_attempt obstacle);

/* The calling thread ends: its gc_lock, if any, is undone. */
void sh_gc_mutex_abandon(void);

/*
 * Around fork. Prepare waits for a collection under way, unless it is the caller's, and
 * keeps new ones from beginning; outside critical sections. In the child only what the
 * calling thread holds is left.
 */
void sh_gc_mutex_fork_prepare(void);
void sh_gc_mutex_fork_parent(void);
void sh_gc_mutex_fork_child(void);

#endif /* SH_THREADS_GC_MUTEX_H */
