/* SPDX-License-Identifier: MIT */
/*
 * A visit to every span by the collector and its helpers: what is done span by span
 * before and after marking takes a tenth of the pause.
 *
 * Spans are taken off the list of all, so many at a time, under a lock; each is visited
 * once, by one member. The world is stopped and the heap's lock is held, so the list stays
 * as it is; a visit takes no lock.
 *
 * Lock: SH_RANK_MARK, held for a few loads.
 */
#ifndef SH_HEAPS_SPAN_WALK_H
#define SH_HEAPS_SPAN_WALK_H

#include "heaps/span.h"

/* `member`: 0 is the caller. */
typedef void sh_span_visit(void *context, unsigned member, struct sh_span *span);

/* With up to so many helpers of the gang's (threads/gang.h). The collector. */
void sh_span_walk(sh_span_visit *visit, void *context, unsigned helpers);

#endif /* SH_HEAPS_SPAN_WALK_H */
