/* SPDX-License-Identifier: MIT */
/*
 * Under valgrind's memcheck: it is told of what is handed out and freed, so that it sees
 * uninitialised reads, uses after free, overruns and leaks of what our malloc returned.
 *
 * A malloc'd block then lies inside its cell, between bytes that nobody may touch:
 *
 *      cell  [ its size, front | size bytes: the block | 16 bytes or more ]
 *              front bytes, a multiple of the alignment
 *
 * So a block's address is in no descriptor or magazine, where it would look reachable.
 * Threads stay on the slow paths, as where cells are filled (heaps/fill.h). Of collected
 * cells memcheck only hears which bytes have a value.
 *
 * Decided once, at the start. Without memcheck's header (the build option valgrind) all
 * of this is empty. Locks: none; any thread.
 */
#ifndef SH_HEAPS_MEMCHECK_H
#define SH_HEAPS_MEMCHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "heaps/heap.h"
#include "lib/compiler.h"

#if SH_MEMCHECK

extern bool sh_memcheck_found; /* written before the first allocation */

SH_INLINE bool sh_memcheck_on(void)
{
    return SH_UNLIKELY(sh_memcheck_found);
}

#else

SH_INLINE bool sh_memcheck_on(void)
{
    return false;
}

#endif

/* Before the first allocation. */
void sh_memcheck_init(void);

/* What is to be asked of the heap for the request; false: that is too much. */
bool sh_memcheck_widen(const struct sh_request *request, struct sh_request *wider);

/* Makes the cell, allocated for the wider request, into what the caller gets. */
void *sh_memcheck_new(const struct sh_request *request, void *cell);

/* `bytes` of a collected cell were added, and nothing is in them yet. */
void sh_memcheck_open(void *start, size_t bytes);

/* The live cell in which `p` was handed out is about to be freed. */
void sh_memcheck_freed(void *p, struct sh_cell cell);

/* `p` is freed, but is nothing that can be: memcheck says so. */
void sh_memcheck_misused(void *p);

/* A malloc'd block of the cell begins at p, which is not where the cell does. */
bool sh_memcheck_begins(const void *p, struct sh_cell cell);

/* Where what was handed out of the live cell begins. */
void *sh_memcheck_start(struct sh_cell cell);

/* The size that the malloc'd block was asked for. */
size_t sh_memcheck_bytes(struct sh_cell cell);

/*
 * A collection looks at everything, whether it has a value or not: memcheck is not to
 * speak of that in this thread. At its end, with the world stopped, what came of it has
 * a value.
 */
void sh_memcheck_scan_begin(void);
void sh_memcheck_scan_end(void *results, size_t bytes);

#endif /* SH_HEAPS_MEMCHECK_H */
