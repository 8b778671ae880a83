/* SPDX-License-Identifier: MIT */
/*
 * Minor collections, by sticky marks (Demers, Weiser, Hayes, Boehm, Bobrow, Shenker:
 * Combining generational and conservative garbage collection, 1990).
 *
 * Most objects die young. So what a collection marked is old, and taken to live until the
 * next full one; a minor collection marks what is new and frees what of that it did not
 * reach. Nothing moves: marks that stay are all there is of generations.
 *
 * When a collection ends, every marked object leads to marked ones only. So a new object
 * that an old one leads to was written into it since, and the page it was written to is
 * no longer clean:
 *
 *      full     clear marks    roots                          mark   bury   guard
 *      minor    keep old ones  roots, old cells on pages      mark   bury   guard
 *                              that were written to
 *
 *   guard     at the end the system protects the pages that are full of old cells that are
 *             scanned, and finds out which are written to (lib/os_watch.h)
 *   open      other pages, on which new objects are to be made, are not protected: their old
 *             cells are all scanned again
 *   settled   spans in which nothing died and next to nothing is free are guarded whole, and
 *             left out of what is done span by span
 *
 * Cells that were not live have a mark of their own (SH_MARK_NOT_LIVE), which goes when
 * they are found live: they are new. An old cell that the program frees and is given again
 * keeps its mark, and is old: it is scanned where it is written to, as any other.
 *
 * What makes all collections full: the system cannot watch memory; the option
 * `generations`; typed objects and decoded words, whose pointers may lie elsewhere; a
 * threshold of the program's own; memcheck. And each that the program asks for.
 *
 * The collector's, with the world stopped and the heap's lock held, but for fork_child.
 */
#ifndef SH_HEAPS_MINOR_H
#define SH_HEAPS_MINOR_H

#include <stdbool.h>
#include <stddef.h>

#include "heaps/span.h"

/* The collection under way is a minor one. Markers read it, too. */
extern bool sh_minor;

/* A collection begins, whose words are read as sh_word_code says: it is minor if that is
 * wanted and can be; but not after a full one if old objects were written to nearly
 * everywhere since, for then it would scan them all, and free less than a full one. */
void sh_minor_begin(bool wanted);

/* Nothing is written to by the program from here on: finds out what was of old cells; returns
 * how many bytes. */
size_t sh_minor_find_written(void);

/* It is done marking, and has found so many old cells in the span: which parts of it are to
 * be guarded. Any marker. */
void sh_minor_choose(struct sh_span *span, size_t old);

/* It ends, and the next one is to be minor: guards the spans. `plain`: objects hold what
 * their words say. False: it cannot be. */
bool sh_minor_guard(bool plain);

/* What a part of the span is: a page, or a 64th, bytes. */
SH_INLINE size_t sh_minor_part(const struct sh_span *span)
{
    return (span->pages + 63) / 64 * SH_PAGE_SIZE;
}

/* The collection under way does not look at old cells there. */
SH_INLINE bool sh_minor_leaves_out(const struct sh_span *span, uintptr_t address)
{
    return sh_minor && span->kind == SH_KIND_SCAN &&
           !(span->open >> (address - span->base) / sh_minor_part(span) & 1);
}

/* The span's object is about to be moved by the system. Under no lock of the heap's; no
 * collection is under way. */
void sh_minor_move(struct sh_span *span);

/* The child of a fork has no watch on its memory. */
void sh_minor_fork_child(void);

#endif /* SH_HEAPS_MINOR_H */
