/* SPDX-License-Identifier: MIT */
/* Page runs: taking, giving back, merging, resizing. See heaps/run.h. */
#include "heaps/run.h"

#include "heaps/background.h"
#include "heaps/bucket.h"
#include "heaps/huge.h"
#include "heaps/limit.h"
#include "heaps/page_map.h"
#include "heaps/purge.h"
#include "lib/check.h"

static struct sh_span *all_spans;

/* ---- All spans ---- */

struct sh_span *sh_span_first(void)
{
    return all_spans;
}

void sh_span_enlist(struct sh_span *span)
{
    span->all_prev = NULL;
    span->all_next = all_spans;
    if (all_spans)
        all_spans->all_prev = span;
    all_spans = span;
}

void sh_span_delist(struct sh_span *span)
{
    if (span->all_next)
        span->all_next->all_prev = span->all_prev;
    if (span->all_prev)
        span->all_prev->all_next = span->all_next;
    else
        all_spans = span->all_next;
}

/* ---- Free runs ---- */

static void run_setup(struct sh_span *run, struct sh_area *area, uintptr_t base,
    size_t pages, bool zeroed)
{
    sh_span_setup(run, base, 0, 0, SH_KIND_EXPLICIT);
    run->state = SH_SPAN_FREE;
    run->area = area;
    run->pages = pages;
    run->zeroed = zeroed;
    run->bucket = SH_BUCKET_BUSY;
}

struct sh_span *sh_run_new(
    struct sh_area *area, uintptr_t base, size_t pages, bool zeroed)
{
    struct sh_span *run = sh_span_new(0, SH_KIND_EXPLICIT);
    if (run)
        run_setup(run, area, base, pages, zeroed);
    return run;
}

/* Purging would give its pages back. */
static bool run_purgeable(const struct sh_span *run)
{
    return !run->zeroed && !run->area->from_user;
}

void sh_run_insert(struct sh_span *run)
{
    sh_bucket_insert(run);
    run->area->free_pages += run->pages;
    sh_add_relaxed(&sh_heap_counts.free_pages, run->pages);
    if (run_purgeable(run))
        sh_purge_enlist(run);
}

void sh_run_remove(struct sh_span *run)
{
    sh_bucket_remove(run);
    run->bucket = SH_BUCKET_BUSY;
    run->area->free_pages -= run->pages;
    sh_sub_relaxed(&sh_heap_counts.free_pages, run->pages);
    if (run_purgeable(run))
        sh_purge_delist(run);
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
        extra = sh_run_new(run->area, end, back, run->zeroed);
        if (!extra)
            return false;
        sh_page_map_set(end, back, extra);
    }
    sh_run_remove(run);
    if (extra)
        sh_run_insert(extra);
    if (!front && !back) {
        sh_span_delete(run);
        return true;
    }
    run->base = front ? run->base : end;
    run->pages = front ? front : back;
    sh_run_insert(run);
    return true;
}

struct sh_span *sh_run_cut(struct sh_span *run, size_t pages)
{
    uintptr_t end = sh_span_end(run);
    uintptr_t start = sh_round_down(end - pages * SH_PAGE_SIZE, SH_SLOT_BYTES);
    if (start <= run->base)
        return NULL;
    pages = (end - start) / SH_PAGE_SIZE;
    struct sh_span *cut = sh_run_new(run->area, start, pages, run->zeroed);
    if (!cut)
        return NULL;
    if (!run_carve(run, start, pages)) {
        sh_span_delete(cut);
        return NULL;
    }
    sh_page_map_set(start, pages, cut);
    return cut;
}

/*
 * A large request for which every dirty run is too small takes one with clean pages
 * beside it: memory that is there already is worth more than an unbroken clean run.
 */
#define JOIN_LOOKS 16

/* The free run of the area that is there, or NULL. */
static struct sh_span *free_at(const struct sh_area *area, uintptr_t address)
{
    struct sh_span *run = sh_page_map_lookup(address);
    bool free = run && run->state == SH_SPAN_FREE && run->area == area &&
                run->bucket != SH_BUCKET_BUSY;
    return free ? run : NULL;
}

static struct sh_span *clean_at(const struct sh_span *run, uintptr_t address)
{
    struct sh_span *other = free_at(run->area, address);
    return other && other->zeroed ? other : NULL;
}

static struct sh_span *clean_before(const struct sh_span *run)
{
    return clean_at(run, run->base - 1);
}

