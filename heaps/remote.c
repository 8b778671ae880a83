/* SPDX-License-Identifier: MIT */
/* Remote frees. See heaps/remote.h for the protocol. Takes no lock. */
#include "heaps/remote.h"

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
    return (struct sh_cache *)(sh_load_seq_cst(&span->owner) & ~SH_OWNER_TABLES);
}

static void notify(struct sh_span *span);

/* Pushes a span whose `queued` the caller set or holds. */
static void deliver(struct sh_span *span)
{
    struct sh_cache *owner = owner_now(span);
    if (!owner) {
        /* Released meanwhile. Whoever saw `queued` set relies on us: look again. */
        sh_store_seq_cst(&span->queued, 0u);
        notify(span);
        return;
    }
    push(owner, span);
    if (SH_UNLIKELY(owner_now(span) != owner))
        sh_remote_pass_on(owner);
}

static void notify(struct sh_span *span)
{
    if (sh_load_seq_cst(&span->queued) || !sh_load_seq_cst(&span->remote_words))
        return;
    if (!sh_exchange_seq_cst(&span->queued, 1u))
        deliver(span);
}

void sh_remote_pass_on(struct sh_cache *cache)
{
    struct sh_span *span = sh_exchange_seq_cst(&cache->inbox, NULL);
    while (span) {
        struct sh_span *next = span->inbox_next;
        deliver(span);
        span = next;
    }
}

bool sh_remote_free(struct sh_span *span, uint32_t cell)
{
    uint64_t bit = sh_cell_bit(cell);
    uint32_t w = cell / 64;
    uint64_t old = sh_or_seq_cst(&span->words[w].remote, bit);
    if (old & bit)
        return false;
    if (!(old & ~sh_span_tail(span, w)))
        sh_or_seq_cst(&span->remote_words, (uint64_t)1 << w);
    notify(span);
    return true;
}

/*
 * Clears alloc first and remote after, so that a cell never looks live in between. Bits
 * that come meanwhile found the word not empty and did not name it: they are taken too.
 */
static uint32_t take_word(struct sh_span *span, uint32_t w)
{
    struct sh_word *word = &span->words[w];
    uint64_t tail = sh_span_tail(span, w);
    uint64_t freed = sh_load_seq_cst(&word->remote) & ~tail;
    uint32_t count = 0;
    while (freed) {
        uint64_t alloc = sh_load_relaxed(&word->alloc);
        SH_CHECK1((alloc & freed) == freed);
        sh_store_relaxed(&word->alloc, alloc & ~freed);
        count += sh_popcount64(freed);
        freed = sh_and_seq_cst(&word->remote, ~freed) & ~tail & ~freed;
    }
    return word == span->window ? 0 : count;
}

uint32_t sh_remote_take(struct sh_span *span)
{
    if (!sh_load_relaxed(&span->remote_words))
        return 0;
    uint64_t words = sh_exchange_seq_cst(&span->remote_words, (uint64_t)0);
    uint32_t count = 0;
    /* A notice that came late may name words that this life does not have. */
    words &= sh_low_bits64(sh_span_words(span));
    for (; words; words &= words - 1)
        count += take_word(span, sh_ctz64(words));
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
            deliver(span);
        }
        span = next;
    }
}
