/* SPDX-License-Identifier: MIT */
/*
 * Which cells have to do with weak references: a hash table from a cell's address to the
 * chain of links that lead to it (heaps/weak_link.h).
 *
 *   slots   | key | first |      key    the cell's address, hidden, and flags; 0: empty
 *           | key | first |      first  the newest link, hidden; 0: none leads there
 *              ...
 *
 * A hidden address is its complement, which no root scanner takes for a pointer. Slots
 * are probed one after another, and closed up when one goes, so that there are no graves.
 * At most three quarters of the slots are used; the table halves when less than an eighth
 * is. It lies in metadata memory.
 *
 * Lock: SH_RANK_WEAK. A slot stays where it is until the next sh_weak_reserve or
 * sh_weak_remove.
 */
#ifndef SH_HEAPS_WEAK_TABLE_H
#define SH_HEAPS_WEAK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/compiler.h"

/* In a slot's key. */
enum {
    SH_WEAK_HOOKED =
        1,            /* gc_weakref_mark was called: the program's hook is to be told */
    SH_WEAK_LINK = 2, /* the cell is itself a link that leads somewhere, or is queued */
    SH_WEAK_FLAGS = 15,
};

struct sh_weak_slot {
    uintptr_t key, first;
};

SH_INLINE uintptr_t sh_hide(const void *p)
{
    return ~(uintptr_t)p;
}

/* Of 0: NULL. */
SH_INLINE void *sh_reveal(uintptr_t hidden)
{
    return hidden ? (void *)~hidden : NULL;
}

/* NULL: there is none. */
struct sh_weak_slot *sh_weak_find(const void *cell);

/* Makes room for so many more; false: no memory. */
bool sh_weak_reserve(size_t more);

/* A slot of a cell that has none, without flags; there is room. */
struct sh_weak_slot *sh_weak_add(const void *cell);

void sh_weak_remove(struct sh_weak_slot *slot);

/* How many there are; also without the lock. */
size_t sh_weak_count(void);

/* All slots, empty ones too: [start, end). */
struct sh_weak_slot *sh_weak_slots(struct sh_weak_slot **end);

#endif /* SH_HEAPS_WEAK_TABLE_H */
