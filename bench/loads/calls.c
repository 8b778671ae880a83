/* SPDX-License-Identifier: MIT */
/* calloc and aligned: live sets made by other calls than malloc. */
#include "bench/loads/loads.h"
#include "bench/loads/object.h"
#include "bench/loads/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct object (*maker)(uint64_t random);

struct plan {
    maker make;
    unsigned threads;
    uint64_t turns;
};

static uint64_t replace(unsigned number, void *shared)
{
    enum { LIVE = 2000 };
    const struct plan *plan = shared;
    uint64_t turns = team_share(plan->turns, plan->threads, number);
    uint64_t state = bench_seed(number);
    struct object live[LIVE] = {0};
    uint64_t sum = 0;

    while (turns-- > 0) {
        uint64_t random = bench_random(&state);
        struct object *slot = &live[(random >> 20) % LIVE];
        sum += object_free(*slot);
        *slot = plan->make(random);
    }
    for (size_t i = 0; i < LIVE; i++)
        sum += object_free(live[i]);
    return sum;
}

/* ---- calloc ----------------------------------------------------------------------- */

/* All bytes are the same as the first, which is 0. */
static void require_zero(const unsigned char *bytes, size_t size)
{
    if (bytes[0] != 0 || memcmp(bytes, bytes + 1, size - 1) != 0)
        bench_fail("calloc's memory is not zero");
}

/* 16 B to 2 KiB, and one of 4096 up to 512 KiB; dirtied, and so when they come back. */
static struct object make_zeroed(uint64_t random)
{
    bool large = random % 4096 == 0;
    size_t size = bench_octave(random >> 12, large ? 4096 : 16, 7);
    unsigned char *bytes = calloc(size / 4, 4);

    size = size / 4 * 4;
    if (bytes == NULL)
        bench_fail("calloc failed");
    require_zero(bytes, size);
    memset(bytes, 0xaa, size);
    return object_of(bytes, size, random);
}

uint64_t load_calloc(unsigned scale, unsigned threads)
{
    struct plan plan = {make_zeroed, threads, (uint64_t)scale * 80000};

    return team_run(threads, replace, &plan);
}

/* ---- aligned ---------------------------------------------------------------------- */

/*
 * Alignments of 16 B to 4 KiB, the small ones likelier; sizes of 16 B to 4 KiB, odd ones
 * only: mimalloc 2.0.9 misplaces some of 256, 512 and 1024 bytes (its issue 700).
 */
static struct object make_aligned(uint64_t random)
{
    unsigned twos = (unsigned)__builtin_ctzll((random & 0xff) | 0x100);
    size_t alignment = (size_t)16 << twos;
    size_t size = bench_octave(random >> 8, 16, 8) | 1;
    void *bytes;

    if (posix_memalign(&bytes, alignment, size) != 0)
        bench_fail("posix_memalign failed");
    if (((uintptr_t)bytes & (alignment - 1)) != 0)
        bench_fail("posix_memalign's memory is not aligned");
    return object_of(bytes, size, random);
}

uint64_t load_aligned(unsigned scale, unsigned threads)
{
    struct plan plan = {make_aligned, threads, (uint64_t)scale * 200000};

    return team_run(threads, replace, &plan);
}
