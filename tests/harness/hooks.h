/* SPDX-License-Identifier: MIT */
/*
 * What the library calls of the program: finalisers, the hooks of weak references, and
 * gc_collect, which is the harness's own and names roots of its own.
 */
#ifndef SH_HARNESS_HOOKS_H
#define SH_HARNESS_HOOKS_H

#include <setjmp.h>
#include <stdbool.h>

#include <splitheap/gc.h>

#include "tests/harness/ledger.h"

/* What the first word of an object with a finaliser points to, or of a typed one, whose
 * pointers follow it. */
const struct gc_type *hooks_type(bool typed, unsigned links);

/* While it is set, finalisers that the thread runs may leave by it, and clear it. */
extern _Thread_local jmp_buf *hooks_way_out;

/*
 * Gives the object that the caller holds a finaliser of its own, in place of the one that
 * it has, or takes it away. False: there was no memory, and all is as it was.
 */
bool hooks_set_finaliser(struct entry *entry);
void hooks_remove_finaliser(struct entry *entry);

/* gc_weakref_mark, which has no way to fail: without injected faults. */
void hooks_mark_weak(void *p);

/* Callbacks do nothing: in a child that has no ledger. */
void hooks_off(void);
bool hooks_are_off(void);

/* From here on finalisers bring nothing back, so that the end comes. */
void hooks_close(void);

#endif /* SH_HARNESS_HOOKS_H */
