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
#include "heaps/mark_team.h"
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
    sh_mark_begin(false);
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

/* With a span of cells of each of a few sizes, given back after; `i` counts them. */
#define EACH_SPAN(span, i)                                                             \
    for (unsigned i = 0; i < 4 && (span = small_span(SH_KIND_SCAN,                     \
                                       (size_t[]){16, 64, 1024, 32 << 10}[i]),         \
                                  true);                                               \
         i++, sh_run_give(span))

static inline void set_marked(struct sh_span *span, uint32_t cell, bool marked)
{
    sh_store_relaxed(&span->marks[cell], (uint8_t)marked);
}

/* Of the 64 cells of word w, a bit each. */
static inline void set_marks(struct sh_span *span, uint32_t w, uint64_t marked)
{
    for (uint32_t i = 0; i < 64; i++)
        set_marked(span, w * 64 + i, marked >> i & 1);
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
    set_marked(span, 0, false);
    memset((void *)span->base, 0, span->cell_size);
    return span;
}

/* Hands the cell out, cleared and not marked. */
static inline void *hand_cell_out(struct sh_span *span, uint32_t cell)
{
    sh_cell_set(span, cell, SH_CELL_LIVE);
    set_marked(span, cell, false);
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
    return is_handed_out(span, cell) && sh_cell_marked(span, cell);
}

/* As a collection begins: what is not live has its mark. */
static inline void clear_marks(struct sh_span *span)
{
    for (uint32_t w = 0; w < sh_span_table_words(span->cell_count); w++)
        set_marks(span, w, ~sh_span_word(span, w, SH_CELL_LIVE));
}

/* As a collection marks, from the roots that `add` gives. */
static inline void mark_all(void (*add)(void))
{
    sh_lock_acquire(&sh_shared_lock);
    sh_lock_acquire(&sh_heap_lock);
    sh_mark_map();
    add();
    sh_mark_complete();
    sh_mark_end();
    sh_lock_release(&sh_heap_lock);
    sh_lock_release(&sh_shared_lock);
}

/* Of the live cells of word w those that are marked. */
static inline uint64_t marked_word(const struct sh_span *span, uint32_t w)
{
    return sh_span_marked(span, w) & sh_span_word(span, w, SH_CELL_LIVE);
}

/* Live cells marked; what a sweep would keep. */
static inline size_t count_marked(const struct sh_span *span)
{
    size_t count = 0;
    for (uint32_t w = 0; w < sh_span_words(span); w++)
        count += sh_popcount64(marked_word(span, w));
    return count;
}

/* The bytes of all cells so. */
static inline size_t marked_bytes(void)
{
    size_t bytes = 0;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span))
            bytes += count_marked(span) * span->cell_size;
    return bytes;
}

#endif /* SH_TESTS_SPANS_H */
