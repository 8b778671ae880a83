/* SPDX-License-Identifier: MIT */
/*
 * finalisers: a million objects with finalisers, 100,000 of them alive at a time. Each is
 * to be finalised once, when it is dead, and intact; and nearly all in the end.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <stdatomic.h>

enum { ALIVE = 100000, TURNS = 40, WORDS = 4, LAST_COLLECTIONS = 3 };

struct object {
    struct mem_final final;
    uint64_t number;
    uint64_t word[WORDS];
};

static struct {
    _Atomic unsigned char *done; /* by number: whether it was finalised */
    _Atomic uint64_t count;
    uint64_t objects;
} state;

static void check(const struct object *object)
{
    if (object->number >= state.objects)
        bench_fail("an object with a finaliser is damaged");
    for (uint64_t i = 0; i < WORDS; i++) {
        if (object->word[i] != object->number % 1000 + i)
            bench_fail("an object with a finaliser is damaged");
    }
    if (atomic_load_explicit(&state.done[object->number], memory_order_relaxed))
        bench_fail("an object lives on, finalised");
}

static void finalise(void *ptr)
{
    struct object *object = ptr;

    check(object);
    atomic_store_explicit(&state.done[object->number], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&state.count, 1, memory_order_relaxed);
}

static struct object *make(uint64_t number)
{
    struct object *object = (struct object *)mem_final_new(sizeof(*object));

    object->number = number;
    for (uint64_t i = 0; i < WORDS; i++)
        object->word[i] = number % 1000 + i;
    return object;
}

static void check_all(struct object *const *alive, uint64_t room)
{
    for (uint64_t i = 0; i < room; i++) {
        if (alive[i] != NULL)
            check(alive[i]);
    }
}

/* Places at random: deaths come in no order. */
static uint64_t run(struct object **alive, uint64_t room)
{
    uint64_t random = bench_seed(1), seen = 0, sum = 0;

    for (uint64_t number = 0; number < state.objects; number++) {
        struct object **place = &alive[(bench_random(&random) >> 8) % room];
        if (*place != NULL)
            sum += (*place)->number;
        *place = make(number);
        if (verify_due(&seen))
            check_all(alive, room);
    }
    verify_collect();
    check_all(alive, room);
    return sum;
}

/* All but the few that something still seems to lead to. */
static void require_finalised(void)
{
    for (unsigned i = 0; i < LAST_COLLECTIONS; i++)
        census(0, 0);
    if (state.count < state.objects - state.objects / 100 - 10)
        bench_fail("finalisers did not run");
}

uint64_t load_finalisers(unsigned scale, unsigned threads)
{
    uint64_t room = (uint64_t)ALIVE * scale / 100;

    (void)threads;
    state.objects = room * TURNS;
    state.done = mem_leaf(state.objects);
    for (uint64_t i = 0; i < state.objects; i++)
        state.done[i] = 0;
    mem_final_set(finalise);
    struct object **alive = mem_zeroed(room * sizeof(*alive));
    uint64_t sum = run(alive, room);
    for (uint64_t i = 0; i < room; i++)
        alive[i] = NULL;
    require_finalised();
    return sum;
}
