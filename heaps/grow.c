/* SPDX-License-Identifier: MIT */
/*
 * Auto split: the heap grows by mapping another area (the seed's rule: as much as there
 * is already, or what the failed request needs if that is more, within
 * gc_get_max_new_split).
 */
#include "heaps/heap.h"

#include <errno.h>

#include <splitheap/gc.h>

#include "heaps/limit.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "lib/options.h"
#include "threads/thread.h"

/* The least that is reserved; memory is only taken when it is touched. */
#define FIRST_BYTES ((size_t)16 << 20)
#define LARGEST_BYTES ((size_t)1 << 40)

static size_t bytes_to_add(size_t needed, size_t available)
{
    size_t total = sh_load_relaxed(&sh_heap_counts.total_pages) * SH_PAGE_SIZE;
    size_t bytes = sh_max(needed, sh_max(total, FIRST_BYTES));
    bytes = sh_min(bytes, sh_max(needed, LARGEST_BYTES));
    /* Where a limit is near, what else the program maps needs room, too. */
    bytes = sh_min(bytes, sh_max(needed, sh_max(available / 2, FIRST_BYTES)));
    return sh_round_down(sh_min(bytes, available), SH_SLOT_BYTES);
}

/* Huge pages are not asked for unasked: purging a part of one is dear. */
static void choose_page_size(uintptr_t start, size_t bytes)
{
    if (sh_options.thp != SH_THP_DEFAULT)
        sh_os_huge_pages((void *)start, bytes, sh_options.thp == SH_THP_ALWAYS);
}

static bool map_area(size_t bytes)
{
    size_t align = bytes >= FIRST_BYTES ? SH_OS_HUGE_PAGE : SH_SLOT_BYTES;
    uintptr_t start = (uintptr_t)sh_os_map(bytes, align);
    if (!start)
        return false;
    choose_page_size(start, bytes);
    if (sh_area_add(start, start + bytes, false) == 0)
        return true;
    sh_os_unmap((void *)start, bytes);
    return false;
}

size_t sh_heap_may_map(size_t needed)
{
    size_t available = gc_get_max_new_split();
    if (available < needed && sh_os_memory_forget())
        available = gc_get_max_new_split();
    return available;
}

bool sh_heap_grow(size_t pages, uint32_t seen)
{
    size_t needed = sh_round_up(pages * SH_PAGE_SIZE, SH_SLOT_BYTES);
    size_t available = sh_heap_may_map(needed);
    if (available < needed || sh_limit_left() < pages)
        return false;
    bool grown = true;
    sh_critical_enter();
    if (sh_load_relaxed(&sh_heap_counts.areas) == seen) {
        size_t bytes = bytes_to_add(needed, available);
        grown = map_area(bytes) || (bytes > needed && map_area(needed));
    }
    sh_critical_leave();
    return grown;
}
