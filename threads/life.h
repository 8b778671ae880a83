/* SPDX-License-Identifier: MIT */
/* Being told when the calling thread ends; threads/registry.c's alone. */
#ifndef SH_THREADS_LIFE_H
#define SH_THREADS_LIFE_H

#include <limits.h>

#include "lib/compiler.h"

/* The destructor round in which a thread leaves. The thread sanitizer forgets a thread
 * in the last one. */
#define SH_LIFE_ROUNDS (PTHREAD_DESTRUCTOR_ITERATIONS - SH_TSAN)

/*
 * From here sh_thread_leave(true) is called when the calling thread ends. 0, or EAGAIN
 * (no key is left) or ENOMEM. May allocate. Idempotent.
 */
int sh_life_begin(void);

#endif /* SH_THREADS_LIFE_H */
