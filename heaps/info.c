/* SPDX-License-Identifier: MIT */
/* gc_info, gc_info_fast and gc_dump_info: the heap in numbers. */
#include <splitheap/gc.h>

#include "heaps/collect.h"
#include "heaps/heap.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/print.h"

/* A walk in the order of addresses, counting blocks. */
struct walk {
    gc_info_t *info;
    size_t free_run; /* blocks free up to here */
};

static void pass_free(struct walk *walk, size_t bytes)
{
    walk->free_run += bytes / GC_BYTES_PER_BLOCK;
    walk->info->max_free = sh_max(walk->info->max_free, walk->free_run);
}

static void pass_live(struct walk *walk, size_t bytes)
{
    size_t blocks = bytes / GC_BYTES_PER_BLOCK;
    walk->free_run = 0;
    walk->info->used += bytes;
    walk->info->num_1block += blocks == 1;
    walk->info->num_2block += blocks == 2;
    walk->info->max_block = sh_max(walk->info->max_block, blocks);
}

static void walk_span(struct walk *walk, struct sh_span *span)
{
    if (span->state == SH_SPAN_FREE) {
        pass_free(walk, span->pages * SH_PAGE_SIZE);
        return;
    }
    for (uint32_t cell = 0; cell < span->cell_count; cell++) {
        bool live = sh_cell_is_live(span, cell);
        (live ? pass_live : pass_free)(walk, span->cell_size);
    }
    /* What is left behind the last cell is nobody's. */
    if (span->pages * SH_PAGE_SIZE % span->cell_size)
        walk->free_run = 0;
}

static void walk_area(struct walk *walk, struct sh_area *area)
{
    walk->free_run = 0;
    for (uintptr_t at = area->start; at < area->end;) {
        struct sh_span *span = sh_page_map_lookup(at);
        walk_span(walk, span);
        at = sh_span_end(span);
    }
}

static void walk_heap(void *context)
{
    struct walk *walk = context;
    for (struct sh_area *area = sh_area_first(); area; area = area->next)
        walk_area(walk, area);
}

static size_t total_bytes(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages) * SH_PAGE_SIZE;
}

SH_PUBLIC void gc_info(gc_info_t *info)
{
    struct walk walk = {.info = info};
    *info = (gc_info_t){.max_new_split = gc_get_max_new_split()};
    sh_with_world_stopped(walk_heap, &walk);
    info->total = sh_max(total_bytes(), info->used);
    info->free = info->total - info->used;
}

SH_PUBLIC void gc_info_fast(gc_info_t *info)
{
    size_t total = total_bytes();
    size_t free = sh_load_relaxed(&sh_heap_counts.free_pages) * SH_PAGE_SIZE;
    *info = (gc_info_t){
        .total = total,
        .free = sh_min(free, total),
        .max_new_split = gc_get_max_new_split(),
    };
    info->used = info->total - info->free;
}

SH_PUBLIC void gc_dump_info(const gc_print_t *print)
{
    struct sh_sink sink = sh_stderr_sink;
    gc_info_t info;
    if (print)
        sink = (struct sh_sink){.data = print->data, .write = print->print_strn};
    gc_info(&info);
    sh_print(&sink, "GC: total: %zu, used: %zu, free: %zu, max new split: %zu\n",
        info.total, info.used, info.free, info.max_new_split);
    sh_print(&sink,
        " No. of 1-blocks: %zu, 2-blocks: %zu, max blk sz: %zu, max free sz: %zu\n",
        info.num_1block, info.num_2block, info.max_block, info.max_free);
}
