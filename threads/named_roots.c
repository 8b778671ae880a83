/* SPDX-License-Identifier: MIT */
/*
 * Roots that the program names one by one. See threads/named_roots.h.
 *
 * Slots are in a table by their address, open and linearly probed, at most half full and,
 * beyond the first size, at least an eighth: they come and go in any order, thousands of
 * them. A slot that was added twice is there twice.
 *
 * The lock is held while callbacks run, so that none is called after its removal.
 */
#include "threads/named_roots.h"

#include <errno.h>
#include <string.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/meta.h"
#include "threads/static_roots.h"

/* ---- Slots ---- */

#define FEWEST ((size_t)64)

static struct {
    void ***at; /* NULL: none was ever added */
    size_t room, count;
} slots;

/* Where a search for the slot begins. */
static size_t home_of(void **slot)
{
    return (size_t)(((uintptr_t)slot >> 3) * 0x9e3779b97f4a7c15u >> 20) &
           (slots.room - 1);
}

static size_t after(size_t i)
{
    return (i + 1) & (slots.room - 1);
}

/* Of an entry that is free, or the slot's. */
static size_t find(void **slot)
{
    size_t i = home_of(slot);
    while (slots.at[i] && slots.at[i] != slot)
        i = after(i);
    return i;
}

static void put(void **slot)
{
    size_t i = home_of(slot);
    while (slots.at[i])
        i = after(i);
    slots.at[i] = slot;
}

/* False: no memory. */
static bool resize(size_t room)
{
    void ***old = slots.at;
    size_t old_room = slots.room;
    void ***at = sh_meta_alloc(room * sizeof *at);
    if (!at)
        return false;
    memset(at, 0, room * sizeof *at);
    slots.at = at;
    slots.room = room;
    for (size_t i = 0; i < old_room; i++)
        if (old[i])
            put(old[i]);
    if (old)
        sh_meta_free(old, old_room * sizeof *old);
    return true;
}

static int add_slot(void **slot)
{
    if (slots.count >= slots.room / 2 && !resize(sh_max(FEWEST, slots.room * 2)))
        return ENOMEM;
    put(slot);
    slots.count++;
    return 0;
}

int sh_root_slot_add(void **slot)
{
    if (!slot || (uintptr_t)slot % sizeof *slot)
        return EINVAL;
    sh_roots_enter();
    int error = add_slot(slot);
    sh_roots_leave();
    return error;
}

/* Entry i lies on the way from its slot's home to the free one. */
static bool is_reached_over(size_t free, size_t i)
{
    size_t mask = slots.room - 1;
    return ((i - home_of(slots.at[i])) & mask) >= ((i - free) & mask);
}

/* What was found by way of the entry moves up, so that it is found yet. */
static void clear(size_t free)
{
    for (size_t i = after(free); slots.at[i]; i = after(i)) {
        if (!is_reached_over(free, i))
            continue;
        slots.at[free] = slots.at[i];
        free = i;
    }
    slots.at[free] = NULL;
}

static int remove_slot(void **slot)
{
    size_t i = slots.room ? find(slot) : 0;
    if (!slots.room || !slots.at[i])
        return ENOENT;
    clear(i);
    slots.count--;
    /* Without memory for a smaller one it stays. */
    if (slots.room > FEWEST && slots.count < slots.room / 8)
        resize(slots.room / 2);
    return 0;
}

int sh_root_slot_remove(void **slot)
{
    sh_roots_enter();
    int error = remove_slot(slot);
    sh_roots_leave();
    return error;
}

/* ---- Callbacks ---- */

static struct callback {
    gc_root_callback_fn *function;
    void *context;
    struct callback *next;
} * callbacks;

int sh_root_callback_add(gc_root_callback_fn *function, void *context)
{
    if (!function)
        return EINVAL;
    sh_roots_enter();
    struct callback *callback = sh_meta_alloc(sizeof *callback);
    if (callback) {
        *callback = (struct callback){function, context, callbacks};
        callbacks = callback;
    }
    sh_roots_leave();
    return callback ? 0 : ENOMEM;
}

int sh_root_callback_remove(gc_root_callback_fn *function, void *context)
{
    struct callback **at = &callbacks, *found;
    sh_roots_enter();
    while ((found = *at) && (found->function != function || found->context != context))
        at = &found->next;
    if (found) {
        *at = found->next;
        sh_meta_free(found, sizeof *found);
    }
    sh_roots_leave();
    return found ? 0 : ENOENT;
}

/* ---- Scanning ---- */

void sh_scan_named_roots(sh_range_fn *visit, void *context, struct gc_marker *marker)
{
    sh_assert_held(&sh_roots_lock);
    for (size_t i = 0; i < slots.room; i++)
        if (slots.at[i])
            visit(context, slots.at[i], slots.at[i] + 1);
    for (struct callback *callback = callbacks; callback; callback = callback->next)
        callback->function(callback->context, marker);
}
