/* SPDX-License-Identifier: MIT */
/*
 * Links: what leads to an object without holding it. References, finalizes and ephemerons
 * (weakref.c, finalize.c, ephemeron.c) begin with one. A link is the beginning of a
 * collected object of its own:
 *
 *     record of the object         link                       link
 *        | first | <-------> next, prev, target <----> next, prev, target
 *
 * The newest comes first. All that is in it is hidden, so that neither the object nor
 * another link is held. For as long as a link leads somewhere, a bit in the record of its
 * own cell says so (heaps/weak_table.h), and both it and what it leads to have their weak bit
 * set: the collector looks at dead cells with that bit only. So a link that is dropped goes
 * like any other object, and one that leads nowhere costs nothing but its cell.
 *
 *   in the chain of its target --- target dies or is freed ---> in the queue ---> nowhere
 *              |                                                (it calls)           ^
 *              '------ target dies, no callback; is cancelled; dies itself ----------'
 *
 * The queue is of links whose callbacks wait; it holds them. sh_callback_tell takes from it.
 *
 * What a collection does, the world stopped, each under the lock of its own:
 *
 *   sh_ephemeron_trace      what lives by its key is marked (heaps/ephemeron.h)
 *   sh_weak_clear_short     short references to the dead are cleared, and finalizes; what
 *                           has a callback is queued, and marked from
 *   (finalisers, hooks)     heaps/callback.c: queued, and marked from
 *   sh_weak_clear_rest      all other links to what is still not marked, and links that
 *                           died themselves
 *
 * Lock: SH_RANK_WEAK, over the records, the queue, and all links but `target`, which the
 * owner of a reference reads in a critical section, without. What is for the program's hook
 * only needs it seldom (heaps/weak_table.h, 1 to 4).
 */
#ifndef SH_HEAPS_WEAK_LINK_H
#define SH_HEAPS_WEAK_LINK_H

#include <splitheap/weakref.h>

#include <stdbool.h>
#include <stdint.h>

#include "heaps/heap.h"
#include "heaps/weak_table.h"
#include "lib/lock.h"

enum sh_weak_kind {
    SH_WEAK_SHORT,     /* cleared before finalisers */
    SH_WEAK_LONG,      /* cleared when the object is gone for good */
    SH_WEAK_FINALIZE,  /* as SHORT; lives as long as its target */
    SH_WEAK_EPHEMERON, /* as LONG; its value lives as long as it and its target */
};

/* In a link's `prev`, below the address, beside its kind. */
enum {
    SH_WEAK_KIND = 3,
    SH_WEAK_CALLS = 4, /* it has a callback */
    SH_WEAK_QUEUED = 8,
    SH_WEAK_FLAGS = 15,
};

struct sh_weak_link {
    _Atomic uintptr_t target; /* hidden; 0: it leads nowhere */
    uintptr_t next,
        prev; /* hidden: in its target's chain, or in the queue; and flags */
};

/* Of one that leads nowhere yet. */
SH_INLINE void sh_weak_link_init(
    struct sh_weak_link *link, enum sh_weak_kind kind, bool calls)
{
    link->prev = (uintptr_t)kind | (calls ? SH_WEAK_CALLS : 0);
}

SH_INLINE enum sh_weak_kind sh_weak_kind_of(const struct sh_weak_link *link)
{
    return (enum sh_weak_kind)(link->prev & SH_WEAK_KIND);
}

SH_INLINE bool sh_weak_calls(const struct sh_weak_link *link)
{
    return link->prev & SH_WEAK_CALLS;
}

SH_INLINE bool sh_weak_is_queued(const struct sh_weak_link *link)
{
    return link->prev & SH_WEAK_QUEUED;
}

extern struct sh_lock sh_weak_lock;

/* Links that hold something by their target. */
extern _Atomic size_t sh_weak_holders;

/* In a collection: links that are not marked count as live, too. The collector's. */
extern bool sh_weak_all_live;

