/* SPDX-License-Identifier: MIT */
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <pthread.h>
#include <stddef.h>

struct member {
    pthread_t thread;
    pthread_barrier_t *start;
    team_work work;
    void *shared;
    uint64_t sum;
    unsigned number;
};

static void *member_run(void *arg)
{
    struct member *self = arg;

    pthread_barrier_wait(self->start);
    self->sum = self->work(self->number, self->shared);
    return NULL;
}

uint64_t team_run(unsigned threads, team_work work, void *shared)
{
    struct member members[TEAM_MAX];
    pthread_barrier_t start;
    uint64_t sum = 0;

    if (pthread_barrier_init(&start, NULL, threads) != 0)
        bench_fail("pthread_barrier_init failed");
    for (unsigned i = 0; i < threads; i++) {
        members[i] = (struct member){
            .start = &start, .work = work, .shared = shared, .number = i};
        if (pthread_create(&members[i].thread, NULL, member_run, &members[i]) != 0)
            bench_fail("pthread_create failed");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(members[i].thread, NULL);
        sum += members[i].sum;
    }
    pthread_barrier_destroy(&start);
    return sum;
}
