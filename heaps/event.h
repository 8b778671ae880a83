/* SPDX-License-Identifier: MIT */
/*
 * What a collection did: recorded while it goes on, then told.
 *
 *   begin      why; the world is about to be stopped
 *   stopped    it stands still
 *   marking    what marking starts from is ready
 *   marked     all that lives is marked
 *   resumed    the threads go on
 *   end        the record is whole, and added to the totals
 *   tell       without a lock: the listener, and the option gc_log
 *
 * begin may be called by several threads at once, and nothing may come of it. From
 * stopped to end the record is that of the holder of the GC mutex. Each step is also a
 * probe for tracers (docs/collector.md).
 *
 * Totals and the listener are under SH_RANK_HEAP.
 */
#ifndef SH_HEAPS_EVENT_H
#define SH_HEAPS_EVENT_H

#include <splitheap/gc.h>

/* The collection under way. Who collects fills in what the steps do not know: the
 * objects and bytes marked, and how many threads marked. */
extern struct gc_collection sh_event;

/* Before the first collection, without a lock. */
void sh_event_init(void);

void sh_event_begin(enum gc_cause cause);
void sh_event_stopped(enum gc_cause cause);
void sh_event_marking(size_t allocated_bytes);
void sh_event_marked(void);
void sh_event_resumed(void);

/* So many bytes are scanned as roots. Any marker. */
void sh_event_roots(size_t bytes);

/* A copy of the record, for tell. Takes the heap's lock. */
struct gc_collection sh_event_end(void);

/* Not in a critical section, and not holding the GC mutex. */
void sh_event_tell(const struct gc_collection *collection);

#endif /* SH_HEAPS_EVENT_H */
