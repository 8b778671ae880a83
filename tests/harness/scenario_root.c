/* SPDX-License-Identifier: MIT */
/*
 * Roots that come and go: slots of gc_add_root_slot, which hold plain words, tagged ones
 * and boxed ones, and callbacks, which name theirs by either function.
 */
#include <errno.h>

#include <splitheap/gc.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/object.h"
#include "tests/harness/own.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

#define TAGS ((uintptr_t)0x7f << 56)
#define BOX ((uintptr_t)0xfff4 << 48) /* what a NaN may be, and no tagged word is */
#define BOX_MASK ((uintptr_t)0xffff << 48)

static void *unbox(uintptr_t word)
{
    return (word & BOX_MASK) == BOX ? (void *)(~word & ~BOX_MASK) : NULL;
}

/* Of a lane, in memory that the library cannot reach. */
struct root {
    void *words[2];
    bool one_by_one;
};

static struct root *roots;

void roots_prepare(void)
{
    roots = own_map((settings.threads + 1) * sizeof *roots);
    if (!backend->collects)
        return;
    gc_set_pointer_tags(TAGS);
    if (!settings.minor)
        gc_set_word_decoder(unbox);
}

static void name(void *arg, struct gc_marker *marker)
{
    struct root *root = arg;
    if (root->one_by_one)
        gc_mark_pointer(marker, root->words[1]);
    else
        gc_mark_words(marker, root->words, 2);
}

/* As it is, tagged, or boxed. */
static void *disguise(struct random *random, void *p)
{
    uintptr_t word = (uintptr_t)p;
    switch (random_below(random, settings.minor ? 2 : 3)) {
    case 0:
        return (void *)(word | (uintptr_t)(1 + random_below(random, 127)) << 56);
    case 1:
        return p;
    default:
        return (void *)((~word & ~BOX_MASK) | BOX);
    }
}

static bool add(struct root *root, bool slot)
{
    int error =
        slot ? gc_add_root_slot(&root->words[1]) : gc_add_root_callback(name, root);
    if (error && !settings_memory_is_short())
        fail("roots", NULL, "a root could not be added: error %d", error);
    return error == 0;
}

static void remove_root(struct root *root, bool slot)
{
    for (int i = 0; i < 2; i++) {
        int error = slot ? gc_remove_root_slot(&root->words[1])
                         : gc_remove_root_callback(name, root);
        if (error != (i ? ENOENT : 0))
            fail("roots", NULL, "a root is removed, time %d, with error %d", i, error);
    }
}

static SH_NOINLINE struct entry *make_held(
    struct worker *worker, struct root *root, bool plain)
{
    struct wish wish = wish_any(&worker->random);
    void *p = object_make(worker, wish);
    if (p)
        root->words[1] = plain ? p : disguise(&worker->random, p);
    return p ? object_entry(p) : NULL;
}

void run_root(struct worker *worker)
{
    struct random *random = &worker->random;
    bool slot = random_below(random, 2);
    struct root *root = &roots[worker->lane->number];
    root->one_by_one = !slot && random_below(random, 2);
    struct entry *entry = NULL;
    if (add(root, slot)) {
        entry = make_held(worker, root, root->one_by_one);
        collect_sometimes(random);
        own_sleep_us((unsigned)random_below(random, 1000));
        if (entry) {
            object_verify(entry);
            object_free(worker, entry);
        }
        root->words[1] = NULL;
        remove_root(root, slot);
    }
}
