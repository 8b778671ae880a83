/* SPDX-License-Identifier: MIT */
/* lib/bits.h against the plainest way to say the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/bits.h"

/* A fixed sequence of words that have few, many and clustered bits. */
static uint64_t next_word(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    uint64_t word = *state ^ (*state >> 29);
    return word << (*state >> 58) >> (*state >> 52 & 63);
}

static unsigned count(uint64_t w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 64; i++)
        n += w >> i & 1;
    return n;
}

static unsigned lowest(uint64_t w)
{
    unsigned i = 0;
    while (!(w >> i & 1))
        i++;
    return i;
}

static unsigned highest(uint64_t w)
{
    unsigned i = 63;
    while (!(w >> i & 1))
        i--;
    return i;
}

static void check_word(uint64_t w)
{
    assert_int_equal(sh_popcount64(w), count(w));
    if (w) {
        assert_int_equal(sh_ctz64(w), lowest(w));
        assert_int_equal(sh_log2_64(w), highest(w));
    }
}

static void words(void **unused)
{
    uint64_t state = 1;
    check_word(0);
    check_word(UINT64_MAX);
    for (unsigned i = 0; i < 64; i++)
        check_word((uint64_t)1 << i);
    for (int i = 0; i < 10000; i++)
        check_word(next_word(&state));
}

static void low_bits(void **unused)
{
    uint64_t expected = 0;
    for (unsigned n = 0; n <= 64; n++) {
        assert_int_equal(sh_low_bits64(n), expected);
        expected = expected << 1 | 1;
    }
}

static void powers_of_two(void **unused)
{
    assert_false(sh_is_pow2(0));
    for (unsigned i = 0; i < 64; i++) {
        size_t n = (size_t)1 << i;
        assert_true(sh_is_pow2(n));
        if (i > 1) {
            assert_false(sh_is_pow2(n - 1));
            assert_false(sh_is_pow2(n + 1));
        }
    }
}

static void rounding(void **unused)
{
    for (uintptr_t to = 1; to <= 4096; to *= 2) {
        for (uintptr_t n = 0; n < 10000; n += 7) {
            assert_int_equal(sh_round_down(n, to), n / to * to);
            assert_int_equal(sh_round_up(n, to), (n + to - 1) / to * to);
        }
    }
    assert_int_equal(sh_round_down(UINTPTR_MAX, 4096), UINTPTR_MAX - 4095);
    assert_int_equal(sh_round_up(UINTPTR_MAX - 4095, 4096), UINTPTR_MAX - 4095);
}

static void equal_bytes(void **unused)
{
    static _Alignas(64) _Atomic uint8_t bytes[128];
    uint64_t state = 7;
    for (int i = 0; i < 1000; i++) {
        uint64_t pattern = next_word(&state);
        for (unsigned b = 0; b < 64; b++)
            bytes[64 + b] = pattern >> b & 1 ? 2 : (uint8_t)(b % 2 ? 1 : 0x82);
        assert_int_equal(sh_bytes_equal(bytes + 64, 2), pattern);
        assert_int_equal(sh_bytes_equal(bytes + 64, 3), 0);
        assert_int_equal(sh_bytes_equal(bytes, 0), UINT64_MAX);
    }
}

static void least_and_most(void **unused)
{
    assert_int_equal(sh_min(1, SIZE_MAX), 1);
    assert_int_equal(sh_min(SIZE_MAX, 1), 1);
    assert_int_equal(sh_max(0, SIZE_MAX), SIZE_MAX);
    assert_int_equal(sh_max(SIZE_MAX, 0), SIZE_MAX);
    assert_int_equal(sh_min(3, 3), 3);
    assert_int_equal(sh_max(3, 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(low_bits),
        cmocka_unit_test(powers_of_two),
        cmocka_unit_test(rounding),
        cmocka_unit_test(equal_bytes),
        cmocka_unit_test(least_and_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
