/* SPDX-License-Identifier: MIT */
/* Bit and size arithmetic. */
#ifndef SH_LIB_BITS_H
#define SH_LIB_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "lib/atomic.h"
#include "lib/compiler.h"

/* Index of the lowest set bit; w is not 0. */
SH_INLINE unsigned sh_ctz64(uint64_t w)
{
    return (unsigned)__builtin_ctzll(w);
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

/*
 * Which of 64 bytes at an aligned address are `value`. Others may write them meanwhile:
 * each is read once, at some moment of the call, and acquired: what was done before its
 * release is seen after.
 */
SH_INLINE uint64_t sh_bytes_equal(const _Atomic uint8_t *bytes, uint8_t value)
{
    uint64_t equal = 0;
#if defined(__SSE2__) && !SH_TSAN
    const __m128i *at = (const __m128i *)(const void *)bytes;
    __m128i wanted = _mm_set1_epi8((char)value);
    for (unsigned i = 0; i < 4; i++) {
        __m128i same = _mm_cmpeq_epi8(_mm_load_si128(at + i), wanted);
        equal |= (uint64_t)(unsigned)_mm_movemask_epi8(same) << (i * 16);
    }
    SH_BARRIER(); /* loads are acquired by the processor as they are */
#else
    for (unsigned i = 0; i < 64; i++)
        equal |= (uint64_t)(sh_load_acquire(&bytes[i]) == value) << i;
#endif
    return equal;
}

/*
 * Of 64 bytes at `to`: where that of `bytes` is `value`, those of its bits that are in
 * `kept`; elsewhere `other`. Both addresses are aligned; nobody writes them meanwhile.
 */
SH_INLINE void sh_bytes_note_others(_Atomic uint8_t *to, const _Atomic uint8_t *bytes,
    uint8_t value, uint8_t kept, uint8_t other)
{
#if defined(__SSE2__) && !SH_TSAN
    const __m128i *from = (const __m128i *)(const void *)bytes;
    __m128i *at = (__m128i *)(void *)to, wanted = _mm_set1_epi8((char)value),
            keep = _mm_set1_epi8((char)kept), others = _mm_set1_epi8((char)other);
    for (unsigned i = 0; i < 4; i++) {
        __m128i same = _mm_cmpeq_epi8(_mm_load_si128(from + i), wanted);
        __m128i left = _mm_and_si128(same, _mm_and_si128(_mm_load_si128(at + i), keep));
        _mm_store_si128(at + i, _mm_or_si128(left, _mm_andnot_si128(same, others)));
    }
#else
    for (unsigned i = 0; i < 64; i++) {
        bool same = sh_load_relaxed(&bytes[i]) == value;
        sh_store_relaxed(&to[i], same ? sh_load_relaxed(&to[i]) & kept : other);
    }
#endif
}

/* The n lowest bits; n is at most 64. */
SH_INLINE uint64_t sh_low_bits64(unsigned n)
{
    return n >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1;
}

/* Takes the lowest bits that are set side by side off: from *first on so many. */
SH_INLINE unsigned sh_take_run64(uint64_t *bits, unsigned *first)
{
    *first = sh_ctz64(*bits);
    uint64_t rest = ~(*bits >> *first);
    unsigned count = rest ? sh_ctz64(rest) : 64;
    *bits &= ~(sh_low_bits64(count) << *first);
    return count;
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
