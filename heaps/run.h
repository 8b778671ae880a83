/* SPDX-License-Identifier: MIT */
/*
 * Areas and the page runs within them.
 *
 *   area   | span | free run | span      | free run                     |
 *
 * An area is a range of whole pages from the system (auto split), from the user, or of
 * one huge object. A free run is a stretch of pages with no owner, described by a
 * struct sh_span in state FREE to which all its pages' map entries lead, so that the
 * neighbours of a run are found by lookup. Runs are clean (read as zero, cost nothing)
 * or dirty, and merge only with their like; dirty ones are handed out first. When too
 * much is dirty the largest dirty runs are purged, outside the lock.
 *
 * Lock: SH_RANK_HEAP, over areas, runs, the page map and the list of all spans.
 * Callers are in a critical section.
 */
#ifndef SH_HEAPS_RUN_H
#define SH_HEAPS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"
#include "lib/lock.h"

struct sh_area {
    struct sh_area *next, *prev;
    uintptr_t start, end; /* whole pages */
    size_t free_pages;
    bool from_user; /* never unmapped */
    bool huge;      /* holds one huge object */
    bool first;     /* of the auto areas: kept when empty */
};

extern struct sh_lock sh_heap_lock;

/* What the heap is made of; read anywhere, written under the lock. */
struct sh_heap_counts {
    _Atomic size_t total_pages; /* of all areas */
    _Atomic size_t free_pages;  /* in free runs */
    _Atomic size_t dirty_pages; /* of those, dirty */
    _Atomic uint32_t areas;     /* areas ever added: tells whether the heap grew */
};
extern struct sh_heap_counts sh_heap_counts;

/* Adds [start, end), whole pages, to the heap. 0, ENOMEM, or EEXIST: it overlaps. */
int sh_area_add(uintptr_t start, uintptr_t end, bool from_user);

/* The list of areas, under the lock. */
struct sh_area *sh_area_first(void);

/* The list of all spans, linked by all_next, under the lock or with the world stopped. */
struct sh_span *sh_span_first(void);

/* What is wanted of a span's pages. */
struct sh_run_want {
    size_t pages;
    size_t min_pages; /* fewer than `pages` will do, down to this; the most are taken */
    size_t align;     /* of the start, bytes; a power of two */
    size_t cell_size; /* 0: one cell of all the pages */
    uint8_t kind, state, class_index;
};

/*
 * Takes a run and makes it a span: set up, mapped, and in the list of all spans.
 * NULL: no run, or no memory for the descriptor. Takes the lock.
 */
struct sh_span *sh_run_take(const struct sh_run_want *want);

/* Gives a span's pages back; its cells are all free. Takes the lock; then, outside,
 * purges, and unmaps areas that became empty. */
void sh_run_give(struct sh_span *span);

/* Resizes a large span where it is: shrinks, or grows into a free run behind it.
 * False: it stays as it was. Takes the lock. */
bool sh_run_resize(struct sh_span *span, size_t pages);

/* A huge object's mapping as an area and span of its own; NULL: no memory. */
struct sh_span *sh_huge_map(size_t bytes, size_t align, uint8_t kind);

/* mremap; false: it stays as it was. The span's base may change. */
bool sh_huge_resize(struct sh_span *span, size_t bytes);

/* Whether the address is in an area. Under the lock. */
struct sh_area *sh_area_of(uintptr_t address);

#endif /* SH_HEAPS_RUN_H */