static struct sh_span *clean_behind(const struct sh_span *run)
{
    return clean_at(run, sh_span_end(run));
}

/* Pages of the clean neighbour's that the run is to have. False: no memory. */
static bool annex(
    struct sh_span *run, struct sh_span *clean, uintptr_t start, size_t pages)
{
    if (!run_carve(clean, start, pages))
        return false;
    sh_page_map_set(start, pages, run);
    run->base = sh_min(run->base, start);
    run->pages += pages;
    return true;
}

static void extend(struct sh_span *run, size_t pages)
{
    struct sh_span *clean = clean_behind(run);
    sh_run_remove(run);
    if (clean)
        annex(run, clean, clean->base, sh_min(clean->pages, pages - run->pages));
    clean = clean_before(run);
    if (clean && run->pages < pages) {
        size_t more = sh_min(clean->pages, pages - run->pages);
        annex(run, clean, run->base - more * SH_PAGE_SIZE, more);
    }
    sh_run_insert(run);
}

static size_t pages_with_neighbours(const struct sh_span *run)
{
    const struct sh_span *before = clean_before(run), *behind = clean_behind(run);
    return run->pages + (before ? before->pages : 0) + (behind ? behind->pages : 0);
}

/* A dirty run of just so many pages, some of them clean ones, or NULL. */
static struct sh_span *join_clean(size_t pages)
{
    struct sh_span *run = sh_bucket_largest(true);
    for (unsigned looks = 0; run && looks < JOIN_LOOKS; looks++) {
        if (pages_with_neighbours(run) >= pages) {
            extend(run, pages);
            return run->pages >= pages ? run : NULL;
        }
        run = sh_bucket_smaller_dirty(run);
    }
    return NULL;
}

static struct sh_span *find_run(size_t pages, size_t align)
{
    struct sh_span *run = sh_bucket_find_dirty(pages, align);
    if (!run && pages >= SH_RUN_PICKY_PAGES && align <= SH_PAGE_SIZE)
        run = join_clean(pages);
    return run ? run : sh_bucket_find_clean(pages, align);
}

static struct sh_span *choose_run(const struct sh_run_want *want, size_t *pages)
{
    *pages = sh_min(want->pages, sh_limit_left());
    if (*pages < want->min_pages)
        return NULL;
    struct sh_span *run = find_run(*pages, want->align);
    if (run || want->min_pages >= *pages)
        return run;
    run = sh_bucket_largest(false);
    if (!run || !sh_run_fits(run, want->min_pages, want->align))
        return NULL;
    size_t skipped =
        (sh_run_aligned_start(run, want->align) - run->base) / SH_PAGE_SIZE;
    *pages = sh_min(*pages, run->pages - skipped);
    return run;
}

/* A span on these pages of the run, which the limit allows; NULL: no memory. */
static struct sh_span *make_span(
    const struct sh_run_want *want, struct sh_span *run, size_t pages)
{
    size_t bytes = pages * SH_PAGE_SIZE;
    size_t cell_size = want->cell_size ? want->cell_size : bytes;
    size_t cells = bytes / cell_size;
    struct sh_span *span = sh_span_new(cells, want->kind);
    if (!span)
        return NULL;
    uintptr_t start = sh_run_aligned_start(run, want->align);
    struct sh_area *area = run->area;
    bool zeroed = run->zeroed;
    if (!run_carve(run, start, pages)) {
        sh_span_delete(span);
        return NULL;
    }
    sh_span_setup(span, start, cell_size, cells, want->kind);
    span->area = area;
    span->pages = pages;
    span->zeroed = zeroed;
    span->state = want->state;
    span->class_index = want->class_index;
    if (want->cell_size)
        span->reciprocal = sh_size_classes[want->class_index].reciprocal;
    sh_page_map_set(start, pages, span);
    sh_span_enlist(span);
    return span;
}

static struct sh_span *take_locked(const struct sh_run_want *want)
{
    size_t pages;
    struct sh_span *run = choose_run(want, &pages);
    if (!run || !sh_limit_take(pages))
        return NULL;
    struct sh_span *span = make_span(want, run, pages);
    if (!span)
        sh_limit_give(pages);
    return span;
}

struct sh_span *sh_run_take(const struct sh_run_want *want)
{
    sh_lock_acquire(&sh_heap_lock);
    struct sh_span *span = take_locked(want);
    sh_purge_note_use();
    sh_lock_release(&sh_heap_lock);
    sh_background_consider();
    return span;
}

