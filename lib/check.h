/* SPDX-License-Identifier: MIT */
/*
 * Checks and the end of the program.
 *
 * One level, -Dchecks=0..3, apart from NDEBUG:
 *   0  only what guards the caller's mistakes, which is never compiled out
 *   1  and cheap invariants of slow paths
 *   2  and invariants of fast paths, lock ranks
 *   3  and every structure's _valid()
 */
#ifndef SH_LIB_CHECK_H
#define SH_LIB_CHECK_H

#include "lib/compiler.h"

#ifndef SH_CHECKS
#define SH_CHECKS 1
#endif

/*
 * Prints "splitheap: " and the message to standard error, as lib/print.h formats it,
 * and aborts. Takes no lock and allocates nothing.
 */
_Noreturn SH_COLD void sh_fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* The same of a caller's mistake; returns where the option misuse:report is set, and the
 * call is then to do nothing. */
SH_COLD void sh_misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

_Noreturn SH_COLD void sh_check_failed(const char *what, const char *file, int line);

#define SH_CHECK_AT(level, cond)                                                       \
    do {                                                                               \
        if (SH_CHECKS >= (level) && SH_UNLIKELY(!(cond)))                              \
            sh_check_failed(#cond, __FILE__, __LINE__);                                \
    } while (0)

#define SH_CHECK1(cond) SH_CHECK_AT(1, cond)
#define SH_CHECK2(cond) SH_CHECK_AT(2, cond)
#define SH_CHECK3(cond) SH_CHECK_AT(3, cond)

#endif /* SH_LIB_CHECK_H */
