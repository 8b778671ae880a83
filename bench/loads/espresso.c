/* SPDX-License-Identifier: MIT */
/*
 * espresso-like: a live set of small objects that swells and shrinks. As programs that
 * simplify logic do, it keeps covers, which are arrays of cubes, which are sets of bits.
 * A cover is made, solved by splitting it into copies again and again down to a few
 * cubes, and kept for a while; how many are kept goes up and down.
 *
 *     cover --> | cube | cube | cube | ... |        grown by realloc
 *                  |      |
 *                  v      v
 *                words  words                       16 to 128 bytes
 */
#include "bench/loads/loads.h"
#include "bench/measure.h"

#include <stddef.h>
#include <string.h>

enum {
    COVERS = 64,
    CUBES_LEAST = 32,
    DOUBLINGS = 6, /* of that, up to 2047 cubes */
    WORDS_LEAST = 2,
    WORDS_MOST = 16,
    FEW = 4, /* cubes: no more splitting */
    DEPTH_MAX = 12,
    TIDE = 200, /* covers from high water to low */
};

struct cover {
    uint64_t **cubes;
    size_t count;
    size_t room;
    size_t words; /* of each cube */
};

static void cover_add(struct cover *cover, const uint64_t *words)
{
    uint64_t *cube = bench_malloc(cover->words * sizeof(*cube));

    memcpy(cube, words, cover->words * sizeof(*cube));
    if (cover->count == cover->room) {
        cover->room = cover->room == 0 ? 8 : cover->room * 2;
        cover->cubes = bench_realloc(cover->cubes, cover->room * sizeof(*cover->cubes));
    }
    cover->cubes[cover->count++] = cube;
}

/* Each cube's last word is the exclusive or of the others. */
static void cover_check(const struct cover *cover)
{
    for (size_t i = 0; i < cover->count; i++) {
        uint64_t words = 0;
        for (size_t j = 0; j < cover->words; j++)
            words ^= cover->cubes[i][j];
        if (words != 0)
            bench_fail("a cube is damaged");
    }
}

static struct cover cover_make(uint64_t *state)
{
    size_t count = bench_octave(bench_random(state), CUBES_LEAST, DOUBLINGS);
    struct cover cover = {
        .words = WORDS_LEAST + bench_random(state) % (WORDS_MOST - WORDS_LEAST + 1)};
    uint64_t words[WORDS_MOST];

    while (count-- > 0) {
        uint64_t last = 0;
        for (size_t i = 0; i + 1 < cover.words; i++)
            last ^= words[i] = bench_random(state);
        words[cover.words - 1] = last;
        cover_add(&cover, words);
    }
    return cover;
}

static void cover_drop(struct cover *cover)
{
    cover_check(cover);
    for (size_t i = 0; i < cover->count; i++)
        free(cover->cubes[i]);
    free(cover->cubes);
    *cover = (struct cover){0};
}

/* Copies of the cubes that have, or have not, the bit that goes with `depth`. */
static struct cover cover_half(const struct cover *cover, unsigned depth, uint64_t bit)
{
    struct cover half = {.words = cover->words};

    for (size_t i = 0; i < cover->count; i++) {
        if ((cover->cubes[i][0] >> depth & 1) == bit)
            cover_add(&half, cover->cubes[i]);
    }
    return half;
}

static uint64_t cover_solve(const struct cover *cover, unsigned depth)
{
    uint64_t sum = 0;

    if (cover->count <= FEW || depth == DEPTH_MAX) {
        for (size_t i = 0; i < cover->count; i++)
            sum += cover->cubes[i][0] >> depth;
        return sum;
    }
    for (uint64_t bit = 0; bit < 2; bit++) {
        struct cover half = cover_half(cover, depth, bit);
        sum += cover_solve(&half, depth + 1);
        cover_drop(&half);
    }
    return sum;
}

/* From COVERS / 8 to COVERS, and back. */
static size_t kept_at(uint64_t turn)
{
    uint64_t phase = turn % (2 * TIDE);
    uint64_t height = phase < TIDE ? phase : 2 * TIDE - phase;

    return COVERS / 8 + height * (COVERS - COVERS / 8) / TIDE;
}

uint64_t load_espresso(unsigned scale)
{
    struct cover covers[COVERS] = {0};
    uint64_t state = bench_seed(0);
    uint64_t sum = 0;

    for (uint64_t turn = 0; turn < (uint64_t)scale * 50; turn++) {
        struct cover *cover = &covers[bench_random(&state) % COVERS];
        size_t kept = kept_at(turn);
        cover_drop(cover);
        *cover = cover_make(&state);
        sum += cover_solve(cover, 0);
        for (size_t i = kept; i < COVERS; i++)
            cover_drop(&covers[i]);
    }
    for (size_t i = 0; i < COVERS; i++)
        cover_drop(&covers[i]);
    return sum;
}
