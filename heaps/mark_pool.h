/* SPDX-License-Identifier: MIT */
/*
 * Work that markers share: segments of stacks, ranges of words, spans whose live cells
 * are roots.
 *
 * A marker works on what it has and asks the pool only when it has nothing left. Who
 * finds the pool empty waits, and is counted idle; others see that (sh_mark_wanted, a
 * hint) and put the older half of their stacks here. When all who take part are idle
 * there is nothing left to mark, for work is made by those who have some:
 *
 *      idle == members and the pool is empty     =>  done
 *
 * All under one lock; a take or a put moves hundreds of items, and a marker alone comes
 * here only for ranges and at the end. Work-stealing deques would do without the lock,
 * at the price of a fence for every item that their owner takes.
 *
 * Lock: SH_RANK_MARK, held for a few instructions.
 */
#ifndef SH_HEAPS_MARK_POOL_H
#define SH_HEAPS_MARK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"
#include "lib/atomic.h"

/* A cell to scan: its address shifted up by 8, and its granules, at most 4095; 0 means a
 * large object. The uppermost bit: it is typed. */
typedef uint64_t sh_mark_item;

enum { SH_MARK_SEGMENT_ITEMS = 4096 - 8 };

struct sh_mark_segment {
    struct sh_mark_segment *next;
    size_t count;
    SH_ALIGNED(64) sh_mark_item items[SH_MARK_SEGMENT_ITEMS];
};

/* Words to scan: of a large object, or roots. Empty: both are 0. */
struct sh_mark_range {
    uintptr_t start, end;
};

/* One of the three. */
struct sh_mark_work {
    struct sh_mark_segment *segment;
    struct sh_mark_range range;
    struct sh_span *span; /* the first of so many in the list of all spans */
    size_t spans;
};

/* How many markers wait for work; a hint. */
extern _Atomic uint32_t sh_mark_wanted;

/* The caller is its one member, and works on what was put there before. */
void sh_mark_pool_open(void);

/* The spans from there on are work. */
void sh_mark_pool_add_spans(struct sh_span *first);

/* Another marker takes part; false: all is done. */
bool sh_mark_pool_join(void);

/* False: no memory. */
bool sh_mark_pool_add_range(uintptr_t start, uintptr_t end);

void sh_mark_pool_put(struct sh_mark_segment *segment);

/* Waits for work; false: there is none left, and no member has any. */
bool sh_mark_pool_take(struct sh_mark_work *work);

/* An empty segment on top of the others; false: no memory. */
bool sh_mark_segment_push(struct sh_mark_segment **top);

/* Takes the uppermost off and gives its memory back. */
void sh_mark_segment_pop(struct sh_mark_segment **top);

/* An item on top of a stack of segments; false: no memory. */
SH_INLINE bool sh_mark_push(struct sh_mark_segment **top, sh_mark_item item)
{
    if (SH_UNLIKELY(!*top || (*top)->count == SH_MARK_SEGMENT_ITEMS))
        if (!sh_mark_segment_push(top))
            return false;
    (*top)->items[(*top)->count++] = item;
    return true;
}

#endif /* SH_HEAPS_MARK_POOL_H */
