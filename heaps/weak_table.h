/* SPDX-License-Identifier: MIT */
/*
 * Which cells have to do with weak references: a span that has such cells has a record for
 * every 64 of its cells, which says which of them are links that lead somewhere, and where
 * the chains of links begin that lead to the others (heaps/weak_link.h).
 *
 *   chained  0 0 1 0 0 1 1 0 ...   64 cells, a bit each
 *                |     | |
 *   first       [a,    b,c]        the newest link to each, hidden, in the order of the cells
 *
 * So nothing is looked up by an address: what belongs to a cell is found by its number, near
 * to what belongs to its neighbours, which most often live and die with it. No table ever
 * becomes large, and what a record leads to grows and shrinks by halves of 64.
 *
 * A hidden address is its complement, which no root scanner takes for a pointer. All lies in
 * metadata memory. A cell with one of the bits here has its weak bit set (heaps/tables.h);
 * one that has only that is for the program's hook.
 *
 * Lock: SH_RANK_WEAK, over what is in records. What sh_weak_first and sh_weak_make_first return
 * stays where it is until a chain of the same 64 cells is made or removed.
 *
 * Weak bits change without the lock, too, each by one step. What is always so:
 *
 *   1  A span's records are made under SH_RANK_CALLBACK and SH_RANK_WEAK, and go with its
 *      life. Who holds either lock and finds none knows that there are none as long.
 *   2  A cell with a bit in its record has its weak bit: that is set before the other, and
 *      cleared after it.
 *   3  What enters a record sets the weak bit by a step that tells whether it was set, so
 *      whether the cell was hooked until then (enter() in weak_table.c).
 *   4  Who hooks a cell sets the weak bit, and is done if the span has no records after that:
 *      what enters one comes later and finds the bit. Else it may have come before, and the
 *      record is asked under the lock (sh_weak_hook).
 *      Pairing: the step in 3 releases the records, the one in 4 acquires them.
 *   5  Where a span has no records a hook is taken by clearing the weak bit, by a step that
 *      tells whether it was set, under SH_RANK_CALLBACK (sh_weak_unhook) or SH_RANK_WEAK
 *      (sh_weak_freed): so by one of them.
 *
 * tests/models/weak.pml checks that.
 */
#ifndef SH_HEAPS_WEAK_TABLE_H
#define SH_HEAPS_WEAK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/heap.h"
#include "heaps/span.h"
#include "lib/compiler.h"
#include "lib/hide.h"

struct sh_weak_word {
    uint64_t chained; /* cells that links lead to */
    uint64_t links;   /* cells that are links which lead somewhere, or are queued */
    uint64_t hooked;  /* those of both for which gc_weakref_mark was called, too */
    uintptr_t *first; /* one for each that is chained; NULL: there is none */
    uint32_t room;    /* how many there may be */
};

/* The span's records, one for 64 cells; NULL: it has none. */
SH_INLINE struct sh_weak_word *sh_weak_words(struct sh_span *span)
{
    return sh_load_relaxed(&span->weak_words);
}

/* The record that the cell is in; NULL: its span has none. */
SH_INLINE struct sh_weak_word *sh_weak_word_of(struct sh_cell cell)
{
    struct sh_weak_word *words = sh_weak_words(cell.span);
    return words ? &words[cell.index / 64] : NULL;
}

/* The span has records from then on; false: no memory. Under SH_RANK_CALLBACK, too. */
bool sh_weak_make_words(struct sh_span *span);

/* Where the chain of links to the cell begins; NULL: none leads there. */
uintptr_t *sh_weak_first(struct sh_cell cell);

/* The same, made where there is none, with 0 in it, which the caller has to change. NULL: no
 * memory, or no record. */
uintptr_t *sh_weak_make_first(struct sh_cell cell);

/* None leads there any more. */
void sh_weak_remove_first(struct sh_cell cell);

/* The same of all cells of word w whose chain begins with 0. */
void sh_weak_remove_empty(struct sh_span *span, uint32_t w);

/* Whether the cell is a link; that it is (false: no memory, or no record); that those of word
 * w are none. */
bool sh_weak_is_link(struct sh_cell cell);
bool sh_weak_set_link(struct sh_cell cell);
void sh_weak_clear_links(struct sh_span *span, uint32_t w, uint64_t cells);

/* Whether the program's hook is to be told of the cell, whose weak bit is set; that it is
 * (false: no memory); that it is not (true: it was). */
bool sh_weak_is_hooked(struct sh_cell cell);
bool sh_weak_set_hooked(struct sh_cell cell);
bool sh_weak_clear_hooked(struct sh_cell cell);

/* How many cells links lead to, and how many links there are, together; also without the
 * lock. */
size_t sh_weak_count(void);

/* The records go, of which none says anything any more. */
void sh_weak_delete_words(struct sh_span *span);

#endif /* SH_HEAPS_WEAK_TABLE_H */
