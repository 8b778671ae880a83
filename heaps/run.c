/* SPDX-License-Identifier: MIT */
/* Page runs: taking, giving back, merging, purging. See heaps/run.h. */
#include "heaps/run.h"

#include <errno.h>

#include "heaps/bucket.h"
#include "heaps/page_map.h"
#include "lib/check.h"
#include "lib/meta.h"

/* No merging with a run that is being purged: it is in no bucket. */
#define BUCKET_BUSY UINT8_MAX

/* Dirty pages kept for reuse: this many, and an eighth of what is in use. */
#define DIRTY_FLOOR_PAGES ((size_t)(32 << 20) / SH_PAGE_SIZE)
#define PURGE_BATCH 16

struct sh_lock sh_heap_lock = SH_LOCK_INIT(SH_RANK_HEAP);
struct sh_heap_counts sh_heap_counts;

static struct sh_area *areas;
static struct sh_span *all_spans;
static bool idle_kept; /* there may be idle areas that were not given back */

struct sh_area *sh_area_first(void)
{
    return areas;
}

struct sh_span *sh_span_first(void)
{
    return all_spans;
}

static void all_insert(struct sh_span *span)
{
    span->all_prev = NULL;
    span->all_next = all_spans;
    if (all_spans)
        all_spans->all_prev = span;
    all_spans = span;
}

static void all_remove(struct sh_span *span)
{
    if (span->all_next)
        span->all_next->all_prev = span->all_prev;
    if (span->all_prev)
        span->all_prev->all_next = span->all_next;
    else
        all_spans = span->all_next;
}

/* ---- Areas ---- */

struct sh_area *sh_area_of(uintptr_t address)
{
    sh_assert_held(&sh_heap_lock);
    struct sh_area *area = areas;
    while (area && (address < area->start || address >= area->end))
        area = area->next;
    return area;
}

static size_t area_pages(const struct sh_area *area)
{
    return (area->end - area->start) / SH_PAGE_SIZE;
}

static bool area_overlaps(uintptr_t start, uintptr_t end)
{
    for (struct sh_area *area = areas; area; area = area->next)
        if (start < area->end && area->start < end)
            return true;
    return false;
}

static void area_link(struct sh_area *area)
{
    area->prev = NULL;
    area->next = areas;
    if (areas)
        areas->prev = area;
    areas = area;
    sh_add_relaxed(&sh_heap_counts.total_pages, area_pages(area));
}

static void area_unlink(struct sh_area *area)
{
    if (area->next)
        area->next->prev = area->prev;
    if (area->prev)
        area->prev->next = area->next;
    else
        areas = area->next;
    sh_sub_relaxed(&sh_heap_counts.total_pages, area_pages(area));
}

static struct sh_area *area_new(uintptr_t start, uintptr_t end)
{
    struct sh_area *area = sh_meta_alloc(sizeof *area);
    if (area)
        *area = (struct sh_area){.start = start, .end = end};
    return area;
}

static struct sh_span *run_new(
    struct sh_area *area, uintptr_t base, size_t pages, bool zeroed)
{
    struct sh_span *run = sh_span_new(0);
    if (!run)
        return NULL;
    sh_span_setup(run, base, 0, 0);
    run->state = SH_SPAN_FREE;
    run->area = area;
    run->pages = pages;
    run->zeroed = zeroed;
    return run;
}

/* Purging would give its pages back. */
static bool run_purgeable(const struct sh_span *run)
{
    return !run->zeroed && !run->area->from_user;
}

static void run_insert(struct sh_span *run)
{
    sh_bucket_insert(run);
    run->area->free_pages += run->pages;
    sh_add_relaxed(&sh_heap_counts.free_pages, run->pages);
    if (run_purgeable(run))
        sh_add_relaxed(&sh_heap_counts.dirty_pages, run->pages);
}

static void run_remove(struct sh_span *run)
{
    sh_bucket_remove(run);
    run->bucket = BUCKET_BUSY;
    run->area->free_pages -= run->pages;
    sh_sub_relaxed(&sh_heap_counts.free_pages, run->pages);
    if (run_purgeable(run))
        sh_sub_relaxed(&sh_heap_counts.dirty_pages, run->pages);
}

/* The granules at the ends of an area may be shared with another area. */
static bool area_map(uintptr_t start, uintptr_t end)
{
    return sh_page_map_cover(start, (end - start) / SH_PAGE_SIZE) &&
           sh_page_map_split(start) && sh_page_map_split(end);
}

