/* SPDX-License-Identifier: MIT */
/*
 * Formatted printing that neither allocates nor uses stdio or the locale.
 *
 * Conversions: %s %c %d %u %x %p %% with the length modifiers l, ll, z and, for %d %u
 * %x %p %s, a field width and a 0 or - flag; %.*s. Any other conversion is printed as
 * it stands, and with it the rest of the format. Text goes to a sink in pieces.
 */
#ifndef SH_LIB_PRINT_H
#define SH_LIB_PRINT_H

#include <stdarg.h>
#include <stddef.h>

#include "lib/compiler.h"

/* As the seed's print pair. */
struct sh_sink {
    void *data;
    void (*write)(void *data, const char *text, size_t len);
};

/* Standard error, by write(2), whole lines where they fit the buffer. */
extern const struct sh_sink sh_stderr_sink;

void sh_print(const struct sh_sink *sink, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sh_vprint(const struct sh_sink *sink, const char *format, va_list list)
    __attribute__((format(printf, 2, 0)));

/* Into `text`, always terminated where size is not 0; returns the whole length. */
size_t sh_format(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t sh_vformat(char *text, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

#endif /* SH_LIB_PRINT_H */
