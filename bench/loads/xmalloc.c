/* SPDX-License-Identifier: MIT */
/*
 * xmalloc-test: half of the threads do nothing but allocate, the other half nothing but
 * free. Batches of objects go from the ones to the others through one queue; a batch is
 * an object, too. Who finds the queue full, or empty, sleeps.
 */
#include "bench/loads/item.h"
#include "bench/loads/loads.h"
#include "bench/loads/team.h"

#include <pthread.h>
#include <stddef.h>

enum { BATCH = 4096, QUEUED_MAX = 16 }; /* batches that wait, for each pair */

struct batch {
    struct batch *next;
    struct item *items[BATCH];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_cond_t less;
    struct batch *first; /* the last one put: which matters little */
    unsigned queued;
    uint64_t made; /* batches put so far */
    unsigned pairs;
    uint64_t batches; /* to make in all */
} queue = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .more = PTHREAD_COND_INITIALIZER,
    .less = PTHREAD_COND_INITIALIZER,
};

static const uint16_t sizes[] = {
    8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 512};

static void put(struct batch *batch)
{
    pthread_mutex_lock(&queue.lock);
    while (queue.queued >= QUEUED_MAX * queue.pairs)
        pthread_cond_wait(&queue.less, &queue.lock);
    batch->next = queue.first;
    queue.first = batch;
    queue.queued++;
    pthread_cond_signal(&queue.more);
    pthread_mutex_unlock(&queue.lock);
}

/* NULL where all batches have been taken. */
static struct batch *take(void)
{
    struct batch *batch = NULL;

    pthread_mutex_lock(&queue.lock);
    while (queue.first == NULL && queue.made < queue.batches)
        pthread_cond_wait(&queue.more, &queue.lock);
    if (queue.first != NULL) {
        batch = queue.first;
        queue.first = batch->next;
        queue.queued--;
        pthread_cond_signal(&queue.less);
    }
    pthread_mutex_unlock(&queue.lock);
    return batch;
}

static void count_made(uint64_t batches)
{
    pthread_mutex_lock(&queue.lock);
    queue.made += batches;
    pthread_cond_broadcast(&queue.more);
    pthread_mutex_unlock(&queue.lock);
}

static uint64_t produce(unsigned pair)
{
    uint64_t state = bench_seed(pair);
    uint64_t batches = team_share(queue.batches, queue.pairs, pair);

    for (uint64_t n = 0; n < batches; n++) {
        struct batch *batch = bench_malloc(sizeof(*batch));
        for (size_t i = 0; i < BATCH; i++) {
            uint64_t random = bench_random(&state);
            size_t which = (random >> 40) % (sizeof(sizes) / sizeof(sizes[0]));
            batch->items[i] = item_make(sizes[which], random);
        }
        put(batch);
    }
    count_made(batches);
    return 0;
}

static uint64_t consume(void)
{
    struct batch *batch;
    uint64_t sum = 0;

    while ((batch = take()) != NULL) {
        for (size_t i = 0; i < BATCH; i++)
            sum += item_free(batch->items[i]);
        free(batch);
    }
    return sum;
}

static uint64_t work(unsigned number, void *shared)
{
    (void)shared;
    return number % 2 == 0 ? produce(number / 2) : consume();
}

uint64_t load_xmalloc_test(unsigned scale, unsigned threads)
{
    queue.pairs = threads < 2 ? 1 : threads / 2;
    queue.batches = (uint64_t)scale * 30;
    return team_run(queue.pairs * 2, work, NULL);
}
