/* SPDX-License-Identifier: MIT */
/* From cells to links. See heaps/weak_table.h. */
#include "heaps/weak_table.h"

#include <string.h>

#include "lib/atomic.h"
#include "lib/bits.h"
#include "lib/check.h"
#include "lib/meta.h"

#define LEAST ((size_t)64)

/* All under the lock; the number of slots is a power of two, or 0. */
static struct sh_weak_slot *slots;
static size_t slot_count;
static unsigned shift;      /* 64 less the bits that number a slot */
static _Atomic size_t used; /* read without */

/* By the uppermost bits, which scatter what lies in a row evenly. */
static size_t home_of(uintptr_t key)
{
    return (size_t)((uint64_t)(key >> 4) * 0x9e3779b97f4a7c15u >> shift);
}

static uintptr_t key_of(const void *cell)
{
    return sh_hide(cell) & ~(uintptr_t)SH_WEAK_FLAGS;
}

static size_t after(size_t i)
{
    return (i + 1) & (slot_count - 1);
}

/* The slot of the key, or the empty one where it belongs. */
static struct sh_weak_slot *place_of(uintptr_t key)
{
    size_t i = home_of(key);
    while (slots[i].key && (slots[i].key & ~(uintptr_t)SH_WEAK_FLAGS) != key)
        i = after(i);
    return &slots[i];
}

struct sh_weak_slot *sh_weak_find(const void *cell)
{
    if (!sh_load_relaxed(&used))
        return NULL;
    struct sh_weak_slot *slot = place_of(key_of(cell));
    return slot->key ? slot : NULL;
}

static bool resize(size_t count)
{
    struct sh_weak_slot *old = slots, *fresh = sh_meta_alloc(count * sizeof *fresh);
    size_t old_count = slot_count;
    if (!fresh)
        return false;
    memset(fresh, 0, count * sizeof *fresh);
    slots = fresh;
    slot_count = count;
    shift = 64 - sh_ctz64(count);
    for (size_t i = 0; i < old_count; i++)
        if (old[i].key)
            *place_of(old[i].key & ~(uintptr_t)SH_WEAK_FLAGS) = old[i];
    if (old)
        sh_meta_free(old, old_count * sizeof *old);
    return true;
}

bool sh_weak_reserve(size_t more)
{
    size_t need = sh_load_relaxed(&used) + more, count = sh_max(slot_count, LEAST);
    while (need > count / 4 * 3)
        count *= 2;
    return count == slot_count || resize(count);
}

struct sh_weak_slot *sh_weak_add(const void *cell)
{
    SH_CHECK1(sh_load_relaxed(&used) < slot_count / 4 * 3);
    struct sh_weak_slot *slot = place_of(key_of(cell));
    SH_CHECK1(!slot->key);
    *slot = (struct sh_weak_slot){.key = key_of(cell)};
    sh_add_relaxed(&used, (size_t)1);
    return slot;
}

/* What lies behind and would be found no more moves up. */
void sh_weak_remove(struct sh_weak_slot *slot)
{
    size_t hole = (size_t)(slot - slots);
    for (size_t i = after(hole); slots[i].key; i = after(i)) {
        size_t way = (i - home_of(slots[i].key)) & (slot_count - 1);
        if (way < ((i - hole) & (slot_count - 1)))
            continue;
        slots[hole] = slots[i];
        hole = i;
    }
    slots[hole].key = 0;
    size_t left = sh_sub_relaxed(&used, (size_t)1) - 1;
    /* Without memory it stays as large as it is. */
    if (slot_count > LEAST && left < slot_count / 8)
        resize(slot_count / 2);
}

size_t sh_weak_count(void)
{
    return sh_load_relaxed(&used);
}

struct sh_weak_slot *sh_weak_slots(struct sh_weak_slot **end)
{
    *end = slots + slot_count;
    return slots;
}