/* ---- Giving back ---- */

static bool mergeable(struct sh_span *run, struct sh_span *other)
{
    return other && other->state == SH_SPAN_FREE && other->area == run->area &&
           other->bucket != SH_BUCKET_BUSY && other->zeroed == run->zeroed;
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
    sh_span_delete(goes);
    return stays;
}

void sh_run_insert_merged(struct sh_span *run)
{
    struct sh_span *before = sh_page_map_lookup(run->base - 1);
    if (mergeable(run, before)) {
        sh_run_remove(before);
        run = merge(before, run);
    }
    struct sh_span *behind = sh_page_map_lookup(sh_span_end(run));
    if (mergeable(run, behind)) {
        sh_run_remove(behind);
        run = merge(run, behind);
    }
    sh_run_insert(run);
}

/*
 * A span turns into a dirty run where it stands, keeping its descriptor and its pages'
 * entries: giving back needs no memory.
 */
static void turn_into_run(struct sh_span *span)
{
    sh_span_delist(span);
    sh_limit_give(span->pages);
    run_setup(span, span->area, span->base, span->pages, false);
}

static bool borders(const struct sh_span *low, const struct sh_span *high)
{
    return sh_span_end(low) == high->base && low->area == high->area;
}

/* Neighbours are joined before they go into a bucket. */
static void give_locked(struct sh_span **spans, size_t count)
{
    struct sh_span *run = spans[0];
    turn_into_run(run);
    for (size_t i = 1; i < count; i++) {
        struct sh_span *span = spans[i];
        turn_into_run(span);
        if (borders(run, span)) {
            run = merge(run, span);
        } else if (borders(span, run)) {
            run = merge(span, run);
        } else {
            sh_run_insert_merged(run);
            run = span;
        }
    }
    sh_run_insert_merged(run);
}

void sh_run_give_all(struct sh_span **spans, size_t count)
{
    sh_lock_acquire(&sh_heap_lock);
    give_locked(spans, count);
    sh_lock_release(&sh_heap_lock);
    sh_background_consider();
    sh_purge_tick();
}

void sh_run_give(struct sh_span *span)
{
    if (span->state == SH_SPAN_HUGE)
        sh_huge_unmap(span);
    else
        sh_run_give_all(&span, 1);
}

/* ---- Resizing ---- */

/* Behind a span free runs may be dirty and clean in turn. */
#define GROW_LOOKS 16

static bool has_free_behind(const struct sh_span *span, size_t pages)
{
    uintptr_t end = sh_span_end(span);
    size_t found = 0;
    for (unsigned looks = 0; found < pages && looks < GROW_LOOKS; looks++) {
        const struct sh_span *run = free_at(span->area, end);
        if (!run)
            return false;
        found += run->pages;
        end = sh_span_end(run);
    }
    return found >= pages;
}

/* Where memory for the page map fails on the way, the span keeps the pages that it got, in
 * vain. */
static bool grow_locked(struct sh_span *span, size_t pages)
{
    size_t more = pages - span->pages;
    if (!has_free_behind(span, more) || !sh_limit_take(more))
        return false;
    while (span->pages < pages) {
        uintptr_t end = sh_span_end(span);
        struct sh_span *behind = free_at(span->area, end);
        size_t next = sh_min(behind->pages, pages - span->pages);
        if (!run_carve(behind, end, next)) {
            sh_limit_give(pages - span->pages);
            return false;
        }
        span->pages += next;
        sh_page_map_set(end, next, span);
    }
    return true;
}

static bool shrink_locked(struct sh_span *span, size_t pages)
{
    uintptr_t end = span->base + pages * SH_PAGE_SIZE;
    size_t less = span->pages - pages;
    if (!sh_page_map_split(end))
        return false;
    struct sh_span *run = sh_run_new(span->area, end, less, false);
    if (!run)
        return false;
    sh_page_map_set(end, less, run);
    span->pages = pages;
    sh_limit_give(less);
    sh_run_insert_merged(run);
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
        span->cell_size = sh_min(span->cell_size, pages * SH_PAGE_SIZE);
    sh_purge_note_use();
    sh_lock_release(&sh_heap_lock);
    if (!done)
        return false;
    sh_background_consider();
    sh_purge_tick();
    return true;
}
