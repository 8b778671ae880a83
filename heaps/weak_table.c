/* SPDX-License-Identifier: MIT */
/* From cells to links. See heaps/weak_table.h. Takes SH_RANK_META. */
#include "heaps/weak_table.h"

#include <string.h>

#include "heaps/tables.h"
#include "lib/bits.h"
#include "lib/meta.h"

#define LEAST 8u /* chains that a record has room for: a line of metadata memory */

static _Atomic size_t count; /* of bits, in all records; read without the lock */

static void add_to_count(size_t more)
{
    sh_store_relaxed(&count, sh_load_relaxed(&count) + more);
}

static bool has(const struct sh_weak_word *word, struct sh_cell cell)
{
    return word && (word->chained | word->links) & sh_cell_bit(cell.index);
}

/* ---- Records ---- */

static size_t words_bytes(const struct sh_span *span)
{
    return sh_span_table_words(span->cell_count) * sizeof(struct sh_weak_word);
}

bool sh_weak_make_words(struct sh_span *span)
{
    if (sh_weak_words(span))
        return true;
    struct sh_weak_word *words = sh_meta_alloc(words_bytes(span));
    if (words)
        memset(words, 0, words_bytes(span));
    sh_store_relaxed(&span->weak_words, words);
    return words;
}

/* The cell's record, in which a bit of its own is to be set: its weak bit is. NULL: no
 * memory, or no record. */
static struct sh_weak_word *enter(struct sh_cell cell)
{
    struct sh_weak_word *word = sh_weak_word_of(cell);
    bool was;
    if (!word || has(word, cell))
        return word;
    if (!sh_table_set_first(cell, &cell.span->weak_bits, &was))
        return NULL;
    if (was)
        word->hooked |= sh_cell_bit(cell.index);
    return word;
}

/* Of cells of word w that may have no bit of their own any more: of those that are hooked
 * the weak bit says enough. */
static void leave(struct sh_span *span, uint32_t w, uint64_t cells)
{
    struct sh_weak_word *word = &sh_weak_words(span)[w];
    cells &= ~(word->chained | word->links);
    if (cells & ~word->hooked)
        sh_table_clear_word(&span->weak_bits, w, cells & ~word->hooked);
    word->hooked &= ~cells;
}

static void leave_cell(struct sh_cell cell)
{
    leave(cell.span, cell.index / 64, sh_cell_bit(cell.index));
}

/* ---- Chains ---- */

/* The place of the cell's chain, or that where it belongs. */
static uint32_t place_of(const struct sh_weak_word *word, struct sh_cell cell)
{
    return sh_popcount64(word->chained & (sh_cell_bit(cell.index) - 1));
}

/* False: no memory, and it stays as it is. */
static bool resize(struct sh_weak_word *word, uint32_t room)
{
    uintptr_t *fresh = room ? sh_meta_alloc(room * sizeof *fresh) : NULL;
    if (room && !fresh)
        return false;
    if (fresh && word->first)
        memcpy(fresh, word->first, sh_popcount64(word->chained) * sizeof *fresh);
    if (word->first)
        sh_meta_free(word->first, word->room * sizeof *fresh);
    word->first = fresh;
    word->room = room;
    return true;
}

uintptr_t *sh_weak_first(struct sh_cell cell)
{
    struct sh_weak_word *word = sh_weak_word_of(cell);
    if (!word || !(word->chained & sh_cell_bit(cell.index)))
        return NULL;
    return &word->first[place_of(word, cell)];
}

