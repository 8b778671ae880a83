/* SPDX-License-Identifier: MIT */
/*
 * System calls by hand, for lib/os_linux_*.c: the C library's may be instrumented, set
 * errno, or be cancellation points.
 */
#ifndef SH_LIB_OS_LINUX_CALL_H
#define SH_LIB_OS_LINUX_CALL_H

#include "lib/compiler.h"

#if !defined(__x86_64__)
#error "how to call the system is known on x86-64 only"
#endif

/* The result, or a negated errno. */
SH_NO_SANITIZE SH_INLINE long sh_os_call4(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

#endif /* SH_LIB_OS_LINUX_CALL_H */
