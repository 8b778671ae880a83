/* SPDX-License-Identifier: MIT */
/* Where pointers to objects are kept. See place.h. */
#include "tests/harness/place.h"

#include <errno.h>

#include <splitheap/gc.h>

#include "tests/harness/backend.h"
#include "tests/harness/lane.h"
#include "tests/harness/report.h"
#include "tests/harness/settings.h"

struct slot shared_slots[SHARED_SLOTS];

static _Thread_local void *local_slots[LOCAL_SLOTS];

#define KEPT_BYTES (KEPT_SLOTS * sizeof(void *))

bool slot_try(struct slot *slot)
{
    return !sh_exchange_acquire(&slot->busy, 1u);
}

/* Pairs with slot_try. */
void slot_leave(struct slot *slot)
{
    sh_store_release(&slot->busy, 0u);
}

void places_make(struct lane *lane)
{
    void **malloced = backend->calloc(KEPT_SLOTS, sizeof(void *));
    void **added = own_map(KEPT_BYTES);
    void **collected = backend->gc_alloc(COLLECTED_SLOTS * sizeof(void *), 0);
    if (!malloced || !collected)
        give_up("no memory for the slots");
    lane->kept[KEPT_MALLOCED] = (struct place){malloced, KEPT_SLOTS};
    lane->kept[KEPT_ADDED] = (struct place){added, KEPT_SLOTS};
    lane->kept[KEPT_NAMED] = (struct place){own_map(KEPT_BYTES), KEPT_SLOTS};
    lane->kept[KEPT_COLLECTED] = (struct place){collected, COLLECTED_SLOTS};
    if (!backend->collects)
        return;
    if (gc_add_roots(added, added + KEPT_SLOTS) != 0 ||
        gc_add_root_slot((void **)&lane->kept[KEPT_COLLECTED].slots) != 0)
        give_up("no memory for the roots");
}

void places_remove(struct lane *lane)
{
    void **added = lane->kept[KEPT_ADDED].slots;
    if (backend->collects) {
        gc_remove_root_slot((void **)&lane->kept[KEPT_COLLECTED].slots);
        if (gc_remove_roots(added, added + KEPT_SLOTS) != 0)
            fail("roots", NULL, "gc_remove_roots does not know what was added");
        if (gc_remove_roots(added, added + KEPT_SLOTS) != ENOENT)
            fail("roots", NULL, "gc_remove_roots knows what was removed");
    }
    if (!backend->collects) /* gc_sweep_all was */
        backend->free(lane->kept[KEPT_COLLECTED].slots);
    backend->free(lane->kept[KEPT_MALLOCED].slots);
    own_unmap(added, KEPT_BYTES);
    own_unmap(lane->kept[KEPT_NAMED].slots, KEPT_BYTES);
    for (int i = 0; i < KEPT_PLACES; i++)
        lane->kept[i].count = 0;
}

struct place place_local(void)
{
    return (struct place){local_slots, LOCAL_SLOTS};
}

static void hide_all(struct place *place)
{
    for (size_t i = 0; i < place->count; i++)
        if (place->slots[i])
            place->slots[i] = (void *)hide(place->slots[i]);
}

void place_lose(struct place *place)
{
    hide_all(place);
    gc_collect();
    hide_all(place);
}

/* A lane without slots yet, or any more, has none to name. */
void places_name_roots(void)
{
    if (!lanes)
        return;
    for (unsigned i = 0; i <= settings.threads; i++) {
        struct place *named = &lanes[i].kept[KEPT_NAMED];
        if (named->count)
            gc_collect_root(named->slots, named->count);
    }
}
