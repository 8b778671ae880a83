/* SPDX-License-Identifier: MIT */
/*
 * The functions by which a program could keep the stop signal from its threads, in place
 * of the C library's.
 *
 * Programs block all signals in threads that are not to handle any, and wait for all of
 * them in one that is. A collector would wait for such threads for ever. So, once the
 * heap uses it (see sh_stop_prepare), the stop signal is as the C library's own
 * internal ones are: it is left out of the sets that programs block or wait for, and
 * cannot be handled by them. Before, and in programs that only use malloc, these
 * functions do what they always did.
 *
 * Not covered are the masks of ppoll, pselect and epoll_pwait, of the program's own
 * handlers, of thread attributes, and system calls made by hand.
 *
 * The C library's functions are found when the library is loaded, for some of ours may
 * be called in a signal handler. In a fully static program they are there under other
 * names, if at all.
 *
 * Locks: none. Any thread, signal handlers included.
 */
/* With it a cleanup handler would make us need the compiler's exception library. */
#undef __EXCEPTIONS
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>

#include "lib/check.h"
#include "lib/compiler.h"
#include "lib/os_thread.h"
#include "threads/stop.h"
#include "threads/thread.h"

#ifndef SH_INTERPOSE
#define SH_INTERPOSE 1
#endif

#if SH_INTERPOSE

/* Their names in a fully static program. */
extern __typeof__(sigaction) __sigaction __attribute__((weak));
extern __typeof__(signal) __bsd_signal __attribute__((weak));
extern __typeof__(sigprocmask) __sigprocmask __attribute__((weak));
extern __typeof__(sigsuspend) __sigsuspend __attribute__((weak));
extern __typeof__(sigtimedwait) __sigtimedwait __attribute__((weak));

static struct {
    __typeof__(sigaction) *action;
    __typeof__(signal) *handle;
    __typeof__(sigprocmask) *mask;
    __typeof__(sigsuspend) *suspend;
    __typeof__(sigtimedwait) *wait;
} behind;

#define FIND(field, name, other)                                                       \
    do {                                                                               \
        behind.field = (__typeof__(behind.field))sh_os_behind(#name);                  \
        if (!behind.field)                                                             \
            behind.field = other;                                                      \
    } while (0)

/* Also called by who comes before the constructor; twice does no harm. */
__attribute__((constructor)) static void find_behind(void)
{
    FIND(action, sigaction, __sigaction);
    FIND(handle, signal, __bsd_signal);
    FIND(mask, sigprocmask, __sigprocmask);
    FIND(suspend, sigsuspend, __sigsuspend);
    FIND(wait, sigtimedwait, __sigtimedwait);
}

#define BEHIND(field)                                                                  \
    ({                                                                                 \
        if (SH_UNLIKELY(!behind.field))                                                \
            find_behind();                                                             \
        if (!behind.field)                                                             \
            sh_fatal("a static program lacks the C library's signal functions");       \
        behind.field;                                                                  \
    })

/* The set, or a copy without the stop signal. */
static const sigset_t *less_ours(const sigset_t *set, sigset_t *copy)
{
    int signal = sh_stop_signal_in_use();
    if (!set || !signal || !sigismember(set, signal))
        return set;
    *copy = *set;
    sigdelset(copy, signal);
    return copy;
}

static bool is_ours(int signal)
{
    return signal > 0 && signal == sh_stop_signal_in_use();
}

/* ---- Blocking ---- */

SH_PUBLIC int sigprocmask(int how, const sigset_t *set, sigset_t *oset)
{
    sigset_t copy;
    if (how != SIG_UNBLOCK)
        set = less_ours(set, &copy);
    return BEHIND(mask)(how, set, oset);
}

SH_PUBLIC int pthread_sigmask(int how, const sigset_t *newmask, sigset_t *oldmask)
{
    int error = errno;
    int result = sigprocmask(how, newmask, oldmask) == 0 ? 0 : errno;
    errno = error;
    return result;
}

SH_PUBLIC int sigsuspend(const sigset_t *set)
{
    sigset_t copy;
    return BEHIND(suspend)(less_ours(set, &copy));
}

/* ---- Waiting ---- */

static void end_blocking(void *unused)
{
    (void)unused;
    sh_blocking_end();
}

/*
 * Before the stop signal is in use the thread may block it, and would not be stopped in
 * here; so it stands as in gc_blocking_begin. It may be cancelled here, too.
 */
static SH_NOINLINE int wait_as_blocking(
    const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    int result;
    sh_blocking_begin(__builtin_frame_address(0));
    pthread_cleanup_push(end_blocking, NULL);
    result = BEHIND(wait)(set, info, timeout);
    pthread_cleanup_pop(1);
    sh_stop_let_in();
    return result;
}

static bool is_blocking(void)
{
    struct sh_thread *self = sh_tls.self;
    return !self || sh_load_relaxed(&self->state) == SH_THREAD_BLOCKING ||
           sh_load_relaxed(&self->state) == SH_THREAD_HELD;
}

SH_PUBLIC int sigtimedwait(
    const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
    sigset_t copy;
    if (!sh_stop_signal_in_use() && !is_blocking())
        return wait_as_blocking(set, info, timeout);
    sh_stop_let_in(); /* blocked since before */
    return BEHIND(wait)(less_ours(set, &copy), info, timeout);
}

SH_PUBLIC int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
    return sigtimedwait(set, info, NULL);
}

SH_PUBLIC int sigwait(const sigset_t *set, int *sig)
{
    int error = errno, result;
    do {
        result = sigtimedwait(set, NULL, NULL);
    } while (result < 0 && errno == EINTR);
    int failed = result < 0 ? errno : 0;
    errno = error;
    if (!failed)
        *sig = result;
    return failed;
}

/* A read from it would take what is pending, blocked or not. */
SH_PUBLIC int signalfd(int fd, const sigset_t *mask, int flags)
{
    sigset_t copy;
    return sh_os_signalfd(fd, less_ours(mask, &copy), flags);
}

/* ---- Handling ---- */

SH_PUBLIC int sigaction(int sig, const struct sigaction *act, struct sigaction *oact)
{
    if (act && is_ours(sig)) {
        errno = EINVAL;
        return -1;
    }
    return BEHIND(action)(sig, act, oact);
}

SH_PUBLIC sighandler_t signal(int sig, sighandler_t handler)
{
    if (is_ours(sig)) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return BEHIND(handle)(sig, handler);
}

#endif /* SH_INTERPOSE */
