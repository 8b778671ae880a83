/* SPDX-License-Identifier: MIT */
/*
 * Objects, by way of the ledger: whatever a scenario makes, verifies, resizes, frees or
 * drops, it does so here, and here the bugs are planted.
 *
 * The caller holds the object until the call returns, by a slot that no other thread uses
 * meanwhile, or on its stack: an entry holds nothing.
 */
#ifndef SH_HARNESS_OBJECT_H
#define SH_HARNESS_OBJECT_H

#include <stdbool.h>
#include <stddef.h>

#include <splitheap/gc.h>

#include "tests/harness/lane.h"
#include "tests/harness/ledger.h"

/* What an object is to be. */
struct wish {
    enum kind kind;
    size_t bytes;
    bool finaliser;
    bool typed; /* where it is scanned: its type says what it holds */
    unsigned links;
};

/* By chance; small where there is enough already. */
struct wish wish_any(struct random *random);

/* NULL: there is no memory, and there may be none. */
void *object_make(struct worker *worker, struct wish wish);

/* The entry of the object at `p`, which is held and so must be there. */
struct entry *object_entry(const void *p);

/* Is whole, and knows its size. */
void object_verify(struct entry *entry);

/* The same of one that is not held, which others may look at too. */
void object_look_at(struct entry *entry);

/* Frees it, by one function or the other. */
void object_free(struct worker *worker, struct entry *entry);

/* While the caller is inside gc_lock: it goes at the last gc_unlock. */
void object_free_locked(struct worker *worker, struct entry *entry);
void object_freed_by_unlock(struct entry *entry);

/* Nothing holds it after the caller's next step; its collected kind's. */
void object_drop(struct entry *entry);

/* Where it is afterwards. */
void *object_resize(struct worker *worker, struct entry *entry);

void object_mark_weak(struct entry *entry);

/* Gives it a finaliser, another one, or none. */
void object_change_finaliser(struct worker *worker, struct entry *entry);

/* Counts the lane's dropped objects again, and collects when they are too many. */
void object_audit(struct lane *lane);

/* Where malloc'd memory is not collected, what was dropped is freed by this. */
void object_free_dropped(struct lane *lane);

/* Collects, and counts. */
void collect(void);

/* How seldom is what would be one in n. */
size_t collect_once_in(size_t n);

/* Collects once in a while. */
struct random;
void collect_sometimes(struct random *random);

#endif /* SH_HARNESS_OBJECT_H */
