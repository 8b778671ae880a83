/* SPDX-License-Identifier: MIT */
/*
 * Chance, by splitmix64: what a thread does next depends on the seed, the thread's number
 * and the operation's number only, so that no operation changes what the next one draws.
 */
#ifndef SH_HARNESS_RANDOM_H
#define SH_HARNESS_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t random_next(struct random *random)
{
    return random_mix(random->state += 0x9e3779b97f4a7c15u);
}

static inline struct random random_of(
    uint64_t seed, uint64_t thread, uint64_t operation)
{
    uint64_t state =
        random_mix(seed + 1) ^ random_mix(thread * 0x632be59bd9b4e019u + 2);
    return (struct random){random_mix(state ^ (operation * 0x9e3779b97f4a7c15u))};
}

static inline size_t random_below(struct random *random, size_t bound)
{
    return bound ? (size_t)((random_next(random) >> 11) % bound) : 0;
}

static inline bool random_once_in(struct random *random, size_t n)
{
    return random_below(random, n) == 0;
}

#endif /* SH_HARNESS_RANDOM_H */
