/* SPDX-License-Identifier: MIT */
/* malloc-large: buffers of 5 to 25 MiB, twenty alive, cleared, and dropped at random. */
#include "bench/loads/loads.h"
#include "bench/measure.h"

#include <stddef.h>
#include <string.h>

enum { LIVE = 20, MIB = 1 << 20 };

struct buffer {
    unsigned char *bytes;
    size_t size;
};

static struct buffer buffer_make(uint64_t random)
{
    struct buffer buffer = {.size = 5 * MIB + (random >> 32) % (20 * MIB + 1)};

    buffer.bytes = bench_malloc(buffer.size);
    memset(buffer.bytes, (int)(random & 0xff), buffer.size);
    return buffer;
}

/* A word of each page must be as the others are. */
static uint64_t buffer_drop(struct buffer buffer)
{
    for (size_t at = 0; at < buffer.size; at += 4096) {
        if (buffer.bytes[at] != buffer.bytes[buffer.size - 1])
            bench_fail("a buffer is damaged");
    }
    uint64_t sum = buffer.size + buffer.bytes[0];
    free(buffer.bytes);
    return sum;
}

uint64_t load_malloc_large(unsigned scale)
{
    struct buffer live[LIVE];
    uint64_t state = bench_seed(0);
    uint64_t sum = 0;

    for (size_t i = 0; i < LIVE; i++)
        live[i] = buffer_make(bench_random(&state));
    for (uint64_t turn = 0; turn < scale; turn++) {
        uint64_t random = bench_random(&state);
        struct buffer *slot = &live[random % LIVE];
        sum += buffer_drop(*slot);
        *slot = buffer_make(random);
    }
    for (size_t i = 0; i < LIVE; i++)
        sum += buffer_drop(live[i]);
    return sum;
}
