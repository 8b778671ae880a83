/* SPDX-License-Identifier: MIT */
/*
 * references: a million objects, each with a weak reference that is an object of its own.
 * Now and then an object is replaced, and dies with its reference; its place is found
 * again by references only.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

enum { OBJECTS = 1000000, TURNS = 3, GETS = 4, WORDS = 3 };

struct object {
    uint64_t place;
    uint64_t word[WORDS];
};

struct places {
    struct object **objects; /* holds them */
    struct mem_ref **refs;
    uint64_t count;
};

static void make(struct places *places, uint64_t place, uint64_t turn)
{
    struct object *object = mem_new(sizeof(*object));

    object->place = place;
    for (uint64_t i = 0; i < WORDS; i++)
        object->word[i] = turn + i;
    places->objects[place] = object;
    places->refs[place] = mem_ref_new(object);
}

static uint64_t check(const struct places *places, uint64_t place)
{
    const struct object *object = mem_ref_get(places->refs[place]);

    if (object == NULL || object != places->objects[place] || object->place != place)
        bench_fail("a weak reference does not lead to its object");
    for (uint64_t i = 0; i < WORDS; i++) {
        if (object->word[i] != object->word[0] + i)
            bench_fail("a weakly referenced object is damaged");
    }
    return object->word[0];
}

static void check_all(const struct places *places)
{
    for (uint64_t place = 0; place < places->count; place++)
        check(places, place);
}

uint64_t load_references(unsigned scale, unsigned threads)
{
    struct places places = {.count = (uint64_t)OBJECTS * scale / 100};
    uint64_t random = bench_seed(1), seen = 0, sum = 0;

    (void)threads;
    places.objects = mem_zeroed(places.count * sizeof(struct object *));
    places.refs = mem_zeroed(places.count * sizeof(struct mem_ref *));
    for (uint64_t place = 0; place < places.count; place++)
        make(&places, place, place);
    for (uint64_t turn = 0; turn < places.count * TURNS; turn++) {
        make(&places, (bench_random(&random) >> 8) % places.count, turn);
        for (unsigned i = 0; i < GETS; i++)
            sum += check(&places, (bench_random(&random) >> 8) % places.count);
        if (verify_due(&seen))
            check_all(&places);
    }
    verify_collect();
    check_all(&places);
    return sum;
}
