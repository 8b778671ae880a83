/* SPDX-License-Identifier: MIT */
/*
 * cfrac-like: many tiny objects with short lives. It works out the continued fraction of
 * a square root, as programs that factor integers do, on numbers of a few digits: each
 * sum is an object of its own. With P and Q as usual in that fraction and A its
 * numerators modulo N,
 *
 *     A(k+1) = q(k+1) * A(k) + A(k-1)       A(k)^2 = (-1)^(k+1) * Q(k+1)   (mod N)
 *
 * and the second equation tells whether the digits are still right. The last numerators
 * stay for a while.
 */
#include "bench/loads/loads.h"
#include "bench/measure.h"

#include <stdbool.h>
#include <stddef.h>

enum { DIGIT_BITS = 8, KEPT = 4096, CHECKED = 32 }; /* one of so many is checked */

/* Little-endian, without leading zeros. */
struct number {
    uint32_t count;
    uint8_t digit[];
};

static struct number *number_new(size_t count)
{
    struct number *number = bench_malloc(sizeof(*number) + count);

    number->count = (uint32_t)count;
    return number;
}

static void number_trim(struct number *number)
{
    while (number->count > 0 && number->digit[number->count - 1] == 0)
        number->count--;
}

static struct number *number_of(uint64_t value)
{
    struct number *number = number_new(sizeof(value));

    for (size_t i = 0; i < sizeof(value); i++)
        number->digit[i] = (uint8_t)(value >> (i * DIGIT_BITS));
    number_trim(number);
    return number;
}

static uint64_t number_value(const struct number *number)
{
    uint64_t value = 0;

    for (size_t i = number->count; i-- > 0;)
        value = value << DIGIT_BITS | number->digit[i];
    return value;
}

static unsigned digit_at(const struct number *number, size_t index)
{
    return index < number->count ? number->digit[index] : 0;
}

static bool number_less(const struct number *a, const struct number *b)
{
    if (a->count != b->count)
        return a->count < b->count;
    for (size_t i = a->count; i-- > 0;) {
        if (a->digit[i] != b->digit[i])
            return a->digit[i] < b->digit[i];
    }
    return false;
}

static struct number *number_add(const struct number *a, const struct number *b)
{
    size_t count = (a->count > b->count ? a->count : b->count) + 1;
    struct number *sum = number_new(count);
    unsigned carry = 0;

    for (size_t i = 0; i < count; i++) {
        carry += digit_at(a, i) + digit_at(b, i);
        sum->digit[i] = (uint8_t)carry;
        carry >>= DIGIT_BITS;
    }
    number_trim(sum);
    return sum;
}

/* a - b, which is not less than 0. */
static struct number *number_subtract(const struct number *a, const struct number *b)
{
    struct number *rest = number_new(a->count);
    int borrow = 0;

    for (size_t i = 0; i < a->count; i++) {
        borrow += (int)digit_at(a, i) - (int)digit_at(b, i);
        rest->digit[i] = (uint8_t)borrow;
        borrow = borrow < 0 ? -1 : 0;
    }
    number_trim(rest);
    return rest;
}

/* a + b modulo n, of two that are below n. */
static struct number *add_modulo(
    const struct number *a, const struct number *b, const struct number *n)
{
    struct number *sum = number_add(a, b);

    if (number_less(sum, n))
        return sum;
    struct number *rest = number_subtract(sum, n);
    free(sum);
    return rest;
}

/* q * a + b modulo n, by doubling a. */
static struct number *multiply_add(
    uint64_t q, const struct number *a, const struct number *b, const struct number *n)
{
    struct number *zero = number_of(0);
    struct number *power = number_add(a, zero);
    struct number *sum = number_add(b, zero);

    for (; q != 0; q >>= 1) {
        struct number *next;
        if (q & 1) {
            next = add_modulo(sum, power, n);
            free(sum);
            sum = next;
        }
        next = add_modulo(power, power, n);
        free(power);
        power = next;
    }
    free(power);
    free(zero);
    return sum;
}

static void check(const struct number *a, uint64_t k, uint64_t q, uint64_t n)
{
    __extension__ typedef unsigned __int128 wide;
    uint64_t value = number_value(a);
    uint64_t square = (uint64_t)((wide)value * value % n);

    if (square != (k % 2 == 1 ? q : n - q))
        bench_fail("a number is damaged");
}

uint64_t load_cfrac(unsigned scale)
{
    static struct number *kept[KEPT];
    const uint64_t root = 2147483628u; /* n is not its square, but little more */
    const uint64_t n = root * root + 1234577u;
    struct number *modulus = number_of(n);
    struct number *before = number_of(1);
    struct number *a = number_of(root);
    uint64_t p = 0, q_before = 1, term = root, sum = 0;

    for (uint64_t k = 0; k < (uint64_t)scale * 60000; k++) {
        p = term * q_before - p;
        uint64_t q = (n - p * p) / q_before;
        term = (root + p) / q;
        if (k % CHECKED == 0)
            check(a, k, q, n);
        struct number *next = multiply_add(term, a, before, modulus);
        sum += number_value(next) * (k + 1);
        free(kept[k % KEPT]);
        kept[k % KEPT] = before;
        before = a;
        a = next;
        q_before = q;
    }
    for (size_t i = 0; i < KEPT; i++)
        free(kept[i]);
    free(before);
    free(a);
    free(modulus);
    return sum;
}
