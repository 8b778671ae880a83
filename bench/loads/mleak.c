/* SPDX-License-Identifier: MIT */
/*
 * mleak: threads born and gone by the thousand. Each makes some objects of 16 B to 8 KiB,
 * frees half of them and leaves the rest to main, which frees them when the thread has
 * ended. An allocator that forgets what a thread had grows and grows.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <pthread.h>
#include <stddef.h>

enum { OBJECTS = 64 };

struct life {
    pthread_t thread;
    uint64_t number;
    uint64_t sum;
    struct item *left[OBJECTS / 2];
};

static void *live(void *arg)
{
    struct life *self = arg;
    struct item *items[OBJECTS];
    uint64_t state = bench_seed(self->number);

    for (size_t i = 0; i < OBJECTS; i++) {
        uint64_t random = bench_random(&state);
        items[i] = item_make(bench_octave(random, 16, 9), random);
    }
    self->sum = 0;
    for (size_t i = 0; i < OBJECTS / 2; i++) {
        self->sum += item_free(items[2 * i]);
        self->left[i] = items[2 * i + 1];
    }
    return NULL;
}

static uint64_t bury(struct life *life)
{
    uint64_t sum;

    pthread_join(life->thread, NULL);
    sum = life->sum;
    for (size_t i = 0; i < OBJECTS / 2; i++)
        sum += item_free(life->left[i]);
    return sum;
}

uint64_t load_mleak(unsigned scale, unsigned threads)
{
    static struct life lives[TEAM_MAX];
    uint64_t all = (uint64_t)scale * 100;
    uint64_t sum = 0;

    for (uint64_t n = 0; n < all + threads; n++) {
        struct life *life = &lives[n % threads];
        if (n >= threads)
            sum += bury(life);
        if (n >= all)
            continue;
        life->number = n;
        if (pthread_create(&life->thread, NULL, live, life) != 0)
            bench_fail("pthread_create failed");
    }
    return sum;
}
