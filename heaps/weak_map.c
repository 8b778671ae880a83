/* SPDX-License-Identifier: MIT */
/*
 * Weak maps: hash maps whose entries are links. The face is <splitheap/weakref.h>.
 *
 *   map --> buckets [ | | | ] --> entry --> entry --> ...      all collected objects
 *                                   |
 *        weak keys     link .....> key      value hidden: marked by the key
 *        weak values   key  -----> key      leads --> link ....> value
 *        both          link .....> key      leads --> link ....> value
 *
 * So a map, its buckets and entries need no care: who drops the map drops all. Of a dead
 * key's or value's entry the link leads nowhere, which the collector sees to. It is found
 * when its bucket is walked; and each change purges one bucket, in turn.
 *
 * There are as many buckets as entries at most, and not eight times as many. What changes
 * the number of buckets allocates them with no lock held, and looks again. Entries then move
 * by and by, some buckets with each change:
 *
 *      old      [ empty | empty | to be moved | to be moved ]     an entry is where its key's
 *                                 moved = 2                       old bucket says: there, or,
 *      buckets  [ | | | | | | | ]                                 if that was moved, here
 *
 * So no change takes time for all entries. Where there is no memory for more buckets, the
 * lists become longer, and it is not asked for with each change.
 *
 * Lock: SH_RANK_WEAK, over all maps; what is to be done to all entries gives it up in between,
 * but for listing them.
 */
#include <splitheap/weakref.h>

#include <errno.h>

#include "heaps/ephemeron.h"
#include "heaps/weak_link.h"
#include "lib/bits.h"
#include "threads/thread.h"

#define BUCKETS_MIN ((size_t)8)
#define MOVED_TO_MORE 4   /* buckets with each change, so that all are moved before */
#define MOVED_TO_FEWER 32 /* there ought to be more, or fewer */
#define LOOKED_AT_ONCE ((size_t)1024) /* with the lock held: some 50 us */
#define FETCHED_AHEAD 8               /* buckets whose first entries are on their way */

struct entry {
    union {
        struct sh_weak_link link; /* weak keys: to the key */
        struct gc_ephemeron held; /* only keys are weak: and the value */
    };
    struct sh_weak_link *leads; /* weak values: to the value */
    struct entry *next;         /* in its bucket */
    void *key;                  /* only values are weak */
    bool gone;                  /* from the map */
};

struct gc_weak_map {
    struct entry **buckets;
    size_t bucket_count;     /* a power of two, or 0 */
    struct entry **old;      /* the buckets before; NULL: all were moved */
    size_t old_count, moved; /* of them so many, the first ones */
    size_t next;             /* to be purged */
    size_t count;            /* entries in all buckets */
    size_t patience;         /* changes until more buckets are asked for again */
    unsigned weak;
};

struct gc_weak_map_iter {
    size_t at, count;
    unsigned weak;
    struct entry *entries[]; /* not NULL: to come */
};

static void enter(void)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
}

static void leave(void)
{
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
}

/* ---- Entries, under the lock ---- */

static void *target_of(const struct sh_weak_link *link)
{
    return sh_reveal(sh_load_relaxed(&link->target));
}

/* False: it went with its key or its value. */
static bool read_entry(
    const struct entry *entry, unsigned weak, void **key, void **value)
{
    *key = weak & GC_WEAK_KEYS ? target_of(&entry->link) : entry->key;
    *value = weak & GC_WEAK_VALUES ? target_of(entry->leads)
                                   : sh_ephemeron_value(&entry->held);
    return (*key || !(weak & GC_WEAK_KEYS)) && (*value || !(weak & GC_WEAK_VALUES));
}

static void take_out(struct gc_weak_map *map, struct entry **at)
{
    struct entry *entry = *at;
    *at = entry->next;
    entry->next = NULL;
    entry->key = NULL; /* an iterator may hold the entry */
    entry->gone = true;
    map->count--;
    sh_weak_link_cut(&entry->link);
    if (entry->leads)
        sh_weak_link_cut(entry->leads);
}

