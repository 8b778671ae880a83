/* SPDX-License-Identifier: MIT */
/*
 * Page runs within areas.
 *
 *   area   | span | free run | span      | free run                     |
 *
 * A free run is a stretch of an area's pages with no owner, described by a struct
 * sh_span in state FREE to which all its pages' map entries lead, so that the
 * neighbours of a run are found by lookup. Runs are clean (read as zero, cost nothing)
 * or dirty, and merge only with their like; dirty ones are handed out first, and where
 * a large request finds all of them too small, one together with clean pages beside it.
 *
 * Lock: SH_RANK_HEAP. Callers are in a critical section.
 */
#ifndef SH_HEAPS_RUN_H
#define SH_HEAPS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/area.h"
#include "heaps/span.h"

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
 * purges what it is time for. */
void sh_run_give(struct sh_span *span);

/* The same of several, none of them huge, under the lock once; quickest where neighbours
 * follow each other. */
void sh_run_give_all(struct sh_span **spans, size_t count);

/* Resizes a large span where it is: shrinks, or grows into the free runs behind it. The
 * caller makes its cell larger. False: it stays as it was. Takes the lock. */
bool sh_run_resize(struct sh_span *span, size_t pages);

/* ---- Under the lock, for this module's kin ---- */

/* In a free run's `bucket`: it is in none, for it is being made or purged; nothing
 * merges with it. */
#define SH_BUCKET_BUSY UINT8_MAX

/* The description of a free run, in no bucket; NULL: no memory. */
struct sh_span *sh_run_new(
    struct sh_area *area, uintptr_t base, size_t pages, bool zeroed);

/* Into its bucket, and out again; merged: joined with its neighbours first. */
void sh_run_insert(struct sh_span *run);
void sh_run_insert_merged(struct sh_span *run);
void sh_run_remove(struct sh_span *run);

/* Cuts about so many pages, fewer than there are, off the end of a run that is in its
 * bucket; they are then in none. NULL: there is no sense in it, or no memory. */
struct sh_span *sh_run_cut(struct sh_span *run, size_t pages);

/* Into the list of all spans, and out again. */
void sh_span_enlist(struct sh_span *span);
void sh_span_delist(struct sh_span *span);

#endif /* SH_HEAPS_RUN_H */
