/* SPDX-License-Identifier: MIT */
/* fork in a threaded program; see threads/fork.c. */
#ifndef SH_THREADS_FORK_H
#define SH_THREADS_FORK_H

/* Makes fork known to us, once; called before anything of ours is locked. */
void sh_fork_begin(void);

#endif /* SH_THREADS_FORK_H */
