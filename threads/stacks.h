/* SPDX-License-Identifier: MIT */
/* Stacks that the program made and announced: coroutines' and the like. */
#ifndef SH_THREADS_STACKS_H
#define SH_THREADS_STACKS_H

#include <stdint.h>

#include "threads/stop.h"

struct gc_stack;

struct gc_stack *sh_stacks_add(void *start, void *end); /* NULL: errno says why */
void sh_stacks_remove(struct gc_stack *stack);

/* `here`: where the calling thread stands; NULL: the thread's own stack. */
void sh_stacks_switch(struct gc_stack *from, struct gc_stack *to, uintptr_t here);

/* With the world stopped, in the collector. A thread stands at `sp`, on a stack that is
 * not its own: the end of it, if it was announced, else 0. */
uintptr_t sh_stacks_enter(uintptr_t sp);

/* After all calls of enter, under SH_RANK_ROOTS: the stacks that no thread is on. */
void sh_stacks_scan(sh_range_fn *visit, void *context);

#endif /* SH_THREADS_STACKS_H */
