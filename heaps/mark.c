/* SPDX-License-Identifier: MIT */
/* Marking. See heaps/mark.h. */
#include "heaps/mark.h"

#include <string.h>

#include <splitheap/gc.h>

#include "heaps/mark_check.h"
#include "heaps/mark_map.h"
#include "heaps/minor.h"
#include "heaps/page_map.h"
#include "heaps/tables.h"
#include "heaps/word.h"

#define ITEM_TYPED ((sh_mark_item)1 << 63)
#define ITEM_GRANULES ((sh_mark_item)0xfff)
#define FETCHED 256 /* bytes of a cell; the processor sees where it goes on */

/* ---- Items ---- */

SH_INLINE sh_mark_item item_of(const struct sh_mark_found *found)
{
    return (sh_mark_item)found->start << 8 | found->granules |
           (sh_mark_item)found->how << 63;
}

SH_INLINE uintptr_t item_start(sh_mark_item item)
{
    return (item & ~ITEM_TYPED) >> 12 << 4;
}

SH_INLINE size_t item_bytes(sh_mark_item item)
{
    return (item & ITEM_GRANULES) * SH_GRANULE;
}

/* ---- The stack ---- */

SH_INLINE void push(struct sh_marker *marker, sh_mark_item item)
{
    if (SH_UNLIKELY(!sh_mark_push(&marker->segment, item)))
        marker->overflowed = true;
}

/* False: the stack is empty. Its last segment stays, for there will soon be more. */
SH_INLINE bool pop(struct sh_marker *marker, sh_mark_item *item)
{
    if (SH_UNLIKELY(!marker->segment))
        return false;
    while (SH_UNLIKELY(marker->segment->count == 0)) {
        if (!marker->segment->next)
            return false;
        sh_mark_segment_pop(&marker->segment);
    }
    *item = marker->segment->items[--marker->segment->count];
    return true;
}

static bool is_empty(const struct sh_marker *marker)
{
    return !marker->segment || (!marker->segment->count && !marker->segment->next);
}

void sh_mark_adopt(struct sh_marker *marker, struct sh_mark_segment *segment)
{
    segment->next = marker->segment;
    marker->segment = segment;
}

/* The segment below the top; or else the older half of the top. */
static SH_NOINLINE void share(struct sh_marker *marker)
{
    struct sh_mark_segment *top = marker->segment, *given = NULL;
    if (!top)
        return;
    if (top->next && top->next->count) {
        given = top->next;
        top->next = given->next;
    } else {
        size_t half = top->count / 2;
        if (!half || !sh_mark_segment_push(&given))
            return;
        memcpy(given->items, top->items, half * sizeof *given->items);
        given->count = half;
        top->count -= half;
        memmove(top->items, top->items + half, top->count * sizeof *top->items);
    }
    sh_mark_pool_put(given);
}

/* ---- Finding and marking ---- */

static SH_NOINLINE void push_large(
    struct sh_marker *marker, const struct sh_mark_found *found)
{
    uintptr_t start = found->start;
    if (found->how == SH_SLOT_TYPED)
        push(marker, item_of(found));
    else if (found->how == SH_SLOT_SCAN &&
             !sh_mark_pool_add_range(
                 start, start + sh_page_map_lookup(start)->cell_size))
        marker->overflowed = true;
}

static SH_NOINLINE void note(struct sh_marker *marker, uintptr_t start)
{
    struct sh_span *span = sh_page_map_lookup(start);
    struct sh_cell cell = {span, sh_span_cell_of(span, start)};
    if (sh_table_test(cell, &span->weak_bits) && !sh_mark_push(&marker->noted, start))
        marker->lost = true;
}

/* Marks what was found; true: it has to be scanned. What is not live has its mark, and
 * so has what was found before. */
SH_INLINE bool take(struct sh_marker *marker, struct sh_mark_found found)
{
    if (sh_load_relaxed(found.mark))
        return false;
    sh_store_relaxed(found.mark, marker->mark);
    if (SH_UNLIKELY(marker->watching))
        note(marker, found.start);
    if (SH_UNLIKELY(!found.granules))
        push_large(marker, &found);
    return found.granules && found.how != SH_SLOT_LEAF;
}

SH_INLINE void settle(struct sh_marker *marker, struct sh_mark_found found)
{
    if (take(marker, found))
        push(marker, item_of(&found));
}

