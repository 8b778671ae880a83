/* SPDX-License-Identifier: MIT */
/*
 * The mark map: what the marker has to know of an address, in two dependent loads.
 *
 *   root[address >> 31] --> slots[(address >> 16) & 0x7fff] = { base, reciprocal, marks,
 *                                                               granules, how }
 *
 * It says of each slot of 64 KiB what the page map and the header of the slot's span
 * would say in four loads of lines that lie far apart: 32 bytes for 64 KiB of heap, so
 * that those of a large heap stay in the processor's caches. It is made in each
 * collection when marking begins, and emptied when it ends; the heap's lock is held all
 * the time. Where several runs share a slot, where no run is, or where there was no memory
 * for the map, the page map is asked.
 */
#ifndef SH_HEAPS_MARK_MAP_H
#define SH_HEAPS_MARK_MAP_H

#include <stdint.h>

#include "heaps/page_map.h"
#include "heaps/span.h"

/* An item of cells to scan keeps the lowest bit. */
enum sh_slot_how {
    SH_SLOT_ASK,   /* the page map */
    SH_SLOT_NONE,  /* of one span, not of a collected kind */
    SH_SLOT_SCAN,  /* of one span */
    SH_SLOT_TYPED, /* the same, its type says what they hold */
    SH_SLOT_LEAF,  /* the same, not to be scanned */
};

struct sh_mark_slot {
    uintptr_t base; /* the span's */
    uint64_t reciprocal;
    _Atomic uint8_t *marks;
    uint32_t granules; /* of a cell; 0: one large object */
    uint32_t how;
};

extern struct sh_mark_slot *sh_mark_map_root[SH_ROOT_ENTRIES];

/* The slot of an address below 2^SH_ADDRESS_BITS; NULL: ask the page map. */
SH_INLINE const struct sh_mark_slot *sh_mark_map_lookup(uintptr_t address)
{
    const struct sh_mark_slot *slots = sh_mark_map_root[address >> SH_LEAF_SHIFT];
    if (SH_UNLIKELY(!slots))
        return NULL;
    return &slots[(address >> SH_SLOT_SHIFT) & (SH_LEAF_ENTRIES - 1)];
}

enum sh_slot_how sh_slot_how(const struct sh_span *span);

/* Makes room for the slots of [start, end), if there is memory. */
void sh_mark_map_cover(uintptr_t start, uintptr_t end);

/* Enters the slots that the span has for itself; and empties them. */
void sh_mark_map_enter(const struct sh_span *span);
void sh_mark_map_leave(const struct sh_span *span);

#endif /* SH_HEAPS_MARK_MAP_H */
