/* SPDX-License-Identifier: MIT */
/* Purging. See heaps/purge.h. */
#include "heaps/purge.h"

#include "heaps/bucket.h"
#include "heaps/run.h"

/* Dirty pages kept for reuse: this many, and an eighth of what is in use. */
#define DIRTY_FLOOR_PAGES ((size_t)(32 << 20) / SH_PAGE_SIZE)
#define PURGE_BATCH 16

static size_t dirty_limit(void)
{
    size_t in_use = sh_load_relaxed(&sh_heap_counts.total_pages) -
                    sh_load_relaxed(&sh_heap_counts.free_pages);
    return DIRTY_FLOOR_PAGES + in_use / 8;
}

/* Takes the largest dirty runs out until `stay` pages are left. */
static unsigned pick_dirty(struct sh_span *picked[PURGE_BATCH], size_t stay)
{
    unsigned n = 0;
    while (n < PURGE_BATCH && sh_load_relaxed(&sh_heap_counts.dirty_pages) > stay) {
        struct sh_span *run = sh_bucket_largest(true);
        if (!run)
            break;
        sh_run_remove(run);
        picked[n++] = run;
    }
    return n;
}

static void insert_clean(struct sh_span *run)
{
    struct sh_area *area = run->area;
    sh_add_relaxed(&sh_heap_counts.purges, 1);
    sh_add_relaxed(&sh_heap_counts.purged_pages, run->pages);
    run->zeroed = true;
    sh_run_insert_merged(run);
    sh_area_freed(area);
}

/* Begins under the lock, and ends without. */
static unsigned purge_batch(size_t stay)
{
    struct sh_span *picked[PURGE_BATCH];
    unsigned n = pick_dirty(picked, stay);
    sh_lock_release(&sh_heap_lock);
    for (unsigned i = 0; i < n; i++)
        sh_os_purge((void *)picked[i]->base, picked[i]->pages * SH_PAGE_SIZE);
    sh_lock_acquire(&sh_heap_lock);
    for (unsigned i = 0; i < n; i++)
        insert_clean(picked[i]);
    struct sh_area *idle = sh_area_take_idle();
    sh_lock_release(&sh_heap_lock);
    if (idle)
        sh_area_unmap(idle);
    return n;
}

void sh_purge_excess(void)
{
    if (sh_load_relaxed(&sh_heap_counts.dirty_pages) <= dirty_limit())
        return;
    sh_lock_acquire(&sh_heap_lock);
    size_t limit = dirty_limit();
    bool excess = sh_load_relaxed(&sh_heap_counts.dirty_pages) > limit;
    purge_batch(excess ? limit / 2 : SIZE_MAX);
}

bool sh_purge_dirty(void)
{
    bool any = false;
    unsigned n;
    do {
        sh_lock_acquire(&sh_heap_lock);
        n = purge_batch(0);
        any |= n > 0;
    } while (n > 0);
    return any;
}
