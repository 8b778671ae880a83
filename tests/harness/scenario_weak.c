/* SPDX-License-Identifier: MIT */
/*
 * Weak references of <splitheap/weakref.h>: one gives its object, or NULL when that is
 * gone, and nothing else ever; its callback comes once, or not where it was freed before.
 */
#include <splitheap/weakref.h>

#include "lib/bits.h"
#include "tests/harness/hooks.h"
#include "tests/harness/object.h"
#include "tests/harness/own.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

/* What a callback is told; used again long after it can come. */
struct watch {
    _Atomic uint32_t calls;
    _Atomic bool held; /* the object: no callback may come */
};

#define WATCHES 65536

static struct watch *watches;

void weak_init(void)
{
    watches = own_map(WATCHES * sizeof *watches);
}

static struct watch *next_watch(void)
{
    static _Atomic unsigned next;
    struct watch *watch = &watches[sh_add_relaxed(&next, 1u) % WATCHES];
    sh_store_relaxed(&watch->calls, 0u);
    sh_store_seq_cst(&watch->held, true);
    return watch;
}

/* Children of a fork hear of what other threads of the parent's had, too. */
static void hear(struct gc_weakref *ref, void *arg)
{
    struct watch *watch = arg;
    if (hooks_are_off() || !ledger_misses_callbacks())
        return;
    if (sh_load_seq_cst(&watch->held))
        fail("callback", NULL, "a weak reference's callback came for what is held");
    if (sh_add_relaxed(&watch->calls, 1u))
        fail("callback", NULL, "a weak reference's callback came twice");
    if (gc_weakref_get(ref))
        fail("weak", NULL, "a weak reference gives its object in its callback");
}

static void expect(struct gc_weakref *ref, void *wanted, struct entry *entry)
{
    void *found = gc_weakref_get(ref);
    if (found != wanted)
        fail("weak", entry, "should be %p by a weak reference, which gives %p", wanted,
            found);
}

/* Nothing holds the object any more but what the reference gave, as long as it does. */
static SH_NOINLINE bool look(
    struct gc_weakref *ref, struct entry *entry, uint64_t serial)
{
    void *found = gc_weakref_get(ref);
    if (!found)
        return false;
    if (found != entry_address(entry) || entry_serial(entry) != serial)
        fail("weak", entry, "was dropped; a weak reference gives %p", found);
    object_look_at(entry);
    SH_KEEP(found);
    return true;
}

static void drop_and_look(
    struct worker *worker, struct gc_weakref *ref, struct entry *entry)
{
    uint64_t serial = entry_serial(entry);
    object_drop(entry);
    for (size_t i = 0; i < 4 && look(ref, entry, serial); i++)
        if (random_once_in(&worker->random, 4))
            collect();
        else
            own_sleep_us((unsigned)random_below(&worker->random, 2000));
}

void run_weak(struct worker *worker)
{
    struct wish wish = wish_any(&worker->random);
    void *p = object_make(worker, wish);
    if (!p)
        return;
    struct entry *entry = object_entry(p);
    struct watch *watch = next_watch();
    struct gc_weakref *ref = gc_weakref_new(p, hear, watch);
    if (!ref && !settings_memory_is_short())
        fail("weak", entry, "could not be referred to");
    if (ref)
        expect(ref, p, entry);
    if (random_once_in(&worker->random, 4))
        collect();
    object_verify(entry);
    if (ref)
        expect(ref, p, entry);
    sh_store_seq_cst(&watch->held, false);
    if (ref && wish.kind != EXPLICIT && !wish.finaliser &&
        random_below(&worker->random, 2)) {
        p = NULL;
        drop_and_look(worker, ref, entry);
    } else {
        object_free(worker, entry);
        if (ref)
            expect(ref, NULL, entry);
    }
    if (random_below(&worker->random, 2))
        gc_weakref_free(ref);
}
