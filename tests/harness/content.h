/* SPDX-License-Identifier: MIT */
/*
 * What an object is filled with: a function of its serial number and the place, so that
 * every byte is a checksum, and a word that is found in the wrong place tells whose it
 * is. No word of it looks like an address.
 *
 * Of large objects the beginning, a word of each page, and the end.
 */
#ifndef SH_HARNESS_CONTENT_H
#define SH_HARNESS_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fills bytes [from, bytes) of the object; from is a multiple of 8. */
void content_fill(void *p, size_t from, size_t bytes, uint64_t serial);

/*
 * Of an object of `bytes` that was filled so, are [from, kept) as they were? Else *at is
 * where they are not.
 */
bool content_is(
    const void *p, size_t from, size_t kept, size_t bytes, uint64_t serial, size_t *at);

/* Is all zero, as far as looked at? Else *at is where it is not. */
bool content_is_zero(const void *p, size_t bytes, size_t *at);

/* The serial number that a word of contents tells; 0: none. */
uint64_t content_serial(uint64_t word, size_t *at);

#endif /* SH_HARNESS_CONTENT_H */