/* Puts the cell among those found, and settles the one that has been there longest. */
SH_INLINE void find(struct sh_marker *marker, struct sh_mark_found found)
{
    __builtin_prefetch((const void *)(uintptr_t)found.mark);
    if (marker->found_to - marker->found_from == SH_MARK_FOUND)
        settle(marker, marker->found[marker->found_from++ % SH_MARK_FOUND]);
    marker->found[marker->found_to++ % SH_MARK_FOUND] = found;
}

static void settle_found(struct sh_marker *marker)
{
    while (marker->found_from != marker->found_to)
        settle(marker, marker->found[marker->found_from++ % SH_MARK_FOUND]);
}

/* By the page map and the span's header. */
SH_NO_SANITIZE
static SH_NOINLINE void find_slowly(struct sh_marker *marker, uintptr_t address)
{
    struct sh_span *span = sh_page_map_lookup(address);
    if (!span || span->kind == SH_KIND_EXPLICIT)
        return;
    uint32_t cell = sh_span_cell_of(span, address);
    size_t granules = span->state == SH_SPAN_SMALL ? span->cell_size / SH_GRANULE : 0;
    find(marker, (struct sh_mark_found){.mark = &span->marks[cell],
                     .start = sh_span_cell(span, cell),
                     .granules = (uint32_t)granules,
                     .how = sh_slot_how(span)});
}

SH_NO_SANITIZE
SH_INLINE void look_at(struct sh_marker *marker, uintptr_t address)
{
    if (address - marker->low >= marker->extent)
        return;
    const struct sh_mark_slot *slot = sh_mark_map_lookup(address);
    if (SH_UNLIKELY(!slot || slot->how == SH_SLOT_ASK)) {
        find_slowly(marker, address);
        return;
    }
    if (slot->how == SH_SLOT_NONE)
        return;
    bool exact;
    uint32_t cell = sh_divide(address - slot->base, slot->reciprocal, &exact);
    /* Most are starts; as a branch, for the processor to go on before it has divided. */
    uintptr_t start = address;
    if (SH_UNLIKELY(!exact)) {
        start = slot->base + (uintptr_t)cell * slot->granules * SH_GRANULE;
        SH_BARRIER();
    }
    find(marker, (struct sh_mark_found){.mark = &slot->marks[cell],
                     .start = start,
                     .granules = slot->granules,
                     .how = slot->how});
}

/* As sh_word_read says, which is written for few words. */
SH_NO_SANITIZE
SH_INLINE void look_at_word(
    struct sh_marker *marker, uintptr_t word, enum sh_mark_how how)
{
    look_at(marker, word);
    if (how == SH_MARK_PLAIN)
        return;
    if (word & sh_word_code.tags)
        look_at(marker, word & ~sh_word_code.tags);
    if (how == SH_MARK_DECODED && word)
        look_at(marker, (uintptr_t)sh_word_code.decoder(word));
}

SH_NO_SANITIZE
SH_INLINE void scan_words(
    struct sh_marker *marker, uintptr_t start, uintptr_t end, enum sh_mark_how how)
{
    for (uintptr_t at = start; at < end; at += sizeof(uintptr_t))
        look_at_word(marker, *(const volatile uintptr_t *)at, how);
}

SH_NO_SANITIZE
static SH_NOINLINE void scan_plain(
    struct sh_marker *marker, uintptr_t start, uintptr_t end)
{
    scan_words(marker, start, end, SH_MARK_PLAIN);
}

SH_NO_SANITIZE
static SH_NOINLINE void scan_tagged(
    struct sh_marker *marker, uintptr_t start, uintptr_t end)
{
    scan_words(marker, start, end, SH_MARK_TAGGED);
}

SH_NO_SANITIZE
static SH_NOINLINE void scan_decoded(
    struct sh_marker *marker, uintptr_t start, uintptr_t end)
{
    scan_words(marker, start, end, SH_MARK_DECODED);
}

/* The same, where it is not known beforehand how. */
static void scan(struct sh_marker *marker, uintptr_t start, uintptr_t end)
{
    if (SH_LIKELY(marker->how == SH_MARK_PLAIN))
        scan_plain(marker, start, end);
    else if (marker->how == SH_MARK_TAGGED)
        scan_tagged(marker, start, end);
    else if (marker->how == SH_MARK_DECODED)
        scan_decoded(marker, start, end);
    else
        sh_mark_check_words(start, end);
}

void sh_mark_range(struct sh_marker *marker, const void *start, const void *end)
{
    uintptr_t from = sh_round_up((uintptr_t)start, sizeof(uintptr_t));
    uintptr_t to = sh_round_down((uintptr_t)end, sizeof(uintptr_t));
    if (from < to)
        scan(marker, from, to);
}

