/* SPDX-License-Identifier: MIT */
/*
 * What lives by another object: an ephemeron's value, by the ephemeron and its key (Hayes:
 * Ephemerons, 1997); a finalize, by its object.
 *
 * When all is marked that the roots reach, the trace asks each marked cell whose weak bit
 * is set what lives by it, and marks that, watching what is marked on the way: of each cell
 * that comes to be marked it asks the same. As the table leads from a key to its
 * ephemerons, each cell is asked once, and each link looked at twice at most: by its key and
 * by itself. So a chain of ephemerons, however it lies, takes linear time.
 *
 * Without memory to note what was marked it begins again.
 */
#ifndef SH_HEAPS_EPHEMERON_H
#define SH_HEAPS_EPHEMERON_H

#include <stddef.h>

#include "heaps/weak_link.h"

struct gc_ephemeron {
    struct sh_weak_link link;
    uintptr_t value; /* its complement; of no meaning when the key is gone */
};

/* Any word. */
SH_INLINE void *sh_ephemeron_value(const struct gc_ephemeron *ephemeron)
{
    return (void *)~ephemeron->value;
}

/* World stopped, marking complete: marks what lives by what is marked, until no more does.
 * Costs a load where there is nothing of the kind. */
void sh_ephemeron_trace(void);

/* How often the traces of this process looked at a cell or a link. */
extern size_t sh_ephemeron_looks;

#endif /* SH_HEAPS_EPHEMERON_H */