/* Where the key's entry is, or belongs. */
static struct entry **bucket_of(const struct gc_weak_map *map, const void *key)
{
    uint64_t hash = ((uint64_t)(uintptr_t)key >> 4 ^ (uint64_t)(uintptr_t)key << 40) *
                    0x9e3779b97f4a7c15u;
    size_t at = (size_t)(hash >> 32), old = at & (map->old_count - 1);
    if (map->old && old >= map->moved)
        return &map->old[old];
    return &map->buckets[at & (map->bucket_count - 1)];
}

/* Where the entry of the key hangs, or NULL; those that are gone on the way go. */
static struct entry **find(struct gc_weak_map *map, const void *wanted)
{
    struct entry **at = map->bucket_count ? bucket_of(map, wanted) : NULL;
    while (at && *at) {
        void *key, *value;
        if (!read_entry(*at, map->weak, &key, &value))
            take_out(map, at);
        else if (key == wanted)
            return at;
        else
            at = &(*at)->next;
    }
    return NULL;
}

/* ---- Buckets, under the lock ---- */

static void fetch(struct entry **buckets, size_t at, size_t count)
{
    if (at < count)
        __builtin_prefetch(buckets[at]);
}

static void purge_bucket(struct gc_weak_map *map, struct entry **at)
{
    void *key, *value;
    while (*at)
        if (read_entry(*at, map->weak, &key, &value))
            at = &(*at)->next;
        else
            take_out(map, at);
}

static void add(struct gc_weak_map *map, struct entry *entry, const void *key)
{
    struct entry **bucket = bucket_of(map, key);
    entry->next = *bucket;
    *bucket = entry;
}

static void move_bucket(struct gc_weak_map *map)
{
    struct entry **from = &map->old[map->moved++];
    void *key, *value;
    purge_bucket(map, from);
    for (struct entry *entry = *from, *next; entry; entry = next) {
        next = entry->next;
        read_entry(entry, map->weak, &key, &value);
        add(map, entry, key);
    }
    *from = NULL;
}

/* Of so many buckets. Returns those that are of no more use, or NULL. */
static struct entry **move_some(struct gc_weak_map *map, size_t buckets)
{
    struct entry **old = map->old;
    for (; buckets && map->moved < map->old_count; buckets--) {
        fetch(old, map->moved + FETCHED_AHEAD, map->old_count);
        move_bucket(map);
    }
    if (map->moved < map->old_count)
        return NULL;
    map->old = NULL;
    map->old_count = map->moved = 0;
    return old;
}

/* With each change: a little of what is to be done to all. As move_some. */
static struct entry **tidy(struct gc_weak_map *map)
{
    if (map->old)
        return move_some(
            map, map->old_count < map->bucket_count ? MOVED_TO_MORE : MOVED_TO_FEWER);
    if (map->bucket_count)
        purge_bucket(map, &map->buckets[map->next++ & (map->bucket_count - 1)]);
    return NULL;
}

/* How many buckets there should be for one entry more; 0: as many as there are. */
static size_t better_count(struct gc_weak_map *map)
{
    size_t count = sh_max(map->bucket_count, BUCKETS_MIN);
    if (map->old)
        return 0;
    while (map->count >= count / 4 * 3)
        count *= 2;
    while (count > BUCKETS_MIN && map->count < count / 8)
        count /= 2;
    if (count == map->bucket_count)
        return 0;
    if (!map->patience)
        return count;
    map->patience--;
    return 0;
}

/* `fresh` has so many, and is empty. Returns what is of no use. */
static struct entry **begin_to_move(
    struct gc_weak_map *map, struct entry **fresh, size_t count)
{
    if (map->old || count == map->bucket_count || count <= map->count)
        return fresh;
    map->old = map->buckets;
    map->old_count = map->bucket_count;
    map->moved = 0;
    map->buckets = fresh;
    map->bucket_count = count;
    return NULL;
}

