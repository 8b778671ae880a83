/* SPDX-License-Identifier: MIT */
/* What the command line set; written before any thread starts. */
#ifndef SH_HARNESS_SETTINGS_H
#define SH_HARNESS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANES_MAX 1024
#define SCENARIOS_MAX 32

enum fault {
    FAULT_MMAP,
    FAULT_MUNMAP,
    FAULT_MADVISE,
    FAULT_MREMAP,
    FAULT_THREAD,
    FAULTS
};
enum storm { STORM_SIGNALS, STORM_PAUSES, STORM_FORKS, STORM_STOPS, STORMS };

struct settings {
    unsigned threads;
    double seconds;      /* 0: until the operations are done */
    uint64_t operations; /* of each thread; 0: until the time is over */
    uint64_t seed;
    bool replay;                     /* one operation at a time */
    bool minor;                      /* nothing that makes collections full */
    unsigned weights[SCENARIOS_MAX]; /* by the scenario's number */
    size_t live;                     /* bytes of objects to have at once, about */
    size_t heap_limit;               /* 0: none */
    double faults[FAULTS];           /* per cent */
    unsigned storms[STORMS];         /* a second */
    bool plain_malloc;               /* the backend */
    int plant;                       /* enum plant */
    double progress;                 /* seconds between lines; 0: none */
    double patience;                 /* seconds that nothing may move */
    const char *json;                /* file; "-": standard output */
    bool core;                       /* abort on failure */
};

extern struct settings settings;

/* Ends the program where it was asked for help, or what was asked for makes no sense. */
void settings_parse(int argc, char **argv);

/* Names in the order of the enums. */
extern const char *const fault_names[FAULTS];
extern const char *const storm_names[STORMS];

/* The same by functions, and the scenarios'. */
const char *scenario_name(size_t i);
const char *fault_name(size_t i);
const char *storm_name(size_t i);

/* Something may make allocation fail. */
bool settings_memory_is_short(void);

#endif /* SH_HARNESS_SETTINGS_H */
