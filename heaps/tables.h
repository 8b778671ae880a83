/* SPDX-License-Identifier: MIT */
/*
 * The rare bit tables of a span: `final`, the cell has a finaliser, and `weak`, it is
 * weakly referenced (the seed's FTB and WTB).
 *
 * A span gets a table when its first bit is set. From then on its owner field carries
 * SH_OWNER_FLAGS, so that every free of its cells takes the slow path and clears the
 * bits; other spans pay nothing. Bits are set only on live cells, by atomic OR, in a
 * critical section.
 */
#ifndef SH_HEAPS_TABLES_H
#define SH_HEAPS_TABLES_H

#include <stdbool.h>

#include "heaps/heap.h"
#include "heaps/span.h"

typedef _Atomic(_Atomic uint64_t *) sh_table;

/* False: no memory for the table. */
bool sh_table_set(struct sh_cell cell, sh_table *table);

/* The same, and whether the bit was set before. Both acquire and release, for the weak bits
 * (heaps/weak_table.h). */
bool sh_table_set_first(struct sh_cell cell, sh_table *table, bool *was);

/* Clears the bit; true: it was set. */
bool sh_table_clear(struct sh_cell cell, sh_table *table);

bool sh_table_test(struct sh_cell cell, sh_table *table);

/* Word w of the table, 0 where there is none; and clearing bits of it. */
uint64_t sh_table_word(sh_table *table, uint32_t w);
void sh_table_clear_word(sh_table *table, uint32_t w, uint64_t bits);

#endif /* SH_HEAPS_TABLES_H */
