/* SPDX-License-Identifier: MIT */
/* Areas. See heaps/area.h. */
#include "heaps/area.h"

#include <errno.h>

#include "heaps/page_map.h"
#include "heaps/run.h"
#include "lib/meta.h"

struct sh_lock sh_heap_lock = SH_LOCK_INIT(SH_RANK_HEAP);
struct sh_heap_counts sh_heap_counts;

static struct sh_area *areas;
static _Atomic(struct sh_area *) users;
static bool idle_kept;    /* there may be empty areas that were not given back */
static size_t idle_pages; /* of the smallest of those, when last looked */

struct sh_area *sh_area_users(void)
{
    return sh_load_acquire(&users);
}

struct sh_area *sh_area_first(void)
{
    return areas;
}

struct sh_area *sh_area_of(uintptr_t address)
{
    sh_assert_held(&sh_heap_lock);
    struct sh_area *area = areas;
    while (area && (address < area->start || address >= area->end))
        area = area->next;
    return area;
}

static bool area_overlaps(uintptr_t start, uintptr_t end)
{
    for (struct sh_area *area = areas; area; area = area->next)
        if (start < area->end && area->start < end)
            return true;
    return false;
}

void sh_area_link(struct sh_area *area)
{
    area->prev = NULL;
    area->next = areas;
    if (areas)
        areas->prev = area;
    areas = area;
    sh_add_relaxed(&sh_heap_counts.total_pages, sh_area_pages(area));
    size_t pages = sh_load_relaxed(&sh_heap_counts.total_pages);
    if (pages > sh_load_relaxed(&sh_heap_counts.peak_pages))
        sh_store_relaxed(&sh_heap_counts.peak_pages, pages);
}

void sh_area_unlink(struct sh_area *area)
{
    if (area->next)
        area->next->prev = area->prev;
    if (area->prev)
        area->prev->next = area->next;
    else
        areas = area->next;
    sh_sub_relaxed(&sh_heap_counts.total_pages, sh_area_pages(area));
}

struct sh_area *sh_area_new(uintptr_t start, uintptr_t end)
{
    struct sh_area *area = sh_meta_alloc(sizeof *area);
    if (area)
        *area = (struct sh_area){.start = start, .end = end};
    return area;
}

/* The slots at the ends of an area may be shared with another area. */
bool sh_area_map(uintptr_t start, uintptr_t end)
{
    return sh_page_map_cover(start, (end - start) / SH_PAGE_SIZE) &&
           sh_page_map_split(start) && sh_page_map_split(end);
}

/* The large malloc'd object that the range lies in, or NULL. */
static struct sh_span *object_around(uintptr_t start, uintptr_t end)
{
    struct sh_span *span = sh_page_map_lookup(start);
    if (!span || (span->state != SH_SPAN_LARGE && span->state != SH_SPAN_HUGE) ||
        span->kind != SH_KIND_EXPLICIT || sh_cell_state(span, 0) != SH_CELL_LIVE ||
        end > sh_span_end(span))
        return NULL;
    return span;
}

static int area_add_locked(uintptr_t start, uintptr_t end, bool from_user)
{
    struct sh_span *around = from_user ? object_around(start, end) : NULL;
    if (area_overlaps(start, end) && !around)
        return EEXIST;
    struct sh_area *area = sh_area_new(start, end);
    struct sh_span *run =
        area ? sh_run_new(area, start, (end - start) / SH_PAGE_SIZE, !from_user) : NULL;
    if (!run || !sh_area_map(start, end)) {
        if (run)
            sh_span_delete(run);
        if (area)
            sh_meta_free(area, sizeof *area);
        return ENOMEM;
    }
    area->from_user = from_user;
    if (around)
        around->pinned = true;
    if (from_user) {
        area->user_next = sh_load_relaxed(&users);
        /* Pairs with sh_area_users. */
        sh_store_release(&users, area);
    }
    area->first = !from_user && sh_load_relaxed(&sh_heap_counts.areas) == 0;
    sh_area_link(area);
    sh_page_map_set(start, run->pages, run);
    sh_run_insert(run);
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

void sh_area_unmap(struct sh_area *area)
{
    sh_os_unmap((void *)area->start, area->end - area->start);
    sh_meta_free(area, sizeof *area);
}

/* ---- Empty areas ---- */

static bool area_is_idle(const struct sh_area *area)
{
    return !area->from_user && !area->first && area->dirty_pages == 0 &&
           area->free_pages == sh_area_pages(area);
}

/* Without so many pages a quarter of what is in use stays free: they are not missed. */
static bool is_spare(size_t pages)
{
    size_t total = sh_load_relaxed(&sh_heap_counts.total_pages);
    size_t free = sh_load_relaxed(&sh_heap_counts.free_pages);
    return free >= pages && free - pages >= (total - free) / 4;
}

static void keep_idle(const struct sh_area *area)
{
    size_t pages = sh_area_pages(area);
    idle_pages = idle_kept && idle_pages ? sh_min(idle_pages, pages) : pages;
    idle_kept = true;
}

/* Takes an area whose pages are all free and clean out of the heap; the caller unmaps it. */
static void area_dissolve(struct sh_area *area)
{
    for (uintptr_t at = area->start; at < area->end;) {
        struct sh_span *run = sh_page_map_lookup(at);
        at += run->pages * SH_PAGE_SIZE;
        sh_run_remove(run);
        sh_span_delete(run);
    }
    sh_page_map_set(area->start, sh_area_pages(area), NULL);
    sh_area_unlink(area);
}

void sh_area_freed(const struct sh_area *area)
{
    if (area_is_idle(area))
        keep_idle(area);
}

struct sh_area *sh_area_take_idle(void)
{
    if (!idle_kept || !is_spare(idle_pages))
        return NULL;
    idle_kept = false;
    idle_pages = 0;
    for (struct sh_area *area = areas; area; area = area->next) {
        if (!area_is_idle(area))
            continue;
        keep_idle(area);
        if (!is_spare(sh_area_pages(area)))
            continue;
        area_dissolve(area);
        return area;
    }
    return NULL;
}
