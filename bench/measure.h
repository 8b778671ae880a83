/* SPDX-License-Identifier: MIT */
/*
 * What every workload prints about itself: time, peak memory, and a checksum of all
 * that it read back, which must be the same under every allocator.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <stdlib.h>

/** Seconds on a clock that never goes back. */
double bench_now(void);

/**
 * Prints one line of JSON: the seconds, this process's resident memory at its peak and
 * now, its page faults, the file that malloc comes from, and the checksum. Standard
 * output is closed then.
 */
void bench_report(const char *workload, double seconds, uint64_t checksum);

/** The same in two parts: in between more fields may be printed, each after a comma. */
void bench_report_begin(const char *workload, double seconds, uint64_t checksum);
void bench_report_end(void);

/** Has the report give the resident memory of now as that at the end. */
void bench_mark_end(void);

/** Says what is wrong and ends the program. */
_Noreturn void bench_fail(const char *what);

/** malloc and realloc that end the program rather than return NULL. */
void *bench_malloc(size_t size);
void *bench_realloc(void *ptr, size_t size);

/** Where the `number`th of a workload's sequences of random numbers starts. */
static inline uint64_t bench_seed(uint64_t number)
{
    return (number + 1) * 0x9e3779b97f4a7c15u;
}

/** The next of a sequence of random numbers; `state` starts at anything but 0. */
static inline uint64_t bench_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/** A size from `least`, a power of two, up: as likely in each of `octaves` doublings. */
static inline size_t bench_octave(uint64_t random, size_t least, unsigned octaves)
{
    size_t power = least << random % octaves;

    return power + ((size_t)(random >> 32) & (power - 1));
}

/** Marks the first, middle and last byte of `size` bytes at `ptr`, from `tag`. */
static inline void bench_touch(void *ptr, size_t size, uint64_t tag)
{
    unsigned char *bytes = ptr;

    bytes[0] = (unsigned char)tag;
    bytes[size / 2] = (unsigned char)(tag >> 8);
    bytes[size - 1] = (unsigned char)(tag >> 16);
}

/** Those three bytes; in small objects they may be the same ones. */
static inline uint64_t bench_read(const void *ptr, size_t size)
{
    const unsigned char *bytes = ptr;

    return bytes[0] | (uint64_t)bytes[size / 2] << 8 | (uint64_t)bytes[size - 1] << 16;
}

#endif /* BENCH_MEASURE_H */
