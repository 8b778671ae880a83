/* SPDX-License-Identifier: MIT */
/*
 * A marker: which cells of collected kinds the roots reach.
 *
 * Conservative: any word that points into a live cell, its interior included, keeps
 * it; heaps/word.h says what else a word may point to. What a word leads to lies far apart, so it goes through two queues, in which the
 * next line that is needed is on its way while others are worked on (Cher, Hosking,
 * Vitek: software prefetching for mark-sweep garbage collection, 2004):
 *
 *      word --> mark map --> found --> mark --> stack --> ready --> scan its words
 *                              (its mark)                   (its first lines)
 *
 * Nothing recurses. The stack is a chain of segments from metadata memory. Large objects
 * go to the pool (heaps/mark_pool.h) and are scanned in pieces; there, too, a marker that
 * has more work than it needs leaves some of its stack for others, and looks for more
 * when it has none. Where no memory can be had, the cell stays marked but unscanned, and
 * the heap is walked for such cells until none is left (the seed's
 * gc_deal_with_stack_overflow).
 *
 * Marks are stored plainly: two markers that find a cell at the same time both scan it.
 *
 * The world is stopped; a marker is one thread's.
 */
#ifndef SH_HEAPS_MARK_H
#define SH_HEAPS_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/mark_pool.h"
#include "heaps/span.h"

enum {
    SH_MARK_FOUND = 16, /* marks on their way; a power of two */
    SH_MARK_READY = 64  /* cells on their way; a power of two */
};

/* How words are read: there is a loop for each, so that plain ones cost what they did
 * before there were others. */
enum sh_mark_how {
    SH_MARK_PLAIN,    /* as they are; and there are no typed objects */
    SH_MARK_TAGGED,   /* and without their tags */
    SH_MARK_DECODED,  /* and as the decoder says */
    SH_MARK_CHECKING, /* nothing is marked: heaps/mark_check.h */
};

struct sh_mark_found {
    _Atomic uint8_t *mark;
    uintptr_t start;
    uint32_t granules; /* of the cell; 0: a large object */
    uint32_t how;      /* enum sh_slot_how, of its span */
};

struct sh_marker {
    SH_ALIGNED(SH_CACHE_LINE)
    uintptr_t low, extent;           /* no cell lies outside [low, low + extent) */
    struct sh_mark_segment *segment; /* the stack's top; NULL: empty */
    unsigned found_from, found_to, ready_from, ready_to;
    uint8_t mark; /* enum sh_mark: how it marks */
    bool overflowed;
    bool watching;                 /* notes what it marks that has its weak bit set */
    bool lost;                     /* there was no memory to note it */
    struct sh_mark_segment *noted; /* starts of such cells */
    enum sh_mark_how how;
    struct sh_mark_found found[SH_MARK_FOUND];
    sh_mark_item ready[SH_MARK_READY];
};

/* How words are to be read, as sh_word_begin found it set, where there are typed objects,
 * or not. */
enum sh_mark_how sh_mark_choose(bool typed);

/* Begins with empty stacks; no cell lies outside [low, high). */
void sh_marker_init(struct sh_marker *marker, uintptr_t low, uintptr_t high);
void sh_marker_bound(struct sh_marker *marker, uintptr_t low, uintptr_t high);

/* Marks what the words in [start, end) point to, and puts it on the stack. */
void sh_mark_range(struct sh_marker *marker, const void *start, const void *end);

/* The same of one word, wherever it was. */
void sh_mark_word(struct sh_marker *marker, uintptr_t word);

/* The same without the bounds and the mark map; what is found is marked on return. */
void sh_mark_range_slowly(struct sh_marker *marker, const void *start, const void *end);

/* Marks what the typed object holds: its type, and what that says. */
void sh_mark_object(struct sh_marker *marker, uintptr_t start, size_t bytes);

/* Scans until the stack is empty, leaving work for others where they want some. */
void sh_mark_drain(struct sh_marker *marker);

/* Puts all marked cells of the span on the stack again: their fields may not have been
 * scanned. */
void sh_mark_rescan(struct sh_marker *marker, struct sh_span *span);

/* Scans what of the span's old cells was written to. */
void sh_mark_scan_old(struct sh_marker *marker, struct sh_span *span);

/* Takes the items of a segment over. */
void sh_mark_adopt(struct sh_marker *marker, struct sh_mark_segment *segment);

/* Gives the stack's memory back. */
void sh_marker_finish(struct sh_marker *marker);

#endif /* SH_HEAPS_MARK_H */
