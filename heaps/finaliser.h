/* SPDX-License-Identifier: MIT */
/*
 * Finalisers that were set by gc_set_finaliser: what a cell with a final bit is to be
 * finalised by, where that is not for the word that it begins with to say.
 *
 * A span with such cells has a table of its own, from a cell's number to a function and
 * its context. So objects are named by no pointer; looking one up, a collection stays in
 * the span that it is at; no table ever becomes large; and it goes with its span.
 *
 *      capacity = 8     slots   | call, context | ... |        a power of two
 *                       cells   | 0 | 42 | 0 | 0 | 44 | ...    the number and 1; 0: none
 *
 * A cell's place is its number's last bits, or the next one that is free. A table with
 * a place for each cell of the span is full where all have one; others are at most
 * seven eighths full, so that every search ends.
 *
 * Contexts are roots as long as they are in a table.
 *
 * Lock: SH_RANK_CALLBACK, but of a span that nobody else knows.
 */
#ifndef SH_HEAPS_FINALISER_H
#define SH_HEAPS_FINALISER_H

#include <stdbool.h>

#include <splitheap/gc.h>

#include "heaps/heap.h"
#include "heaps/span.h"

struct sh_finaliser {
    gc_finaliser_fn *call;
    void *context;
};

/* In place of what was set for the cell. False: no memory, and that stays; there is
 * always enough where something was set. */
bool sh_finaliser_set(struct sh_cell cell, struct sh_finaliser finaliser);

/* What is set for the cell; `call` is NULL where nothing is. */
struct sh_finaliser sh_finaliser_of(struct sh_cell cell);

/* The same, and it is set no longer. */
struct sh_finaliser sh_finaliser_take(struct sh_cell cell);

/* World stopped: contexts are roots. */
void sh_finaliser_add_roots(void);

/* The span ends, or is to have none. */
void sh_finaliser_drop(struct sh_span *span);

#endif /* SH_HEAPS_FINALISER_H */