static int area_add_locked(uintptr_t start, uintptr_t end, bool from_user)
{
    if (area_overlaps(start, end))
        return EEXIST;
    struct sh_area *area = area_new(start, end);
    struct sh_span *run =
        area ? run_new(area, start, (end - start) / SH_PAGE_SIZE, !from_user) : NULL;
    if (!run || !area_map(start, end)) {
        if (run)
            sh_span_delete(run, 0);
        if (area)
            sh_meta_free(area, sizeof *area);
        return ENOMEM;
    }
    area->from_user = from_user;
    area->first = !from_user && sh_load_relaxed(&sh_heap_counts.areas) == 0;
    area_link(area);
    sh_page_map_set(start, run->pages, run);
    run_insert(run);
    sh_add_relaxed(&sh_heap_counts.areas, 1u);
    return 0;
}

int sh_area_add(uintptr_t start, uintptr_t end, bool from_user)
{
    sh_lock_acquire(&sh_heap_lock);
    int error = area_add_locked(start, end, from_user);
    sh_lock_release(&sh_heap_lock);
    return error;
}

static bool area_is_idle(const struct sh_area *area)
{
    return !area->from_user && !area->first && area->free_pages == area_pages(area);
}

/* Giving the area back leaves a quarter of what is in use free: it is not soon missed. */
static bool area_is_spare(const struct sh_area *area)
{
    size_t total = sh_load_relaxed(&sh_heap_counts.total_pages);
    size_t free = sh_load_relaxed(&sh_heap_counts.free_pages);
    return free - area_pages(area) >= (total - free) / 4;
}

/* Takes an area whose pages are all free out of the heap; the caller unmaps it. */
static void area_dissolve(struct sh_area *area)
{
    for (uintptr_t at = area->start; at < area->end;) {
        struct sh_span *run = sh_page_map_lookup(at);
        at += run->pages * SH_PAGE_SIZE;
        run_remove(run);
        sh_span_delete(run, 0);
    }
    sh_page_map_set(area->start, area_pages(area), NULL);
    area_unlink(area);
}

/* An idle area that can be spared, taken out of the heap; or NULL. */
static struct sh_area *idle_area_out(void)
{
    if (!idle_kept)
        return NULL;
    idle_kept = false;
    for (struct sh_area *area = areas; area; area = area->next) {
        if (!area_is_idle(area))
            continue;
        idle_kept = true;
        if (!area_is_spare(area))
            continue;
        area_dissolve(area);
        return area;
    }
    return NULL;
}

/* ---- Taking ---- */

/* Leaves `pages` from `start` on in nobody's hands; the rest of the run stays free. */
static bool run_carve(struct sh_span *run, uintptr_t start, size_t pages)
{
    uintptr_t end = start + pages * SH_PAGE_SIZE;
    size_t front = (start - run->base) / SH_PAGE_SIZE;
    size_t back = run->pages - front - pages;
    struct sh_span *extra = NULL;
    if (!sh_page_map_split(start) || !sh_page_map_split(end))
        return false;
    if (front && back) {
        extra = run_new(run->area, end, back, run->zeroed);
        if (!extra)
            return false;
        sh_page_map_set(end, back, extra);
    }
    run_remove(run);
    if (extra)
        run_insert(extra);
    if (!front && !back) {
        sh_span_delete(run, 0);
        return true;
    }
    run->base = front ? run->base : end;
    run->pages = front ? front : back;
    run_insert(run);
    return true;
}

static struct sh_span *choose_run(const struct sh_run_want *want, size_t *pages)
{
    *pages = want->pages;
    struct sh_span *run = sh_bucket_find(want->pages, want->align);
    if (run || want->min_pages >= want->pages)
        return run;
    run = sh_bucket_largest(false);
    if (!run || !sh_run_fits(run, want->min_pages, want->align))
        return NULL;
    size_t skipped =
        (sh_run_aligned_start(run, want->align) - run->base) / SH_PAGE_SIZE;
    *pages = sh_min(want->pages, run->pages - skipped);
    return run;
}

