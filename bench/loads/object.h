/* SPDX-License-Identifier: MIT */
/* An object of any size, and beside it what it must hold. item.h: within it. */
#ifndef BENCH_LOADS_OBJECT_H
#define BENCH_LOADS_OBJECT_H

#include "bench/measure.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct object {
    unsigned char *bytes;
    size_t size;
    uint64_t tag; /* what bench_read must find */
};

/** Marks the `size` bytes at `bytes`. */
static inline struct object object_of(void *bytes, size_t size, uint64_t tag)
{
    bench_touch(bytes, size, tag);
    return (struct object){bytes, size, bench_read(bytes, size)};
}

static inline struct object object_make(size_t size, uint64_t tag)
{
    return object_of(bench_malloc(size), size, tag);
}

/** Frees an object that is still as it was made, and returns its tag. */
static inline uint64_t object_free(struct object object)
{
    if (object.bytes == NULL)
        return 0;
    if (bench_read(object.bytes, object.size) != object.tag)
        bench_fail("an object is damaged");
    free(object.bytes);
    return object.tag;
}

#endif /* BENCH_LOADS_OBJECT_H */
