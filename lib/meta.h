/* SPDX-License-Identifier: MIT */
/*
 * Metadata memory: descriptors and tables, apart from the areas that hold cells.
 *
 * Nothing here is ever unmapped, and freed pieces come back only as pieces of their size.
 * Freeing leaves the contents as they are, and a reused piece is not cleared: callers
 * initialise every field.
 *
 * Stable pieces come back only as stable ones, of which each size is one type's: a
 * stale pointer to a descriptor still points at a descriptor, and fields that outlive
 * its life (a span's `queued`) keep their meaning.
 *
 * Lock: SH_RANK_META. Any thread, in a critical section.
 */
#ifndef SH_LIB_META_H
#define SH_LIB_META_H

#include <stddef.h>

/* Rounded up to a multiple of 64 bytes and aligned to 64; NULL when there is none. */
void *sh_meta_alloc(size_t bytes);

/* `bytes` as it was asked for. */
void sh_meta_free(void *piece, size_t bytes);

/* The same of stable pieces, which are at most 64 KiB. */
void *sh_meta_alloc_stable(size_t bytes);
void sh_meta_free_stable(void *piece, size_t bytes);

/* Bytes taken from the system for metadata. */
size_t sh_meta_bytes(void);

void sh_meta_fork_prepare(void);
void sh_meta_fork_parent(void);
void sh_meta_fork_child(void);

#endif /* SH_LIB_META_H */
