/* SPDX-License-Identifier: MIT */
/* The heap's part of a fork: its locks, and what the other threads left behind. */
#ifndef SH_HEAPS_FORK_H
#define SH_HEAPS_FORK_H

#include <stdbool.h>

void sh_heap_fork_prepare(void);
void sh_heap_fork_parent(void);
void sh_heap_fork_child(bool others);

#endif /* SH_HEAPS_FORK_H */
