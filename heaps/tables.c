/* SPDX-License-Identifier: MIT */
/* Final and weak bits. See heaps/tables.h. Takes SH_RANK_META only. */
#include "heaps/tables.h"

#include <string.h>

#include "lib/meta.h"

static _Atomic uint64_t *new_table(size_t bytes)
{
    void *bits = sh_meta_alloc(bytes);
    if (bits)
        memset(bits, 0, bytes);
    return bits;
}

static _Atomic uint64_t *table_of(struct sh_span *span, sh_table *table)
{
    _Atomic uint64_t *bits = sh_load_acquire(table);
    if (bits)
        return bits;
    size_t bytes = sh_span_table_words(span->cell_count) * sizeof *bits;
    _Atomic uint64_t *fresh = new_table(bytes);
    if (!fresh)
        return NULL;
    /* Pairs with the acquire loads of the table in this file and in sweep.c. */
    if (atomic_compare_exchange_strong(table, &bits, fresh)) {
        sh_add_relaxed(&sh_span_tables, (size_t)1);
        return fresh;
    }
    sh_meta_free((void *)(uintptr_t)fresh, bytes);
    return bits;
}

bool sh_table_set_first(struct sh_cell cell, sh_table *table, bool *was)
{
    _Atomic uint64_t *bits = table_of(cell.span, table);
    if (!bits)
        return false;
    /* Both at once: from then on nobody clears SLOW (heaps/sweep.c). */
    if (!(sh_load_seq_cst(&cell.span->owner) & SH_OWNER_TABLES))
        sh_or_seq_cst(&cell.span->owner, SH_OWNER_FLAGS);
    uint64_t bit = sh_cell_bit(cell.index);
    *was = sh_or_acq_rel(&bits[cell.index / 64], bit) & bit;
    return true;
}

bool sh_table_set(struct sh_cell cell, sh_table *table)
{
    bool was;
    return sh_table_set_first(cell, table, &was);
}

bool sh_table_clear(struct sh_cell cell, sh_table *table)
{
    _Atomic uint64_t *bits = sh_load_acquire(table);
    uint64_t bit = sh_cell_bit(cell.index);
    if (!bits || !(sh_load_relaxed(&bits[cell.index / 64]) & bit))
        return false;
    return sh_and_relaxed(&bits[cell.index / 64], ~bit) & bit;
}

bool sh_table_test(struct sh_cell cell, sh_table *table)
{
    return sh_table_word(table, cell.index / 64) & sh_cell_bit(cell.index);
}

uint64_t sh_table_word(sh_table *table, uint32_t w)
{
    _Atomic uint64_t *bits = sh_load_acquire(table);
    return bits ? sh_load_relaxed(&bits[w]) : 0;
}

void sh_table_clear_word(sh_table *table, uint32_t w, uint64_t bits)
{
    _Atomic uint64_t *words = sh_load_acquire(table);
    if (words)
        sh_and_relaxed(&words[w], ~bits);
}
