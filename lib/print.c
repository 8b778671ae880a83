/* SPDX-License-Identifier: MIT */
/*
 * Formatted printing, malloc-free.
 *
 *   format, args --> struct conversion, one a '%' --> struct out --> sink, in pieces
 *
 * The buffer of struct out lies on the caller's stack. Where it fills up, whole lines
 * go to the sink first, so that lines of several threads mix as little as can be.
 *
 * No lock, no memory but the stack: any thread, signal handlers included, as long as
 * the sink is fit for it.
 */
#include "lib/print.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lib/bits.h"
#include "lib/os.h"

struct out {
    const struct sh_sink *sink;
    size_t len;
    char text[256];
};

/* What stands between a '%' and its letter. */
struct conversion {
    bool left;        /* '-' */
    bool zeros;       /* '0' */
    size_t width;     /* 0: none */
    size_t precision; /* SIZE_MAX: none; of %s only */
    unsigned longs;   /* 0 int, 1 long, 2 long long */
    bool size;        /* z */
};

/* Decimal digits of UINT64_MAX. */
#define DIGITS_MAX 20

/* ---- Into the sink ---- */

static size_t whole_lines(const struct out *out)
{
    size_t n = out->len;
    while (n > 0 && out->text[n - 1] != '\n')
        n--;
    return n ? n : out->len;
}

static void flush(struct out *out, size_t n)
{
    if (n == 0)
        return;
    out->sink->write(out->sink->data, out->text, n);
    memmove(out->text, out->text + n, out->len - n);
    out->len -= n;
}

static void put(struct out *out, const char *text, size_t len)
{
    while (len > 0) {
        if (out->len == sizeof out->text)
            flush(out, whole_lines(out));
        size_t n = sh_min(len, sizeof out->text - out->len);
        memcpy(out->text + out->len, text, n);
        out->len += n;
        text += n;
        len -= n;
    }
}

static void put_times(struct out *out, char c, size_t times)
{
    while (times-- > 0)
        put(out, &c, 1);
}

/* ---- One conversion ---- */

static size_t padding(const struct conversion *conv, size_t len)
{
    return conv->width > len ? conv->width - len : 0;
}

static void put_string(struct out *out, const struct conversion *conv, const char *s)
{
    if (!s)
        s = "(null)";
    size_t len = strnlen(s, conv->precision);
    if (!conv->left)
        put_times(out, ' ', padding(conv, len));
    put(out, s, len);
    if (conv->left)
        put_times(out, ' ', padding(conv, len));
}

/* Sign and zeros come before the digits, spaces before the sign. */
static void put_number(struct out *out, const struct conversion *conv,
    const char *prefix, uint64_t n, unsigned base)
{
    char digits[DIGITS_MAX];
    size_t len = 0;
    do {
        digits[DIGITS_MAX - ++len] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);

    size_t pad = padding(conv, strlen(prefix) + len);
    bool zeros = conv->zeros && !conv->left;
    if (!conv->left && !zeros)
        put_times(out, ' ', pad);
    put(out, prefix, strlen(prefix));
    if (zeros)
        put_times(out, '0', pad);
    put(out, digits + DIGITS_MAX - len, len);
    if (conv->left)
        put_times(out, ' ', pad);
}

static void put_signed(struct out *out, const struct conversion *conv, int64_t n)
{
    /* Negated as unsigned: the least number has no positive counterpart. */
    uint64_t magnitude = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    put_number(out, conv, n < 0 ? "-" : "", magnitude, 10);
}

/* A struct, so that a pointer to it can be passed on: va_list may be an array type. */
struct arguments {
    va_list list;
};

static int64_t next_signed(struct arguments *args, const struct conversion *conv)
{
    if (conv->size)
        return va_arg(args->list, ptrdiff_t);
    if (conv->longs == 0)
        return va_arg(args->list, int);
    if (conv->longs == 1)
        return va_arg(args->list, long);
    return va_arg(args->list, long long);
}

static uint64_t next_unsigned(struct arguments *args, const struct conversion *conv)
{
    if (conv->size)
        return va_arg(args->list, size_t);
    if (conv->longs == 0)
        return va_arg(args->list, unsigned);
    if (conv->longs == 1)
        return va_arg(args->list, unsigned long);
    return va_arg(args->list, unsigned long long);
}

