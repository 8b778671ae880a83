/* SPDX-License-Identifier: MIT */
/*
 * Remote frees: how a thread frees a cell of a span that it does not own.
 *
 * The freeing thread           ORs the cell's bit into the word's `remote`;
 *                              if it is the word's first, ORs the word into the span's
 *                              `remote_words`; then notifies the owner: unless the span
 *                              is queued already, sets `queued` and pushes it on the
 *                              inbox of the cache that owns it.
 * The owner, at a slow path    takes its inbox's list whole, and for each span on it
 *                              clears `queued`, takes the words' bits and clears them
 *                              in `alloc`.
 * Who changes a span's owner   stores the new owner, then passes on the old owner's
 *                              inbox: each span found there is pushed on the inbox of
 *                              its owner of now.
 *
 * Invariants (tests/models/remote.pml checks them over all interleavings):
 *   I1  a span is linked in at most one inbox, at most once: only who changes `queued`
 *       from 0 to 1 pushes, only who unlinked it clears it. Passing on keeps it set.
 *   I2  no free is lost: once no thread is inside sh_remote_free, each span with remote
 *       bits is in the inbox of the cache that owns it.
 *   I3  a cell is handed out again only after its remote bit was taken.
 *
 * Pairings, all sequentially consistent:
 *   freeing: OR remote_words ; exchange queued   |  owner: queued = 0 ; take words
 *     either the freeing thread sees 0 and queues, or the owner sees the bits.
 *   freeing: push ; load owner                   |  changing: store owner ; take inbox
 *     either the pusher sees the new owner and passes the inbox on, or the changer
 *     finds the push.
 *
 * After its OR the freeing thread may find the span's life ended and another begun in
 * its descriptor: it then notifies the wrong span for nothing. Descriptors are
 * type-stable, and spans without an owner are dropped, so that is harmless. Who puts an
 * empty span aside to release it takes `queued` as if it had unlinked it, and drops it
 * after the release: no span is released while it is linked, nor twice.
 */
#ifndef SH_HEAPS_REMOTE_H
#define SH_HEAPS_REMOTE_H

#include "heaps/cache.h"
#include "heaps/span.h"

/* Frees the cell; false: it was freed remotely before. Critical section. */
bool sh_remote_free(struct sh_span *span, uint32_t cell);

/* Frees the small cell at p, whose span another cache owns, the quick way; false: that
 * is not what it is, or something is to be said of it. */
bool sh_remote_give(void *p);

/* Tells the owner of REMOTE cells in these words of the span. Critical section. */
void sh_remote_notify(struct sh_span *span, uint64_t words);

/* Takes the span's remote bits and clears them in alloc; returns how many cells. The owner only. */
uint32_t sh_remote_take(struct sh_span *span);

/* Takes back what lies in the cache's inbox. The cache's owner, in a critical section. */
void sh_remote_drain(struct sh_cache *cache);

/* Pushes a span, whose `queued` the caller set or holds, on its owner's inbox; or drops
 * it if it has none. Anyone. */
void sh_remote_deliver(struct sh_span *span);

/* Pushes the spans in the cache's inbox on their owners' of now. Anyone. */
void sh_remote_pass_on(struct sh_cache *cache);

#endif /* SH_HEAPS_REMOTE_H */
