/* SPDX-License-Identifier: MIT */
/* Huge objects. See heaps/huge.h. Mapping and unmapping are done outside the lock. */
#include "heaps/huge.h"

#include "heaps/area.h"
#include "heaps/limit.h"
#include "heaps/minor.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "lib/check.h"
#include "lib/meta.h"

static void huge_unlink(struct sh_span *span)
{
    struct sh_area *area = span->area;
    sh_lock_acquire(&sh_heap_lock);
    sh_span_delist(span);
    sh_page_map_set(area->start, sh_area_pages(area), NULL);
    sh_area_unlink(area);
    sh_lock_release(&sh_heap_lock);
}

void sh_huge_unmap(struct sh_span *span)
{
    struct sh_area *area = span->area;
    huge_unlink(span);
    sh_area_unmap(area);
    sh_limit_give(span->pages);
    sh_store_relaxed(&span->owner, (uintptr_t)0);
    sh_span_delete(span);
}

static bool huge_link(struct sh_span *span, struct sh_area *area)
{
    size_t pages = sh_area_pages(area);
    sh_lock_acquire(&sh_heap_lock);
    bool covered = sh_area_map(area->start, area->end);
    if (covered) {
        sh_area_link(area);
        sh_page_map_set(area->start, pages, span);
        sh_span_enlist(span);
    }
    sh_lock_release(&sh_heap_lock);
    return covered;
}

static void huge_setup(struct sh_span *span, struct sh_area *area, uint8_t kind)
{
    sh_span_setup(span, area->start, area->end - area->start, 1, kind);
    span->area = area;
    span->pages = sh_area_pages(area);
    span->zeroed = true;
    span->state = SH_SPAN_HUGE;
}

static struct sh_span *map(size_t bytes, size_t align, uint8_t kind)
{
    align = sh_max(align, SH_SLOT_BYTES);
    uintptr_t start = (uintptr_t)sh_os_map(bytes, align);
    struct sh_area *area = start ? sh_area_new(start, start + bytes) : NULL;
    struct sh_span *span = area ? sh_span_new(1, kind) : NULL;
    if (span) {
        area->huge = true;
        huge_setup(span, area, kind);
        if (huge_link(span, area))
            return span;
        sh_span_delete(span);
    }
    if (area)
        sh_meta_free(area, sizeof *area);
    if (start)
        sh_os_unmap((void *)start, bytes);
    return NULL;
}

struct sh_span *sh_huge_map(size_t bytes, size_t align, uint8_t kind)
{
    if (!sh_limit_take(bytes / SH_PAGE_SIZE))
        return NULL;
    struct sh_span *span = map(bytes, align, kind);
    if (!span)
        sh_limit_give(bytes / SH_PAGE_SIZE);
    return span;
}

/* Maps it anew; false: it stays as it was. */
static bool remap(struct sh_span *span, size_t bytes)
{
    struct sh_area *area = span->area;
    size_t old_bytes = area->end - area->start;
    huge_unlink(span);
    sh_minor_move(span);
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

bool sh_huge_resize(struct sh_span *span, size_t bytes)
{
    size_t before = span->pages, after = bytes / SH_PAGE_SIZE;
    sh_lock_acquire(&sh_heap_lock);
    bool reserved = sh_page_map_reserve();
    sh_lock_release(&sh_heap_lock);
    /* Where it moves to is not known before: afterwards must not fail. */
    if (!reserved || bytes > (size_t)4 << 30)
        return false;
    if (after > before && !sh_limit_take(after - before))
        return false;
    bool done = remap(span, bytes);
    if (after > before && !done)
        sh_limit_give(after - before);
    if (after < before && done)
        sh_limit_give(before - after);
    return done;
}