static struct sh_span *take_locked(const struct sh_run_want *want)
{
    size_t pages;
    struct sh_span *run = choose_run(want, &pages);
    if (!run)
        return NULL;
    size_t bytes = pages * SH_PAGE_SIZE;
    size_t cell_size = want->cell_size ? want->cell_size : bytes;
    size_t cells = bytes / cell_size;
    struct sh_span *span = sh_span_new(cells);
    if (!span)
        return NULL;
    uintptr_t start = sh_run_aligned_start(run, want->align);
    struct sh_area *area = run->area;
    bool zeroed = run->zeroed;
    if (!run_carve(run, start, pages)) {
        sh_span_delete(span, cells);
        return NULL;
    }
    sh_span_setup(span, start, cell_size, cells);
    span->area = area;
    span->pages = pages;
    span->zeroed = zeroed;
    span->kind = want->kind;
    span->state = want->state;
    span->class_index = want->class_index;
    if (want->cell_size)
        span->reciprocal = sh_size_classes[want->class_index].reciprocal;
    sh_page_map_set(start, pages, span);
    all_insert(span);
    return span;
}

struct sh_span *sh_run_take(const struct sh_run_want *want)
{
    sh_lock_acquire(&sh_heap_lock);
    struct sh_span *span = take_locked(want);
    sh_lock_release(&sh_heap_lock);
    return span;
}

/* ---- Giving back ---- */

static bool mergeable(struct sh_span *run, struct sh_span *other)
{
    return other && other->state == SH_SPAN_FREE && other->area == run->area &&
           other->bucket != BUCKET_BUSY && other->zeroed == run->zeroed;
}

/* Joins two neighbours, low before high; the larger one's descriptor stays, so that
 * only the smaller one's entries are written. */
static struct sh_span *merge(struct sh_span *low, struct sh_span *high)
{
    struct sh_span *stays = low->pages >= high->pages ? low : high;
    struct sh_span *goes = stays == low ? high : low;
    sh_page_map_set(goes->base, goes->pages, stays);
    stays->base = low->base;
    stays->pages = low->pages + high->pages;
    sh_span_delete(goes, 0);
    return stays;
}

/* Inserts a run that is in no bucket, merged with its neighbours. */
static void run_insert_merged(struct sh_span *run)
{
    struct sh_span *before = sh_page_map_lookup(run->base - 1);
    if (mergeable(run, before)) {
        run_remove(before);
        run = merge(before, run);
    }
    struct sh_span *behind = sh_page_map_lookup(run->base + run->pages * SH_PAGE_SIZE);
    if (mergeable(run, behind)) {
        run_remove(behind);
        run = merge(run, behind);
    }
    run_insert(run);
}

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
        run_remove(run);
        picked[n++] = run;
    }
    return n;
}

/* Purges what is too much; called without the lock. */
static void purge_excess(void)
{
    struct sh_span *picked[PURGE_BATCH];
    sh_lock_acquire(&sh_heap_lock);
    unsigned n = pick_dirty(picked);
    sh_lock_release(&sh_heap_lock);
    for (unsigned i = 0; i < n; i++)
        sh_os_purge((void *)picked[i]->base, picked[i]->pages * SH_PAGE_SIZE);
    if (!n)
        return;
    sh_lock_acquire(&sh_heap_lock);
    for (unsigned i = 0; i < n; i++) {
        struct sh_area *area = picked[i]->area;
        picked[i]->zeroed = true;
        run_insert_merged(picked[i]);
        idle_kept |= area_is_idle(area);
    }
    sh_lock_release(&sh_heap_lock);
}

/* Turns a span into a dirty run. False: there is no memory to describe one. */
static bool span_to_run(struct sh_span *span)
{
    struct sh_span *run = run_new(span->area, span->base, span->pages, false);
    if (!run)
        return false;
    run->bucket = BUCKET_BUSY;
    sh_page_map_set(span->base, span->pages, run);
    all_remove(span);
    run_insert_merged(run);
    return true;
}

static void unmap_area(struct sh_area *area)
{
    sh_os_unmap((void *)area->start, area->end - area->start);
    sh_meta_free(area, sizeof *area);
}

static void huge_unlink(struct sh_span *span)
{
    struct sh_area *area = span->area;
    sh_lock_acquire(&sh_heap_lock);
    all_remove(span);
    sh_page_map_set(area->start, area_pages(area), NULL);
    area_unlink(area);
    sh_lock_release(&sh_heap_lock);
}

static void huge_unmap(struct sh_span *span)
{
    struct sh_area *area = span->area;
    huge_unlink(span);
    unmap_area(area);
    sh_store_relaxed(&span->owner, (uintptr_t)0);
    sh_span_delete(span, 1);
}