SH_NO_SANITIZE
void sh_mark_word(struct sh_marker *marker, uintptr_t word)
{
    if (SH_LIKELY(marker->how == SH_MARK_PLAIN))
        look_at_word(marker, word, SH_MARK_PLAIN);
    else if (marker->how == SH_MARK_TAGGED)
        look_at_word(marker, word, SH_MARK_TAGGED);
    else if (marker->how == SH_MARK_DECODED)
        look_at_word(marker, word, SH_MARK_DECODED);
    else
        sh_mark_check_words((uintptr_t)&word, (uintptr_t)(&word + 1));
}

/* Until it has a type, an object's words are what it holds: it is just being made, and by
 * who was stopped in the midst of it. */
SH_NO_SANITIZE
void sh_mark_object(struct sh_marker *marker, uintptr_t start, size_t bytes)
{
    uintptr_t type = *(const volatile uintptr_t *)start;
    if (!type) {
        scan(marker, start, start + bytes);
        return;
    }
    sh_mark_word(marker, type);
    gc_mark_object((void *)start, bytes, (struct gc_marker *)marker);
}

static SH_NOINLINE void scan_typed(struct sh_marker *marker, sh_mark_item item)
{
    uintptr_t start = item_start(item);
    size_t bytes = item_bytes(item);
    sh_mark_object(marker, start, bytes ? bytes : sh_page_map_lookup(start)->cell_size);
}

SH_NO_SANITIZE
void sh_mark_range_slowly(struct sh_marker *marker, const void *start, const void *end)
{
    uintptr_t at = sh_round_up((uintptr_t)start, sizeof(uintptr_t));
    for (; at + sizeof(uintptr_t) <= (uintptr_t)end; at += sizeof(uintptr_t)) {
        uintptr_t pointers[SH_WORD_READINGS];
        unsigned count = sh_word_read(*(const volatile uintptr_t *)at, pointers);
        while (count)
            find_slowly(marker, pointers[--count]);
    }
    settle_found(marker);
}

/* ---- Draining ---- */

SH_INLINE void fetch(uintptr_t start, size_t bytes)
{
    uintptr_t last = start + bytes - 1;
    __builtin_prefetch((const void *)start);
    if (SH_UNLIKELY(bytes > SH_CACHE_LINE))
        for (uintptr_t at = start + SH_CACHE_LINE; at < last; at += SH_CACHE_LINE)
            __builtin_prefetch((const void *)at);
    __builtin_prefetch((const void *)last);
}

static void fill_ready(struct sh_marker *marker)
{
    sh_mark_item item;
    while (
        marker->ready_to - marker->ready_from < SH_MARK_READY && pop(marker, &item)) {
        fetch(item_start(item), sh_min(item_bytes(item), FETCHED));
        marker->ready[marker->ready_to++ % SH_MARK_READY] = item;
    }
}

/* Half of what is ready, or all: the other half goes on being fetched. */
SH_NO_SANITIZE
SH_INLINE void scan_ready(struct sh_marker *marker, enum sh_mark_how how)
{
    unsigned until = marker->ready_to;
    if (until - marker->ready_from > SH_MARK_READY / 2)
        until = marker->ready_from + SH_MARK_READY / 2;
    while (marker->ready_from != until) {
        sh_mark_item item = marker->ready[marker->ready_from++ % SH_MARK_READY];
        uintptr_t start = item_start(item);
        if (how != SH_MARK_PLAIN && (item & ITEM_TYPED))
            scan_typed(marker, item);
        else
            scan_words(marker, start, start + item_bytes(item), how);
    }
}

/*
 * While nothing waits but the one cell found last, as along a list, it is scanned at once:
 * through found, stack and ready it would be stored and loaded three times, and only
 * then is the next one known.
 */
static void follow_chain(struct sh_marker *marker)
{
    while (marker->found_to - marker->found_from == 1) {
        struct sh_mark_found found =
            marker->found[marker->found_from++ % SH_MARK_FOUND];
        if (!take(marker, found))
            continue;
        if (found.how == SH_SLOT_TYPED)
            scan_typed(marker, item_of(&found));
        else
            scan(marker, found.start, found.start + found.granules * SH_GRANULE);
    }
}

