/* SPDX-License-Identifier: MIT */
/*
 * What a run's collections were like. The back ends write them down, in memory that no
 * collector looks at; the report prints them.
 */
#ifndef BENCH_GC_COLLECTIONS_H
#define BENCH_GC_COLLECTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/** One collection; both collectors measure the same intervals, in nanoseconds. */
struct collection {
    uint64_t began;    /* on CLOCK_MONOTONIC, when it asked the threads to stop */
    uint64_t stop_ns;  /* from there until they stood still */
    uint64_t mark_ns;  /* marking, roots included */
    uint64_t pause_ns; /* from asking for the stop until all might go on */
    uint64_t heap;     /* bytes that the heap's blocks had, before */
    uint64_t heap_after;
    uint64_t objects; /* that lived; 0 where nobody counted them */
    uint64_t bytes;
    bool minor;  /* what had survived before was taken to live */
    bool census; /* asked for by census() */
};

/** Nanoseconds on CLOCK_MONOTONIC. */
uint64_t collections_now(void);

/** Makes room for them, and begins to count the time. */
void collections_start(void);

/** Writes one down. Any thread may, at any moment. */
void collections_add(struct collection one);

/** How many there were. */
uint64_t collections_count(void);

/** Prints them as fields of a JSON object: what each column is, and the rows. */
void collections_print(FILE *file);

/**
 * Has the back end collect with a live set that the workload knows, for the rate of
 * marking. That is no part of the workload's time; census_seconds() is to be taken off.
 */
void census(uint64_t objects, uint64_t bytes);

/** What all calls of census() took. */
double census_seconds(void);

/* ---- Verifying ------------------------------------------------------------------------ */

/** As the command line says: look at all live data after each collection. */
extern bool verifying;

/**
 * Whether a thread is to look at its live data: it verifies, and there was a collection
 * since `*seen`, which it sets. To be asked where it has none of its data half made.
 */
static inline bool verify_due(uint64_t *seen)
{
    if (__builtin_expect(!verifying, 1))
        return false;
    uint64_t count = collections_count();
    bool due = count != *seen;
    *seen = count;
    return due;
}

/** Collects, where live data are verified. */
void verify_collect(void);

#endif /* BENCH_GC_COLLECTIONS_H */
