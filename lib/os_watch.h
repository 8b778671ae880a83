/* SPDX-License-Identifier: MIT */
/*
 * Watching memory for writes: which pages were written to since they were last protected.
 * The system finds out by page faults of its own; a program that writes to a watched page,
 * in user mode or by a system call, sees nothing but that the first time takes half a
 * microsecond longer.
 *
 * Part of the contract of lib/os.h: nothing here allocates, takes a lock of ours, or
 * changes errno. The caller sees to it that one thread at a time is here.
 */
#ifndef SH_LIB_OS_WATCH_H
#define SH_LIB_OS_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Gets ready, in each process of its own. False: the system cannot, or forbids it; or it
 * filters the process's calls (seccomp), and might end it for this one, unless the option
 * generations says to dare it; or the program closed what this opened: then all counts as
 * written. */
bool sh_os_watch_prepare(void);

/* In the child of a fork, whose memory is not watched. */
void sh_os_watch_fork_child(void);

/* From now on the pages of a mapping, or of a part, may be protected; drop: before any of
 * it is moved by the system. Add and protect may fail. */
bool sh_os_watch_add(uintptr_t start, size_t bytes);
bool sh_os_watch_drop(uintptr_t start, size_t bytes);

/* For a round of the calls below; negative: the system cannot. Ends with sh_os_close. */
int sh_os_watch_open(void);

struct sh_os_pages {
    uintptr_t start, end;
};

/*
 * Of the pages from *at on, before `end`, those that were written to since they were
 * protected, or are not protected; pages that were never touched may be left out. Up to
 * `most` ranges of them, by address; *at is where to go on, `end` when there are no more.
 * Returns how many; negative: it is not known.
 */
int sh_os_watch_written(
    int round, uintptr_t *at, uintptr_t end, struct sh_os_pages *ranges, int most);

/* Protects the pages. False: some may not be, and count as written. */
bool sh_os_watch_protect(int round, uintptr_t start, uintptr_t end);

#endif /* SH_LIB_OS_WATCH_H */
