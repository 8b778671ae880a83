/* SPDX-License-Identifier: MIT */
/*
 * A lane is what a thread of the harness does, one life after the other: when the thread
 * ends, the next one of the lane goes on, with the operation after. What it does depends
 * on the seed, the lane's number and the operation's number.
 *
 * Lanes lie in memory that the library cannot reach. The objects of a lane are held by
 * its places (place.h).
 */
#ifndef SH_HARNESS_LANE_H
#define SH_HARNESS_LANE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/harness/ledger.h"
#include "tests/harness/place.h"
#include "tests/harness/random.h"

struct lane {
    uint32_t number;
    _Atomic uint64_t operation;       /* written by its thread */
    _Atomic(const char *) scenario;   /* which it is at */
    _Atomic pid_t thread;             /* 0: between two lives */
    _Atomic uint32_t ended;           /* the thread is to be joined */
    uint64_t lives;                   /* main thread's */
    pthread_t handle;                 /* main thread's */
    bool running;                     /* main thread's */
    bool done;                        /* main thread's: all operations */
    uint64_t seen_operation, seen_at; /* main thread's, for hangs */
    struct dropped_list dropped;
    struct place kept[KEPT_PLACES]; /* that outlive threads */
    void *alternate;                /* signal stack */
};

enum end { END_RETURN, END_EXIT, END_CANCEL, ENDS };

/* What a running thread has. On its stack. */
struct worker {
    struct lane *lane;
    struct random random; /* of the operation */
    struct place places[PLACES];
    uint64_t last; /* its life ends after this operation; 0: not yet */
    enum end end;
};

extern struct lane *lanes; /* settings.threads, and one for the main thread */

void lanes_init(void);

/* The main thread's way through the run, to the end of time or operations. */
void lanes_run(void);

/* After it: all that is held is verified and let go, by one thread. */
void lanes_finish(void);

/* Of the calling thread; helpers of a lane's thread pass for it. */
struct lane *my_lane(void);
void my_lane_is(struct lane *lane);
uint32_t my_number(void);
uint64_t my_operation(void);
const char *my_scenario(void);

extern _Atomic bool over; /* time to come to an end */

extern _Atomic uint64_t threads_created, operations_done;

#endif /* SH_HARNESS_LANE_H */
