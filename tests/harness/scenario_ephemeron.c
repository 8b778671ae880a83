/* SPDX-License-Identifier: MIT */
/*
 * Ephemerons and weak maps of <splitheap/weakref.h>: the value is there while the key
 * lives, whole, and nobody else's; then both are gone. The second of two objects that
 * belong together leads to the first, so that values lead to their keys.
 */
#include <splitheap/weakref.h>

#include "lib/bits.h"
#include "tests/harness/object.h"
#include "tests/harness/own.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"
#include "tests/harness/shadow.h"

struct pair {
    struct entry *key, *value;
    uint64_t key_serial, value_serial;
};

static struct wish wish_collected(struct random *random)
{
    struct wish wish = wish_any(random);
    while (wish.kind == EXPLICIT)
        wish = wish_any(random);
    wish.bytes = 1 + wish.bytes % 4096;
    wish.finaliser = false;
    return wish;
}

static bool make_pair(
    struct worker *worker, struct pair *pair, void **key, void **value)
{
    struct wish wish = wish_collected(&worker->random);
    *key = object_make(worker, wish);
    wish = wish_collected(&worker->random);
    wish.kind = SCAN;
    wish.links = 1;
    *value = *key ? object_make(worker, wish) : NULL;
    if (!*key)
        return false;
    pair->key = object_entry(*key);
    if (!*value) {
        object_free(worker, pair->key);
        return false;
    }
    pair->value = object_entry(*value);
    pair->key_serial = entry_serial(pair->key);
    pair->value_serial = entry_serial(pair->value);
    pair->value->link[0] = pair->key->id;
    *entry_link(pair->value, 0) = *key;
    return true;
}

/* What belongs together came together: the caller holds both, others may, too. */
static void check_found(void *key, void *value)
{
    struct entry *of_key = shadow_find(key), *of_value = shadow_find(value);
    if (!of_key || entry_address(of_key) != key)
        fail("weak", of_key, "no object begins at %p, a key", key);
    if (!of_value || entry_address(of_value) != value)
        fail("weak", of_value, "no object begins at %p, a value", value);
    if (of_value->links != 1 || of_value->link[0] != of_key->id)
        fail("weak", of_value, "is the value of %p, another's key", key);
    object_look_at(of_key);
    object_look_at(of_value);
}

static void drop_pair(struct pair *pair)
{
    object_drop(pair->value);
    object_drop(pair->key);
}

/* The key's and the value's, as the ephemeron or map gave them. */
static void expect(const struct pair *pair, void *key, void *value)
{
    if (key != entry_address(pair->key))
        fail("weak", pair->key, "is a key that is held, and is given as %p", key);
    if (value != entry_address(pair->value))
        fail("weak", pair->value, "is the value of a key that lives, which gives %p",
            value);
    check_found(key, value);
}

static void pass_time(struct random *random)
{
    collect_sometimes(random);
    if (random_once_in(random, 8))
        own_sleep_us((unsigned)random_below(random, 2000));
}

/* ---- Ephemerons ---- */

static SH_NOINLINE struct gc_ephemeron *bind(
    struct worker *worker, struct pair *pair, void **key)
{
    void *value;
    if (!make_pair(worker, pair, key, &value))
        return NULL;
    struct gc_ephemeron *ephemeron =
        gc_ephemeron_new(*key, plant_now(PLANT_WRONG_VALUE) ? *key : value);
    if (ephemeron)
        return ephemeron;
    if (!settings_memory_is_short())
        fail("weak", pair->key, "could not be an ephemeron's key");
    object_free(worker, pair->value);
    object_free(worker, pair->key);
    return NULL;
}

static SH_NOINLINE void look(struct gc_ephemeron *ephemeron, const struct pair *pair)
{
    void *value = NULL, *key = gc_ephemeron_get(ephemeron, &value);
    expect(pair, key, value);
    SH_KEEP(key);
    SH_KEEP(value);
}

/* Nothing holds the key but what was given. False: it is gone. */
static SH_NOINLINE bool look_again(
    struct gc_ephemeron *ephemeron, const struct pair *pair)
{
    void *value = NULL, *key = gc_ephemeron_get(ephemeron, &value);
    if (!key && value)
        fail("weak", NULL, "an ephemeron gives %p, whose key is gone", value);
    if (!key)
        return false;
    if (entry_serial(pair->key) != pair->key_serial ||
        entry_serial(pair->value) != pair->value_serial)
        fail("weak", pair->key, "is another object now, and an ephemeron's key still");
    expect(pair, key, value);
    SH_KEEP(key);
    SH_KEEP(value);
    return true;
}

