/* SPDX-License-Identifier: MIT */
/* Scenarios of collecting, of gc_lock, and of looking at the heap. */
#include <errno.h>
#include <string.h>

#include <splitheap/gc.h>
#include <splitheap/malloc.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/helper.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

void run_collect(struct worker *worker)
{
    collect();
    ledger_audit(&worker->lane->dropped);
}

/* ---- By phases ---- */

/* With a root more. It only counts for this collection, so the stack holds the object
 * too; that named roots hold is for the named places to show. */
void run_phases(struct worker *worker)
{
    void *root = object_make(worker, wish_any(&worker->random));
    gc_collect_start();
    if (!gc_is_locked())
        fail("lock", NULL, "gc_is_locked() is false between gc_collect_start and _end");
    gc_collect_root(&root, 1);
    places_name_roots();
    gc_collect_end();
    if (root)
        object_free(worker, object_entry(root));
}

/* ---- gc_lock ---- */

#define LOCKED_FREES 8

static void use_locked(void)
{
    void *p = gc_alloc(32, 0);
    if (p || plant_now(PLANT_OPEN_LOCK))
        fail("lock", NULL, "gc_alloc gave %p inside gc_lock", p);
    if (!gc_is_locked())
        fail("lock", NULL, "gc_is_locked() is false inside gc_lock");
    gc_collect();
}

static size_t free_locked(struct worker *worker, struct entry **freed)
{
    size_t count = 0;
    struct place *place = &worker->places[PLACE_STACK];
    for (size_t i = 0; i < place->count && count < LOCKED_FREES; i++) {
        struct entry *entry = place->slots[i] ? object_entry(place->slots[i]) : NULL;
        if (!entry || entry->in_graph || random_once_in(&worker->random, 2))
            continue;
        if (gc_realloc(place->slots[i], entry->asked * 2, true))
            fail("lock", entry, "gc_realloc gave memory inside gc_lock");
        object_verify(entry);
        object_free_locked(worker, entry);
        place->slots[i] = NULL;
        freed[count++] = entry;
    }
    return count;
}

void run_lock(struct worker *worker)
{
    struct entry *freed[LOCKED_FREES];
    size_t depth = random_once_in(&worker->random, 20)
                       ? 1 + random_below(&worker->random, 1000)
                       : 1 + random_below(&worker->random, 4);
    for (size_t i = 0; i < depth; i++)
        gc_lock();
    use_locked();
    size_t count = free_locked(worker, freed);
    if (random_once_in(&worker->random, 8))
        own_sleep_us((unsigned)random_below(&worker->random, 2000));
    for (size_t i = 0; i < depth; i++) {
        if (!gc_is_locked())
            fail("lock", NULL, "gc_is_locked() is false before the last gc_unlock");
        gc_unlock();
    }
    if (gc_is_locked())
        fail("lock", NULL, "gc_is_locked() is true after the last gc_unlock");
    for (size_t i = 0; i < count; i++)
        object_freed_by_unlock(freed[i]);
}

/* ---- Looking ---- */

static void ignore_text(void *seen, const char *text, size_t len)
{
    (void)text;
    *(size_t *)seen += len;
}

static void check_totals(void)
{
    struct gc_collection_totals before, now;
    gc_get_collection_totals(&before);
    gc_get_collection_totals(&now);
    if (now.collections < before.collections || now.pause_ns < before.pause_ns)
        fail("info", NULL, "gc_get_collection_totals: %llu collections, then %llu",
            (unsigned long long)before.collections,
            (unsigned long long)now.collections);
    if (now.collections != now.by_request + now.by_pacing + now.for_memory ||
        now.pause_ns < now.pause_ns_max || now.mark_ns > now.pause_ns)
        fail("info", NULL, "gc_get_collection_totals: sums that are none");
}

#define CLASSES_MAX 256

static void check_classes(void)
{
    static struct splitheap_class seen[CLASSES_MAX]; /* under the lock */
    static _Atomic uint32_t locked;
    if (sh_exchange_acquire(&locked, 1u))
        return;
    size_t count = splitheap_stats_classes(seen, CLASSES_MAX);
    for (size_t i = 1; i < sh_min(count, CLASSES_MAX); i++)
        if (seen[i].cell_size <= seen[i - 1].cell_size)
            fail("info", NULL, "size class %zu has cells of %zu bytes after %zu", i,
                seen[i].cell_size, seen[i - 1].cell_size);
    sh_store_release(&locked, 0u);
}

void run_info(struct worker *worker)
{
    check_totals();
    check_classes();
    gc_info_t info;
    if (random_below(&worker->random, 2))
        gc_info(&info);
    else
        gc_info_fast(&info);
    if (info.total != info.used + info.free || info.max_block * 16 > info.total)
        fail("info", NULL, "gc_info: total %zu, used %zu, free %zu, max_block %zu",
            info.total, info.used, info.free, info.max_block);
    struct splitheap_stats stats;
    if (splitheap_stats_get(&stats, sizeof stats) < sizeof stats)
        fail("info", NULL, "splitheap_stats_get knows less than its header");
    if (stats.threads == 0 || stats.areas == 0)
        fail("info", NULL, "statistics: %zu threads, %zu areas", stats.threads,
            stats.areas);
}

void run_dump(struct worker *worker)
{
    size_t seen = 0;
    gc_print_t print = {.data = &seen, .print_strn = ignore_text};
    switch (random_below(&worker->random, 4)) {
    case 0:
        gc_dump_info(&print);
        break;
    case 1:
        gc_dump_alloc_table(&print);
        break;
    case 2:
        splitheap_stats_print(ignore_text, &seen, SPLITHEAP_JSON);
        break;
    default:
        splitheap_stats_print(ignore_text, &seen, SPLITHEAP_TEXT);
        break;
    }
    if (seen == 0)
        fail("info", NULL, "a dump printed nothing");
}

/* ---- More memory, at odd addresses ---- */

#define AREAS_MAX 48
#define AREA_MAX ((size_t)1 << 20)

/* It has no way to fail, so nothing does. */
void run_area(struct worker *worker)
{
    static _Atomic unsigned areas;
    if (sh_load_relaxed(&areas) >= AREAS_MAX || settings_memory_is_short())
        return;
    sh_add_relaxed(&areas, 1u);
    struct random *random = &worker->random;
    size_t bytes = ((size_t)64 << 10) + random_below(random, AREA_MAX);
    char *start = own_map(bytes + 8192);
    start += random_below(random, 4096);
    fault_hold();
    if (random_below(random, 2))
        gc_add(start, start + bytes);
    else
        gc_init(start, start + bytes);
    fault_release();
}

/* ---- Pacing ---- */

void run_pacing(struct worker *worker)
{
    struct random *random = &worker->random;
    if (random_below(random, 2)) {
        gc_set_auto_collect(false);
        own_slot_use(worker, &worker->places[PLACE_STACK].slots[0]);
        gc_set_auto_collect(true);
    } else {
        size_t megabytes = random_below(random, 3) ? 0 : 16 + random_below(random, 64);
        if (settings.minor)
            gc_set_generations(megabytes == 0);
        else
            gc_set_threshold(megabytes << 20);
    }
    gc_set_markers((unsigned)random_below(random, 6));
    if (!gc_set_scan_data_segments(true))
        fail("roots", NULL, "data segments were no roots");
    helper_register();
}

/* ---- Blocking ---- */

void run_blocking(struct worker *worker)
{
    unsigned us = (unsigned)random_below(&worker->random, 3000);
    gc_blocking_begin();
    own_sleep_us(us);
    gc_blocking_end();
}
