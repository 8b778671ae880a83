/* SPDX-License-Identifier: MIT */
/*
 * The malloc workloads, a file for each idea. Each returns a checksum of what it read
 * back, which its scale and number of threads alone decide; each checks what it reads
 * where it can tell right from wrong. Those with a name of the field are our own code
 * after the published descriptions.
 *
 * `scale` is the whole work, whatever the number of threads: 100 takes about a second
 * on two processors.
 */
#ifndef BENCH_LOADS_LOADS_H
#define BENCH_LOADS_LOADS_H

#include <stdint.h>

/* ---- single.c: one thread --------------------------------------------------------- */

/** 64-byte objects, replaced in turn in a live set that fits the caches. */
uint64_t load_fixed(unsigned scale);

/** 8 B to 16 KiB less one, as many of each power of two, replaced at random in a live set. */
uint64_t load_mixed(unsigned scale);

/** 64 vectors, filled at random and grown by realloc, up to 1 KiB ... 2 MiB. */
uint64_t load_growth(unsigned scale);

/** Batches of 16 to 511 bytes, each freed in the reverse order of its allocation. */
uint64_t load_lifo(unsigned scale);

/* ---- handoff.c: one thread allocates, another frees ------------------------------- */

/** 16 to 255 bytes: 64 batches of 4096 on the way. */
uint64_t load_handoff(unsigned scale);

/** The same with at most 64 batches of 256, so that memory comes round sooner. */
uint64_t load_relay(unsigned scale);

/* ---- The field's, one thread ------------------------------------------------------ */

/** cfrac.c: a continued fraction by arithmetic on numbers of a few digits, all objects. */
uint64_t load_cfrac(unsigned scale);

/** espresso.c: a live set of small objects and short arrays that swells and shrinks. */
uint64_t load_espresso(unsigned scale);

/** glibc.c: 25 to 1600 objects of one size allocated, then freed in the same order. */
uint64_t load_glibc_simple(unsigned scale);

/** large.c: 5 to 25 MiB, cleared, and dropped at random. */
uint64_t load_malloc_large(unsigned scale);

/* ---- The field's, any number of threads ------------------------------------------- */

/** alloc_test.c: sizes and places by Pareto's law in a large live set. */
uint64_t load_alloc_test(unsigned scale, unsigned threads);

/** cache.c: objects of one cache line handed to threads, which free and go on writing. */
uint64_t load_cache_scratch(unsigned scale, unsigned threads);

/** cache.c: small objects allocated, written often and freed, by all threads at once. */
uint64_t load_cache_thrash(unsigned scale, unsigned threads);

/** glibc.c: 4 B to 32 KiB, small ones likelier, replaced at random by all threads. */
uint64_t load_glibc_thread(unsigned scale, unsigned threads);

/** larson.c: servers that replace objects others made, and hand over to successors. */
uint64_t load_larson(unsigned scale, unsigned threads);

/** mleak.c: threads born and gone by the thousand, leaving objects to others. */
uint64_t load_mleak(unsigned scale, unsigned threads);

/** mstress.c: phases of mixed lives, with objects that migrate between threads. */
uint64_t load_mstress(unsigned scale, unsigned threads);

/** rptest.c: 8 B to 16 KB, a share of them freed by the next thread. */
uint64_t load_rptest(unsigned scale, unsigned threads);

/** xmalloc.c: half the threads only allocate, half only free. */
uint64_t load_xmalloc_test(unsigned scale, unsigned threads);

/* ---- Kinds of calls --------------------------------------------------------------- */

/** calls.c: objects of calloc, small and large, dirtied and replaced. */
uint64_t load_calloc(unsigned scale, unsigned threads);

/** calls.c: objects aligned to 16 B ... 4 KiB, replaced. */
uint64_t load_aligned(unsigned scale, unsigned threads);

/* ---- release.c -------------------------------------------------------------------- */

/** About 500 MiB of mixed sizes are freed; the threads idle two seconds. */
uint64_t load_release(unsigned scale, unsigned threads);

#endif /* BENCH_LOADS_LOADS_H */
