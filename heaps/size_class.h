/* SPDX-License-Identifier: MIT */
/*
 * Size classes: sixteen-byte steps up to 128 bytes, then eight per doubling up to a page
 * and four up to SH_SMALL_MAX, so that at most an eighth, or a quarter, of a larger cell
 * is wasted. Powers of two are classes of their own.
 *
 * The tables are filled by sh_size_class_init in the heap's first slow path. Before
 * that they are zero, every size leads to class 0, and class 0 of the empty initial
 * cache misses: no fast path asks whether they are ready.
 */
#ifndef SH_HEAPS_SIZE_CLASS_H
#define SH_HEAPS_SIZE_CLASS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/bits.h"

#define SH_GRANULE ((size_t)16)
#define SH_SMALL_MAX ((size_t)32768)
#define SH_CLASS_COUNT 60
#define SH_CLASS_WORDS ((SH_CLASS_COUNT + 63) / 64)

struct sh_size_class {
    uint32_t size;       /* of a cell, bytes */
    uint64_t reciprocal; /* ceil(2^64 / size) */
    uint16_t pages;      /* of a span in a heap of ordinary size */
    uint8_t magazine;    /* rounds that a bin's magazine has room for */
    uint8_t refill;      /* rounds that an empty one is refilled with */
    uint16_t min_pages;  /* of a span in a tiny heap: little waste, one cell at least */
};

extern struct sh_size_class sh_size_classes[SH_CLASS_COUNT];
extern uint8_t sh_class_of_granules[SH_SMALL_MAX / SH_GRANULE + 1];

void sh_size_class_init(void);

/* The class of the smallest cells that hold `bytes`, at most SH_SMALL_MAX; 0 counts
 * as 1. */
SH_INLINE unsigned sh_size_class_of(size_t bytes)
{
    return sh_class_of_granules[(bytes + SH_GRANULE - 1) / SH_GRANULE];
}

/*
 * offset / size by multiplication: the quotient, and in *exact whether nothing is left.
 * With reciprocal = (2^64 + e) / size, e < size, the product of k * size + r is
 * k * 2^64 + (k * e + r * reciprocal): right, and below the reciprocal for r = 0 only,
 * as long as k * e is below it, which within a span it is by far. A reciprocal of 0
 * gives 0, not exact.
 */
SH_INLINE uint32_t sh_divide(uint64_t offset, uint64_t reciprocal, bool *exact)
{
    __extension__ unsigned __int128 product = (unsigned __int128)offset * reciprocal;
    *exact = (uint64_t)product < reciprocal;
    return (uint32_t)(product >> 64);
}

/* The most cells that a span of a class has. */
#define SH_CLASS_CELLS_MAX 4096

#endif /* SH_HEAPS_SIZE_CLASS_H */