/* False: `letter` is none of ours, and no argument was taken. */
static bool put_conversion(
    struct out *out, const struct conversion *conv, char letter, struct arguments *args)
{
    char c;
    switch (letter) {
    case '%':
        put(out, "%", 1);
        return true;
    case 'c':
        c = (char)va_arg(args->list, int);
        put(out, &c, 1);
        return true;
    case 's':
        put_string(out, conv, va_arg(args->list, const char *));
        return true;
    case 'd':
        put_signed(out, conv, next_signed(args, conv));
        return true;
    case 'u':
        put_number(out, conv, "", next_unsigned(args, conv), 10);
        return true;
    case 'x':
        put_number(out, conv, "", next_unsigned(args, conv), 16);
        return true;
    case 'p':
        put_number(out, conv, "0x", (uintptr_t)va_arg(args->list, void *), 16);
        return true;
    default:
        return false;
    }
}

/* ---- The format ---- */

static size_t parse_count(const char **at)
{
    size_t n = 0;
    for (; **at >= '0' && **at <= '9'; ++*at)
        n = n * 10 + (size_t)(**at - '0');
    return n;
}

static size_t parse_precision(const char **at, struct arguments *args)
{
    if (**at != '.')
        return SIZE_MAX;
    ++*at;
    if (**at != '*')
        return parse_count(at);
    ++*at;
    int n = va_arg(args->list, int);
    return n < 0 ? SIZE_MAX : (size_t)n;
}

/* Leaves *at on the conversion's letter. */
static void parse_conversion(
    const char **at, struct conversion *conv, struct arguments *args)
{
    *conv = (struct conversion){0};
    for (; **at == '-' || **at == '0'; ++*at) {
        conv->left |= **at == '-';
        conv->zeros |= **at == '0';
    }
    conv->width = parse_count(at);
    conv->precision = parse_precision(at, args);
    for (; **at == 'l' || **at == 'z'; ++*at) {
        conv->size |= **at == 'z';
        conv->longs += **at == 'l';
    }
}

static void put_format(struct out *out, const char *at, struct arguments *args)
{
    while (*at) {
        size_t plain = strcspn(at, "%");
        put(out, at, plain);
        at += plain;
        if (!*at)
            return;
        const char *start = at++;
        struct conversion conv;
        parse_conversion(&at, &conv, args);
        if (!put_conversion(out, &conv, *at, args)) {
            /* Arguments after an unknown one cannot be told apart. */
            put(out, start, strlen(start));
            return;
        }
        at++;
    }
}

void sh_vprint(const struct sh_sink *sink, const char *format, va_list list)
{
    struct out out;
    out.sink = sink;
    out.len = 0;
    struct arguments args;
    va_copy(args.list, list);
    put_format(&out, format, &args);
    va_end(args.list);
    flush(&out, out.len);
}

void sh_print(const struct sh_sink *sink, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    sh_vprint(sink, format, args);
    va_end(args);
}

/* ---- The sinks of our own ---- */

static void write_stderr(SH_UNUSED void *data, const char *text, size_t len)
{
    sh_os_write_stderr(text, len);
}

const struct sh_sink sh_stderr_sink = {.data = NULL, .write = write_stderr};

struct buffer {
    char *text;
    size_t size;
    size_t len; /* of all that was written, kept or not */
};

static void write_buffer(void *data, const char *text, size_t len)
{
    struct buffer *buffer = data;
    if (buffer->len < buffer->size)
        memcpy(
            buffer->text + buffer->len, text, sh_min(len, buffer->size - buffer->len));
    buffer->len += len;
}

size_t sh_vformat(char *text, size_t size, const char *format, va_list args)
{
    struct buffer buffer = {.text = text, .size = size, .len = 0};
    struct sh_sink sink = {.data = &buffer, .write = write_buffer};
    sh_vprint(&sink, format, args);
    if (size > 0)
        text[sh_min(buffer.len, size - 1)] = '\0';
    return buffer.len;
}

size_t sh_format(char *text, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t len = sh_vformat(text, size, format, args);
    va_end(args);
    return len;
}
