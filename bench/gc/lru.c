/* SPDX-License-Identifier: MIT */
/*
 * lru: all threads ask one cache for values by key; who misses makes the value, and the
 * cache forgets what was not asked for the longest. Values have 64 to 511 bytes and no
 * pointers. The cache has sixteen parts, each with a lock, a table by chains and a list
 * in the order of use.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <pthread.h>

enum { PARTS = 16, ROOM = 100000 / PARTS, STEPS = 3000000, LEAST = 64, OCTAVES = 3 };

struct entry {
    struct entry *chain;
    struct entry *older;
    struct entry *newer;
    unsigned char *value;
    uint64_t key;
};

struct part {
    pthread_mutex_t lock;
    struct entry **chains;
    struct entry *newest;
    struct entry *oldest;
    uint64_t count;
};

struct cache {
    struct part *parts;
    uint64_t room; /* of a part */
    uint64_t steps;
    unsigned threads;
};

static size_t length_of(uint64_t key)
{
    return bench_octave(bench_seed(key), LEAST, OCTAVES);
}

static void check(const struct entry *entry)
{
    unsigned char right[LEAST << OCTAVES];
    size_t length = length_of(entry->key);

    bench_touch(right, length, entry->key);
    if (bench_read(entry->value, length) != bench_read(right, length))
        bench_fail("a cached value is damaged");
}

static struct entry **chain_of(
    const struct cache *cache, struct part *part, uint64_t key)
{
    return &part->chains[key / PARTS % cache->room];
}

static void link_newest(struct part *part, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = part->newest;
    if (part->newest != NULL)
        part->newest->newer = entry;
    else
        part->oldest = entry;
    part->newest = entry;
}

static void unlink_entry(struct part *part, struct entry *entry)
{
    if (entry->newer != NULL)
        entry->newer->older = entry->older;
    else
        part->newest = entry->older;
    if (entry->older != NULL)
        entry->older->newer = entry->newer;
    else
        part->oldest = entry->newer;
}

static void forget_oldest(const struct cache *cache, struct part *part)
{
    struct entry *entry = part->oldest;
    struct entry **place = chain_of(cache, part, entry->key);

    while (*place != entry)
        place = &(*place)->chain;
    *place = entry->chain;
    unlink_entry(part, entry);
    part->count--;
    mem_free(entry->value);
    mem_free(entry);
}

static struct entry *make(uint64_t key)
{
    struct entry *entry = mem_new(sizeof(*entry));

    *entry = (struct entry){.key = key};
    entry->value = mem_leaf(length_of(key));
    bench_touch(entry->value, length_of(key), key);
    return entry;
}

static void ask(const struct cache *cache, uint64_t key)
{
    struct part *part = &cache->parts[key % PARTS];

    pthread_mutex_lock(&part->lock);
    struct entry **chain = chain_of(cache, part, key), *entry = *chain;
    while (entry != NULL && entry->key != key)
        entry = entry->chain;
    if (entry != NULL) {
        check(entry);
        unlink_entry(part, entry);
    } else {
        if (part->count == cache->room)
            forget_oldest(cache, part);
        entry = make(key);
        entry->chain = *chain;
        *chain = entry;
        part->count++;
    }
    link_newest(part, entry);
    pthread_mutex_unlock(&part->lock);
}

static void check_part(const struct cache *cache, struct part *part)
{
    uint64_t count = 0;

    pthread_mutex_lock(&part->lock);
    for (const struct entry *entry = part->newest; entry;
         entry = entry->older, count++) {
        check(entry);
        if (entry->older == NULL && entry != part->oldest)
            bench_fail("the list of what was used is damaged");
    }
    if (count != part->count || count > cache->room)
        bench_fail("the cache has lost values");
    pthread_mutex_unlock(&part->lock);
}

/* A key drawn twice and the lesser taken: some are asked for more often. */
static uint64_t draw_key(const struct cache *cache, uint64_t *random)
{
    uint64_t keys = cache->room * PARTS * 4;
    uint64_t one = bench_random(random) % keys, other = bench_random(random) % keys;

    return one < other ? one : other;
}

static uint64_t work(unsigned number, void *shared)
{
    const struct cache *cache = shared;
    uint64_t steps = team_share(cache->steps, cache->threads, number);
    uint64_t random = bench_seed(number), seen = 0, sum = 0;

    for (uint64_t step = 0; step < steps; step++) {
        uint64_t key = draw_key(cache, &random);
        ask(cache, key);
        sum += key;
        if (verify_due(&seen))
            check_part(cache, &cache->parts[step % PARTS]);
    }
    return sum;
}

static void drop(struct cache *cache)
{
    for (unsigned i = 0; i < PARTS; i++) {
        while (MEM_FREES && cache->parts[i].count > 0)
            forget_oldest(cache, &cache->parts[i]);
        mem_free(cache->parts[i].chains);
        pthread_mutex_destroy(&cache->parts[i].lock);
    }
    mem_free(cache->parts);
}

static uint64_t room_of(unsigned scale)
{
    return (uint64_t)ROOM * scale / 100 + 1;
}

uint64_t load_lru(unsigned scale, unsigned threads)
{
    struct cache cache = {.room = room_of(scale),
        .steps = (uint64_t)STEPS * scale / 100,
        .threads = threads};

    cache.parts = mem_zeroed(PARTS * sizeof(*cache.parts));
    for (unsigned i = 0; i < PARTS; i++) {
        pthread_mutex_init(&cache.parts[i].lock, NULL);
        cache.parts[i].chains = mem_zeroed(cache.room * sizeof(struct entry *));
    }
    uint64_t sum = team_run(threads, work, &cache);
    verify_collect();
    for (unsigned i = 0; i < PARTS; i++)
        check_part(&cache, &cache.parts[i]);
    drop(&cache);
    return sum;
}

uint64_t live_lru(unsigned scale, unsigned threads)
{
    uint64_t mean = LEAST * ((1u << OCTAVES) - 1) * 3 / 2 / OCTAVES + 8;

    (void)threads;
    return room_of(scale) * PARTS *
           (sizeof(struct entry *) + mem_cost(sizeof(struct entry)) + mean);
}
