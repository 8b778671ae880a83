/* SPDX-License-Identifier: MIT */
/*
 * The malloc workloads. Each returns a checksum of what it read back, which its `scale`
 * alone decides; each checks what it reads where it can tell right from wrong.
 */
#ifndef BENCH_LOADS_H
#define BENCH_LOADS_H

#include <stdint.h>

/** 64-byte objects, replaced in turn in a live set that fits the caches. */
uint64_t load_fixed(unsigned scale);

/** 8 B to 16 KiB less one, as many of each power of two, replaced at random in a live set. */
uint64_t load_mixed(unsigned scale);

/** 64 vectors, filled at random and grown by realloc, up to 1 KiB ... 2 MiB. */
uint64_t load_growth(unsigned scale);

/** Batches of 16 to 511 bytes, each freed in the reverse order of its allocation. */
uint64_t load_lifo(unsigned scale);

/** One thread allocates 16 to 255 bytes, another frees: 64 batches of 4096 on the way. */
uint64_t load_handoff(unsigned scale);

/** The same with at most 64 batches of 256, so that memory comes round sooner. */
uint64_t load_relay(unsigned scale);

#endif /* BENCH_LOADS_H */
