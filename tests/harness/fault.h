/* SPDX-License-Identifier: MIT */
/*
 * Injected faults and storms.
 *
 * mmap, munmap, madvise and mremap are the program's: defined here, they come before the
 * C library's (and before a sanitizer's, which they call), and what the library calls can
 * fail at a rate. pthread_create fails by being asked for a stack that there is no room
 * for, so that it is the C library's that fails, behind the library's own.
 */
#ifndef SH_HARNESS_FAULT_H
#define SH_HARNESS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/settings.h"

extern _Atomic uint64_t faults_injected[FAULTS];
extern _Atomic uint64_t storm_events[STORMS];

/* Between them nothing that the calling thread does fails. Nests. */
void fault_hold(void);
void fault_release(void);

/* Faults begin, and end; main thread. */
void faults_on(void);
void faults_off(void);

/* It is this fault's turn; counts it. */
bool fault_now(enum fault fault);

/* The storms' own threads and process; main thread. Before any other thread starts: */
void storms_prepare(void);
void storms_start(void);
void storms_stop(void);

/* In the child of a fork. */
void storms_fork_child(void);

#endif /* SH_HARNESS_FAULT_H */