/* A cleared object of so many bytes that begins with a link; NULL with errno ENOMEM. Not
 * in a critical section; may collect. */
void *sh_weak_new(size_t bytes);

/*
 * Has the new link, of which all else is set, lead to `target`, and returns it. NULL, and it
 * is freed, with errno EINVAL where no live object starts there, or ENOMEM. `held` stays a
 * root until then. Not in a critical section.
 */
void *sh_weak_link_begin(struct sh_weak_link *link, void *target, void *held);

/* Between the two a target that is read is not found dead; they are a critical section. */
void sh_weak_read_begin(void);
void sh_weak_read_end(void);

/* The object, or NULL. */
void *sh_weak_link_get(struct sh_weak_link *link);

/* Has it lead nowhere, and its callback not run; false: it was so already. The second under
 * the lock. */
bool sh_weak_link_cancel(struct sh_weak_link *link);
bool sh_weak_link_cut(struct sh_weak_link *link);

/* The same as sh_weak_link_begin under the lock, in a critical section; 0, EINVAL, ENOMEM. It
 * was prepared, while both were held. */
int sh_weak_link_attach(struct sh_weak_link *link, void *target);

/* Sees that the spans of both have records; false: no memory. Under no lock. */
bool sh_weak_link_prepare(const struct sh_weak_link *link, const void *target);

/* It leads nowhere any more, and its callback waits, behind all others, also if it waited
 * already; under the lock. */
void sh_weak_link_queue(struct sh_weak_link *link);

/* gc_weakref_mark of the live cell, in a critical section; false: no memory. */
bool sh_weak_hook(struct sh_cell cell);

/* Whether the program's hook is to be told of the cell, whose weak bit is set (in a collection);
 * the same, and it need not be told any more. Both under SH_RANK_CALLBACK. */
bool sh_weak_tells(struct sh_cell cell);
bool sh_weak_unhook(struct sh_cell cell);

/* Whether the cell is a link that leads somewhere, or is queued. Not in a critical section. */
bool sh_weak_leads(struct sh_cell cell);

/* The cell is about to be freed: what leads there is cleared. True: the program's hook is to
 * be told. Not in a critical section. */
bool sh_weak_freed(struct sh_cell cell);

/* The span ends, or another life of it begins: nothing leads there any more. */
void sh_weak_drop(struct sh_span *span);

/* ---- In a collection ---- */

/* Not of a collected kind, or marked; of the cell at that address. */
bool sh_weak_is_live(const void *address);

/* The cell at the address, which lies in a span. */
struct sh_cell sh_weak_cell_at(const void *address);

/* Visits all links that lead somewhere, or are queued. Under the heap's lock, too. */
void sh_weak_each_link(
    void (*visit)(struct sh_weak_link *link, void *context), void *context);

void sh_weak_clear_short(void);

/* `run`: callbacks are queued; else they are dropped. */
void sh_weak_clear_rest(bool run);

/* What is queued is a root. */
void sh_weak_add_queued(void);

/* Checks all that can be said of the span's records, and of the links that lead to its
 * cells; nothing leads to the dead, or from them, any more. */
void sh_weak_valid(struct sh_span *span);

/* ---- After one ---- */

/* Takes the first link that is wanted off the queue, and what is before it; calls its
 * callback. NULL: all are wanted. False: there is none. Not in a critical section. */
typedef bool sh_weak_filter(const struct sh_weak_link *link);
bool sh_weak_run_one(sh_weak_filter *wanted);

/* A reference's callback; has a finalize call its own. heaps/weakref.c, heaps/finalize.c */
struct sh_weak_call {
    gc_weakref_fn *function;
    void *ctx;
};
struct sh_weak_call sh_weakref_callback(const struct sh_weak_link *link);
void sh_finalize_call(struct sh_weak_link *link);

/* The process ends: calls the finalizes that asked for that; no other callback that waits. */
void sh_finalize_at_exit(void);

#endif /* SH_HEAPS_WEAK_LINK_H */
