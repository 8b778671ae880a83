/* SPDX-License-Identifier: MIT */
/* What the library calls of the program. See hooks.h. */
#include "tests/harness/hooks.h"

#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/shadow.h"

static _Atomic bool closed, off;

void hooks_off(void)
{
    sh_store_seq_cst(&off, true);
}

bool hooks_are_off(void)
{
    return sh_load_relaxed(&off);
}

void hooks_close(void)
{
    sh_store_seq_cst(&closed, true);
}

/*
 * What the callback is about: known, begun where the pointer says, and not held. NULL: in
 * the child of a fork it may be what another thread was about to make.
 */
static struct entry *told_of(void *p, const char *what)
{
    struct entry *entry = shadow_find(p);
    bool known = entry && entry_address(entry) == p;
    if (!known && !ledger_misses_callbacks())
        return NULL;
    if (!known)
        fail("callback", entry, "%s for %p, where no object begins", what, p);
    if (entry_state(entry) == LIVE)
        fail("callback", entry, "%s came for what is held", what);
    return entry;
}

/* ---- Finalisers ---- */

/* Where something is free to hold it: it lives, without a finaliser. */
static bool bring_back(struct entry *entry, struct random *random)
{
    struct slot *slot = &shared_slots[random_below(random, SHARED_SLOTS)];
    if (entry->in_graph || sh_load_relaxed(&closed) || !slot_try(slot))
        return false;
    uint64_t life = sh_load_relaxed(&entry->life);
    bool done = !slot->object && life_state(life) == DROPPED;
    if (done) {
        slot->object = entry_address(entry);
        done = entry_try_state(entry, life, LIVE);
        if (!done)
            slot->object = NULL;
    }
    if (done) { /* while nobody else can let it go */
        sh_add_relaxed(&counts.resurrected, (uint64_t)1);
        sh_add_relaxed(&counts.live_objects, (size_t)1);
        sh_add_relaxed(&counts.live_bytes, entry->usable);
    }
    slot_leave(slot);
    return done;
}

/* Finalisers may use the heap, and collect. */
static void use_heap(struct random *random)
{
    void *p = backend->gc_alloc(1 + random_below(random, 300), 0);
    if (random_once_in(random, collect_once_in(64)))
        collect();
    if (p)
        backend->gc_free(p);
}

_Thread_local jmp_buf *hooks_way_out;

static void jump_out(struct random *random)
{
    jmp_buf *way_out = hooks_way_out;
    if (!way_out || random_below(random, 4))
        return;
    hooks_way_out = NULL;
    longjmp(*way_out, 1);
}

static void verify_links(struct entry *entry)
{
    for (unsigned i = 0; i < entry->links; i++)
        if (entry->link[i])
            object_look_at(ledger_entry(entry->link[i]));
}

/* What gc_set_finaliser is given with an object: nothing else holds it. */
struct context {
    uint64_t check;
    uint64_t serial;
    uint32_t number; /* of the object's finalisers */
};

static uint64_t context_check(const struct context *context)
{
    return random_mix(context->serial ^ random_mix(context->number));
}

/* The last that was set, of this very object; NULL: the one of its type word. */
static void check_context(struct entry *entry, const struct context *context)
{
    uint32_t number = sh_load_relaxed(&entry->finalisers);
    if (!context && number)
        fail("callback", entry, "the type's finaliser came, which was replaced");
    if (!context)
        return;
    if (context->check != context_check(context))
        fail("callback", entry, "a finaliser's context is not whole");
    if (context->serial != entry_serial(entry))
        fail("callback", entry, "a finaliser came with the context of object %llu",
            (unsigned long long)context->serial);
    if (context->number != number)
        fail("callback", entry, "finaliser %u came, which was replaced by %u",
            context->number, number);
}

