/* SPDX-License-Identifier: MIT */
/*
 * weak: a cache by weak references. An object is found again as long as it was not
 * collected, and made anew where it was; 100,000 of them are in use, in turn.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

enum { USED = 100000, KEYS = 4, STEPS = 8000000, WORDS = 5 };

struct object {
    struct mem_weak weak;
    uint64_t key;
    uint64_t word[WORDS];
};

struct cache {
    void **slots;         /* by key: not scanned; NULL where there is none */
    struct object **used; /* those in use */
    uint64_t room;
    uint64_t keys;
};

static struct object *make(struct cache *cache, uint64_t key)
{
    struct object *object = mem_new(sizeof(*object));

    object->key = key;
    for (uint64_t i = 0; i < WORDS; i++)
        object->word[i] = key % 1000 + i;
    mem_weak_set(&cache->slots[key], &object->weak);
    return object;
}

static uint64_t check(const struct object *object, uint64_t key)
{
    if (object->key != key)
        bench_fail("a weak reference leads to another object");
    for (uint64_t i = 0; i < WORDS; i++) {
        if (object->word[i] != key % 1000 + i)
            bench_fail("a weakly referenced object is damaged");
    }
    return key;
}

/* What is in use must be what its slot leads to. */
static void check_all(const struct cache *cache)
{
    for (uint64_t i = 0; i < cache->room; i++) {
        struct object *object = cache->used[i];
        if (object != NULL && cache->slots[object->key] != object)
            bench_fail("an object in use has lost its weak reference");
        if (object != NULL)
            check(object, object->key);
    }
    for (uint64_t key = 0; key < cache->keys; key++) {
        if (cache->slots[key] != NULL)
            check(cache->slots[key], key);
    }
}

uint64_t load_weak(unsigned scale, unsigned threads)
{
    uint64_t room = (uint64_t)USED * scale / 100;
    struct cache cache = {.room = room, .keys = room * KEYS};
    uint64_t random = bench_seed(1), seen = 0, sum = 0;

    (void)threads;
    cache.slots = mem_leaf(cache.keys * sizeof(*cache.slots));
    for (uint64_t key = 0; key < cache.keys; key++)
        cache.slots[key] = NULL;
    cache.used = mem_zeroed(cache.room * sizeof(*cache.used));
    for (uint64_t step = 0; step < (uint64_t)STEPS * scale / 100; step++) {
        uint64_t key = (bench_random(&random) >> 8) % cache.keys;
        struct object *object = cache.slots[key];
        if (object == NULL)
            object = make(&cache, key);
        sum += check(object, key);
        cache.used[step % cache.room] = object;
        if (verify_due(&seen))
            check_all(&cache);
    }
    verify_collect();
    check_all(&cache);
    return sum;
}
