/* SPDX-License-Identifier: MIT */
/*
 * Threads that run without being registered: made by a library that did not call our
 * pthread_create, or by hand. See threads/strangers.c.
 */
#ifndef SH_THREADS_STRANGERS_H
#define SH_THREADS_STRANGERS_H

#include <stdbool.h>

#include "threads/thread.h"

/*
 * A stranger's record. It is in no registry and the heap does not hear of it; it serves
 * threads/stop.c and scan.c alone, under the registry's lock.
 */
struct sh_stranger {
    struct sh_thread record; /* `next`: the next stranger's record, or NULL */
    _Atomic uint32_t tid;    /* as in the record; 0: not in use. Its handler reads it */
    _Atomic bool in_handler; /* of ours; its own */
    bool silent;             /* did not answer when it was last asked */
    bool listed;             /* the kernel named it in this look */
};

/* Whether the kernel has more threads than are known. Cheap. */
bool sh_strangers_suspected(void);

/* Before the first look, without the lock: gets the memory that most programs will do with.
 * In a critical section. */
void sh_strangers_prepare(void);

/* Asks the kernel for the threads; it may not say, and some may be left out for lack of
 * memory. */
enum sh_strangers_told {
    SH_STRANGERS_TOLD,
    SH_STRANGERS_UNTOLD,
    SH_STRANGERS_NO_MEMORY
};
enum sh_strangers_told sh_strangers_look(void);

/* As of the last look. */
struct sh_stranger *sh_strangers_first(void);
struct sh_stranger *sh_strangers_next(const struct sh_stranger *stranger);

/* The record of the calling thread, whose number is `tid`; NULL: it has none. Without the
 * lock. (handler) */
struct sh_stranger *sh_strangers_me(uint32_t tid);

/*
 * The calling thread is one of the library's own, that neither holds collected pointers
 * outside of what is scanned, nor is to be stopped; until ours_end. The rest is counted
 * as strangers that do not answer: slower, not wrong.
 */
void sh_strangers_ours_begin(void);
void sh_strangers_ours_end(void);

/* The calling thread was registered, and is about to end for good: it holds nothing. */
void sh_strangers_leaving(void);

/* In the child of a fork. */
void sh_strangers_fork_child(void);

#endif /* SH_THREADS_STRANGERS_H */