static void finalise_with(void *p, void *context)
{
    if (sh_load_relaxed(&off))
        return;
    struct entry *entry = told_of(p, "a finaliser");
    if (!entry)
        return;
    struct random random = random_of(entry_serial(entry), 0, 0);
    bool first = entry_take_pending(entry, PENDING_FINALISER);
    if (!ledger_misses_callbacks())
        return; /* another thread may have been about to change it */
    if (!first)
        fail("callback", entry, "a finaliser came twice, or was removed");
    check_context(entry, context);
    object_look_at(entry);
    verify_links(entry);
    sh_add_relaxed(&counts.finalised, (uint64_t)1);
    if (random_once_in(&random, 8) && bring_back(entry, &random))
        return;
    if (random_once_in(&random, 8))
        use_heap(&random);
    if (plant_now(PLANT_TWO_FINALISERS))
        finalise_with(p, context);
    jump_out(&random);
}

static void finalise(void *p)
{
    finalise_with(p, NULL);
}

static const struct gc_type untyped = {.finalise = finalise};

/* ---- Types ---- */

struct typed {
    struct gc_marked_type type;
    unsigned links; /* its pointers */
};

static void mark_typed(void *object, size_t n_bytes, struct gc_marker *marker)
{
    const struct typed *type = *(const struct typed **)object;
    (void)n_bytes;
    if (!plant_now(PLANT_BLIND_TYPE))
        gc_mark_words(marker, (void **)object + 1, type->links);
}

#define TYPED(links)                                                                   \
    {                                                                                  \
        {{finalise}, mark_typed}, links                                                \
    }

static const struct typed types[LINKS_MAX + 1] = {
    TYPED(0), TYPED(1), TYPED(2), TYPED(3), TYPED(4)};

const struct gc_type *hooks_type(bool typed, unsigned links)
{
    return typed ? &types[links].type.type : &untyped;
}

/* ---- Finalisers that are set ---- */

/* As the hook of the type word does it, while no number says otherwise. */
bool hooks_set_finaliser(struct entry *entry)
{
    struct context *context = gc_alloc(sizeof *context, GC_ALLOC_FLAG_LEAF);
    if (!context)
        return false;
    uint32_t number = sh_load_relaxed(&entry->finalisers);
    uint32_t pending = sh_or_seq_cst(&entry->pending, (uint32_t)PENDING_FINALISER);
    *context = (struct context){.serial = entry_serial(entry), .number = number + 1};
    context->check = context_check(context);
    sh_store_relaxed(&entry->finalisers, number + 1);
    if ((pending & PENDING_FINALISER) && plant_now(PLANT_OLD_FINALISER))
        return true;
    if (gc_set_finaliser(entry_address(entry), finalise_with, context) == 0)
        return true;
    sh_store_relaxed(&entry->finalisers, number);
    if (!(pending & PENDING_FINALISER))
        entry_take_pending(entry, PENDING_FINALISER);
    return false;
}

void hooks_remove_finaliser(struct entry *entry)
{
    sh_add_relaxed(&entry->finalisers, 1u);
    if (!plant_now(PLANT_KEPT_FINALISER) &&
        gc_set_finaliser(entry_address(entry), NULL, NULL) != 0)
        fail("finaliser", entry, "could not be rid of its finaliser");
    entry_take_pending(entry, PENDING_FINALISER);
}

/* ---- Weak references ---- */

void hooks_mark_weak(void *p)
{
    fault_hold();
    gc_weakref_mark(p);
    fault_release();
}

GC_PUBLIC void gc_weakref_about_to_be_freed(void *p)
{
    if (sh_load_relaxed(&off))
        return;
    struct entry *entry = told_of(p, "a weak reference's hook");
    if (!entry)
        return;
    if (!entry_take_pending(entry, PENDING_WEAK) && ledger_misses_callbacks())
        fail("callback", entry,
            "a weak reference's hook came twice, or for an unmarked one");
    sh_add_relaxed(&counts.weak, (uint64_t)1);
}

/* ---- Collecting ---- */

/* In place of the library's; allocation calls it too. */
GC_PUBLIC void gc_collect(void)
{
    gc_collect_start();
    places_name_roots();
    gc_collect_end();
}
