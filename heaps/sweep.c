/* SPDX-License-Identifier: MIT */
/* Sweeping spans. See heaps/sweep.h. */
#include "heaps/sweep.h"

#include "heaps/fill.h"
#include "heaps/minor.h"
#include "heaps/remote.h"
#include "lib/check.h"

static void sweep_table(_Atomic(_Atomic uint64_t *) *table, uint32_t w, uint64_t kept)
{
    _Atomic uint64_t *bits = sh_load_acquire(table);
    if (bits)
        sh_and_relaxed(&bits[w], kept);
}

/* Returns the live cells that are left. */
static uint64_t sweep_word(struct sh_span *span, uint32_t w)
{
    uint64_t live = sh_span_word(span, w, SH_CELL_LIVE);
    uint64_t dead = live & ~sh_span_marked(span, w);
    if (!dead)
        return live;
    sh_span_free_word(span, w, dead);
    sweep_table(&span->final_bits, w, ~dead);
    sweep_table(&span->weak_bits, w, ~dead);
    span->used -= sh_popcount64(dead);
    return live & ~dead;
}

/* Others may set flags meanwhile. Of a span that has tables no free is fast even for a moment:
 * it would leave its cell's bits. */
static void let_frees_be_fast(struct sh_span *span)
{
    uintptr_t seen = sh_load_relaxed(&span->owner);
    if ((seen & SH_OWNER_FLAGS) == SH_OWNER_SLOW && !sh_load_relaxed(&sh_fill_on))
        sh_cas_seq_cst(&span->owner, &seen, seen & ~SH_OWNER_FLAGS);
}

/* Others ask whether the span is due; of a cell that is reachable either answer says so. */
SH_NO_SANITIZE
static void end_sweep(struct sh_span *span)
{
    span->epoch = sh_load_relaxed(&sh_epoch);
    let_frees_be_fast(span);
}

SH_NO_SANITIZE
void sh_span_sweep(struct sh_span *span)
{
    span->used -= sh_remote_take(span);
    for (uint32_t w = 0; w < span->touched; w++)
        sweep_word(span, w);
    end_sweep(span);
}

SH_NO_SANITIZE
void sh_span_prepare(struct sh_span *span)
{
    if (sh_minor && span->settled)
        return;
    bool due = sh_span_sweep_due(span);
    uint8_t old = sh_minor ? SH_MARK_REACHED : 0;
    uint32_t count = 0;
    if (due)
        span->used -= sh_remote_take(span);
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t live = due ? sweep_word(span, w) : sh_span_word(span, w, SH_CELL_LIVE);
        sh_bytes_note_others(&span->marks[w * 64], &span->states[w * 64], SH_CELL_LIVE,
            old, SH_MARK_NOT_LIVE);
        count += sh_popcount64(live);
    }
    span->live = count;
    if (due)
        end_sweep(span);
}

bool sh_span_is_empty(struct sh_span *span)
{
    for (uint32_t w = 0; w < span->touched; w++)
        if (~(sh_span_word(span, w, SH_CELL_FREE) |
                sh_span_word(span, w, SH_CELL_NONE)))
            return false;
    return true;
}