uintptr_t *sh_weak_make_first(struct sh_cell cell)
{
    uintptr_t *first = sh_weak_first(cell);
    struct sh_weak_word *word = first ? NULL : enter(cell);
    if (!word)
        return first;
    uint32_t chains = sh_popcount64(word->chained), place = place_of(word, cell);
    if (chains == word->room && !resize(word, chains ? 2 * chains : LEAST)) {
        leave_cell(cell);
        return NULL;
    }
    first = &word->first[place];
    /* There is room now. NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
    memmove(first + 1, first, (chains - place) * sizeof *first);
    *first = 0;
    word->chained |= sh_cell_bit(cell.index);
    add_to_count(1);
    return first;
}

/* Without memory it stays as large as it is. */
static void shrink(struct sh_weak_word *word)
{
    uint32_t chains = sh_popcount64(word->chained), room = word->room;
    while (room > LEAST && chains <= room / 4)
        room /= 2;
    if (!chains || room < word->room)
        resize(word, chains ? room : 0);
}

void sh_weak_remove_first(struct sh_cell cell)
{
    uintptr_t *first = sh_weak_first(cell);
    if (!first)
        return;
    struct sh_weak_word *word = sh_weak_word_of(cell);
    word->chained &= ~sh_cell_bit(cell.index);
    uint32_t chains = sh_popcount64(word->chained), place = place_of(word, cell);
    memmove(first, first + 1, (chains - place) * sizeof *first);
    add_to_count((size_t)-1);
    shrink(word);
    leave_cell(cell);
}

void sh_weak_remove_empty(struct sh_span *span, uint32_t w)
{
    struct sh_weak_word *word = &sh_weak_words(span)[w];
    uintptr_t *from = word->first, *to = from;
    uint64_t empty = 0;
    for (uint64_t left = word->chained; left; left &= left - 1, from++)
        if (*from)
            *to++ = *from;
        else
            empty |= left & -left;
    if (!empty)
        return;
    word->chained &= ~empty;
    add_to_count((size_t)0 - sh_popcount64(empty));
    shrink(word);
    leave(span, w, empty);
}

/* ---- Links ---- */

bool sh_weak_is_link(struct sh_cell cell)
{
    struct sh_weak_word *word = sh_weak_word_of(cell);
    return word && word->links & sh_cell_bit(cell.index);
}

bool sh_weak_set_link(struct sh_cell cell)
{
    struct sh_weak_word *word = enter(cell);
    if (!word)
        return false;
    add_to_count(!(word->links & sh_cell_bit(cell.index)));
    word->links |= sh_cell_bit(cell.index);
    return true;
}

void sh_weak_clear_links(struct sh_span *span, uint32_t w, uint64_t cells)
{
    struct sh_weak_word *words = sh_weak_words(span), *word = words ? &words[w] : NULL;
    cells &= word ? word->links : 0;
    if (!cells)
        return;
    word->links &= ~cells;
    add_to_count((size_t)0 - sh_popcount64(cells));
    leave(span, w, cells);
}

/* ---- The program's hook ---- */

bool sh_weak_is_hooked(struct sh_cell cell)
{
    struct sh_weak_word *word = sh_weak_word_of(cell);
    return !has(word, cell) || word->hooked & sh_cell_bit(cell.index);
}

bool sh_weak_set_hooked(struct sh_cell cell)
{
    struct sh_weak_word *word = sh_weak_word_of(cell);
    if (!has(word, cell))
        return sh_table_set(cell, &cell.span->weak_bits);
    word->hooked |= sh_cell_bit(cell.index);
    return true;
}

bool sh_weak_clear_hooked(struct sh_cell cell)
{
    struct sh_weak_word *word = sh_weak_word_of(cell);
    uint64_t bit = sh_cell_bit(cell.index);
    if (!has(word, cell))
        return sh_table_clear(cell, &cell.span->weak_bits);
    bool was = word->hooked & bit;
    word->hooked &= ~bit;
    return was;
}

/* ---- All of them ---- */

size_t sh_weak_count(void)
{
    return sh_load_relaxed(&count);
}

void sh_weak_delete_words(struct sh_span *span)
{
    sh_meta_free(sh_weak_words(span), words_bytes(span));
    sh_store_relaxed(&span->weak_words, NULL);
}
