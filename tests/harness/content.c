/* SPDX-License-Identifier: MIT */
/* What an object is filled with. See content.h. */
#include "tests/harness/content.h"

#include <string.h>

#include "lib/bits.h"

/* The top bits keep every word above all addresses. */
#define KEY 0xa5c3000000000000u
#define PLACE_BITS 14
#define PLACE_MASK (((uint64_t)1 << PLACE_BITS) - 1)

#define WHOLE ((size_t)16 << 10) /* bytes looked at one and all */
#define STEP ((size_t)4 << 10)
#define TAIL ((size_t)64)

/* Which holds for 2^34 objects; then the key's bits change, and nothing else. */
static uint64_t word_at(uint64_t serial, size_t at)
{
    return KEY ^ (serial << PLACE_BITS & ~((uint64_t)0xffff << 48)) ^
           ((at / 8) & PLACE_MASK);
}

uint64_t content_serial(uint64_t word, size_t *at)
{
    if ((word ^ KEY) >> 48)
        return 0;
    *at = (size_t)((word ^ KEY) & PLACE_MASK) * 8;
    return (word ^ KEY) >> PLACE_BITS;
}

/* The next place that is filled and looked at, after that at `at`. */
static size_t next_place(size_t at, size_t bytes)
{
    size_t next = at + 8;
    if (next < WHOLE || next + TAIL >= bytes)
        return next;
    next = sh_round_up(next, STEP);
    size_t tail = sh_round_down(bytes - TAIL, 8);
    return next < tail ? next : tail;
}

static void put(char *p, size_t at, size_t bytes, uint64_t word)
{
    memcpy(p + at, &word, sh_min(8, bytes - at));
}

void content_fill(void *p, size_t from, size_t bytes, uint64_t serial)
{
    for (size_t at = from; at < bytes; at = next_place(at, bytes))
        put(p, at, bytes, word_at(serial, at));
}

bool content_is(
    const void *p, size_t from, size_t kept, size_t bytes, uint64_t serial, size_t *at)
{
    const char *bytes_of = p;
    for (*at = from; *at < kept; *at = next_place(*at, bytes)) {
        uint64_t word = word_at(serial, *at);
        if (memcmp(bytes_of + *at, &word, sh_min(8, kept - *at)) != 0)
            return false;
    }
    return true;
}

bool content_is_zero(const void *p, size_t bytes, size_t *at)
{
    static const char zero[8];
    const char *bytes_of = p;
    for (*at = 0; *at < bytes; *at = next_place(*at, bytes))
        if (memcmp(bytes_of + *at, zero, sh_min(8, bytes - *at)) != 0)
            return false;
    return true;
}
