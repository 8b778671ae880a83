/* SPDX-License-Identifier: MIT */
/* The ledger. See ledger.h. */
#include "tests/harness/ledger.h"

#include <unistd.h>

#include "tests/harness/backend.h"
#include "tests/harness/lane.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/shadow.h"

#define CHUNK_BITS 14
#define CHUNK ((uint32_t)1 << CHUNK_BITS)
#define CHUNKS ((uint32_t)1 << 13)
#define SHARDS 64

/* Unused entries, as stacks, each under a lock. */
struct shard {
    _Alignas(64) _Atomic uint32_t locked;
    uint32_t first;
};

static struct {
    _Atomic(struct entry *) chunks[CHUNKS];
    struct shard shards[SHARDS];
    _Atomic uint32_t next; /* entry that was never used; 0 is none */
    _Atomic uint64_t serial;
} * ledger;

struct ledger_counts counts;

void ledger_init(void)
{
    ledger = own_map(sizeof *ledger);
    sh_store_relaxed(&ledger->next, 1u);
    sh_store_relaxed(&ledger->serial, (uint64_t)1);
}

struct entry *ledger_entry(uint32_t id)
{
    struct entry *chunk = sh_load_acquire(&ledger->chunks[id >> CHUNK_BITS]);
    return &chunk[id & (CHUNK - 1)];
}

/* ---- Entries ---- */

static struct entry *new_entry(void)
{
    uint32_t id = sh_add_relaxed(&ledger->next, 1u);
    if (id >> CHUNK_BITS >= CHUNKS)
        give_up("the ledger is full: %u objects", id);
    _Atomic(struct entry *) *at = &ledger->chunks[id >> CHUNK_BITS];
    if (!sh_load_acquire(at)) {
        struct entry *made = own_map(CHUNK * sizeof *made), *none = NULL;
        if (!sh_cas_seq_cst(at, &none, made))
            own_unmap(made, CHUNK * sizeof *made);
    }
    struct entry *entry = ledger_entry(id);
    entry->id = id;
    return entry;
}

static struct shard *lock_shard(void)
{
    struct shard *shard = &ledger->shards[my_number() % SHARDS];
    while (sh_exchange_acquire(&shard->locked, 1u))
        own_sleep_us(10);
    return shard;
}

/* Pairs with lock_shard. */
static void unlock_shard(struct shard *shard)
{
    sh_store_release(&shard->locked, 0u);
}

static struct entry *take_unused(void)
{
    struct shard *shard = lock_shard();
    struct entry *entry = NULL;
    if (shard->first) {
        entry = ledger_entry(shard->first);
        shard->first = entry->next;
    }
    unlock_shard(shard);
    return entry;
}

/* All but the life and the number is cleared. */
static void clear(struct entry *entry)
{
    sh_store_relaxed(&entry->hidden, (uintptr_t)0);
    entry->asked = entry->bytes = entry->alignment = entry->head = 0;
    sh_store_relaxed(&entry->usable, (size_t)0);
    sh_store_relaxed(&entry->pending, 0u);
    sh_store_relaxed(&entry->finalisers, 0u);
    entry->next = 0;
    for (unsigned i = 0; i < LINKS_MAX; i++)
        entry->link[i] = entry->offset[i] = 0;
    entry->links = entry->kind = entry->origin = 0;
    entry->in_graph = entry->typed = entry->leaked = false;
    entry->made_at = my_operation();
    entry->made_by = my_number();
    entry->made_in = my_scenario();
    entry_touch(entry);
}

struct entry *ledger_take(void)
{
    struct entry *entry = take_unused();
    if (!entry)
        entry = new_entry();
    clear(entry);
    uint64_t serial = sh_add_relaxed(&ledger->serial, (uint64_t)1);
    sh_store_release(&entry->life, serial << 16 | UNUSED); /* pairs with entry_state */
    return entry;
}

void ledger_put(struct entry *entry)
{
    entry_set_state(entry, UNUSED);
    struct shard *shard = lock_shard();
    entry->next = shard->first;
    shard->first = entry->id;
    unlock_shard(shard);
}

void entry_set_state(struct entry *entry, enum state state)
{
    uint64_t life = sh_load_relaxed(&entry->life);
    sh_store_seq_cst(&entry->life, (life & ~(uint64_t)0xff) | state);
}

bool entry_try_state(struct entry *entry, uint64_t life, enum state state)
{
    return sh_cas_seq_cst(&entry->life, &life, (life & ~(uint64_t)0xff) | state);
}

