/* SPDX-License-Identifier: MIT */
/*
 * gc_dump_alloc_table: the heap as characters, one a block, 64 blocks a line.
 *
 * A line lies within one page, so it is of one span or free run. Each is read under
 * the heap's lock and printed outside it; areas may come and go between lines.
 */
#include <splitheap/gc.h>

#include "heaps/heap.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/print.h"
#include "threads/thread.h"

#define LINE_BLOCKS 64
#define LINE_BYTES ((size_t)LINE_BLOCKS * GC_BYTES_PER_BLOCK)

/* What was read of the heap at an address. */
struct view {
    uintptr_t start;     /* of what was read; 0: there is nothing more */
    uintptr_t area, end; /* the area it lies in */
    bool from_user, huge;
    size_t free_lines; /* whole lines of a free run; 0: `line` was filled in */
    char line[LINE_BLOCKS];
};

static char head_character(const struct sh_span *span)
{
    static const char heads[SH_KIND_COUNT] = {[SH_KIND_EXPLICIT] = 'e',
        [SH_KIND_SCAN] = 'h',
        [SH_KIND_LEAF] = 'l',
        [SH_KIND_TYPED] = 't'};
    return heads[span->kind];
}

/* Owners hand out and sweep meanwhile; what it says may be a moment old. */
SH_NO_SANITIZE static char block_character(struct sh_span *span, uintptr_t at)
{
    uint32_t cell = sh_span_cell_of(span, at);
    if (cell >= span->cell_count || !sh_cell_is_live(span, cell))
        return '.';
    return at == sh_span_cell(span, cell) ? head_character(span) : '=';
}

/* The area with the lowest end above the address: the one it is in, or the next. */
static struct sh_area *area_from(uintptr_t address)
{
    struct sh_area *best = NULL;
    for (struct sh_area *area = sh_area_first(); area; area = area->next)
        if (area->end > address && (!best || area->end < best->end))
            best = area;
    return best;
}

static void read_line(struct view *view, struct sh_span *span)
{
    uintptr_t span_end = sh_span_end(span);
    view->free_lines = 0;
    if (span->state == SH_SPAN_FREE) {
        view->free_lines = (span_end - view->start) / LINE_BYTES;
        return;
    }
    for (size_t i = 0; i < LINE_BLOCKS; i++)
        view->line[i] = block_character(span, view->start + i * GC_BYTES_PER_BLOCK);
}

static void read_at(struct view *view, uintptr_t address)
{
    view->start = 0;
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    struct sh_area *area = area_from(address);
    if (area) {
        view->start = sh_max(address, area->start);
        view->area = area->start;
        view->end = area->end;
        view->from_user = area->from_user;
        view->huge = area->huge;
        read_line(view, sh_page_map_lookup(view->start));
    }
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
}

static void print_area(const struct sh_sink *sink, const struct view *view)
{
    const char *origin = view->from_user ? "given" : view->huge ? "huge" : "mapped";
    sh_print(sink, "GC memory area %p to %p, %s:\n", (void *)view->area,
        (void *)view->end, origin);
}

static void print_view(const struct sh_sink *sink, const struct view *view)
{
    if (view->free_lines)
        sh_print(sink, "       (%zu lines all free)\n", view->free_lines);
    else
        sh_print(sink, "%p: %.*s\n", (void *)view->start, LINE_BLOCKS, view->line);
}

SH_PUBLIC void gc_dump_alloc_table(const gc_print_t *print)
{
    struct sh_sink sink = sh_stderr_sink;
    if (print)
        sink = (struct sh_sink){.data = print->data, .write = print->print_strn};
    struct view view;
    uintptr_t area = 0;
    for (read_at(&view, 0); view.start;) {
        if (view.area != area)
            print_area(&sink, &view);
        area = view.area;
        print_view(&sink, &view);
        size_t lines = view.free_lines ? view.free_lines : 1;
        read_at(&view, view.start + lines * LINE_BYTES);
    }
}
