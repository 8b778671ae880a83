/* SPDX-License-Identifier: MIT */
/*
 * Marking: which cells of collected kinds the roots reach.
 *
 * Conservative: any word that points into a live cell, its interior included, keeps
 * it. A found cell is marked at once and, unless it is a leaf, put on the marker's
 * stack; between stack and scan it passes through a short queue, in which its first
 * cache line is on its way while others are scanned (Cher, Hosking, Vitek: software
 * prefetching for mark-sweep garbage collection, 2004).
 *
 *      word --> page map --> mark bit --> stack --> prefetch queue --> scan its words
 *
 * Nothing recurses. The stack is a chain of segments from metadata memory; a gang of
 * markers would hand segments round. Where none can be had, the cell stays marked but
 * unscanned, and the heap is walked for such cells until none is left (the seed's
 * gc_deal_with_stack_overflow). Large objects are scanned in pieces.
 *
 * The world is stopped; no locks.
 */
#ifndef SH_HEAPS_MARK_H
#define SH_HEAPS_MARK_H

#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"

#define SH_MARK_QUEUE 32 /* cells on their way; a power of two */

struct sh_mark_item {
    uintptr_t start;
    size_t bytes;
};

struct sh_mark_segment;

struct sh_marker {
    uintptr_t low, high; /* no cell lies outside */
    struct sh_mark_segment *segment;
    size_t top; /* items in it */
    struct sh_mark_item queue[SH_MARK_QUEUE];
    unsigned queue_at;
    bool overflowed;
    size_t live_bytes; /* marked so far */
};

/* Begins with empty stacks and no bounds; the caller sets low and high. */
void sh_marker_init(struct sh_marker *marker);

/* Marks what the words in [start, end) point to, and puts it on the stack. */
void sh_mark_range(struct sh_marker *marker, const void *start, const void *end);

/* Scans until the stack is empty. */
void sh_mark_drain(struct sh_marker *marker);

/* Gives the segments back. */
void sh_marker_finish(struct sh_marker *marker);

#endif /* SH_HEAPS_MARK_H */
