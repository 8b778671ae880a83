/* SPDX-License-Identifier: MIT */
/*
 * Roots that belong to no thread: writable segments of the loaded objects, and ranges
 * that the program added. Lock: SH_RANK_ROOTS.
 */
#ifndef SH_THREADS_STATIC_ROOTS_H
#define SH_THREADS_STATIC_ROOTS_H

#include <stdbool.h>

#include "lib/lock.h"
#include "threads/stop.h"

extern struct sh_lock sh_roots_lock;

/*
 * Stops the world at a point where no other thread can be changing the list of loaded
 * objects, and takes a snapshot of it: see static_roots.c. As sh_world_stop.
 */
void sh_world_stop_with_roots(void);

/*
 * sh_gc_mutex_collect_begin (wait) or _try, sh_critical_enter and the above, in the
 * one order in which nobody who waits for the GC mutex with the loader's lock held can
 * be waited for. Returns in a critical section, or false as _try does, or because a
 * thread could not be stopped (see sh_world_try_stop), or (rest) because that was not
 * long ago, or because `wanted`, unless it is NULL, said so when the mutex was had. What
 * undoes it is sh_world_resume, sh_critical_leave, sh_gc_mutex_collect_end.
 */
bool sh_world_stop_to_collect(bool wait, bool rest, bool (*wanted)(void));

/*
 * With the world stopped, after all threads' own, the collector's included: every static
 * range, less what was excluded, and the announced stacks that no thread is on. Under
 * SH_RANK_ROOTS: for as long as that is held nobody takes one back.
 */
void sh_scan_static_roots(sh_range_fn *visit, void *context);

/* A critical section that holds SH_RANK_ROOTS. */
void sh_roots_enter(void);
void sh_roots_leave(void);

int sh_roots_add(void *start, void *end);    /* 0, EINVAL, ENOMEM */
int sh_roots_remove(void *start, void *end); /* 0, ENOENT */

/* Keeps [start, end), which lies in one object's data segment (a table of ours), out of
 * the scan of segments. For a fixed few, of each once, early. */
void sh_roots_exclude(const void *start, const void *end);

/* Excludes the lists of ranges themselves: where one ends an object may begin. Once, early. */
void sh_roots_init(void);

/* Returns what was set before. */
bool sh_roots_scan_segments(bool on);

/*
 * Around fork, the GC mutex being held shared: prepare waits until no thread of ours
 * holds the loader's lock, which nobody would release in the child.
 */
void sh_roots_fork_prepare(void);
void sh_roots_fork_child(void);

#endif /* SH_THREADS_STATIC_ROOTS_H */
