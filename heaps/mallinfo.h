/* SPDX-License-Identifier: MIT */
/*
 * What the C library tells of its malloc and lets be set, under names of our own;
 * malloc_names.c gives them the C library's. The shapes are glibc's, numbers and meanings
 * the nearest that this heap has. Not in a critical section.
 */
#ifndef SH_HEAPS_MALLINFO_H
#define SH_HEAPS_MALLINFO_H

#include <stddef.h>
#include <stdio.h>

/* Bytes, unless they are counts. The arena is all but huge objects, tables included. */
#define SH_MALLINFO_FIELDS(type)                                                       \
    type arena;    /* of addresses, in use or not */                                   \
    type ordblks;  /* count of free cells and free runs */                             \
    type smblks;   /* 0 */                                                             \
    type hblks;    /* count of huge objects */                                         \
    type hblkhd;   /* in huge objects */                                               \
    type usmblks;  /* 0 */                                                             \
    type fsmblks;  /* 0 */                                                             \
    type uordblks; /* in other live objects */                                         \
    type fordblks; /* of the arena, in none */                                         \
    type keepcost; /* that malloc_trim would give back */

struct sh_mallinfo {
    SH_MALLINFO_FIELDS(int)
};

struct sh_mallinfo2 {
    SH_MALLINFO_FIELDS(size_t)
};

/* What an int does not hold is INT_MAX. */
struct sh_mallinfo sh_mallinfo(void);
struct sh_mallinfo2 sh_mallinfo2(void);

/* XML of glibc's shape, all in one heap; 0 or EINVAL. */
int sh_malloc_info(int options, FILE *stream);

/* The text of splitheap_stats_print, to standard error. */
void sh_malloc_stats(void);

/* Gives all dirty pages back, what the calling thread keeps for later among them; `pad` is
 * not asked. 1: there were some. */
int sh_malloc_trim(size_t pad);

/*
 * Takes what glibc takes, and answers as it does. M_PERTURB has its effect; what the
 * others tune is done otherwise here.
 */
int sh_mallopt(int parameter, int value);

#endif /* SH_HEAPS_MALLINFO_H */
