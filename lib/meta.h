/* SPDX-License-Identifier: MIT */
/*
 * Metadata memory: descriptors and tables, apart from the areas that hold cells.
 *
 * sh_meta_alloc hands out zeroed memory that is never unmapped. Freed pieces go to a
 * list of their size and come back only as pieces of that size: memory is type-stable,
 * so a stale descriptor pointer still points at a descriptor. sh_meta_free leaves the
 * contents as they are, and sh_meta_alloc of a reused piece does not clear it: fields
 * that outlive a descriptor's life (a span's `queued`) keep their meaning. Callers
 * initialise every field that does not.
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

/* Bytes taken from the system for metadata. */
size_t sh_meta_bytes(void);

void sh_meta_fork_prepare(void);
void sh_meta_fork_parent(void);
void sh_meta_fork_child(void);

#endif /* SH_LIB_META_H */
