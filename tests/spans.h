/* SPDX-License-Identifier: MIT */
/*
 * Spans made by hand, for tests of what works on their bits: cells are handed out,
 * marked and asked about with no cache and no collection. The caller is in a critical
 * section; the heap has an area.
 */
#ifndef SH_TESTS_SPANS_H
#define SH_TESTS_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "heaps/area.h"
#include "heaps/heap.h"
#include "heaps/run.h"
#include "heaps/span.h"
#include "tests/heap.h"

/* A user's area, once: no page of it goes away. 0: done. */
static inline int give_area(size_t bytes)
{
    sh_heap_init();
    uintptr_t start = (uintptr_t)sh_os_map(bytes, SH_SLOT_BYTES);
    sh_critical_enter();
    int error = sh_area_add(start, start + bytes, true);
    sh_critical_leave();
    return error;
}

static SH_UNUSED int enter(void **unused)
{
    sh_critical_enter();
    return 0;
}

static SH_UNUSED int leave(void **unused)
{
    sh_critical_leave();
    return 0;
}

#define SPAN_TEST(function) cmocka_unit_test_setup_teardown(function, enter, leave)

/* A slot of cells, none handed out, without an owner. */
static inline struct sh_span *small_span(enum sh_kind kind, size_t size)
{
    unsigned c = sh_size_class_of(size);
    struct sh_run_want want = {.pages = SH_SLOT_PAGES,
        .min_pages = SH_SLOT_PAGES,
        .align = SH_SLOT_BYTES,
        .cell_size = sh_size_classes[c].size,
        .kind = (uint8_t)kind,
        .state = SH_SPAN_SMALL,
        .class_index = (uint8_t)c};
    struct sh_span *span = sh_run_take(&want);
    MUST(span);
    span->epoch = sh_load_relaxed(&sh_epoch);
    return span;
}

/* One cell of so many pages, handed out and cleared. */
static inline struct sh_span *large_span(enum sh_kind kind, size_t pages)
{
    struct sh_run_want want = {.pages = pages,
        .min_pages = pages,
        .align = SH_PAGE_SIZE,
        .kind = (uint8_t)kind,
        .state = SH_SPAN_LARGE};
    struct sh_span *span = sh_run_take(&want);
    MUST(span);
    span->epoch = sh_load_relaxed(&sh_epoch);
    span->touched = 1;
    sh_cell_set(span, 0, SH_CELL_LIVE);
    span->marks[0] &= ~(uint64_t)1;
    memset((void *)span->base, 0, span->cell_size);
    return span;
}

/* Hands the cell out, cleared and not marked. */
static inline void *hand_cell_out(struct sh_span *span, uint32_t cell)
{
    sh_cell_set(span, cell, SH_CELL_LIVE);
    span->marks[cell / 64] &= ~sh_cell_bit(cell);
    if (span->touched <= cell / 64)
        span->touched = cell / 64 + 1;
    span->used++;
    return memset((void *)sh_span_cell(span, cell), 0, span->cell_size);
}

static inline bool is_handed_out(const struct sh_span *span, uint32_t cell)
{
    return sh_cell_state(span, cell) == SH_CELL_LIVE;
}

static inline bool is_marked(const struct sh_span *span, uint32_t cell)
{
    return is_handed_out(span, cell) && (span->marks[cell / 64] & sh_cell_bit(cell));
}

/* As a collection begins: what is not live has its mark. */
static inline void clear_marks(struct sh_span *span)
{
    for (uint32_t w = 0; w < sh_span_table_words(span->cell_count); w++)
        span->marks[w] = ~sh_span_word(span, w, SH_CELL_LIVE);
}

/* Of the live cells of word w those that are marked. */
static inline uint64_t marked_word(const struct sh_span *span, uint32_t w)
{
    return span->marks[w] & sh_span_word(span, w, SH_CELL_LIVE);
}

/* Live cells marked; what a sweep would keep. */
static inline size_t count_marked(const struct sh_span *span)
{
    size_t count = 0;
    for (uint32_t w = 0; w < sh_span_words(span); w++)
        count += sh_popcount64(marked_word(span, w));
    return count;
}

#endif /* SH_TESTS_SPANS_H */
