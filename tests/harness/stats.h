/* SPDX-License-Identifier: MIT */
/* What is counted beside objects: collections and their pauses. */
#ifndef SH_HARNESS_STATS_H
#define SH_HARNESS_STATS_H

#include <stdint.h>

#include "lib/atomic.h"

struct collections {
    _Atomic uint64_t count, minor;
    _Atomic uint64_t longest_ns;      /* pause */
    _Atomic uint64_t longest_late_ns; /* since the last line of progress */
    _Atomic uint64_t total_ns;
};

extern struct collections collections;

/* Hears of every collection's pause from the library. */
void stats_listen(void);

/* Plain malloc has collections too, of a kind. */
void stats_count_collection(void);

/* Resident bytes of the process. */
uint64_t stats_resident(void);

#endif /* SH_HARNESS_STATS_H */
