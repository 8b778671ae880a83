/* SPDX-License-Identifier: MIT */
/*
 * Where pointers to objects are kept: the slots, each of another kind of root. A place
 * is its thread's own, but for the shared slots, each of which has a lock.
 *
 *      of a thread   its stack, its thread-local storage
 *      of a lane     malloc'd memory; a range from gc_add_roots; memory that only the
 *                    program's own gc_collect names by gc_collect_root; collected
 *                    memory, which grows old
 *      shared        static data
 */
#ifndef SH_HARNESS_PLACE_H
#define SH_HARNESS_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kept_place { KEPT_MALLOCED, KEPT_ADDED, KEPT_NAMED, KEPT_COLLECTED, KEPT_PLACES };
enum { PLACE_STACK = KEPT_PLACES, PLACE_LOCAL, PLACES };

struct place {
    void **slots;
    size_t count;
};

#define STACK_SLOTS 24
#define LOCAL_SLOTS 8
#define KEPT_SLOTS 192
#define COLLECTED_SLOTS 5120 /* of pages of their own */
#define SHARED_SLOTS 1024

struct slot {
    _Atomic uint32_t busy;
    void *object;
};

extern struct slot shared_slots[SHARED_SLOTS];

/* Takes the slot, unless somebody has it. */
bool slot_try(struct slot *slot);
void slot_leave(struct slot *slot);

/* Makes the places of a lane, whose number says where they are. */
struct lane;
void places_make(struct lane *lane);
void places_remove(struct lane *lane);

/* The thread-local place of the calling thread. */
struct place place_local(void);

/* What holds its objects holds them no longer, for a collection; planted. */
void place_lose(struct place *place);

/* Names the slots of all lanes that nothing else leads to; in a collection. */
void places_name_roots(void);

#endif /* SH_HARNESS_PLACE_H */
