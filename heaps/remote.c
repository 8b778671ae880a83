/* SPDX-License-Identifier: MIT */
/* Remote frees. See heaps/remote.h for the protocol, which takes no lock. */
#include "heaps/remote.h"

#include "heaps/background.h"
#include "heaps/reclaim.h"
#include "lib/check.h"

static void push(struct sh_cache *cache, struct sh_span *span)
{
    struct sh_span *head = sh_load_relaxed(&cache->inbox);
    do {
        span->inbox_next = head;
    } while (!sh_cas_weak_seq_cst(&cache->inbox, &head, span));
}

static struct sh_span *take_inbox(struct sh_cache *cache)
{
    if (!sh_load_relaxed(&cache->inbox))
        return NULL;
    return sh_exchange_seq_cst(&cache->inbox, NULL);
}

static struct sh_cache *owner_now(struct sh_span *span)
{
    return (struct sh_cache *)(sh_load_seq_cst(&span->owner) & ~SH_OWNER_FLAGS);
}

static void notify(struct sh_span *span);

void sh_remote_deliver(struct sh_span *span)
{
    struct sh_cache *owner = owner_now(span);
    if (!owner) {
        /* Released meanwhile. Who saw `queued` set since belongs to another life, with
         * an owner, and relies on us. */
        sh_store_seq_cst(&span->queued, 0u);
        if (owner_now(span))
            notify(span);
        return;
    }
    push(owner, span);
    sh_background_notice();
    if (SH_UNLIKELY(owner_now(span) != owner))
        sh_remote_pass_on(owner);
}

static SH_NOINLINE void notify(struct sh_span *span)
{
    if (sh_load_seq_cst(&span->queued) || !sh_load_seq_cst(&span->remote_words))
        return;
    if (!sh_exchange_seq_cst(&span->queued, 1u))
        sh_remote_deliver(span);
}

void sh_remote_pass_on(struct sh_cache *cache)
{
    struct sh_span *span = sh_exchange_seq_cst(&cache->inbox, NULL);
    while (span) {
        struct sh_span *next = span->inbox_next;
        sh_remote_deliver(span);
        span = next;
    }
}

/* True: the owner may not have been told of the span before. */
SH_INLINE bool name_words(struct sh_span *span, uint64_t words)
{
    if (words & ~sh_load_seq_cst(&span->remote_words))
        sh_or_seq_cst(&span->remote_words, words);
    return !sh_load_seq_cst(&span->queued);
}

void sh_remote_notify(struct sh_span *span, uint64_t words)
{
    if (name_words(span, words))
        notify(span);
}

static SH_NOINLINE void notify_and_look_around(struct sh_span *span)
{
    notify(span);
    sh_reclaim_tick();
}

SH_INLINE bool free_remotely(struct sh_span *span, uint32_t cell)
{
    uint8_t state = SH_CELL_LIVE;
    if (SH_UNLIKELY(
            !sh_cas_seq_cst(&span->states[cell], &state, (uint8_t)SH_CELL_REMOTE)))
        return false;
    /* From here on the span's life may end. */
    if (SH_UNLIKELY(name_words(span, (uint64_t)1 << (cell / 64))))
        notify_and_look_around(span);
    return true;
}

bool sh_remote_free(struct sh_span *span, uint32_t cell)
{
    return free_remotely(span, cell);
}

/*
 * A large cell stays with the thread that frees it, which has it in its processor's
 * cache. A small one goes home, for else the threads that once had cells of one span
 * would for ever write to the same lines of its states, and of its cells.
 */
#define KEPT_BYTES ((size_t)1024)

/* The cell becomes a round of this thread's; false: it is no longer live. */
static bool keep(struct sh_bin *bin, struct sh_span *span, uint32_t cell, void *p)
{
    uint8_t state = SH_CELL_LIVE;
    bin->top[1] = (struct sh_round){(uintptr_t)p, &span->states[cell]};
    SH_BARRIER();
    if (!sh_cas_seq_cst(&span->states[cell], &state, (uint8_t)SH_CELL_HELD))
        return false;
    bin->top++;
    return true;
}

/* A magazine of this thread's own has no room for one more. */
static void overflow(struct sh_span *span)
{
    struct sh_cache *cache = sh_my_cache;
    if (cache == &sh_empty_cache)
        return;
    sh_cache_enter(cache);
    sh_cache_overflow(cache, span->kind, span->class_index);
    struct sh_span *dead = sh_cache_detach_dead(cache);
    sh_cache_leave(cache);
    sh_cache_give_back(dead);
}

/* There is no room for it, or it is small. */
static bool send_home(struct sh_span *span, uint32_t cell)
{
    sh_critical_enter();
    if (span->cell_size >= KEPT_BYTES)
        overflow(span);
    bool freed = free_remotely(span, cell);
    sh_critical_leave();
    return freed;
}

bool sh_remote_give(void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    if (SH_UNLIKELY(!span))
        return false;
    bool exact;
    uintptr_t owner = sh_load_relaxed(&span->owner);
    uint32_t cell = sh_divide((uintptr_t)p - span->base, span->reciprocal, &exact);
    /* No owner: a large object, or a free run. Own: this thread is inside gc_lock. */
    if (SH_UNLIKELY(!exact || !owner || (owner & SH_OWNER_SLOW) ||
                    (sh_tls.self && (uintptr_t)sh_tls.self->cache == owner)))
        return false;
    struct sh_bin *bin =
        (struct sh_bin *)(void *)((char *)sh_my_cache + span->bin_offset);
    bool freed;
    if (span->cell_size >= KEPT_BYTES && bin->top != bin->limit)
        freed = keep(bin, span, cell, p);
    else
        freed = send_home(span, cell);
    SH_KEEP(p);
    return freed;
}

uint32_t sh_remote_take(struct sh_span *span)
{
    if (!sh_load_seq_cst(&span->remote_words))
        return 0;
    uint64_t words = sh_exchange_seq_cst(&span->remote_words, (uint64_t)0);
    uint32_t count = 0;
    /* A notice that came late may name words that this life does not have. */
    words &= sh_low_bits64(sh_span_words(span));
    for (; words; words &= words - 1) {
        uint32_t w = sh_ctz64(words);
        uint64_t freed = sh_span_word(span, w, SH_CELL_REMOTE);
        sh_span_free_word(span, w, freed);
        count += sh_popcount64(freed);
    }
    return count;
}

void sh_remote_drain(struct sh_cache *cache)
{
    struct sh_span *span = take_inbox(cache);
    while (span) {
        struct sh_span *next = span->inbox_next;
        if (owner_now(span) == cache) {
            /* Pairs with notify: from here on a freeing thread queues it again. */
            sh_store_seq_cst(&span->queued, 0u);
            sh_cache_take_back(cache, span);
        } else {
            sh_remote_deliver(span);
        }
        span = next;
    }
}