void run_ephemeron(struct worker *worker)
{
    struct pair pair;
    void *key;
    struct gc_ephemeron *ephemeron = bind(worker, &pair, &key);
    if (!ephemeron)
        return;
    for (size_t i = 0; i < 3; i++) {
        pass_time(&worker->random);
        look(ephemeron, &pair);
        object_verify(pair.key);
    }
    drop_pair(&pair);
    SH_KEEP(key);
    key = NULL;
    for (size_t i = 0; i < 3 && look_again(ephemeron, &pair); i++)
        pass_time(&worker->random);
    if (random_below(&worker->random, 2))
        gc_ephemeron_free(ephemeron);
}

/* ---- Weak maps ---- */

#define MAPS 6
#define PAIRS 8

/* Of all threads; in a data segment, which holds them. */
static struct slot maps[MAPS];

/* By turns of weak keys, weak values, and both. */
static unsigned weak_side(size_t which)
{
    return 1 + (unsigned)which % 3;
}

/* Whoever comes first makes it. */
static struct gc_weak_map *map_of(size_t which)
{
    struct gc_weak_map *map = NULL;
    while (!slot_try(&maps[which]))
        own_sleep_us(10);
    if (!maps[which].object)
        maps[which].object = gc_weak_map_new(weak_side(which));
    map = maps[which].object;
    slot_leave(&maps[which]);
    if (!map && !settings_memory_is_short())
        fail("weak", NULL, "gc_weak_map_new gives no map");
    return map;
}

/* Sometimes all entries of a map are gone with the map. */
static void replace_map(size_t which)
{
    if (!slot_try(&maps[which]))
        return;
    maps[which].object = NULL;
    slot_leave(&maps[which]);
}

static void go_over(struct random *random, struct gc_weak_map *map)
{
    void *key, *value;
    struct gc_weak_map_iter *iter = gc_weak_map_iterate(map);
    if (!iter && !settings_memory_is_short())
        fail("weak", NULL, "gc_weak_map_iterate gives nothing");
    for (size_t i = 0; iter && i < 200 && gc_weak_map_next(iter, &key, &value); i++) {
        check_found(key, value);
        if (random_once_in(random, 100))
            pass_time(random);
        SH_KEEP(key);
        SH_KEEP(value);
    }
}

/* What the caller holds is what the map does not: by it the other is there. */
struct held {
    struct pair pair;
    void *key, *value;
};

static SH_NOINLINE bool put(
    struct worker *worker, struct gc_weak_map *map, unsigned weak, struct held *held)
{
    void *key, *value;
    if (!make_pair(worker, &held->pair, &key, &value))
        return false;
    if (gc_weak_map_set(map, key, plant_now(PLANT_WRONG_VALUE) ? key : value) != 0) {
        if (!settings_memory_is_short())
            fail("weak", held->pair.key, "could not be a weak map's key");
        object_free(worker, held->pair.value);
        object_free(worker, held->pair.key);
        return false;
    }
    held->key = weak & GC_WEAK_KEYS ? key : NULL;
    held->value = weak & GC_WEAK_VALUES ? value : NULL;
    return true;
}

static SH_NOINLINE void find(struct gc_weak_map *map, const struct held *held)
{
    void *value = NULL, *key = entry_address(held->pair.key);
    if (!gc_weak_map_get(map, key, &value))
        fail("weak", held->pair.key, "has a value in a weak map, which knows of none");
    expect(&held->pair, key, value);
    SH_KEEP(value);
}

/* With its entry, or by it: then the entry goes when nothing holds it. */
static SH_NOINLINE void take_out(
    struct worker *worker, struct gc_weak_map *map, struct held *held)
{
    void *key = entry_address(held->pair.key), *value = entry_address(held->pair.value);
    if (random_below(&worker->random, 2)) {
        if (!gc_weak_map_remove(map, key))
            fail("weak", held->pair.key, "was in a weak map, and cannot be removed");
        if (gc_weak_map_get(map, key, NULL))
            fail("weak", held->pair.key, "was removed from a weak map, and is in it");
    }
    drop_pair(&held->pair);
    held->key = held->value = NULL;
    SH_KEEP(key);
    SH_KEEP(value);
}

void run_map(struct worker *worker)
{
    struct random *random = &worker->random;
    struct held held[PAIRS];
    size_t which = random_below(random, MAPS), count = 0;
    struct gc_weak_map *map = map_of(which);
    if (!map)
        return;
    while (count < PAIRS && put(worker, map, weak_side(which), &held[count]))
        count++;
    pass_time(random);
    if (random_once_in(random, 4))
        go_over(random, map);
    for (size_t i = 0; i < count; i++)
        find(map, &held[i]);
    if (gc_weak_map_count(map) < count)
        fail("weak", NULL, "a weak map of %zu entries and more has %zu", count,
            gc_weak_map_count(map));
    for (size_t i = 0; i < count; i++)
        take_out(worker, map, &held[i]);
    if (random_once_in(random, 50))
        replace_map(which);
}
