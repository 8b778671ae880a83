/* SPDX-License-Identifier: MIT */
/* The mark map. See heaps/mark_map.h. */
#include "heaps/mark_map.h"

#include <string.h>

struct sh_mark_slot *sh_mark_map_root[SH_ROOT_ENTRIES];

#define SLOTS_BYTES (SH_LEAF_ENTRIES * sizeof(struct sh_mark_slot))

void sh_mark_map_cover(uintptr_t start, uintptr_t end)
{
    for (uintptr_t r = start >> SH_LEAF_SHIFT; r <= (end - 1) >> SH_LEAF_SHIFT; r++)
        if (!sh_mark_map_root[r])
            sh_mark_map_root[r] = sh_os_map(SLOTS_BYTES, SH_PAGE_SIZE);
}

void sh_mark_map_clear(uintptr_t start, uintptr_t end)
{
    uintptr_t last = (end - 1) >> SH_SLOT_SHIFT;
    for (uintptr_t at = start >> SH_SLOT_SHIFT; at <= last;) {
        uintptr_t next = sh_min(last + 1, (at | (SH_LEAF_ENTRIES - 1)) + 1);
        struct sh_mark_slot *slots =
            sh_mark_map_root[at >> (SH_LEAF_SHIFT - SH_SLOT_SHIFT)];
        if (slots)
            memset(&slots[at & (SH_LEAF_ENTRIES - 1)], 0, (next - at) * sizeof *slots);
        at = next;
    }
}

static uint32_t how(const struct sh_span *span)
{
    switch (span->kind) {
    case SH_KIND_SCAN:
        return SH_SLOT_SCAN;
    case SH_KIND_LEAF:
        return SH_SLOT_LEAF;
    default:
        return SH_SLOT_NONE;
    }
}

void sh_mark_map_enter(struct sh_span *span)
{
    bool small = span->state == SH_SPAN_SMALL;
    struct sh_mark_slot slot = {.base = span->base,
        .reciprocal = span->reciprocal,
        .marks = span->marks,
        .granules = small ? (uint32_t)(span->cell_size / SH_GRANULE) : 0,
        .how = how(span)};
    uintptr_t end =
        sh_round_down(span->base + span->pages * SH_PAGE_SIZE, SH_SLOT_BYTES);
    uintptr_t at = sh_round_up(span->base, SH_SLOT_BYTES);
    for (; at < end; at += SH_SLOT_BYTES) {
        struct sh_mark_slot *slots = sh_mark_map_root[at >> SH_LEAF_SHIFT];
        if (slots)
            slots[(at >> SH_SLOT_SHIFT) & (SH_LEAF_ENTRIES - 1)] = slot;
    }
}
