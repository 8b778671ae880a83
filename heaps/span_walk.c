/* SPDX-License-Identifier: MIT */
/* Visits to every span. See heaps/span_walk.h. */
#include "heaps/span_walk.h"

#include "heaps/run.h"
#include "lib/lock.h"
#include "threads/gang.h"

#define AT_ONCE 64 /* spans: some 10 us of work */

static struct {
    struct sh_lock lock;
    struct sh_span *next; /* under the lock */
    sh_span_visit *visit;
    void *context;
} walk = {.lock = SH_LOCK_INIT(SH_RANK_MARK)};

static struct sh_span *take_some(unsigned *count)
{
    sh_lock_acquire(&walk.lock);
    struct sh_span *first = walk.next;
    for (*count = 0; walk.next && *count < AT_ONCE; ++*count)
        walk.next = walk.next->all_next;
    sh_lock_release(&walk.lock);
    return first;
}

static void visit_some(void *unused, unsigned member)
{
    unsigned count;
    struct sh_span *span;
    (void)unused;
    while ((span = take_some(&count)))
        for (; count; count--, span = span->all_next)
            walk.visit(walk.context, member, span);
}

void sh_span_walk(sh_span_visit *visit, void *context, unsigned helpers)
{
    walk.next = sh_span_first();
    walk.visit = visit;
    walk.context = context;
    if (helpers)
        sh_gang_open(visit_some, NULL, helpers);
    visit_some(NULL, 0);
    if (helpers)
        sh_gang_close();
}
