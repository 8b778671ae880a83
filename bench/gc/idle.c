/* SPDX-License-Identifier: MIT */
/*
 * idle: a hundred threads for each of `threads` hold a tree each and sleep, but for a
 * little work ten times a second, while main makes trees and drops them: how long it
 * takes to stop many threads, and to look at their stacks.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/tree.h"
#include "bench/measure.h"

#include <pthread.h>
#include <time.h>

enum {
    SLEEPERS = 100,
    SLEEP_NS = 100000000,
    KEPT_DEPTH = 8,
    SMALL_DEPTH = 4,
    MADE_DEPTH = 12,
    TREES = 5000,
};

struct hall {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned ready;
    bool over;
};

struct sleeper {
    pthread_t thread;
    struct hall *hall;
    uint64_t sum;
};

static uint64_t count(const struct node *node, unsigned depth)
{
    if ((node->left == NULL) != (depth == 0) || (node->right == NULL) != (depth == 0))
        bench_fail("a tree is damaged");
    return depth > 0 ? 1 + count(node->left, depth - 1) + count(node->right, depth - 1)
                     : 1;
}

static uint64_t make_and_drop(unsigned depth)
{
    struct node *tree = tree_make(depth);
    uint64_t sum = count(tree, depth);

    tree_drop(tree);
    return sum;
}

/* Sleeps for a while; false when all is over. */
static bool sleep_on(struct hall *hall)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SLEEP_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&hall->lock);
    if (!hall->over)
        pthread_cond_timedwait(&hall->changed, &hall->lock, &until);
    bool over = hall->over;
    pthread_mutex_unlock(&hall->lock);
    return !over;
}

static void *sleeper_run(void *arg)
{
    struct sleeper *self = arg;
    struct node *kept = tree_make(KEPT_DEPTH);
    uint64_t seen = 0;

    pthread_mutex_lock(&self->hall->lock);
    self->hall->ready++;
    pthread_cond_broadcast(&self->hall->changed);
    pthread_mutex_unlock(&self->hall->lock);
    while (sleep_on(self->hall)) {
        make_and_drop(SMALL_DEPTH);
        if (verify_due(&seen))
            count(kept, KEPT_DEPTH);
    }
    self->sum = count(kept, KEPT_DEPTH);
    tree_drop(kept);
    return NULL;
}

static void wait_for_all(struct hall *hall, unsigned sleepers)
{
    pthread_mutex_lock(&hall->lock);
    while (hall->ready < sleepers)
        pthread_cond_wait(&hall->changed, &hall->lock);
    pthread_mutex_unlock(&hall->lock);
}

static void end_all(struct hall *hall)
{
    pthread_mutex_lock(&hall->lock);
    hall->over = true;
    pthread_cond_broadcast(&hall->changed);
    pthread_mutex_unlock(&hall->lock);
}

uint64_t load_idle(unsigned scale, unsigned threads)
{
    unsigned sleepers = threads * SLEEPERS;
    struct hall hall = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct sleeper *all = mem_zeroed(sleepers * sizeof(*all));
    uint64_t sum = 0;

    for (unsigned i = 0; i < sleepers; i++) {
        all[i].hall = &hall;
        if (pthread_create(&all[i].thread, NULL, sleeper_run, &all[i]) != 0)
            bench_fail("pthread_create failed");
    }
    wait_for_all(&hall, sleepers);
    for (uint64_t i = 0; i < (uint64_t)TREES * scale / 100; i++)
        sum += make_and_drop(MADE_DEPTH);
    verify_collect();
    end_all(&hall);
    for (unsigned i = 0; i < sleepers; i++) {
        pthread_join(all[i].thread, NULL);
        sum += all[i].sum;
    }
    mem_free(all);
    return sum;
}
