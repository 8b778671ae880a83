/* SPDX-License-Identifier: MIT */
/*
 * Areas: ranges of whole pages from the system (auto split), from the user, or of one
 * huge object. What lies in them: heaps/run.h.
 *
 * An auto area that became empty, its pages purged, goes back to the system once a
 * quarter of what is in use stays free without it, the first one aside.
 *
 * Lock: SH_RANK_HEAP, over areas, runs, the page map and the list of all spans.
 * Callers are in a critical section; functions take the lock only where they say so.
 */
#ifndef SH_HEAPS_AREA_H
#define SH_HEAPS_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/compiler.h"
#include "lib/lock.h"
#include "lib/os.h"

struct sh_area {
    struct sh_area *next, *prev;
    uintptr_t start, end; /* whole pages */
    size_t free_pages;    /* in its free runs */
    size_t dirty_pages;   /* of those, dirty and not the user's */
    bool from_user;       /* never unmapped nor purged */
    struct sh_area *user_next;
    bool huge;    /* holds one huge object */
    bool watched; /* its pages may be: see heaps/minor.h */
    bool guarded; /* and some are */
    bool first;   /* of the auto areas: kept when empty */
};

extern struct sh_lock sh_heap_lock;

/* What the heap is made of; read anywhere, written under the lock. */
struct sh_heap_counts {
    _Atomic size_t total_pages; /* of all areas */
    _Atomic size_t free_pages;  /* in free runs */
    _Atomic size_t dirty_pages; /* of those, dirty and not the user's: purge.h */
    _Atomic uint32_t areas;     /* areas ever added: tells whether the heap grew */
    /* For statistics. */
    _Atomic size_t peak_pages;   /* the most that total_pages ever was */
    _Atomic size_t purges;       /* runs ever purged */
    _Atomic size_t purged_pages; /* of these */
};
extern struct sh_heap_counts sh_heap_counts;

SH_INLINE size_t sh_area_pages(const struct sh_area *area)
{
    return (area->end - area->start) / SH_PAGE_SIZE;
}

/* Adds [start, end), whole pages, to the heap as one free run. 0, ENOMEM, or EEXIST: it
 * overlaps another. A user's may lie within one large object of malloc's, which is then
 * pinned: it can be neither freed nor resized. Takes the lock. */
int sh_area_add(uintptr_t start, uintptr_t end, bool from_user);

/* The list of areas; and the one that the address is in, or NULL. */
struct sh_area *sh_area_first(void);
struct sh_area *sh_area_of(uintptr_t address);

/* The users' areas, by user_next; they are for ever, so it may be read without a lock. */
struct sh_area *sh_area_users(void);

/* Of an area's life, for huge objects too. Map: makes its pages' entries settable;
 * false: no memory. Unmap is called without the lock. */
struct sh_area *sh_area_new(uintptr_t start, uintptr_t end);
bool sh_area_map(uintptr_t start, uintptr_t end);
void sh_area_link(struct sh_area *area);
void sh_area_unlink(struct sh_area *area);
void sh_area_unmap(struct sh_area *area);

/* Pages of the area became free, or clean. */
void sh_area_freed(const struct sh_area *area);

/* An empty area that can be spared, taken out of the heap for the caller to unmap; or
 * NULL. */
struct sh_area *sh_area_take_idle(void);

#endif /* SH_HEAPS_AREA_H */
