/* SPDX-License-Identifier: MIT */
/* What scenarios of threads share: starting one, ends of one, the signal. */
#ifndef SH_HARNESS_HELPER_H
#define SH_HARNESS_HELPER_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include <splitheap/gc.h>

#include "lib/compiler.h"
#include "tests/harness/lane.h"

#if SH_TSAN || defined(__SANITIZE_ADDRESS__)
#define HELPER_SANITIZED 1
#else
#define HELPER_SANITIZED 0
#endif

/*
 * Around calls that the thread sanitizer does in its runtime, with its eyes shut: a thread
 * that is stopped inside cannot show the sanitizer that what it did before comes before
 * what the collector does. Inside them the thread counts as stopped already.
 */
#if SH_TSAN
#define HELPER_EYES_SHUT_BEGIN() gc_blocking_begin()
#define HELPER_EYES_SHUT_END() gc_blocking_end()
#else
#define HELPER_EYES_SHUT_BEGIN() ((void)0)
#define HELPER_EYES_SHUT_END() ((void)0)
#endif

#define HELPER_SIGNAL SIGUSR1
#define HELPER_PAUSE SIGUSR2

/* With a stack of a size by chance. False: there are no more threads to be had. */
bool helper_start(
    pthread_t *thread, void *(*run)(void *), void *arg, struct random *random);

/* What the thread returned. */
void *helper_join(pthread_t thread);

/* Makes the calling thread known to the library, however often that is refused. */
void helper_register(void);

/* Handlers, and the key of the thread-specific values; before any thread starts. */
void helpers_init(void);

/* An alternate signal stack for the calling thread. */
void helper_alternate_stack(void);

/* An object in a thread-specific value, whose destructor frees it and makes others. */
void helper_leave_specific(struct worker *worker);

/* Of HELPER_SIGNAL. */
void helper_handler(int signal);

#endif /* SH_HARNESS_HELPER_H */
