/* SPDX-License-Identifier: MIT */
/* Writing the page map. All under SH_RANK_HEAP. */
#include "heaps/page_map.h"

#include "lib/check.h"
#include "lib/meta.h"

_Atomic(sh_map_entry *) sh_page_map_root[SH_ROOT_ENTRIES];

enum { DETAIL_BYTES = SH_SLOT_PAGES * sizeof(sh_map_entry) };

static sh_map_entry *slot_entry(uintptr_t address)
{
    sh_map_entry *leaf = sh_load_relaxed(&sh_page_map_root[address >> SH_LEAF_SHIFT]);
    return &leaf[(address >> SH_SLOT_SHIFT) & (SH_LEAF_ENTRIES - 1)];
}

static sh_map_entry *spare[3]; /* leaves in reserve */

static sh_map_entry *map_leaf(void)
{
    return sh_os_map(SH_LEAF_ENTRIES * sizeof(sh_map_entry), SH_PAGE_SIZE);
}

bool sh_page_map_reserve(void)
{
    for (size_t i = 0; i < sizeof spare / sizeof *spare; i++)
        if (!spare[i] && !(spare[i] = map_leaf()))
            return false;
    return true;
}

static sh_map_entry *new_leaf(void)
{
    sh_map_entry *leaf = map_leaf();
    for (size_t i = 0; !leaf && i < sizeof spare / sizeof *spare; i++) {
        leaf = spare[i];
        spare[i] = NULL;
    }
    return leaf;
}

bool sh_page_map_cover(uintptr_t start, size_t pages)
{
    uintptr_t last = start + pages * SH_PAGE_SIZE - 1;
    for (uintptr_t r = start >> SH_LEAF_SHIFT; r <= last >> SH_LEAF_SHIFT; r++) {
        if (sh_load_relaxed(&sh_page_map_root[r]))
            continue;
        sh_map_entry *leaf = new_leaf();
        if (!leaf)
            return false;
        /* Pairs with the dependent load of sh_page_map_lookup. */
        sh_store_release(&sh_page_map_root[r], leaf);
    }
    return true;
}

bool sh_page_map_split(uintptr_t address)
{
    if (address % SH_SLOT_BYTES == 0)
        return true;
    sh_map_entry *entry = slot_entry(address);
    uintptr_t whole = sh_load_relaxed(entry);
    if (whole & SH_ENTRY_DETAIL)
        return true;
    sh_map_entry *detail = sh_meta_alloc(DETAIL_BYTES);
    if (!detail)
        return false;
    for (size_t i = 0; i < SH_SLOT_PAGES; i++)
        sh_store_relaxed(&detail[i], whole);
    /* Pairs with the dependent load of sh_page_map_lookup. */
    sh_store_release(entry, (uintptr_t)detail | SH_ENTRY_DETAIL);
    return true;
}

static void set_whole(uintptr_t address, uintptr_t value)
{
    sh_map_entry *entry = slot_entry(address);
    uintptr_t old = sh_load_relaxed(entry);
    sh_store_release(entry, value);
    /* No live cell was in the slot, so nobody rightly reads the detail. */
    if (old & SH_ENTRY_DETAIL)
        sh_meta_free((void *)(old - SH_ENTRY_DETAIL), DETAIL_BYTES);
}

static void set_page(uintptr_t address, uintptr_t value)
{
    uintptr_t entry = sh_load_relaxed(slot_entry(address));
    SH_CHECK1(entry & SH_ENTRY_DETAIL);
    sh_map_entry *detail = (sh_map_entry *)(entry - SH_ENTRY_DETAIL);
    sh_store_release(&detail[(address >> SH_PAGE_SHIFT) & (SH_SLOT_PAGES - 1)], value);
}

void sh_page_map_set(uintptr_t start, size_t pages, struct sh_span *span)
{
    uintptr_t end = start + pages * SH_PAGE_SIZE;
    for (uintptr_t at = start; at < end;) {
        if (at % SH_SLOT_BYTES == 0 && end - at >= SH_SLOT_BYTES) {
            set_whole(at, (uintptr_t)span);
            at += SH_SLOT_BYTES;
        } else {
            set_page(at, (uintptr_t)span);
            at += SH_PAGE_SIZE;
        }
    }
}
