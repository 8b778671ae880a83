/* SPDX-License-Identifier: MIT */
/*
 * The gang: threads of the library's own that help the one that collects.
 *
 * They sleep until a job begins, and join it if they wake before it is over: the caller
 * begins at once and waits for nobody but those who joined. They are not registered, so
 * the world stops without them; they have all signals blocked, and call nothing that may
 * wait for a stopped thread.
 */
#ifndef SH_THREADS_GANG_H
#define SH_THREADS_GANG_H

#include <stdbool.h>

enum { SH_GANG_MAX = 16 }; /* the caller included */

typedef void sh_gang_job(void *context, unsigned member);

/*
 * Makes threads until there are so many helpers, at most SH_GANG_MAX - 1. Outside
 * critical sections, with the world running, and where pthread_create may be called.
 * What cannot be had is tried again some seconds later.
 */
void sh_gang_recruit(unsigned helpers);

/* Begins a job for up to so many helpers; the caller then does its part, and closes it:
 * on return nobody is at it any more. One job at a time: the collector's. */
void sh_gang_open(sh_gang_job *job, void *context, unsigned helpers);
void sh_gang_close(void);

/* How many helpers there are. */
unsigned sh_gang_helpers(void);

/* The program's last thread ends: so do they, lest they keep the process. Outside
 * critical sections. */
void sh_gang_end(void);

/* In the child of a fork. */
void sh_gang_fork_child(void);

#endif /* SH_THREADS_GANG_H */
