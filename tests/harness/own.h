/* SPDX-License-Identifier: MIT */
/*
 * Memory that the library under test cannot reach: mapped by hand, past the injected
 * faults, never scanned for pointers.
 */
#ifndef SH_HARNESS_OWN_H
#define SH_HARNESS_OWN_H

#include <stddef.h>
#include <stdint.h>

/* Cleared. Without memory the program ends: the harness cannot go on. */
void *own_map(size_t bytes);

/* The same, shared with the children of a fork. */
void *own_map_shared(size_t bytes);

void own_unmap(void *start, size_t bytes);

uint64_t own_now_ns(void);

/* Sleeping on a word, past the C library. `ms` 0: without an end. */
void own_wait(_Atomic uint32_t *word, uint32_t value, unsigned ms);
void own_wake(_Atomic uint32_t *word);

void own_sleep_us(unsigned us);

/* So that what is known of an object's address is no pointer to it. */
static inline uintptr_t hide(const void *p)
{
    return ~(uintptr_t)p;
}

static inline void *reveal(uintptr_t hidden)
{
    return (void *)~hidden;
}

#endif /* SH_HARNESS_OWN_H */