/* Not under the lock. Without memory the buckets stay as they are. */
static void tend(struct gc_weak_map *map, size_t count)
{
    if (!count)
        return;
    struct entry **fresh = sh_weak_new(count * sizeof *fresh);
    enter();
    struct entry **spare = fresh ? begin_to_move(map, fresh, count) : NULL;
    if (!fresh && map->bucket_count)
        map->patience = sh_max(map->count / 4, BUCKETS_MIN);
    leave();
    if (spare)
        gc_free(spare);
}

/* Goes on to look at all buckets, from `at` on; true: there are more. As move_some. */
static bool look_at_some(struct gc_weak_map *map, size_t *at, struct entry ***spare)
{
    *spare = NULL;
    if (map->old) {
        *spare = move_some(map, LOOKED_AT_ONCE);
        return true;
    }
    size_t end = sh_min(*at + LOOKED_AT_ONCE, map->bucket_count);
    for (; *at < end; ++*at) {
        fetch(map->buckets, *at + FETCHED_AHEAD, map->bucket_count);
        purge_bucket(map, &map->buckets[*at]);
    }
    return *at < map->bucket_count;
}

/* ---- Changing ---- */

SH_PUBLIC struct gc_weak_map *gc_weak_map_new(unsigned weak)
{
    if (!weak || weak > (GC_WEAK_KEYS | GC_WEAK_VALUES)) {
        errno = EINVAL;
        return NULL;
    }
    struct gc_weak_map *map = sh_weak_new(sizeof *map);
    if (map)
        map->weak = weak;
    return map;
}

/* The value where values are held. True: done. */
static bool replace_held(struct gc_weak_map *map, void *key, void *value)
{
    struct entry **at = map->weak & GC_WEAK_VALUES ? NULL : find(map, key);
    if (at)
        (*at)->held.value = sh_hide(value);
    return at;
}

/* A new link to the value, in the entry that the key has or in `fresh`, which then is
 * linked to the key. */
static int put(struct gc_weak_map *map, void *key, void *value, struct entry *fresh)
{
    struct entry **at = find(map, key);
    struct sh_weak_link *leads = fresh->leads;
    int error = leads ? sh_weak_link_attach(leads, value) : 0;
    if (!error && !at && map->weak & GC_WEAK_KEYS)
        error = sh_weak_link_attach(&fresh->link, key);
    if (error) {
        if (leads)
            sh_weak_link_cut(leads);
        return error;
    }
    if (at && leads) {
        sh_weak_link_cut((*at)->leads);
        (*at)->leads = leads;
    } else if (at) {
        (*at)->held.value = sh_hide(value);
    } else {
        add(map, fresh, key);
        map->count++;
    }
    return 0;
}

/* With all that `map` has of it but a link that leads somewhere. */
static struct entry *new_entry(unsigned weak, void *key, void *value)
{
    struct entry *entry = sh_weak_new(sizeof *entry);
    if (!entry)
        return NULL;
    sh_weak_link_init(
        &entry->link, weak & GC_WEAK_VALUES ? SH_WEAK_LONG : SH_WEAK_EPHEMERON, false);
    if (!(weak & GC_WEAK_KEYS))
        entry->key = key;
    if (!(weak & GC_WEAK_VALUES)) {
        entry->held.value = sh_hide(value);
        return sh_weak_link_prepare(&entry->link, key) ? entry : NULL;
    }
    if (weak & GC_WEAK_KEYS && !sh_weak_link_prepare(&entry->link, key))
        return NULL;
    entry->leads = sh_weak_new(sizeof *entry->leads);
    if (!entry->leads)
        return NULL;
    sh_weak_link_init(entry->leads, SH_WEAK_SHORT, false);
    return sh_weak_link_prepare(entry->leads, value) ? entry : NULL;
}

