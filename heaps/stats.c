/* SPDX-License-Identifier: MIT */
/* Gathering statistics. See heaps/stats.h. */
#include "heaps/stats.h"

#include <string.h>

#include "heaps/area.h"
#include "heaps/heap.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/meta.h"
#include "threads/registry.h"

/* The table has every field, in their order. */
#define IN_ORDER(field, what) FIELD_##field,
enum { SH_STATS(IN_ORDER) FIELD_COUNT };
_Static_assert(
    sizeof(struct splitheap_stats) == FIELD_COUNT * sizeof(size_t), "SH_STATS");
#define IS_IN_ORDER(field, what)                                                       \
    _Static_assert(                                                                    \
        offsetof(struct splitheap_stats, field) == FIELD_##field * sizeof(size_t),     \
        #field);
SH_STATS(IS_IN_ORDER)

/* Its owner may be at work in it. */
SH_NO_SANITIZE static size_t live_cells(struct sh_span *span)
{
    size_t live = 0;
    for (uint32_t w = 0; w < span->touched; w++)
        live += sh_popcount64(sh_span_live(span, w));
    return live;
}

/* Pages that nothing was handed out from yet were not written to. */
SH_NO_SANITIZE static size_t resident_bytes(struct sh_span *span)
{
    size_t cells = sh_min((size_t)span->touched * 64, span->cell_count);
    return sh_round_up(cells * span->cell_size, SH_PAGE_SIZE);
}

static void count_by_kind(
    struct splitheap_stats *sums, unsigned kind, size_t objects, size_t bytes)
{
    switch (kind) {
    case SH_KIND_EXPLICIT:
        sums->malloc_objects += objects;
        sums->malloc_bytes += bytes;
        break;
    case SH_KIND_SCAN:
    case SH_KIND_TYPED:
        sums->gc_objects += objects;
        sums->gc_bytes += bytes;
        break;
    default:
        sums->leaf_objects += objects;
        sums->leaf_bytes += bytes;
        break;
    }
}

static void count_small(struct sh_stats *stats, struct sh_span *span, size_t objects)
{
    struct splitheap_class *class = &stats->classes[span->class_index];
    class->spans++;
    class->cells += span->cell_count;
    class->objects += objects;
    stats->sums.small_objects += objects;
    stats->sums.small_bytes += objects * span->cell_size;
}

static void count_span(struct sh_stats *stats, struct sh_span *span)
{
    struct splitheap_stats *sums = &stats->sums;
    size_t objects = live_cells(span);
    size_t bytes = objects * span->cell_size;
    sums->spans++;
    sums->active += span->pages * SH_PAGE_SIZE;
    sums->resident += resident_bytes(span);
    sums->allocated += bytes;
    count_by_kind(sums, span->kind, objects, bytes);
    if (span->state == SH_SPAN_SMALL) {
        count_small(stats, span, objects);
    } else if (span->state == SH_SPAN_LARGE) {
        sums->large_objects += objects;
        sums->large_bytes += bytes;
    } else {
        sums->huge_objects += objects;
        sums->huge_bytes += bytes;
    }
}

static void count_run(struct splitheap_stats *sums, struct sh_span *run)
{
    size_t bytes = run->pages * SH_PAGE_SIZE;
    bool dirty = !run->zeroed && !run->area->from_user;
    sums->free_runs++;
    *(dirty ? &sums->dirty : &sums->retained) += bytes;
}

static void count_area(struct sh_stats *stats, struct sh_area *area)
{
    stats->sums.areas++;
    *(area->from_user ? &stats->sums.given : &stats->sums.mapped) +=
        area->end - area->start;
    for (uintptr_t at = area->start; at < area->end;) {
        struct sh_span *span = sh_page_map_lookup(at);
        if (span->state == SH_SPAN_FREE)
            count_run(&stats->sums, span);
        else
            count_span(stats, span);
        at = sh_span_end(span);
    }
}

static void count_heap(struct sh_stats *stats)
{
    sh_lock_acquire(&sh_heap_lock);
    for (struct sh_area *area = sh_area_first(); area; area = area->next)
        count_area(stats, area);
    sh_lock_release(&sh_heap_lock);
}

void sh_stats_gather(struct sh_stats *stats)
{
    struct splitheap_stats *sums = &stats->sums;
    sh_heap_init();
    memset(stats, 0, sizeof *stats);
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++)
        stats->classes[c].cell_size = sh_size_classes[c].size;
    sh_critical_enter();
    count_heap(stats);
    sh_critical_leave();
    sums->metadata = sh_meta_bytes();
    sums->mapped += sums->metadata;
    sums->resident += sums->dirty + sums->metadata;
    sums->peak =
        sh_load_relaxed(&sh_heap_counts.peak_pages) * SH_PAGE_SIZE + sums->metadata;
    sums->threads = sh_registry_count();
    sums->collections = sh_load_relaxed(&sh_epoch);
    sums->purges = sh_load_relaxed(&sh_heap_counts.purges);
    sums->purged = sh_load_relaxed(&sh_heap_counts.purged_pages) * SH_PAGE_SIZE;
}

/* ---- For programs ---- */

SH_PUBLIC size_t splitheap_stats_get(struct splitheap_stats *stats, size_t bytes)
{
    struct sh_stats now;
    sh_stats_gather(&now);
    memcpy(stats, &now.sums, sh_min(bytes, sizeof now.sums));
    return sizeof now.sums;
}

SH_PUBLIC size_t splitheap_stats_classes(struct splitheap_class *classes, size_t count)
{
    struct sh_stats now;
    sh_stats_gather(&now);
    for (size_t c = 0; c < sh_min(count, SH_CLASS_COUNT); c++)
        classes[c] = now.classes[c];
    return SH_CLASS_COUNT;
}

SH_PUBLIC void splitheap_stats_print(splitheap_write *write, void *data, int form)
{
    struct sh_stats now;
    struct sh_sink sink = sh_stderr_sink;
    if (write)
        sink = (struct sh_sink){.data = data, .write = write};
    sh_stats_gather(&now);
    sh_stats_print(&now, form == SPLITHEAP_JSON ? SH_STATS_JSON : SH_STATS_TEXT, &sink);
}
