/* SPDX-License-Identifier: MIT */
/*
 * Who runs: the list of registered threads, how they come and go, and what the heap
 * wants to be told. Lock: SH_RANK_REGISTRY.
 */
#ifndef SH_THREADS_REGISTRY_H
#define SH_THREADS_REGISTRY_H

#include "lib/lock.h"
#include "threads/thread.h"

extern struct sh_lock sh_registry_lock;

/* What a heap registers, once, before the first thread does. */
struct sh_thread_hooks {
    /* In the thread, in a critical section, under the registry's lock (so that it does
     * not touch the heap while the world is stopped): it registers. 0 or ENOMEM. */
    int (*started)(struct sh_thread *self);
    /* In the thread, before anything else of its end: it may call out. */
    void (*leaving)(struct sh_thread *self);
    /* As `started`, before its record goes; and after, without the lock. */
    void (*ending)(struct sh_thread *self);
    void (*ended)(struct sh_thread *self);
    /* In the last thread that was registered, after all that; outside critical
     * sections. */
    void (*none_left)(void);
    /* Around fork, in the forking thread, in a critical section; prepare takes the
     * heap's locks in rank order, parent releases them, child makes them free and
     * takes over what the threads that are no more left behind. The registry then
     * holds only the forking thread (or none); `others`: it held more. */
    void (*fork_prepare)(void);
    void (*fork_parent)(void);
    void (*fork_child)(bool others);
    /* With the world stopped: whether the address lies in memory whose cells the heap
     * scans by itself. A coroutine's stack there is not scanned as a stack. NULL: no
     * address does. */
    bool (*holds)(uintptr_t address);
};
void sh_registry_set_hooks(const struct sh_thread_hooks *hooks);
const struct sh_thread_hooks *sh_registry_hooks(void); /* never NULL */

/*
 * The calling thread's record, registering it on the spot. NULL while it registers
 * (what that calls may allocate), after its last destructor round, or without memory.
 * Not to be called in a critical section.
 */
struct sh_thread *sh_thread_enter(void);

/*
 * Ends the calling thread's registration; `ended` says whether for good. Gives up a
 * gc_lock that the thread still holds. Not to be called in a critical section.
 */
void sh_thread_leave(bool ended);

/*
 * Fills in where the calling thread's stack is, of a record or of something that only
 * looks like one for sh_scan_self.
 */
void sh_thread_find_stack(struct sh_thread *self);

/* The same of a thread of which nothing can be found out. (handler) */
void sh_thread_forget_stack(struct sh_thread *record);

/* Takes the registry's lock to stop the world: after who waits for it, within reason. */
void sh_registry_lock_politely(void);

/* All registered threads, under the registry's lock or with the world stopped. */
struct sh_thread *sh_registry_first(void);

/* How many threads are registered, about; and whether there was ever more than one in
 * this process, since its fork if it came by one. */
size_t sh_registry_count(void);
bool sh_registry_ever_many(void);

/*
 * In the child of a fork, whose lock is free again: only the calling thread stays.
 * Returns the records of the others, linked by `next`; discard frees them.
 */
struct sh_thread *sh_registry_keep_self(void);
void sh_registry_discard(struct sh_thread *gone);

#endif /* SH_THREADS_REGISTRY_H */
