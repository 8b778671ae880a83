/* SPDX-License-Identifier: MIT */
/* The mark map. See heaps/mark_map.h. */
#include "heaps/mark_map.h"

struct sh_mark_slot *sh_mark_map_root[SH_ROOT_ENTRIES];

#define SLOTS_BYTES (SH_LEAF_ENTRIES * sizeof(struct sh_mark_slot))

void sh_mark_map_cover(uintptr_t start, uintptr_t end)
{
    for (uintptr_t r = start >> SH_LEAF_SHIFT; r <= (end - 1) >> SH_LEAF_SHIFT; r++)
        if (!sh_mark_map_root[r])
            sh_mark_map_root[r] = sh_os_map(SLOTS_BYTES, SH_PAGE_SIZE);
}

enum sh_slot_how sh_slot_how(const struct sh_span *span)
{
    switch (span->kind) {
    case SH_KIND_SCAN:
        return SH_SLOT_SCAN;
    case SH_KIND_TYPED:
        return SH_SLOT_TYPED;
    case SH_KIND_LEAF:
        return SH_SLOT_LEAF;
    default:
        return SH_SLOT_NONE;
    }
}

static void set(const struct sh_span *span, const struct sh_mark_slot *slot)
{
    uintptr_t end = sh_round_down(sh_span_end(span), SH_SLOT_BYTES);
    uintptr_t at = sh_round_up(span->base, SH_SLOT_BYTES);
    for (; at < end; at += SH_SLOT_BYTES) {
        struct sh_mark_slot *slots = sh_mark_map_root[at >> SH_LEAF_SHIFT];
        if (slots)
            slots[(at >> SH_SLOT_SHIFT) & (SH_LEAF_ENTRIES - 1)] = *slot;
    }
}

/* In one that is pinned users' areas lie, whose spans have slots of their own. */
void sh_mark_map_enter(const struct sh_span *span)
{
    bool small = span->state == SH_SPAN_SMALL;
    struct sh_mark_slot slot = {.base = span->base,
        .reciprocal = span->reciprocal,
        .marks = span->marks,
        .granules = small ? (uint32_t)(span->cell_size / SH_GRANULE) : 0,
        .how = sh_slot_how(span)};
    if (!span->pinned)
        set(span, &slot);
}

void sh_mark_map_leave(const struct sh_span *span)
{
    static const struct sh_mark_slot ask = {.how = SH_SLOT_ASK};
    set(span, &ask);
}
