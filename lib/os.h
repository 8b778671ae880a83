/* SPDX-License-Identifier: MIT */
/*
 * The whole contract with the operating system and its C library. Meson picks the file
 * that fulfils it; no other file asks which system this is.
 *
 * Nothing here allocates with malloc or takes a lock of ours. Memory functions return
 * NULL (or false) when there is no memory; any other error is fatal with a message.
 * errno stays as it was, whatever the outcome; nothing is a cancellation point.
 */
#ifndef SH_LIB_OS_H
#define SH_LIB_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/compiler.h"

/* Cells' pages; the system's may be larger, then purging rounds inward. */
#define SH_PAGE_SHIFT 12
#define SH_PAGE_SIZE ((size_t)1 << SH_PAGE_SHIFT)

/* User addresses are below 2^SH_ADDRESS_BITS. */
#define SH_ADDRESS_BITS 47

/* ---- Memory ---- */

/* Private zeroed memory, committed on touch; align: a power of two >= SH_PAGE_SIZE. */
void *sh_os_map(size_t bytes, size_t align);

/*
 * A whole mapping. Where the kernel allows no more holes in the address space, its
 * memory is given back and its addresses are lost.
 */
void sh_os_unmap(void *start, size_t bytes);

/*
 * [start, start + bytes) of memory from sh_os_map reads as zero, and its whole pages
 * cost nothing until touched. (Of a mapped file's pages DONTNEED would bring back what
 * the file holds: not for the user's areas.)
 */
void sh_os_purge(void *start, size_t bytes);

/* Asks for transparent huge pages there, or for none. The system need not listen. */
void sh_os_huge_pages(void *start, size_t bytes, bool wanted);
#define SH_OS_HUGE_PAGE ((size_t)2 << 20) /* where one may begin */

/*
 * Grows or shrinks a mapping of its own, which may move and keeps page alignment only.
 * NULL: it stays as it was, for lack of memory or because the program cut it up
 * (mprotect, mlock of a part), and can still be copied.
 */
void *sh_os_remap(void *start, size_t old_bytes, size_t new_bytes);

/*
 * Bytes that may still be mapped and used: the least of RLIMIT_AS and RLIMIT_DATA less
 * what is used of each, the control groups' limits (v2 and v1) less what is used, and
 * the system's available memory; the latter two with the swap that is free to them.
 * Without overcommitment also of what may still be committed. Reads files under /proc
 * and /sys: not for fast paths.
 */
size_t sh_os_memory_available(void);

/*
 * The same as it was lately, less what sh_os_map and sh_os_remap mapped since: cheap where
 * much is left. It may be too little, as what was unmapped does not count; who would
 * refuse memory for that has it forgotten, and if it was remembered asks again.
 */
size_t sh_os_memory_lately(void);
bool sh_os_memory_forget(void);

/* The same with those files under the directory `root`: for tests. */
size_t sh_os_memory_available_under(const char *root);

/* ---- The process ---- */

/*
 * The value of an environment variable, cut to `size` with its terminating zero; returns
 * its whole length. As if it were not set, 0 and "", in a process that was started with
 * more rights than its user has (setuid), as the loader does. Also before the C library
 * has begun.
 */
size_t sh_os_environment(const char *name, char *text, size_t size);

uint32_t sh_os_process_id(void);

/*
 * A file to append text to, made where it is missing; a negated errno: it cannot be
 * opened. Write writes all of it, or as much as goes; descriptor 2 is standard error.
 */
int sh_os_append_open(const char *path);
void sh_os_write(int file, const char *text, size_t len);
void sh_os_close(int file);

/* A descriptor that poll finds readable from raise on until lower. 0, or an errno. */
int sh_os_event_make(int *event);
void sh_os_event_raise(int event);
void sh_os_event_lower(int event);

/* ---- Text and the end ---- */

void sh_os_write_stderr(const char *text, size_t len);
_Noreturn void sh_os_abort(void);

/* ---- Time and waiting ---- */

uint64_t sh_os_now_ns(void);        /* monotonic */
uint64_t sh_os_now_coarse_ns(void); /* the same, some milliseconds late, but cheap */

/* Sleeps while *word == value, until woken, interrupted, or (ns != 0) ns passed. */
void sh_os_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns);
void sh_os_wake(_Atomic uint32_t *word, uint32_t how_many);
void sh_os_yield(void);

/* Processors that the calling thread may run on, at least 1. */
unsigned sh_os_processors(void);

/*
 * Between its call and its return every thread of the process executes a full memory
 * fence, so that where one side of a handshake is rare the other needs none. Prepare
 * comes first, in each process of its own. False: the system cannot, or forbids it.
 */
bool sh_os_fence_prepare(void);
bool sh_os_fence_threads(void);

#endif /* SH_LIB_OS_H */
