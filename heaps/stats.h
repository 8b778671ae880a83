/* SPDX-License-Identifier: MIT */
/*
 * Statistics: what the heap holds, and what it did.
 *
 * No fast path counts anything. What is live is read from the spans' tables, walked
 * under the heap's lock while threads go on: of a cell that is being handed out or
 * freed meanwhile, either is told. With no other thread at work all of it is exact, but
 * for what SH_STATS says is a bound.
 */
#ifndef SH_HEAPS_STATS_H
#define SH_HEAPS_STATS_H

#include <splitheap/malloc.h>

#include "heaps/size_class.h"
#include "lib/options.h"
#include "lib/print.h"

/*
 * X(field, what it is), in the order of struct splitheap_stats and of what is printed.
 *
 *   mapped + given == active + dirty + retained + metadata
 *   allocated == small_bytes + large_bytes + huge_bytes
 *             == malloc_bytes + gc_bytes + leaf_bytes
 */
/* clang-format off */
#define SH_STATS(X)                                                                    \
    X(allocated, "bytes in live objects, which are whole cells")                       \
    X(active, "bytes of pages that hold objects, or did and are kept for more")        \
    X(dirty, "bytes of free pages kept for reuse")                                     \
    X(retained, "bytes of free pages that cost no memory")                             \
    X(metadata, "bytes of the allocator's own tables")                                 \
    X(mapped, "bytes of addresses taken from the system")                              \
    X(given, "bytes of memory that the program gave to gc_init and gc_add")            \
    X(resident, "bytes of memory in use, at most")                                     \
    X(peak, "bytes that mapped and given ever came to, at most")                       \
    X(small_bytes, "bytes in live objects in cells of a size class")                   \
    X(small_objects, "of these, how many")                                             \
    X(large_bytes, "bytes in live objects of whole pages")                             \
    X(large_objects, "of these, how many")                                             \
    X(huge_bytes, "bytes in live objects with a mapping of their own")                 \
    X(huge_objects, "of these, how many")                                              \
    X(malloc_bytes, "bytes in live objects of malloc, which are never collected")      \
    X(malloc_objects, "of these, how many")                                            \
    X(gc_bytes, "bytes in live objects of gc_alloc")                                   \
    X(gc_objects, "of these, how many")                                                \
    X(leaf_bytes, "bytes in live leaf objects of gc_alloc")                            \
    X(leaf_objects, "of these, how many")                                              \
    X(areas, "mappings that pages are cut from, and those of huge objects")            \
    X(spans, "runs of pages in use")                                                   \
    X(free_runs, "runs of free pages")                                                 \
    X(threads, "threads that the allocator knows")                                     \
    X(collections, "collections so far")                                               \
    X(purges, "runs of free pages given back to the system so far")                    \
    X(purged, "bytes of these")
/* clang-format on */

struct sh_stats {
    struct splitheap_stats sums;
    struct splitheap_class classes[SH_CLASS_COUNT];
};

/* Takes SH_RANK_HEAP; not in a critical section. */
void sh_stats_gather(struct sh_stats *stats);

/* As text for people, or as JSON. No lock. */
void sh_stats_print(
    const struct sh_stats *stats, enum sh_stats_form form, const struct sh_sink *sink);

/* Gathers and prints, to where the options say. No malloc, no stdio: also in a signal
 * handler, where the interrupted thread is in no critical section. */
void sh_stats_write(enum sh_stats_form form);

/* The options are known: prepares to print at exit and at a signal. Not under a lock. */
void sh_stats_prepare(void);

#endif /* SH_HEAPS_STATS_H */
