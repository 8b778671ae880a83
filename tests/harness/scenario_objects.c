/* SPDX-License-Identifier: MIT */
/* Scenarios on single objects: in the thread's own slots and in those of all threads. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "tests/harness/backend.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

/* ---- Slots ---- */

/* Frees it, or drops it where it can be; clears the slot. */
static void let_go(struct worker *worker, void **slot, bool drop)
{
    struct entry *entry = object_entry(*slot);
    if (entry->in_graph) {
        graph_let_go(worker, entry, drop);
    } else if (drop && entry->kind != EXPLICIT) {
        object_drop(entry);
    } else {
        object_free(worker, entry);
    }
    *slot = NULL;
}

void slot_verify(void *p)
{
    if (!p)
        return;
    struct entry *entry = object_entry(p);
    if (entry->in_graph)
        graph_verify(entry);
    else
        object_verify(entry);
}

/* What a pointer in another slot held, it holds from here on. */
static void hand_over(struct worker *worker, void **slot)
{
    struct slot *shared = &shared_slots[random_below(&worker->random, SHARED_SLOTS)];
    if (!slot_try(shared))
        return;
    if (!shared->object) {
        shared->object = *slot;
        *slot = NULL;
    }
    slot_leave(shared);
}

static void use_full(struct worker *worker, void **slot)
{
    struct entry *entry = object_entry(*slot);
    slot_verify(*slot);
    switch (random_below(&worker->random, 10)) {
    case 0:
    case 1:
        let_go(worker, slot, false);
        break;
    case 2:
    case 3:
        let_go(worker, slot, true);
        break;
    case 4:
    case 5:
        if (entry->in_graph)
            graph_grow(worker, entry);
        else
            *slot = object_resize(worker, entry);
        break;
    case 6:
        object_mark_weak(entry);
        break;
    case 7:
        hand_over(worker, slot);
        break;
    case 8:
        object_change_finaliser(worker, entry);
        break;
    default:
        break;
    }
}

void own_slot_use(struct worker *worker, void **slot)
{
    if (*slot)
        use_full(worker, slot);
    else
        *slot = object_make(worker, wish_any(&worker->random));
}

static void **any_slot(struct worker *worker)
{
    struct place *place = &worker->places[random_below(&worker->random, PLACES)];
    return &place->slots[random_below(&worker->random, place->count)];
}

void run_own(struct worker *worker)
{
    void **slot = any_slot(worker);
    own_slot_use(worker, slot);
    if (*slot)
        plant_lose_write(slot);
}

void run_shared(struct worker *worker)
{
    struct slot *slot = &shared_slots[random_below(&worker->random, SHARED_SLOTS)];
    if (!slot_try(slot))
        return;
    own_slot_use(worker, &slot->object);
    slot_leave(slot);
}

void places_finish(struct worker *worker, struct place *place, bool drop)
{
    for (size_t i = 0; i < place->count; i++) {
        if (place->slots[i])
            let_go(worker, &place->slots[i], drop);
        if (i % 64 == 63)
            object_audit(worker->lane);
    }
}

void shared_finish(struct worker *worker, bool drop)
{
    for (size_t i = 0; i < SHARED_SLOTS; i++)
        if (shared_slots[i].object)
            let_go(worker, &shared_slots[i].object, drop);
}

void run_graph(struct worker *worker)
{
    void **slot = any_slot(worker);
    if (*slot)
        use_full(worker, slot);
    else
        *slot = graph_make(worker);
}

/* ---- Many at once ---- */

#define BURST 200

void run_burst(struct worker *worker)
{
    struct wish wish = wish_any(&worker->random);
    void *objects[BURST];
    size_t count = 1 + random_below(&worker->random, BURST);
    wish.bytes = 1 + wish.bytes % 2000;
    for (size_t i = 0; i < count; i++)
        objects[i] = object_make(worker, wish);
    size_t first = random_below(&worker->random, count);
    size_t step = random_below(&worker->random, 2) ? 1 : count - 1;
    for (size_t i = 0, at = first; i < count; i++, at = (at + step) % count)
        if (objects[at]) {
            object_verify(object_entry(objects[at]));
            let_go(worker, &objects[at], random_once_in(&worker->random, 8));
        }
}

/* ---- Where something ends ---- */

static void expect_null(void *p, const char *what)
{
    if (p)
        fail("edges", NULL, "%s gave %p", what, p);
}

static void expect_refusal(void *p, const char *what)
{
    expect_null(p, what);
    if (errno != ENOMEM)
        fail("edges", NULL, "%s set errno to %d", what, errno);
    errno = 0;
}

static void use_library_edges(void)
{
    static char nobody[16];
    expect_null(backend->gc_alloc(0, 0), "gc_alloc(0)");
    backend->gc_free(NULL);
    if (backend->gc_nbytes(NULL) || backend->gc_nbytes(nobody) ||
        backend->gc_nbytes((void *)UINTPTR_MAX))
        fail("edges", NULL, "gc_nbytes knows what is no object");
    errno = 0;
    expect_refusal(backend->gc_alloc(SIZE_MAX, 0), "gc_alloc(SIZE_MAX)");
    expect_refusal(
        backend->gc_alloc((size_t)1 << 47, GC_ALLOC_FLAG_LEAF), "gc_alloc(2^47)");
}

/* The compiler knows malloc, and must not see these sizes. */
static volatile size_t too_much = SIZE_MAX / 2 + 1;

static void use_malloc_edges(void)
{
    void *out = &out;
    errno = 0;
    expect_refusal(backend->malloc(too_much), "malloc(SIZE_MAX / 2 + 1)");
    expect_refusal(backend->calloc(too_much, 4), "calloc(SIZE_MAX / 2 + 1, 4)");
    expect_refusal(
        backend->reallocarray(NULL, too_much, 2), "reallocarray, overflowing");
    if (backend->posix_memalign(&out, 24, 8) != EINVAL || out != &out)
        fail("edges", NULL, "posix_memalign takes an alignment of 24");
}

void run_edges(struct worker *worker)
{
    void *zero = backend->malloc(0), *other = backend->malloc(0);
    if (zero == other && zero)
        fail("edges", NULL, "malloc(0) gave %p twice", zero);
    backend->free(zero);
    backend->free(other);
    backend->free(NULL);
    if (backend->malloc_usable_size(NULL))
        fail("edges", NULL, "malloc_usable_size(NULL) is not 0");
    if (SH_INTERPOSE || backend->collects) /* a sanitizer's malloc makes a fuss */
        use_malloc_edges();
    errno = 0;
    if (backend->collects)
        use_library_edges();
    (void)worker;
}
