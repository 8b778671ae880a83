/* SPDX-License-Identifier: MIT */
/* What scenarios of threads share: starting one, ends of one, the signal. */
#ifndef SH_HARNESS_HELPER_H
#define SH_HARNESS_HELPER_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "lib/compiler.h"
#include "tests/harness/lane.h"

#if SH_TSAN || defined(__SANITIZE_ADDRESS__)
#define HELPER_SANITIZED 1
#else
#define HELPER_SANITIZED 0
#endif

#define HELPER_SIGNAL SIGUSR1
#define HELPER_PAUSE SIGUSR2

/* With a stack of a size by chance. False: there are no more threads to be had. */
bool helper_start(
    pthread_t *thread, void *(*run)(void *), void *arg, struct random *random);

/* Handlers, and the key of the thread-specific values; before any thread starts. */
void helpers_init(void);

/* An alternate signal stack for the calling thread. */
void helper_alternate_stack(void);

/* An object in a thread-specific value, whose destructor frees it and makes others. */
void helper_leave_specific(struct worker *worker);

/* Of HELPER_SIGNAL. */
void helper_handler(int signal);

#endif /* SH_HARNESS_HELPER_H */
