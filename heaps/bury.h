/* SPDX-License-Identifier: MIT */
/*
 * What becomes of spans when all that lives is marked.
 *
 *   nothing dead       stays as it is
 *   some cells dead    frees take the slow path, which sees a stale pointer to one of
 *                      them, until its owner sweeps it
 *   all cells dead     it is condemned: taken from its owner, to be given back whole once
 *                      the world runs. Of a small span the states stay as they are: that it
 *                      is due to be swept and has no marks says that its cells are dead
 *
 * The marks alone tell, against what was live when the collection began (span->live):
 * a mark is missing for each live cell that was not reached, and for no other.
 *
 * Several threads may look at spans at once, each span being looked at by one; each has
 * a burial of its own, and they are joined by the collector. The world is stopped, and
 * the shared and the heap's lock are held.
 */
#ifndef SH_HEAPS_BURY_H
#define SH_HEAPS_BURY_H

#include <stddef.h>

#include "heaps/span.h"

struct sh_burial {
    /* By inbox_next, for their `queued` is taken; still on their owners' lists. */
    SH_ALIGNED(SH_CACHE_LINE) struct sh_span *dead;
    size_t objects, bytes; /* that were marked */
    size_t pages;          /* of all spans of collected kinds */
};

/* Looks at a span of any kind. */
void sh_bury_span(struct sh_burial *burial, struct sh_span *span);

/* Adds the one to the other. */
void sh_bury_join(struct sh_burial *all, const struct sh_burial *one);

/* Takes the dead from their owners' lists; they are then for sh_cache_give_back. One
 * thread at a time. */
struct sh_span *sh_bury_condemn(struct sh_burial *burial);

#endif /* SH_HEAPS_BURY_H */
