/* SPDX-License-Identifier: MIT */
/*
 * Signals between threads, and waiting in their handler, of lib/os_thread.h on Linux.
 *
 * Locks: none. Any thread, signal handlers included.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os_thread.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/check.h"
#include "lib/os_linux_call.h"

#define KERNEL_MASK_BYTES 8

/*
 * Ignored unless handled: a thread that replaces the program by execve with the signal
 * still on its way does not kill the next program, as a real-time signal would. Few
 * programs handle it, and it comes to nobody who does not ask (F_SETOWN).
 */
int sh_os_stop_signal(void)
{
    return SIGURG;
}

/*
 * All signals are blocked in the handler, the C library's own included: asynchronous
 * cancellation would otherwise unwind a stopped thread. Not on the alternate stack,
 * so that a thread's registers are on the stack that it runs on.
 */
static int swap_handler(int signal, sh_os_handler *handler, sh_os_handler **before)
{
    struct sigaction new = {.sa_flags = SA_SIGINFO | SA_RESTART}, old;
    new.sa_sigaction = handler;
    memset(&new.sa_mask, 0xff, sizeof new.sa_mask);
    if (sigaction(signal, handler ? &new : NULL, &old) != 0)
        return errno;
    *before = old.sa_sigaction;
    return 0;
}

#if SH_TSAN
/*
 * The thread sanitizer's sigaction puts a signal off until the thread calls the
 * runtime; one that computes never does, nor one that waits for a mutex whose holder
 * is stopped. So the kernel is asked, behind the sanitizer's back. Now a signal may
 * come inside the runtime, which a stopped thread must not be in: it may hold locks
 * there that the collector needs. The handler asks sh_os_may_park first.
 *
 * Not where the runtime is linked into the program, as Clang does it, and cannot be
 * told from the rest: there the sanitizer's way has to do.
 */
struct kernel_sigaction {
    sh_os_handler *handler;
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

#define SA_RESTORER_FLAG 0x04000000

/* The way back from the handler, which the C library would have given. */
void sh_os_signal_return(void);
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "nop\n"
        ".globl sh_os_signal_return\n"
        ".hidden sh_os_signal_return\n"
        ".type sh_os_signal_return, @function\n"
        "sh_os_signal_return:\n"
        "movq $15, %rax\n" /* rt_sigreturn */
        "syscall\n"
        ".size sh_os_signal_return, .-sh_os_signal_return\n"
        ".popsection\n");

static struct sh_range runtime;

static int install(int signal, sh_os_handler *handler)
{
    sh_os_handler *before;
    struct sh_range code = sh_os_mapping((uintptr_t)__tsan_acquire);
    uintptr_t ours = (uintptr_t)sh_os_signal_return;
    if (ours >= code.low && ours < code.high)
        return swap_handler(signal, handler, &before);
    runtime = code;
    struct kernel_sigaction new = {handler, SA_SIGINFO | SA_RESTART | SA_RESTORER_FLAG,
        sh_os_signal_return, ~(uint64_t)0};
    return syscall(SYS_rt_sigaction, signal, &new, NULL, KERNEL_MASK_BYTES) == 0
               ? 0
               : errno;
}

SH_NO_SANITIZE bool sh_os_may_park(const void *context)
{
    const ucontext_t *interrupted = context;
    uintptr_t at = (uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
    return at < runtime.low || at >= runtime.high;
}
#else
static int install(int signal, sh_os_handler *handler)
{
    sh_os_handler *before;
    return swap_handler(signal, handler, &before);
}

bool sh_os_may_park(const void *context)
{
    (void)context;
    return true;
}
#endif

static bool is_program_handler(sh_os_handler *handler)
{
    uintptr_t value = (uintptr_t)handler;
    return value != (uintptr_t)SIG_DFL && value != (uintptr_t)SIG_IGN;
}

int sh_os_signal_handle(int signal, sh_os_handler *handler)
{
    sh_os_handler *old = NULL;
    int error = swap_handler(signal, NULL, &old);
    if (error)
        return error;
    if (is_program_handler(old) && old != handler)
        return EBUSY;
    return install(signal, handler);
}

SH_NO_SANITIZE int sh_os_signal_thread(uint32_t tid, int signal)
{
    long process = sh_os_call4(SYS_getpid, 0, 0, 0, 0);
    return (int)-sh_os_call4(SYS_tgkill, process, (long)tid, signal, 0);
}

/* What the compiler may keep below the stack pointer. */
#define RED_ZONE 128

SH_NO_SANITIZE uintptr_t sh_os_interrupted(
    const void *context, uintptr_t words[SH_OS_REGISTERS])
{
    const ucontext_t *interrupted = context;
    for (size_t i = 0; i < SH_OS_REGISTERS; i++)
        words[i] = (uintptr_t)interrupted->uc_mcontext.gregs[i];
    return (uintptr_t)interrupted->uc_mcontext.gregs[REG_RSP] - RED_ZONE;
}

SH_NO_SANITIZE static uint64_t change_mask(int how, uint64_t mask)
{
    uint64_t old = 0;
    sh_os_call4(SYS_rt_sigprocmask, how, (long)&mask, (long)&old, KERNEL_MASK_BYTES);
    return old;
}

SH_NO_SANITIZE void sh_os_signal_unblock(int signal)
{
    change_mask(SIG_UNBLOCK, (uint64_t)1 << (signal - 1));
}

SH_NO_SANITIZE uint64_t sh_os_signals_block(void)
{
    return change_mask(SIG_SETMASK, ~(uint64_t)0);
}

SH_NO_SANITIZE void sh_os_signals_restore(uint64_t saved)
{
    change_mask(SIG_SETMASK, saved);
}

int sh_os_signalfd(int fd, const sigset_t *mask, int flags)
{
    return (int)syscall(SYS_signalfd4, fd, mask, KERNEL_MASK_BYTES, flags);
}

SH_NO_SANITIZE void sh_os_park_wait(_Atomic uint32_t *word, uint32_t value)
{
    sh_os_call4(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, (long)value, 0);
}

SH_NO_SANITIZE void sh_os_park_wake(_Atomic uint32_t *word)
{
    sh_os_call4(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, INT_MAX, 0);
}
