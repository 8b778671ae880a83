/* SPDX-License-Identifier: MIT */
/*
 * Remote frees: how a thread frees a cell of a span that it does not own.
 *
 * A freeing thread that keeps the cell
 *                              changes its state from LIVE to HELD by compare-and-swap,
 *                              and makes it a round of its own magazine. Nobody is told:
 *                              the span counts the cell as used, and so stays. The cell
 *                              is handed out again from there, or unloaded, which is
 *                              the same as the next, from HELD.
 * A freeing thread that does not
 *                              changes the state from LIVE to REMOTE by compare-and-swap;
 *                              unless `remote_words` has the cell's word, ORs it in; then
 *                              notifies the owner: unless the span is queued already,
 *                              sets `queued` and pushes it on the inbox of the cache
 *                              that owns it. Who unloads many cells of a span does the
 *                              last two once.
 * The owner, at a slow path    takes its inbox's list whole, and for each span on it
 *                              clears `queued`, takes `remote_words` by an exchange for
 *                              0, and makes what is REMOTE in those words FREE.
 * Who changes a span's owner   stores the new owner, then passes on the old owner's
 *                              inbox: each span found there is pushed on the inbox of
 *                              its owner of now.
 *
 * The owner of the spans of a cache that no thread has (the shared one, idle ones) is
 * whoever holds SH_RANK_SHARED.
 *
 * Invariants (tests/models/remote.pml and adoption.pml check them over all
 * interleavings):
 *   I1  a span is linked in at most one inbox, at most once: only who changes `queued`
 *       from 0 to 1 pushes, only who unlinked it clears it. Passing on keeps it set.
 *   I2  no free is lost: once no thread is half-way through one, the words of all REMOTE
 *       cells are named in remote_words, and their span is in the inbox of the cache
 *       that owns it.
 *   I3  a cell is handed out again only by who holds it, and loaded only once it was
 *       taken back: only the owner makes a REMOTE cell FREE, or a FREE one HELD.
 *   I4  no cell is handed out twice, nor is a round in two magazines: only one thread can
 *       change LIVE to HELD. But the owner stores HELD without comparing; so if the
 *       program frees a cell twice, and the other thread's free comes between the
 *       owner's look at the state and its store, there are two rounds of it. The second
 *       to be popped or unloaded finds the cell not HELD, and tells it, unless that
 *       happens in the same instant as well.
 *
 * Pairings, all sequentially consistent:
 *   freeing: state = REMOTE ; load remote_words  |  owner: exchange words ; load states
 *     either the freeing thread finds its word not named, and names it, or the owner's
 *     scan comes after the state. So naming is skipped where the word is named already.
 *   freeing: name the word ; load queued         |  owner: queued = 0 ; take the words
 *     either the freeing thread sees 0 and queues, or the owner sees the word.
 *   freeing: push ; load owner                   |  changing: store owner ; take inbox
 *     either the pusher sees the new owner and passes the inbox on, or the changer
 *     finds the push.
 * (The owner's scan is of plain loads after the exchange, which on x86-64 is a full
 * barrier; elsewhere a fence is due there.)
 * The states are loaded with acquire, which pairs with the compare-and-swap to REMOTE:
 * what was done to the cell before it was freed is seen by who gets it next.
 *
 * Once the cell is REMOTE the freeing thread may find the span's life ended and another
 * begun in its descriptor: it then names a word of the wrong span and notifies it for
 * nothing. Descriptors are type-stable, a word without REMOTE cells is harmless, and
 * spans without an owner are dropped. Who puts an empty span aside to release it takes
 * `queued` as if it had unlinked it, and drops it after the release: no span is released
 * while it is linked, nor twice. A held cell keeps its span, whoever holds it.
 */
#ifndef SH_HEAPS_REMOTE_H
#define SH_HEAPS_REMOTE_H

#include "heaps/cache.h"
#include "heaps/span.h"

/* Frees the cell, which goes home; false: it is not LIVE. Critical section. */
bool sh_remote_free(struct sh_span *span, uint32_t cell);

/* Frees the small cell at p, whose span another cache owns, the quick way; false: that
 * is not what it is, or something is to be said of it. */
bool sh_remote_give(void *p);

/* Tells the owner of REMOTE cells in these words of the span. Critical section. */
void sh_remote_notify(struct sh_span *span, uint64_t words);

/* Makes the span's REMOTE cells FREE, in the words that are named; returns how many, which
 * the caller takes off `used`. The owner only. */
uint32_t sh_remote_take(struct sh_span *span);

/* Takes back what lies in the cache's inbox. The cache's owner, in a critical section. */
void sh_remote_drain(struct sh_cache *cache);

/* Pushes a span, whose `queued` the caller set or holds, on its owner's inbox; or drops
 * it if it has none. Anyone. */
void sh_remote_deliver(struct sh_span *span);

/* Pushes the spans in the cache's inbox on their owners' of now. Anyone. */
void sh_remote_pass_on(struct sh_cache *cache);

#endif /* SH_HEAPS_REMOTE_H */
