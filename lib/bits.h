/* SPDX-License-Identifier: MIT */
/* Bit and size arithmetic. */
#ifndef SH_LIB_BITS_H
#define SH_LIB_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/compiler.h"

/* Index of the lowest set bit; w is not 0. */
SH_INLINE unsigned sh_ctz64(uint64_t w)
{
    return (unsigned)__builtin_ctzll(w);
}

/*
 * The same, and clearing and testing a bit, in single instructions where the compiler
 * would take several: for fast paths. Bit numbers count modulo 64.
 */
#if defined(__x86_64__)
SH_INLINE uint64_t sh_ctz64_fast(uint64_t w)
{
    uint64_t index;
    __asm__("rep bsf %1, %0" : "=r"(index) : "r"(w) : "cc");
    return index;
}

/* Clears the bit; whether it was set. */
SH_INLINE bool sh_bit_clear(uint64_t *w, uint64_t bit)
{
    bool was;
    __asm__("btr %2, %0" : "+r"(*w), "=@ccc"(was) : "r"(bit));
    return was;
}

SH_INLINE bool sh_bit_test(uint64_t w, uint64_t bit)
{
    bool is;
    __asm__("bt %2, %1" : "=@ccc"(is) : "r"(w), "r"(bit));
    return is;
}
#else
SH_INLINE uint64_t sh_ctz64_fast(uint64_t w)
{
    return (uint64_t)__builtin_ctzll(w);
}

SH_INLINE bool sh_bit_clear(uint64_t *w, uint64_t bit)
{
    uint64_t mask = (uint64_t)1 << (bit % 64);
    bool was = *w & mask;
    *w &= ~mask;
    return was;
}

SH_INLINE bool sh_bit_test(uint64_t w, uint64_t bit)
{
    return w >> (bit % 64) & 1;
}
#endif

/*
 * ORs into a word that only this thread writes, and others read: a load and a store, or
 * one instruction where there is one for it, which a signal cannot divide.
 */
SH_INLINE void sh_bits_set(_Atomic uint64_t *w, uint64_t bits)
{
#if defined(__x86_64__) && !SH_TSAN
    __asm__ volatile("orq %1, %0" : "+m"(*w) : "r"(bits) : "cc");
#else
    sh_store_relaxed(w, sh_load_relaxed(w) | bits);
#endif
}

/* Index of the highest set bit; w is not 0. */
SH_INLINE unsigned sh_log2_64(uint64_t w)
{
    return 63u - (unsigned)__builtin_clzll(w);
}

/* Set bits of w, without the instruction that the x86-64 baseline lacks. */
SH_INLINE unsigned sh_popcount64(uint64_t w)
{
#ifdef __POPCNT__
    return (unsigned)__builtin_popcountll(w);
#else
    w = w - ((w >> 1) & 0x5555555555555555u);
    w = (w & 0x3333333333333333u) + ((w >> 2) & 0x3333333333333333u);
    w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)((w * 0x0101010101010101u) >> 56);
#endif
}

/* The n lowest bits; n is at most 64. */
SH_INLINE uint64_t sh_low_bits64(unsigned n)
{
    return n >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1;
}

SH_INLINE bool sh_is_pow2(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* n up to a multiple of `to`, a power of two; the caller knows that it fits. */
SH_INLINE uintptr_t sh_round_up(uintptr_t n, uintptr_t to)
{
    return (n + to - 1) & ~(to - 1);
}

SH_INLINE uintptr_t sh_round_down(uintptr_t n, uintptr_t to)
{
    return n & ~(to - 1);
}

SH_INLINE size_t sh_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

SH_INLINE size_t sh_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif /* SH_LIB_BITS_H */
