/* SPDX-License-Identifier: MIT */
/*
 * Objects that say of themselves what they must hold, so that whoever frees one can
 * tell whether it is still as it was made. A table of them is a table of pointers.
 *
 *     | size | tag | ... | mark | ... | mark |      a mark on each page, one at the end
 */
#ifndef BENCH_LOADS_ITEM_H
#define BENCH_LOADS_ITEM_H

#include "bench/measure.h"

#include <stdint.h>
#include <stdlib.h>

struct item {
    uint32_t size; /* in bytes, this header among them */
    uint32_t tag;  /* what it adds to the checksum; its low byte is the mark */
};

enum { ITEM_MIN = sizeof(struct item), ITEM_PAGE = 4096 };

/** Fills `memory`, of `size` bytes, ITEM_MIN or more. */
static inline struct item *item_fill(void *memory, size_t size, uint64_t tag)
{
    struct item *item = memory;
    unsigned char *bytes = memory;

    item->size = (uint32_t)size;
    item->tag = (uint32_t)tag;
    for (size_t at = ITEM_PAGE; at < size; at += ITEM_PAGE)
        bytes[at] = (unsigned char)tag;
    if (size > ITEM_MIN)
        bytes[size - 1] = (unsigned char)tag;
    return item;
}

static inline struct item *item_make(size_t size, uint64_t tag)
{
    return item_fill(bench_malloc(size), size, tag);
}

/** Its tag, for an item that is still as it was made. */
static inline uint64_t item_check(const struct item *item)
{
    const unsigned char *bytes = (const unsigned char *)item;
    unsigned char mark = (unsigned char)item->tag;
    unsigned wrong = item->size < ITEM_MIN;

    for (size_t at = ITEM_PAGE; at < item->size; at += ITEM_PAGE)
        wrong |= (unsigned)bytes[at] ^ mark;
    if (item->size > ITEM_MIN)
        wrong |= (unsigned)bytes[item->size - 1] ^ mark;
    if (wrong != 0)
        bench_fail("an object is damaged");
    return item->tag;
}

/** Frees it, and returns its tag; 0 for NULL. */
static inline uint64_t item_free(struct item *item)
{
    if (item == NULL)
        return 0;
    uint64_t tag = item_check(item);
    free(item);
    return tag;
}

#endif /* BENCH_LOADS_ITEM_H */
