/* SPDX-License-Identifier: MIT */
/* The workloads of one thread. */
#include "bench/loads/loads.h"
#include "bench/loads/object.h"
#include "bench/measure.h"

#include <stddef.h>
#include <string.h>

/* ---- fixed ------------------------------------------------------------------------ */

uint64_t load_fixed(unsigned scale)
{
    enum { LIVE = 1024, SIZE = 64 };
    static struct object live[LIVE];
    uint64_t sum = 0;

    for (size_t i = 0; i < LIVE; i++)
        live[i] = object_make(SIZE, i);
    for (uint64_t turn = 0; turn < (uint64_t)scale * 1000000; turn++) {
        struct object *slot = &live[turn % LIVE];
        sum += object_free(*slot);
        *slot = object_make(SIZE, turn);
    }
    for (size_t i = 0; i < LIVE; i++)
        sum += object_free(live[i]);
    return sum;
}

/* ---- mixed ------------------------------------------------------------------------ */

uint64_t load_mixed(unsigned scale)
{
    enum { LIVE = 20000 };
    static struct object live[LIVE];
    uint64_t state = 88172645463325252u;
    uint64_t sum = 0;

    for (size_t i = 0; i < LIVE; i++)
        live[i] = object_make(bench_octave(bench_random(&state), 8, 11), i);
    for (uint64_t turn = 0; turn < (uint64_t)scale * 100000; turn++) {
        uint64_t random = bench_random(&state);
        struct object *slot = &live[(random >> 8) % LIVE];
        sum += object_free(*slot);
        *slot = object_make(bench_octave(random, 8, 11), turn);
    }
    for (size_t i = 0; i < LIVE; i++)
        sum += object_free(live[i]);
    return sum;
}

/* ---- growth ----------------------------------------------------------------------- */

struct vector {
    uint32_t *words;
    size_t count;
    size_t room;
};

static void vector_append(struct vector *vector, const uint32_t *words, size_t count)
{
    if (vector->count + count > vector->room) {
        vector->room = (vector->count + count) * 3 / 2;
        vector->words = bench_realloc(vector->words, vector->room * sizeof(uint32_t));
    }
    memcpy(vector->words + vector->count, words, count * sizeof(uint32_t));
    vector->count += count;
}

/* Every vector counts up from its number, so any lost or moved word shows. */
static uint64_t vector_finish(struct vector *vector, size_t number)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < vector->count; i++) {
        if (vector->words[i] != (uint32_t)(number + i))
            bench_fail("a vector is damaged");
        sum += vector->words[i];
    }
    free(vector->words);
    *vector = (struct vector){0};
    return sum;
}

uint64_t load_growth(unsigned scale)
{
    enum { VECTORS = 64, PIECE = 16 };
    static struct vector vectors[VECTORS];
    uint64_t state = 362436069u;
    uint64_t sum = 0;

    for (uint64_t turn = 0; turn < (uint64_t)scale * 200000; turn++) {
        size_t number = bench_random(&state) % VECTORS;
        struct vector *vector = &vectors[number];
        uint32_t words[PIECE];
        for (size_t i = 0; i < PIECE; i++)
            words[i] = (uint32_t)(number + vector->count + i);
        vector_append(vector, words, PIECE);
        if (vector->count >= (size_t)256 << number % 12) /* 1 KiB to 2 MiB */
            sum += vector_finish(vector, number);
    }
    for (size_t number = 0; number < VECTORS; number++)
        sum += vector_finish(&vectors[number], number);
    return sum;
}

/* ---- lifo ------------------------------------------------------------------------- */

uint64_t load_lifo(unsigned scale)
{
    enum { DEEPEST = 4096 };
    static struct object stack[DEEPEST];
    uint64_t state = 2463534242u;
    uint64_t sum = 0;

    for (unsigned batch = 0; batch < scale * 500; batch++) {
        /* Depths of 16 to 4096, every power of two as likely. */
        size_t depth = (size_t)16 << bench_random(&state) % 9;
        for (size_t i = 0; i < depth; i++) {
            uint64_t random = bench_random(&state);
            size_t power = (size_t)16 << random % 5;
            stack[i] = object_make(power + (random >> 32) % power, random >> 8);
        }
        while (depth > 0)
            sum += object_free(stack[--depth]);
    }
    return sum;
}