SH_PUBLIC int gc_weak_map_set(struct gc_weak_map *map, void *key, void *value)
{
    int saved = errno, error = 0;
    enter();
    bool done = replace_held(map, key, value);
    struct entry **spare = done ? NULL : tidy(map);
    size_t count = done ? 0 : better_count(map);
    leave();
    if (spare)
        gc_free(spare);
    struct entry *fresh = done ? NULL : new_entry(map->weak, key, value);
    if (!done) {
        tend(map, count);
        enter();
        error = fresh && map->bucket_count ? put(map, key, value, fresh) : ENOMEM;
        leave();
    }
    SH_KEEP(map);
    SH_KEEP(key);
    SH_KEEP(value);
    errno = saved;
    return error;
}

SH_PUBLIC bool gc_weak_map_remove(struct gc_weak_map *map, const void *key)
{
    int saved = errno;
    enter();
    struct entry **at = find(map, key);
    if (at)
        take_out(map, at);
    struct entry **spare = at ? tidy(map) : NULL;
    size_t count = at ? better_count(map) : 0;
    leave();
    if (spare)
        gc_free(spare);
    tend(map, count);
    errno = saved;
    return at;
}

/* ---- Looking ---- */

SH_PUBLIC bool gc_weak_map_get(struct gc_weak_map *map, const void *key, void **value)
{
    void *its_key = NULL, *its_value = NULL;
    enter();
    struct entry **at = find(map, key);
    bool found = at && read_entry(*at, map->weak, &its_key, &its_value);
    __asm__ volatile("" : "+r"(its_value)::"memory"); /* here it is a root */
    leave();
    if (found && value)
        *value = its_value;
    return found;
}

SH_PUBLIC size_t gc_weak_map_count(struct gc_weak_map *map)
{
    size_t at = 0, count;
    bool more = true;
    while (more) {
        struct entry **spare;
        enter();
        more = look_at_some(map, &at, &spare);
        count = map->count;
        leave();
        if (spare)
            gc_free(spare);
    }
    return count;
}

static void list_buckets(
    struct gc_weak_map_iter *iter, struct entry **buckets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fetch(buckets, i + FETCHED_AHEAD, count);
        for (struct entry *entry = buckets[i]; entry; entry = entry->next)
            iter->entries[iter->count++] = entry;
    }
}

static void list_entries(struct gc_weak_map_iter *iter, struct gc_weak_map *map)
{
    iter->weak = map->weak;
    list_buckets(iter, map->buckets, map->bucket_count);
    if (map->old)
        list_buckets(iter, map->old, map->old_count);
}

SH_PUBLIC struct gc_weak_map_iter *gc_weak_map_iterate(struct gc_weak_map *map)
{
    size_t room = gc_weak_map_count(map);
    for (;;) {
        struct gc_weak_map_iter *iter =
            sh_weak_new(sizeof *iter + room * sizeof *iter->entries);
        if (!iter)
            return NULL;
        enter();
        size_t need = map->count;
        if (need <= room)
            list_entries(iter, map);
        leave();
        if (need <= room)
            return iter;
        gc_free(iter);
        room = need + need / 8;
    }
}

static bool next_entry(struct gc_weak_map_iter *iter, void **key, void **value)
{
    while (iter->at < iter->count) {
        struct entry *entry = iter->entries[iter->at];
        iter->entries[iter->at++] = NULL;
        if (!entry->gone && read_entry(entry, iter->weak, key, value))
            return true;
    }
    return false;
}

SH_PUBLIC bool gc_weak_map_next(struct gc_weak_map_iter *iter, void **key, void **value)
{
    void *its_key = NULL, *its_value = NULL;
    enter();
    bool found = next_entry(iter, &its_key, &its_value);
    __asm__ volatile("" : "+r"(its_key), "+r"(its_value)::"memory"); /* now roots */
    leave();
    if (found && key)
        *key = its_key;
    if (found && value)
        *value = its_value;
    return found;
}
