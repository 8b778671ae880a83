/* SPDX-License-Identifier: MIT */
/*
 * Huge objects: each has a mapping of its own, which is an area with one span, so that
 * resizing can be mremap. In a critical section; take SH_RANK_HEAP.
 */
#ifndef SH_HEAPS_HUGE_H
#define SH_HEAPS_HUGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"

/* `bytes` in whole slots of the page map; NULL: no memory. */
struct sh_span *sh_huge_map(size_t bytes, size_t align, uint8_t kind);

/* mremap; false: it stays as it was. The span's base may change. */
bool sh_huge_resize(struct sh_span *span, size_t bytes);

/* Unmaps it; its one cell is free. */
void sh_huge_unmap(struct sh_span *span);

#endif /* SH_HEAPS_HUGE_H */
