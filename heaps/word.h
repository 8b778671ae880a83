/* SPDX-License-Identifier: MIT */
/*
 * What a word may point to: what its bits say, and, where the program said that it hides
 * pointers, the same without tag bits and what its decoder makes of it. Each reading only
 * adds to those before: a plain pointer is one whatever was set.
 *
 * Interior pointers count, and cells are multiples of a granule. So tags in the low four
 * bits lead to the same cell as the pointer without them, and are not looked for.
 *
 * Set by any thread; a collection keeps to what was set when it began.
 */
#ifndef SH_HEAPS_WORD_H
#define SH_HEAPS_WORD_H

#include <stdint.h>

#include <splitheap/gc.h>

#include "lib/compiler.h"

struct sh_word_code {
    uintptr_t tags; /* less those that lead to the same cell */
    gc_word_decoder_fn *decoder;
};

/* This collection's; the collector's, before it has markers. */
extern struct sh_word_code sh_word_code;

/* What was set is this collection's. */
void sh_word_begin(void);

uintptr_t sh_word_set_tags(uintptr_t tags);                           /* the former */
gc_word_decoder_fn *sh_word_set_decoder(gc_word_decoder_fn *decoder); /* the former */

enum { SH_WORD_READINGS = 3 };

/* All that the word may point to; returns how many. */
SH_INLINE unsigned sh_word_read(uintptr_t word, uintptr_t pointers[SH_WORD_READINGS])
{
    unsigned count = 0;
    pointers[count++] = word;
    if (word & sh_word_code.tags)
        pointers[count++] = word & ~sh_word_code.tags;
    if (word && sh_word_code.decoder)
        pointers[count++] = (uintptr_t)sh_word_code.decoder(word);
    return count;
}

#endif /* SH_HEAPS_WORD_H */
