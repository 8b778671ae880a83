/* SPDX-License-Identifier: MIT */
/*
 * release: what stays of a program's memory when it has freed everything. Threads build
 * about 500 MiB together, as much of it in each doubling of size from 16 B to 256 KiB,
 * free it, half of it each other's, and then wait: none of them calls the allocator
 * again. Two seconds later the report's memory at the end is taken.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

enum {
    SIZE_LEAST = 16,
    DOUBLINGS = 14,
    MIB = 1 << 20,
    IDLE_SECONDS = 2,
};

/* The objects themselves are the list, so that nothing else stays. An item follows. */
struct link {
    struct link *next;
};

struct plan {
    unsigned threads;
    uint64_t bytes; /* of all threads */
    pthread_barrier_t *together;
    struct link *own[TEAM_MAX];
    struct link *others[TEAM_MAX];
};

static struct link *link_make(struct link *next, uint64_t random, unsigned doubling)
{
    size_t size = bench_octave(random, (size_t)SIZE_LEAST << doubling, 1);
    struct link *link = bench_malloc(size);

    link->next = next;
    item_fill(link + 1, size - sizeof(*link), random);
    return link;
}

static uint64_t list_free(struct link *link)
{
    uint64_t sum = 0;

    while (link != NULL) {
        struct link *next = link->next;
        sum += item_check((const struct item *)(link + 1));
        free(link);
        link = next;
    }
    return sum;
}

/* Sizes change from object to object; the double size takes its turn half as often. */
static void build(struct plan *plan, unsigned number)
{
    uint64_t bytes = team_share(plan->bytes, plan->threads, number) / DOUBLINGS;
    uint64_t rounds = bytes / (SIZE_LEAST * 3 / 2); /* sizes' average */
    uint64_t state = bench_seed(number);

    for (uint64_t round = 1; round <= rounds; round++) {
        for (unsigned i = 0; i < DOUBLINGS && round % (1u << i) == 0; i++) {
            uint64_t random = bench_random(&state);
            struct link **list =
                random & 1 ? &plan->own[number] : &plan->others[number];
            *list = link_make(*list, random, i);
        }
    }
}

static void idle(void)
{
    struct timespec left = {.tv_sec = IDLE_SECONDS};

    while (nanosleep(&left, &left) != 0)
        continue;
}

static uint64_t work(unsigned number, void *shared)
{
    struct plan *plan = shared;
    uint64_t sum;

    build(plan, number);
    pthread_barrier_wait(plan->together);
    sum = list_free(plan->own[number]);
    sum += list_free(plan->others[(number + 1) % plan->threads]);
    pthread_barrier_wait(plan->together);
    idle();
    if (number == 0)
        bench_mark_end();
    pthread_barrier_wait(plan->together);
    return sum;
}

uint64_t load_release(unsigned scale, unsigned threads)
{
    pthread_barrier_t together;
    struct plan plan = {
        .threads = threads, .bytes = (uint64_t)scale * 5 * MIB, .together = &together};

    if (pthread_barrier_init(&together, NULL, threads) != 0)
        bench_fail("pthread_barrier_init failed");
    uint64_t sum = team_run(threads, work, &plan);
    pthread_barrier_destroy(&together);
    return sum;
}