SH_NO_SANITIZE
SH_INLINE void drain(struct sh_marker *marker, enum sh_mark_how how)
{
    for (;;) {
        if (SH_UNLIKELY(sh_load_relaxed(&sh_mark_wanted)))
            share(marker);
        fill_ready(marker);
        if (SH_LIKELY(marker->ready_from != marker->ready_to)) {
            scan_ready(marker, how);
            continue;
        }
        follow_chain(marker);
        settle_found(marker);
        if (is_empty(marker))
            return;
    }
}

SH_NO_SANITIZE
static void drain_tagged(struct sh_marker *marker)
{
    drain(marker, SH_MARK_TAGGED);
}

SH_NO_SANITIZE
static void drain_decoded(struct sh_marker *marker)
{
    drain(marker, SH_MARK_DECODED);
}

SH_NO_SANITIZE
void sh_mark_drain(struct sh_marker *marker)
{
    if (SH_LIKELY(marker->how == SH_MARK_PLAIN))
        drain(marker, SH_MARK_PLAIN);
    else if (marker->how == SH_MARK_TAGGED)
        drain_tagged(marker);
    else
        drain_decoded(marker);
}

void sh_mark_rescan(struct sh_marker *marker, struct sh_span *span)
{
    if (span->kind != SH_KIND_SCAN && span->kind != SH_KIND_TYPED)
        return;
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t cells = sh_span_marked(span, w) & sh_span_word(span, w, SH_CELL_LIVE);
        for (; cells; cells &= cells - 1) {
            uintptr_t start = sh_span_cell(span, w * 64 + sh_ctz64(cells));
            if (span->kind == SH_KIND_TYPED)
                sh_mark_object(marker, start, span->cell_size);
            else
                scan(marker, start, start + span->cell_size);
            sh_mark_drain(marker);
        }
    }
}

/* The words of those cells of word w that lie in [from, to), of a small span. */
SH_NO_SANITIZE
static void scan_cells(struct sh_marker *marker, struct sh_span *span, uint32_t w,
    uint64_t cells, uintptr_t from, uintptr_t to)
{
    while (cells) {
        unsigned first, count = sh_take_run64(&cells, &first);
        uintptr_t start = sh_span_cell(span, w * 64 + first);
        uintptr_t end = start + count * span->cell_size;
        scan(marker, sh_max(start, from), sh_min(end, to));
    }
}

static void scan_old_small(
    struct sh_marker *marker, struct sh_span *span, uintptr_t from, uintptr_t to)
{
    uint32_t first = sh_span_cell_of(span, from), last = sh_span_cell_of(span, to - 1);
    for (uint32_t w = first / 64; w <= last / 64 && w < span->touched; w++) {
        uint64_t cells = sh_span_marked(span, w) & sh_span_word(span, w, SH_CELL_LIVE);
        cells &= sh_word_between(w, first, last);
        scan_cells(marker, span, w, cells, from, to);
    }
}

static void scan_old_large(
    struct sh_marker *marker, struct sh_span *span, uintptr_t from, uintptr_t to)
{
    to = sh_min(to, span->base + span->cell_size);
    if (from < to && sh_cell_marked(span, 0) &&
        sh_cell_state(span, 0) == SH_CELL_LIVE && !sh_mark_pool_add_range(from, to))
        marker->overflowed = true;
}

void sh_mark_scan_old(struct sh_marker *marker, struct sh_span *span)
{
    size_t part = sh_minor_part(span);
    for (uint64_t parts = span->open; parts;) {
        unsigned first, count = sh_take_run64(&parts, &first);
        uintptr_t from = span->base + first * part;
        uintptr_t to = sh_min(from + count * part, sh_span_end(span));
        if (from < to && span->state == SH_SPAN_SMALL)
            scan_old_small(marker, span, from, to);
        else if (from < to)
            scan_old_large(marker, span, from, to);
    }
}

void sh_marker_finish(struct sh_marker *marker)
{
    while (marker->segment)
        sh_mark_segment_pop(&marker->segment);
}

void sh_marker_init(struct sh_marker *marker, uintptr_t low, uintptr_t high)
{
    memset(marker, 0, sizeof *marker);
    marker->mark = SH_MARK_REACHED;
    sh_marker_bound(marker, low, high);
}

enum sh_mark_how sh_mark_choose(bool typed)
{
    if (sh_word_code.decoder)
        return SH_MARK_DECODED;
    return typed || sh_word_code.tags ? SH_MARK_TAGGED : SH_MARK_PLAIN;
}

void sh_marker_bound(struct sh_marker *marker, uintptr_t low, uintptr_t high)
{
    marker->low = low;
    marker->extent = high - low;
}
