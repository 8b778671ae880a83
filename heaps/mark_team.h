/* SPDX-License-Identifier: MIT */
/*
 * Marking as a whole: the collector's marker, the roots that were put off, and, in a
 * heap that is worth it, a gang of markers.
 *
 *   begin      the marks are cleared, in a minor collection but for old ones
 *   roots      at once, by the collector, or later, by any marker
 *   map        bounds and mark map; from here on the locks stay held
 *   complete   all that is reached from the roots so far is marked; may be repeated
 *   end        how many markers took part
 *
 * The world is stopped; the caller holds SH_RANK_SHARED and SH_RANK_HEAP in each of these
 * but where roots are put off: threads without a record, our own among them, give empty
 * spans back at other times, and with them their marks.
 */
#ifndef SH_HEAPS_MARK_TEAM_H
#define SH_HEAPS_MARK_TEAM_H

#include "heaps/mark.h"

/* Before the first collection, without a lock. */
void sh_mark_init(void);

/* How many markers there may be; 0: as many as processors. Returns the former. */
unsigned sh_mark_set_markers(unsigned markers);

/* Before the world is stopped, where a thread may be made: gets helpers if the heap is
 * worth it. */
void sh_mark_prepare_helpers(void);

/* `minor`: as a minor collection, if it can be. */
void sh_mark_begin(bool minor);

/* The words in [start, end), which stay as they are, are roots, less users' areas. Needs no
 * lock. False: no memory. */
bool sh_mark_add_root(const void *start, const void *end);

/* The same at once, for words that do not stay. */
void sh_mark_root_now(const void *start, const void *end);

/* All malloc'd memory is a root, unless the program had it left out; and in a minor
 * collection what was written to of old objects: none of the program's code runs from here
 * on until the world does. */
void sh_mark_add_spans(void);

/* Whether it is, in this collection, and from the next one on; returns what was set. */
bool sh_mark_scans_explicit(void);
bool sh_mark_set_scan_explicit(bool on);

/* The collector's marker, once there is the mark map, for callbacks to report to. */
struct gc_marker *sh_mark_first(void);

void sh_mark_map(void);
void sh_mark_complete(void);

/* From here on what is reached is not old in the next collection. */
void sh_mark_for_waiting(void);

/* Every object holds what its words say. */
bool sh_mark_is_plain(void);

/*
 * Watching, for what lives by another object (heaps/ephemeron.h): from begin to end the
 * collector marks alone. `follow` marks all that is reached from sh_mark_root_now; `next`
 * gives, one at a time, the cells marked meanwhile whose weak bit is set, false: there is
 * no more. `end`: true, there was no memory to note them all; sh_mark_complete comes next.
 */
void sh_mark_watch_begin(void);
void sh_mark_watch_follow(void);
bool sh_mark_watch_next(void **cell);
bool sh_mark_watch_end(void);

unsigned sh_mark_end(void);

/* How many helpers are worth their waking for what is done span by span. */
unsigned sh_mark_helpers(void);

#endif /* SH_HEAPS_MARK_TEAM_H */
