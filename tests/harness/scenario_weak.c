/* SPDX-License-Identifier: MIT */
/*
 * Weak references of <splitheap/weakref.h>: one gives its object, or NULL when that is
 * gone, and nothing else ever; its callback comes once, or not where it was freed before.
 * A long one gives it, and does not call back, before its finaliser came.
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
    struct entry *entry;
    uint64_t serial;
    bool is_long;
};

#define WATCHES 65536

static struct watch *watches;

void weak_init(void)
{
    watches = own_map(WATCHES * sizeof *watches);
}

static struct watch *next_watch(struct entry *entry, bool is_long)
{
    static _Atomic unsigned next;
    struct watch *watch = &watches[sh_add_relaxed(&next, 1u) % WATCHES];
    sh_store_relaxed(&watch->calls, 0u);
    watch->entry = entry;
    watch->serial = entry_serial(entry);
    watch->is_long = is_long;
    sh_store_seq_cst(&watch->held, true);
    return watch;
}

/* What is freed does not. */
static bool awaits_finaliser(const struct watch *watch)
{
    bool pending = sh_load_acquire(&watch->entry->pending) & PENDING_FINALISER;
    return pending && entry_state(watch->entry) == DROPPED &&
           entry_serial(watch->entry) == watch->serial;
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
    if (watch->is_long && awaits_finaliser(watch))
        fail("callback", watch->entry,
            "a long reference's callback came before the "
            "finaliser");
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

/* What has a finaliser may be brought back by it, and freed by others at any time. */
static void look_at_finalised(struct gc_weakref *ref, uintptr_t hidden)
{
    void *found = gc_weakref_get(ref);
    if (found && hide(found) != hidden)
        fail("weak", NULL, "a long reference to %p gives %p", reveal(hidden), found);
}

static void drop_and_look(
    struct worker *worker, struct gc_weakref *ref, struct entry *entry, bool finaliser)
{
    uint64_t serial = entry_serial(entry);
    uintptr_t hidden = hide(entry_address(entry));
    object_drop(entry);
    for (size_t i = 0; i < 4; i++) {
        if (finaliser)
            look_at_finalised(ref, hidden);
        else if (!look(ref, entry, serial))
            return;
        collect_sometimes(&worker->random);
        own_sleep_us((unsigned)random_below(&worker->random, 300));
    }
}

void run_weak(struct worker *worker)
{
    struct random *random = &worker->random;
    struct wish wish = wish_any(random);
    void *p = object_make(worker, wish);
    if (!p)
        return;
    struct entry *entry = object_entry(p);
    bool is_long = random_below(random, 2);
    struct watch *watch = next_watch(entry, is_long);
    struct gc_weakref *ref =
        is_long ? gc_weakref_new_long(p, hear, watch) : gc_weakref_new(p, hear, watch);
    if (!ref && !settings_memory_is_short())
        fail("weak", entry, "could not be referred to");
    if (ref)
        expect(ref, p, entry);
    collect_sometimes(random);
    object_verify(entry);
    if (ref)
        expect(ref, p, entry);
    sh_store_seq_cst(&watch->held, false);
    if (ref && wish.kind != EXPLICIT && (!wish.finaliser || is_long) &&
        random_below(random, 2)) {
        p = NULL;
        drop_and_look(worker, ref, entry, wish.finaliser);
    } else {
        object_free(worker, entry);
        if (ref)
            expect(ref, NULL, entry);
    }
    if (random_below(random, 2))
        gc_weakref_free(ref);
}
