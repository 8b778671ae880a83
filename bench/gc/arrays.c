/* SPDX-License-Identifier: MIT */
/*
 * arrays: four arrays of a million pointers to boxes. Boxes at random are replaced; now
 * and then an array gives way to a copy of itself.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <string.h>

enum { ARRAYS = 4, LENGTH = 1000000, TURNS = 12 };

struct box {
    uint64_t place;
    uint64_t turn;
};

struct arrays {
    struct box **array[ARRAYS];
    uint64_t length;
};

static struct box *make_box(uint64_t place, uint64_t turn)
{
    struct box *box = mem_leaf(sizeof(*box));

    *box = (struct box){.place = place, .turn = turn};
    return box;
}

static void check_box(const struct box *box, uint64_t place, uint64_t turns)
{
    if (box->place != place || box->turn > turns)
        bench_fail("a box is damaged");
}

static uint64_t check(const struct arrays *arrays, uint64_t turns)
{
    uint64_t sum = 0;

    for (unsigned a = 0; a < ARRAYS; a++) {
        for (uint64_t i = 0; i < arrays->length; i++) {
            check_box(arrays->array[a][i], i, turns);
            sum += arrays->array[a][i]->turn;
        }
    }
    return sum;
}

static void fill(struct arrays *arrays)
{
    for (unsigned a = 0; a < ARRAYS; a++) {
        arrays->array[a] = mem_zeroed(arrays->length * sizeof(struct box *));
        for (uint64_t i = 0; i < arrays->length; i++)
            arrays->array[a][i] = make_box(i, 0);
    }
}

static void replace_box(struct box **place, uint64_t number, uint64_t turn)
{
    struct box *old = *place;

    check_box(old, number, turn);
    *place = make_box(number, turn);
    mem_free(old);
}

static void copy(struct arrays *arrays, unsigned which)
{
    size_t size = arrays->length * sizeof(struct box *);
    struct box **old = arrays->array[which], **fresh = mem_new(size);

    memcpy(fresh, old, size);
    arrays->array[which] = fresh;
    mem_free(old);
}

static void drop(struct arrays *arrays)
{
    for (unsigned a = 0; MEM_FREES && a < ARRAYS; a++) {
        for (uint64_t i = 0; i < arrays->length; i++)
            mem_free(arrays->array[a][i]);
        mem_free(arrays->array[a]);
    }
}

static uint64_t length_of(unsigned scale)
{
    return (uint64_t)LENGTH * scale / 100;
}

uint64_t load_arrays(unsigned scale, unsigned threads)
{
    struct arrays arrays = {.length = length_of(scale)};
    uint64_t random = bench_seed(1), seen = 0;

    (void)threads;
    fill(&arrays);
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        for (uint64_t i = 0; i < arrays.length; i++) {
            uint64_t draw = bench_random(&random), place = (draw >> 8) % arrays.length;
            replace_box(&arrays.array[draw % ARRAYS][place], place, turn);
            if (verify_due(&seen))
                check(&arrays, turn);
        }
        copy(&arrays, (unsigned)(turn % ARRAYS));
        verify_collect();
    }
    uint64_t sum = check(&arrays, TURNS);
    census(ARRAYS * (arrays.length + 1),
        ARRAYS * arrays.length * (sizeof(struct box *) + mem_cost(sizeof(struct box))));
    sum += check(&arrays, TURNS);
    drop(&arrays);
    return sum;
}

uint64_t live_arrays(unsigned scale, unsigned threads)
{
    uint64_t boxes = ARRAYS * length_of(scale) * mem_cost(sizeof(struct box));

    (void)threads;
    return boxes + (ARRAYS + 1) * length_of(scale) * sizeof(struct box *);
}
