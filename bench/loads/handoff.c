/* SPDX-License-Identifier: MIT */
/*
 * One thread allocates, another frees: handoff in bulk, relay a little at a time.
 *
 *     producer --> | batch | batch |  ...  | batch | --> consumer
 *                    ^ sent                  ^ taken
 *
 * The ring is passed on a batch at a time and nobody sleeps, so what is measured is
 * malloc and free and not the waking of threads. A batch belongs to the producer until
 * `sent` passes it, and to the consumer until `taken` does.
 */
#include "bench/loads/loads.h"
#include "bench/measure.h"

#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

enum { BATCHES = 64, BATCH_OBJECTS_MAX = 4096, SPINS = 20000, CACHE_LINE = 64 };

static struct {
    alignas(CACHE_LINE) _Atomic uint64_t sent;  /* batches; the producer writes it */
    alignas(CACHE_LINE) _Atomic uint64_t taken; /* batches; the consumer writes it */
    alignas(CACHE_LINE) uint64_t *batch[BATCHES][BATCH_OBJECTS_MAX];
} ring;

struct consumer {
    uint64_t batches;
    size_t batch_objects;
    uint64_t sum;
};

/* Waits until `counter` has reached `least`; pairs with the release in pass_on. */
static void wait_for(_Atomic uint64_t *counter, uint64_t least)
{
    for (unsigned spins = 0;
         atomic_load_explicit(counter, memory_order_acquire) < least; spins++) {
        if (spins >= SPINS)
            sched_yield(); /* the other thread may want this processor */
    }
}

static void pass_on(_Atomic uint64_t *counter, uint64_t count)
{
    atomic_store_explicit(counter, count, memory_order_release);
}

static void fill(uint64_t *batch[], size_t objects, uint64_t *state)
{
    for (size_t i = 0; i < objects; i++) {
        uint64_t random = bench_random(state);
        batch[i] = bench_malloc(16 + (size_t)(random >> 32) % 240);
        *batch[i] =
            random; /* one line to carry across, so that malloc is what counts */
    }
}

static void *consume(void *arg)
{
    struct consumer *self = arg;

    for (uint64_t n = 0; n < self->batches; n++) {
        uint64_t **batch = ring.batch[n % BATCHES];
        wait_for(&ring.sent, n + 1);
        for (size_t i = 0; i < self->batch_objects; i++) {
            self->sum += *batch[i] * (i + 1);
            free(batch[i]);
        }
        pass_on(&ring.taken, n + 1);
    }
    return NULL;
}

/* Gives each thread a processor of its own: together on one they measure no traffic. */
static void spread_out(pthread_t consumer)
{
    cpu_set_t all, one;
    pthread_t threads[] = {pthread_self(), consumer};
    int processor = 0;

    if (sched_getaffinity(0, sizeof(all), &all) != 0 || CPU_COUNT(&all) < 2)
        return;
    for (size_t i = 0; i < 2; i++, processor++) {
        while (!CPU_ISSET((size_t)processor, &all))
            processor++;
        CPU_ZERO(&one);
        CPU_SET((size_t)processor, &one);
        pthread_setaffinity_np(threads[i], sizeof(one), &one);
    }
}

static uint64_t run(uint64_t objects, size_t batch_objects)
{
    struct consumer consumer = {
        .batches = objects / batch_objects,
        .batch_objects = batch_objects,
    };
    uint64_t state = 88172645463325252u;
    pthread_t thread;

    if (pthread_create(&thread, NULL, consume, &consumer) != 0)
        bench_fail("pthread_create failed");
    spread_out(thread);
    for (uint64_t n = 0; n < consumer.batches; n++) {
        if (n >= BATCHES)
            wait_for(&ring.taken, n - BATCHES + 1);
        fill(ring.batch[n % BATCHES], batch_objects, &state);
        pass_on(&ring.sent, n + 1);
    }
    pthread_join(thread, NULL);
    return consumer.sum;
}

uint64_t load_handoff(unsigned scale)
{
    return run((uint64_t)scale * 100000, BATCH_OBJECTS_MAX);
}

uint64_t load_relay(unsigned scale)
{
    return run((uint64_t)scale * 100000, BATCH_OBJECTS_MAX / 16);
}
