/* SPDX-License-Identifier: MIT */
/*
 * Sweeping: what a collection did not reach is free.
 *
 * A span of a collected kind is swept by its owner before anything is loaded from it
 * again: what is live and has no mark is free; what is left over is done when the next
 * collection begins. Until then a cell that the collection did not reach counts as dead
 * (sh_span_live). No locks: the owner in a critical section, or the world stopped.
 */
#ifndef SH_HEAPS_SWEEP_H
#define SH_HEAPS_SWEEP_H

#include "heaps/cache.h"
#include "heaps/span.h"

/* Sweeps the span whether it is due or not. */
void sh_span_sweep(struct sh_span *span);

SH_INLINE bool sh_span_sweep_due(const struct sh_span *span)
{
    return sh_span_collected(span) && span->epoch != sh_load_relaxed(&sh_epoch);
}

SH_INLINE void sh_span_sweep_if_due(struct sh_span *span)
{
    if (sh_span_sweep_due(span))
        sh_span_sweep(span);
}

/* The live cells of word w, those waiting to be swept left out. */
SH_INLINE uint64_t sh_span_live(struct sh_span *span, uint32_t w)
{
    uint64_t live = sh_span_word(span, w, SH_CELL_LIVE);
    return SH_UNLIKELY(sh_span_sweep_due(span)) ? live & sh_span_marked(span, w) : live;
}

/* The same of one cell. */
SH_INLINE bool sh_cell_is_live(const struct sh_span *span, uint32_t cell)
{
    return sh_cell_state(span, cell) == SH_CELL_LIVE &&
           SH_LIKELY(!sh_span_sweep_due(span) || sh_cell_marked(span, cell));
}

/* Before marking: sweeps the span if due, marks what is not live and, in a minor collection,
 * what is old, and nothing else, and counts what is live. The world is stopped. */
void sh_span_prepare(struct sh_span *span);

/* No cell is handed out. The owner, or the world stopped. */
bool sh_span_is_empty(struct sh_span *span);

#endif /* SH_HEAPS_SWEEP_H */
