/* SPDX-License-Identifier: MIT */
/* Birth and end of span descriptors. Takes SH_RANK_WEAK and SH_RANK_META. */
#include "heaps/span.h"

#include <string.h>

#include "heaps/finaliser.h"
#include "heaps/weak_link.h"
#include "lib/check.h"
#include "lib/meta.h"

_Atomic size_t sh_span_tables;

static size_t descriptor_bytes(size_t cells)
{
    return sizeof(struct sh_span) + sh_span_table_words(cells) * 64;
}

/* What others have instead. Only who follows a stale pointer to a descriptor reads it. */
static SH_ALIGNED(SH_CACHE_LINE) _Atomic uint8_t no_marks[SH_CLASS_CELLS_MAX + 64];

static size_t marks_bytes(const struct sh_span *span)
{
    return sh_span_table_words(span->room) * 64;
}

static void delete_marks(struct sh_span *span)
{
    if (span->marks != no_marks)
        sh_meta_free((void *)(uintptr_t)span->marks, marks_bytes(span));
    span->marks = no_marks;
}

struct sh_span *sh_span_new(size_t cells, uint8_t kind)
{
    struct sh_span *span = sh_meta_alloc_stable(descriptor_bytes(cells));
    if (!span)
        return NULL;
    span->room = cells;
    span->marks = no_marks;
    if (kind != SH_KIND_EXPLICIT) {
        span->marks = sh_meta_alloc(marks_bytes(span));
        if (!span->marks) {
            sh_meta_free_stable(span, descriptor_bytes(cells));
            return NULL;
        }
    }
    sh_store_relaxed(&span->final_bits, NULL);
    sh_store_relaxed(&span->weak_bits, NULL);
    sh_store_relaxed(&span->waiting_bits, NULL);
    span->finalisers = NULL;
    sh_store_relaxed(&span->weak_words, NULL);
    return span;
}

static void delete_table(_Atomic(_Atomic uint64_t *) *table, size_t cells)
{
    _Atomic uint64_t *bits = sh_load_relaxed(table);
    if (!bits)
        return;
    sh_store_relaxed(table, NULL);
    sh_sub_relaxed(&sh_span_tables, (size_t)1);
    sh_meta_free((void *)(uintptr_t)bits, sh_span_table_words(cells) * sizeof *bits);
}

static void delete_tables(struct sh_span *span)
{
    delete_table(&span->final_bits, span->cell_count);
    delete_table(&span->weak_bits, span->cell_count);
    delete_table(&span->waiting_bits, span->cell_count);
    sh_finaliser_drop(span);
    sh_weak_drop(span);
}

void sh_span_delete(struct sh_span *span)
{
    delete_tables(span);
    delete_marks(span);
    sh_meta_free_stable(span, descriptor_bytes(span->room));
}

static void setup_tables(struct sh_span *span, size_t cells)
{
    size_t words = sh_span_table_words(cells);
    /* Nobody else looks at these yet. */
    char *states = (char *)(uintptr_t)span->states;
    memset(states, SH_CELL_FREE, cells);
    memset(states + cells, SH_CELL_NONE, words * 64 - cells);
    /* What is not live has its mark, and a collection does not look where nothing was
     * ever handed out. */
    if (span->marks != no_marks)
        memset((char *)(uintptr_t)span->marks, SH_MARK_NOT_LIVE, words * 64);
}

void sh_span_setup(
    struct sh_span *span, uintptr_t base, size_t cell_size, size_t cells, uint8_t kind)
{
    SH_CHECK1(cells <= span->room);
    delete_tables(span);
    if (kind == SH_KIND_EXPLICIT)
        delete_marks(span);
    SH_CHECK1((kind == SH_KIND_EXPLICIT) == (span->marks == no_marks));
    span->base = base;
    span->reciprocal = 0;
    span->cell_count = (uint32_t)cells;
    span->cell_size = cell_size;
    span->kind = kind;
    span->class_index = 0;
    span->bin_offset = 0;
    span->zeroed = span->pinned = false;
    span->used = 0;
    span->wake = SH_WAKE_NEVER;
    span->pass = 0;
    span->touched = 0;
    span->live = 0;
    span->settled = false;
    span->guarded = span->open = 0;
    span->epoch = 0;
    span->next = span->prev = NULL;
    span->list = SH_LIST_NONE;
    sh_store_relaxed(&span->owner, (uintptr_t)0);
    sh_store_relaxed(&span->remote_words, (uint64_t)0);
    setup_tables(span, cells);
}

void sh_span_valid(struct sh_span *span)
{
    SH_CHECK1(span->state == SH_SPAN_SMALL);
    SH_CHECK1(span->class_index < SH_CLASS_COUNT);
    SH_CHECK1(span->cell_size == sh_size_classes[span->class_index].size);
    SH_CHECK1((size_t)span->cell_count * span->cell_size <= span->pages * SH_PAGE_SIZE);
    SH_CHECK1(span->touched <= sh_span_words(span));
    uint32_t used = 0;
    for (uint32_t w = 0; w < sh_span_table_words(span->cell_count); w++) {
        uint64_t free = sh_span_word(span, w, SH_CELL_FREE);
        uint64_t none = sh_span_word(span, w, SH_CELL_NONE);
        SH_CHECK1(none == ~sh_low_bits64((unsigned)sh_min(64,
                              span->cell_count - sh_min(w * 64, span->cell_count))));
        if (w >= span->touched)
            SH_CHECK1(~free == none);
        used += sh_popcount64(~(free | none));
    }
    SH_CHECK1(span->used == used);
}