void sh_run_give(struct sh_span *span)
{
    if (span->state == SH_SPAN_HUGE) {
        huge_unmap(span);
        return;
    }
    size_t cells = span->cell_count;
    sh_lock_acquire(&sh_heap_lock);
    struct sh_area *area = span->area;
    if (!span_to_run(span)) {
        /* The pages stay with an empty span that nobody owns; only address space is
         * lost, and a collected span is tried again by the next collection. */
        span->list = SH_LIST_NONE;
        sh_store_relaxed(&span->owner, (uintptr_t)0);
        sh_lock_release(&sh_heap_lock);
        return;
    }
    idle_kept |= area_is_idle(area);
    struct sh_area *idle = idle_area_out();
    bool excess = sh_load_relaxed(&sh_heap_counts.dirty_pages) > dirty_limit();
    sh_lock_release(&sh_heap_lock);
    span->state = SH_SPAN_FREE;
    sh_store_relaxed(&span->owner, (uintptr_t)0);
    sh_span_delete(span, cells);
    if (idle)
        unmap_area(idle);
    if (excess)
        purge_excess();
}

/* ---- Resizing ---- */

static bool grow_locked(struct sh_span *span, size_t pages)
{
    uintptr_t end = span->base + span->pages * SH_PAGE_SIZE;
    struct sh_span *behind = sh_page_map_lookup(end);
    size_t more = pages - span->pages;
    if (!behind || behind->state != SH_SPAN_FREE || behind->area != span->area ||
        behind->bucket == BUCKET_BUSY || behind->pages < more)
        return false;
    if (!run_carve(behind, end, more))
        return false;
    span->pages = pages;
    sh_page_map_set(end, more, span);
    return true;
}

static bool shrink_locked(struct sh_span *span, size_t pages)
{
    uintptr_t end = span->base + pages * SH_PAGE_SIZE;
    size_t less = span->pages - pages;
    if (!sh_page_map_split(end))
        return false;
    struct sh_span *run = run_new(span->area, end, less, false);
    if (!run)
        return false;
    run->bucket = BUCKET_BUSY;
    sh_page_map_set(end, less, run);
    span->pages = pages;
    run_insert_merged(run);
    return true;
}

bool sh_run_resize(struct sh_span *span, size_t pages)
{
    if (pages == span->pages)
        return true;
    sh_lock_acquire(&sh_heap_lock);
    bool done =
        pages > span->pages ? grow_locked(span, pages) : shrink_locked(span, pages);
    if (done)
        span->cell_size = pages * SH_PAGE_SIZE;
    sh_lock_release(&sh_heap_lock);
    if (done)
        purge_excess();
    return done;
}

/* ---- Huge objects ---- */

static bool huge_link(struct sh_span *span, struct sh_area *area)
{
    size_t pages = area_pages(area);
    sh_lock_acquire(&sh_heap_lock);
    bool covered = area_map(area->start, area->end);
    if (covered) {
        area_link(area);
        sh_page_map_set(area->start, pages, span);
        all_insert(span);
    }
    sh_lock_release(&sh_heap_lock);
    return covered;
}

static void huge_setup(struct sh_span *span, struct sh_area *area, uint8_t kind)
{
    sh_span_setup(span, area->start, area->end - area->start, 1);
    span->area = area;
    span->pages = area_pages(area);
    span->zeroed = true;
    span->kind = kind;
    span->state = SH_SPAN_HUGE;
}

struct sh_span *sh_huge_map(size_t bytes, size_t align, uint8_t kind)
{
    align = sh_max(align, SH_GRANULE_BYTES);
    uintptr_t start = (uintptr_t)sh_os_map(bytes, align);
    struct sh_area *area = start ? area_new(start, start + bytes) : NULL;
    struct sh_span *span = area ? sh_span_new(1) : NULL;
    if (span) {
        area->huge = true;
        huge_setup(span, area, kind);
        if (huge_link(span, area))
            return span;
        sh_span_delete(span, 1);
    }
    if (area)
        sh_meta_free(area, sizeof *area);
    if (start)
        sh_os_unmap((void *)start, bytes);
    return NULL;
}

bool sh_huge_resize(struct sh_span *span, size_t bytes)
{
    struct sh_area *area = span->area;
    size_t old_bytes = area->end - area->start;
    huge_unlink(span);
    uintptr_t start = (uintptr_t)sh_os_remap((void *)area->start, old_bytes, bytes);
    bool done = start != 0;
    if (done) {
        area->start = start;
        area->end = start + bytes;
        span->base = start;
        span->pages = bytes / SH_PAGE_SIZE;
        span->cell_size = bytes;
    }
    if (!huge_link(span, area))
        sh_fatal("no memory for the page map of %zu bytes at %p", bytes, (void *)start);
    return done;
}
