/* SPDX-License-Identifier: MIT */
/*
 * The page map: from any address to its span, in two dependent loads.
 *
 *   root[address >> 31] --> leaf[(address >> 16) & 0x7fff] --> span
 *                                          | tagged: --> detail[(address >> 12) & 15]
 *
 * A slot of 64 KiB with one owner has a plain entry; where owners mix, a tagged one
 * leads to sixteen entries, one a page. Every page of every area has an entry: a span,
 * or a free run (heaps/run.h). Any 64-bit word may be looked up.
 *
 * Written under SH_RANK_HEAP; read by anyone without a lock: the entry of a page that
 * holds a live cell does not change while the cell lives. Leaves and details are never
 * unmapped.
 */
#ifndef SH_HEAPS_PAGE_MAP_H
#define SH_HEAPS_PAGE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"
#include "lib/atomic.h"
#include "lib/compiler.h"
#include "lib/os.h"

#define SH_SLOT_SHIFT 16
#define SH_SLOT_BYTES ((size_t)1 << SH_SLOT_SHIFT)
#define SH_SLOT_PAGES (SH_SLOT_BYTES / SH_PAGE_SIZE)
#define SH_LEAF_SHIFT 31
#define SH_LEAF_ENTRIES ((size_t)1 << (SH_LEAF_SHIFT - SH_SLOT_SHIFT))
#define SH_ROOT_ENTRIES ((size_t)1 << (SH_ADDRESS_BITS - SH_LEAF_SHIFT))

#define SH_ENTRY_DETAIL ((uintptr_t)1)

typedef _Atomic uintptr_t sh_map_entry;

extern _Atomic(sh_map_entry *) sh_page_map_root[SH_ROOT_ENTRIES];

/* The span (or free run) of the page of `address`, or NULL. */
SH_INLINE struct sh_span *sh_page_map_lookup(uintptr_t address)
{
    uintptr_t root_index = address >> SH_LEAF_SHIFT;
    if (SH_UNLIKELY(root_index >= SH_ROOT_ENTRIES))
        return NULL;
    sh_map_entry *leaf = sh_load_relaxed(&sh_page_map_root[root_index]);
    if (SH_UNLIKELY(!leaf))
        return NULL;
    uintptr_t entry =
        sh_load_relaxed(&leaf[(address >> SH_SLOT_SHIFT) & (SH_LEAF_ENTRIES - 1)]);
    if (SH_UNLIKELY(entry & SH_ENTRY_DETAIL)) {
        sh_map_entry *detail = (sh_map_entry *)(entry - SH_ENTRY_DETAIL);
        entry =
            sh_load_relaxed(&detail[(address >> SH_PAGE_SHIFT) & (SH_SLOT_PAGES - 1)]);
    }
    return (struct sh_span *)entry;
}

/* Makes room for entries of [start, start + pages); false: no memory. */
bool sh_page_map_cover(uintptr_t start, size_t pages);

/* Keeps memory in reserve for covering one range of up to 4 GiB; false: there is none. */
bool sh_page_map_reserve(void);

/* Makes sure that an owner may begin at the page of `address`; false: no memory. */
bool sh_page_map_split(uintptr_t address);

/* Sets the entries of the pages from `start` on. Their leaves are there, and where
 * they begin or end inside a slot, it was split. */
void sh_page_map_set(uintptr_t start, size_t pages, struct sh_span *span);

#endif /* SH_HEAPS_PAGE_MAP_H */
