/* SPDX-License-Identifier: MIT */
/* Threads that set off together. */
#ifndef BENCH_LOADS_TEAM_H
#define BENCH_LOADS_TEAM_H

#include <stdint.h>

enum { TEAM_MAX = 64 };

/** What member `number`, from 0, does; returns its part of the checksum. */
typedef uint64_t (*team_work)(unsigned number, void *shared);

/** Runs `work` in `threads` threads of its own and returns the sum of what they return. */
uint64_t team_run(unsigned threads, team_work work, void *shared);

/** Member `number`'s part of `whole`: the parts add up to it. */
static inline uint64_t team_share(uint64_t whole, unsigned threads, unsigned number)
{
    return whole / threads + (number < whole % threads);
}

#endif /* BENCH_LOADS_TEAM_H */
