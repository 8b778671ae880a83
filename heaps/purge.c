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

/* Takes the largest dirty runs out until half the limit is left. */
static unsigned pick_dirty(struct sh_span *picked[PURGE_BATCH])
{
    unsigned n = 0;
    size_t limit = dirty_limit();
    if (sh_load_relaxed(&sh_heap_counts.dirty_pages) <= limit)
        return 0;
    while (
        n < PURGE_BATCH && sh_load_relaxed(&sh_heap_counts.dirty_pages) > limit / 2) {
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
    run->zeroed = true;
    sh_run_insert_merged(run);
    sh_area_freed(area);
}

void sh_purge_excess(void)
{
    struct sh_span *picked[PURGE_BATCH];
    if (sh_load_relaxed(&sh_heap_counts.dirty_pages) <= dirty_limit())
        return;
    sh_lock_acquire(&sh_heap_lock);
    unsigned n = pick_dirty(picked);
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
}
