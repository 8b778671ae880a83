/* SPDX-License-Identifier: MIT */
/* Dead spans and dead cells. See heaps/bury.h. */
#include "heaps/bury.h"

#include "heaps/cache.h"
#include "heaps/callback.h"
#include "heaps/minor.h"

SH_NO_SANITIZE
static uint32_t count_unmarked(const struct sh_span *span)
{
    uint32_t count = 0;
    for (uint32_t w = 0; w < span->touched; w++)
        count += sh_popcount64(~sh_span_marked(span, w));
    return count;
}

/* Some cell is in a magazine, or was handed out meanwhile by a thread without a record. */
SH_NO_SANITIZE
static bool is_kept(struct sh_span *span)
{
    uint64_t kept = 0;
    for (uint32_t w = 0; w < span->touched; w++)
        kept |= (sh_span_word(span, w, SH_CELL_LIVE) & sh_span_marked(span, w)) |
                sh_span_word(span, w, SH_CELL_HELD);
    return kept != 0;
}

/* A span of a stopped thread's has no used cells but those that were live. (Threads
 * without a record go on with the shared cache's, and make large ones.) */
static bool has_only_live_cells(struct sh_span *span, struct sh_cache *owner)
{
    return owner && owner != &sh_shared_cache && span->used == span->live;
}

/* Anyone may free a large object at any time, before he takes the lock to give it back:
 * who changes its state does that. */
static bool claim_whole(struct sh_span *span)
{
    uint8_t live = SH_CELL_LIVE;
    return sh_cas_seq_cst(&span->states[0], &live, (uint8_t)SH_CELL_FREE);
}

/* Of a span without a marked cell. */
static bool may_go(struct sh_span *span)
{
    struct sh_cache *owner = sh_span_owner(span);
    if (owner && owner->depots[span->kind][span->class_index].current == span)
        return false;
    if (!has_only_live_cells(span, owner) && is_kept(span))
        return false;
    if (span->state != SH_SPAN_SMALL && !claim_whole(span))
        return false;
    /* As in heaps/cache.c: who releases a span takes `queued`. */
    return !sh_exchange_seq_cst(&span->queued, 1u);
}

/* No cell is handed out of it but a sixteenth at most, and none is in a magazine. */
static bool is_full(const struct sh_span *span)
{
    if (span->state != SH_SPAN_SMALL)
        return span->live == 1;
    return span->used == span->live &&
           span->live >= span->cell_count - span->cell_count / 16;
}

/* Some cell is reached from what waits only. */
SH_NO_SANITIZE
static bool is_any_waiting(const struct sh_span *span)
{
    if (!sh_callback_gathered())
        return false;
    for (uint32_t w = 0; w < span->touched; w++)
        if (sh_bytes_equal(&span->marks[w * 64], SH_MARK_WAITING))
            return true;
    return false;
}

SH_NO_SANITIZE
void sh_bury_span(struct sh_burial *burial, struct sh_span *span)
{
    if (!sh_span_collected(span) || span->list == SH_LIST_DEAD)
        return;
    bool as_it_was = sh_minor && span->settled;
    uint32_t dead = as_it_was ? 0 : count_unmarked(span), marked = span->live - dead;
    burial->pages += span->pages;
    burial->objects += marked;
    burial->bytes += marked * span->cell_size;
    if (dead)
        sh_or_seq_cst(&span->owner, SH_OWNER_SLOW);
    else
        span->epoch = sh_load_relaxed(&sh_epoch) + 1;
    if (as_it_was)
        return;
    span->settled = !dead && is_full(span) && !is_any_waiting(span);
    sh_minor_choose(span, marked);
    if (marked == 0 && may_go(span)) {
        span->inbox_next = burial->dead;
        burial->dead = span;
    }
}

void sh_bury_join(struct sh_burial *all, const struct sh_burial *one)
{
    struct sh_span *last = one->dead;
    all->objects += one->objects;
    all->bytes += one->bytes;
    all->pages += one->pages;
    if (!last)
        return;
    while (last->inbox_next)
        last = last->inbox_next;
    last->inbox_next = all->dead;
    all->dead = one->dead;
}

struct sh_span *sh_bury_condemn(struct sh_burial *burial)
{
    struct sh_span *condemned = NULL, *span;
    while ((span = burial->dead)) {
        struct sh_cache *owner = sh_span_owner(span);
        burial->dead = span->inbox_next;
        if (owner)
            sh_cache_unlist(owner, span);
        span->list = SH_LIST_DEAD;
        span->next = condemned;
        condemned = span;
    }
    return condemned;
}
