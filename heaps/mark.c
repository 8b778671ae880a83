/* SPDX-License-Identifier: MIT */
/* Marking. See heaps/mark.h. */
#include "heaps/mark.h"

#include <string.h>

#include "heaps/page_map.h"
#include "heaps/run.h"
#include "lib/meta.h"

#define SEGMENT_BYTES ((size_t)64 << 10)
#define SEGMENT_ITEMS ((SEGMENT_BYTES - 64) / sizeof(struct sh_mark_item))
#define PIECE_BYTES ((size_t)32 << 10) /* scanned at once of a large object */

struct sh_mark_segment {
    struct sh_mark_segment *below;
    SH_ALIGNED(64) struct sh_mark_item items[SEGMENT_ITEMS];
};

void sh_marker_init(struct sh_marker *marker)
{
    memset(marker, 0, sizeof *marker);
}

static bool push_segment(struct sh_marker *marker)
{
    struct sh_mark_segment *segment = sh_meta_alloc(sizeof *segment);
    if (!segment)
        return false;
    segment->below = marker->segment;
    marker->segment = segment;
    marker->top = 0;
    return true;
}

static void pop_segment(struct sh_marker *marker)
{
    struct sh_mark_segment *segment = marker->segment;
    marker->segment = segment->below;
    marker->top = marker->segment ? SEGMENT_ITEMS : 0;
    sh_meta_free(segment, sizeof *segment);
}

SH_INLINE void push(struct sh_marker *marker, uintptr_t start, size_t bytes)
{
    if (SH_UNLIKELY(!marker->segment || marker->top == SEGMENT_ITEMS)) {
        if (!push_segment(marker)) {
            marker->overflowed = true;
            return;
        }
    }
    marker->segment->items[marker->top++] = (struct sh_mark_item){start, bytes};
}

/* False: the stack is empty. */
SH_INLINE bool pop(struct sh_marker *marker, struct sh_mark_item *item)
{
    if (SH_UNLIKELY(marker->top == 0)) {
        if (!marker->segment)
            return false;
        pop_segment(marker);
        if (!marker->segment)
            return false;
    }
    *item = marker->segment->items[--marker->top];
    return true;
}

/* Marks the cell that the word points into, if it does: what is not live has its mark
 * already. */
SH_NO_SANITIZE
SH_INLINE void mark_word(struct sh_marker *marker, uintptr_t word)
{
    if (word - marker->low >= marker->high - marker->low)
        return;
    struct sh_span *span = sh_page_map_lookup(word);
    if (!span || span->kind == SH_KIND_EXPLICIT)
        return;
    uint32_t cell = sh_span_cell_of(span, word);
    uint32_t w = cell / 64;
    uint64_t bit = sh_cell_bit(cell);
    if (span->marks[w] & bit)
        return;
    span->marks[w] |= bit;
    marker->live_bytes += span->cell_size;
    if (span->kind != SH_KIND_LEAF)
        push(marker, sh_span_cell(span, cell), span->cell_size);
}

SH_NO_SANITIZE
static void scan_words(struct sh_marker *marker, uintptr_t start, uintptr_t end)
{
    for (uintptr_t at = start; at < end; at += sizeof(uintptr_t))
        mark_word(marker, *(const volatile uintptr_t *)at);
}

void sh_mark_range(struct sh_marker *marker, const void *start, const void *end)
{
    uintptr_t from = sh_round_up((uintptr_t)start, sizeof(uintptr_t));
    uintptr_t to = sh_round_down((uintptr_t)end, sizeof(uintptr_t));
    if (from < to)
        scan_words(marker, from, to);
}

/* A large object's rest goes back on the stack, where others could take it. */
static void scan_item(struct sh_marker *marker, struct sh_mark_item item)
{
    if (SH_UNLIKELY(item.bytes > PIECE_BYTES)) {
        push(marker, item.start + PIECE_BYTES, item.bytes - PIECE_BYTES);
        item.bytes = PIECE_BYTES;
    }
    scan_words(marker, item.start, item.start + item.bytes);
}

/* Puts an item in the queue and takes out the one that has been there longest. */
SH_INLINE struct sh_mark_item exchange(
    struct sh_marker *marker, struct sh_mark_item item)
{
    unsigned at = marker->queue_at++ % SH_MARK_QUEUE;
    struct sh_mark_item oldest = marker->queue[at];
    marker->queue[at] = item;
    return oldest;
}

/* Until as many empty items went into the queue as it holds, and one more found nothing
 * that the last item out of it had pushed. */
static void drain_stack(struct sh_marker *marker)
{
    struct sh_mark_item item;
    for (unsigned empty = 0; empty <= SH_MARK_QUEUE;) {
        if (pop(marker, &item)) {
            __builtin_prefetch((const void *)item.start);
            empty = 0;
        } else {
            item = (struct sh_mark_item){0, 0};
            empty++;
        }
        scan_item(marker, exchange(marker, item));
    }
}

/* Scans all marked cells of the span again: their fields may not have been. */
static void rescan_span(struct sh_marker *marker, struct sh_span *span)
{
    if (span->kind != SH_KIND_SCAN)
        return;
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t cells = span->marks[w] & sh_span_word(span, w, SH_CELL_LIVE);
        for (; cells; cells &= cells - 1) {
            uintptr_t start = sh_span_cell(span, w * 64 + sh_ctz64(cells));
            scan_words(marker, start, start + span->cell_size);
        }
    }
}

void sh_mark_drain(struct sh_marker *marker)
{
    drain_stack(marker);
    while (SH_UNLIKELY(marker->overflowed)) {
        marker->overflowed = false;
        for (struct sh_span *span = sh_span_first(); span; span = span->all_next) {
            rescan_span(marker, span);
            drain_stack(marker);
        }
    }
}

void sh_marker_finish(struct sh_marker *marker)
{
    while (marker->segment)
        pop_segment(marker);
}