bool entry_take_pending(struct entry *entry, enum pending what)
{
    return sh_and_seq_cst(&entry->pending, ~(uint32_t)what) & what;
}

void entry_touch(struct entry *entry)
{
    entry->used_at = my_operation();
    entry->used_by = my_number();
    entry->used_in = my_scenario();
}

void **entry_link(struct entry *entry, unsigned i)
{
    char *p = entry_address(entry);
    return (void **)(void *)(p + entry->head - (entry->links - i) * sizeof(void *));
}

/* ---- In a child ---- */

static uint32_t stamp; /* not 0 in a child */

bool ledger_misses_callbacks(void)
{
    return stamp == 0;
}

void ledger_fork_child_begin(void)
{
    stamp = (uint32_t)getpid();
    for (unsigned i = 0; i < SHARDS; i++)
        sh_store_relaxed(&ledger->shards[i].locked, 0u);
}

/* By the pointers that are there, of those that the ledger knows. */
static void keep(struct entry *entry)
{
    if (entry_state(entry) != LIVE || entry->stamp == stamp)
        return;
    entry->stamp = stamp;
    for (unsigned i = 0; i < entry->links; i++) {
        struct entry *to = entry->link[i] ? ledger_entry(entry->link[i]) : NULL;
        if (to && *entry_link(entry, i) == (char *)entry_address(to) + entry->offset[i])
            keep(to);
    }
}

void ledger_fork_child_keep(const void *p)
{
    struct entry *entry = p ? shadow_find(p) : NULL;
    if (entry && entry_address(entry) == p)
        keep(entry);
}

void ledger_fork_child_end(void)
{
    uint32_t end = sh_load_relaxed(&ledger->next);
    for (uint32_t id = 1; id < end; id++) {
        if (!sh_load_relaxed(&ledger->chunks[id >> CHUNK_BITS]))
            continue;
        struct entry *entry = ledger_entry(id);
        if (entry_state(entry) == LIVE && entry->stamp != stamp)
            entry_set_state(entry, FREEING);
    }
}

/* ---- What was dropped ---- */

void ledger_drop(struct dropped_list *list, struct entry *entry)
{
    if (!list->items)
        list->items = own_map(DROPPED_MAX * sizeof *list->items);
    if (list->count == DROPPED_MAX)
        fail("leak", entry,
            "%zu dropped objects are there still, after collections that found nothing "
            "of them",
            list->count);
    uint64_t life = sh_load_relaxed(&entry->life);
    uint64_t drops = ((life >> 8) + 1) & 0xff;
    life = (life >> 16 << 16) | drops << 8 | DROPPED;
    list->items[list->count++] = (struct dropped){entry->id, life};
    sh_sub_relaxed(&counts.live_bytes, entry->usable);
    sh_sub_relaxed(&counts.live_objects, (size_t)1);
    sh_add_relaxed(&counts.dropped, (uint64_t)1);
    sh_store_seq_cst(&entry->life, life);
}

static void cross_out(struct entry *entry)
{
    shadow_clear(entry);
    sh_add_relaxed(&counts.collected, (uint64_t)1);
    ledger_put(entry);
}

/* The library says of the address that nothing is there, or something else, which need not
 * be an object of ours: it was collected. */
static bool is_gone(struct entry *entry, uint64_t life)
{
    if (!backend->collects || backend->gc_nbytes(entry_address(entry)) == entry->usable)
        return false;
    uint32_t pending = sh_load_acquire(&entry->pending);
    if (!entry_try_state(entry, life, COLLECTED))
        return false;
    if (pending && ledger_misses_callbacks())
        fail("callback", entry, "was collected, and its %s did not come",
            pending & PENDING_FINALISER ? "finaliser" : "weak reference's hook");
    return true;
}

/* True: the list need not remember it. */
static bool audit_one(struct dropped item)
{
    struct entry *entry = ledger_entry(item.id);
    uint64_t life = sh_load_acquire(&entry->life);
    if (life_serial(life) != life_serial(item.life))
        return true;
    if (life_state(life) == COLLECTED || is_gone(entry, item.life)) {
        cross_out(entry);
        return true;
    }
    return life != item.life; /* it came back, and may be on another list by now */
}

size_t ledger_audit(struct dropped_list *list)
{
    size_t left = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!audit_one(list->items[i]))
            list->items[left++] = list->items[i];
    return list->count = left;
}
