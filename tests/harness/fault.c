/* SPDX-License-Identifier: MIT */
/* Injected faults. See fault.h. */
#include "tests/harness/fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/atomic.h"
#include "lib/compiler.h"
#include "tests/harness/random.h"

_Atomic uint64_t faults_injected[FAULTS];

static _Atomic bool on;
static SH_TLS unsigned held;

void fault_hold(void)
{
    held++;
}

void fault_release(void)
{
    held--;
}

void faults_on(void)
{
    sh_store_seq_cst(&on, true);
}

void faults_off(void)
{
    sh_store_seq_cst(&on, false);
}

/* By one stream of chance for all threads: which call fails is a matter of their order. */
SH_NO_SANITIZE bool fault_now(enum fault fault)
{
    static _Atomic uint64_t calls;
    if (SH_LIKELY(!sh_load_relaxed(&on)) || held)
        return false;
    struct random random =
        random_of(settings.seed, fault, sh_add_relaxed(&calls, (uint64_t)1));
    if ((double)random_below(&random, 1000000) >= settings.faults[fault] * 10000)
        return false;
    sh_add_relaxed(&faults_injected[fault], (uint64_t)1);
    return true;
}

/* ---- In place of the C library's ---- */

/*
 * The sanitizers' of these names, or the C library's. Found early: the heap calls ours in
 * critical sections, in which nobody may wait for the loader, as dlsym does.
 */
static struct {
    __typeof__(&mmap) mmap;
    __typeof__(&munmap) munmap;
    __typeof__(&madvise) madvise;
} behind;

__attribute__((constructor(101))) static void find(void)
{
    *(void **)(void *)&behind.mmap = dlsym(RTLD_NEXT, "mmap");
    *(void **)(void *)&behind.munmap = dlsym(RTLD_NEXT, "munmap");
    *(void **)(void *)&behind.madvise = dlsym(RTLD_NEXT, "madvise");
}

SH_NO_SANITIZE SH_PUBLIC void *mmap(
    void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    if (fault_now(FAULT_MMAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (behind.mmap)
        return behind.mmap(addr, length, prot, flags, fd, offset);
    return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}

SH_NO_SANITIZE SH_PUBLIC int munmap(void *addr, size_t length)
{
    if (fault_now(FAULT_MUNMAP)) {
        errno = ENOMEM;
        return -1;
    }
    return behind.munmap ? behind.munmap(addr, length)
                         : (int)syscall(SYS_munmap, addr, length);
}

/* Errors that the kernel has for it: locked pages, a sandbox's, and memory in motion. */
SH_NO_SANITIZE SH_PUBLIC int madvise(void *addr, size_t length, int advice)
{
    static const int errors[] = {EAGAIN, EINVAL, EPERM, ENOSYS};
    static _Atomic unsigned turn;
    if (fault_now(FAULT_MADVISE)) {
        errno = errors[sh_add_relaxed(&turn, 1u) % 4];
        return -1;
    }
    return behind.madvise ? behind.madvise(addr, length, advice)
                          : (int)syscall(SYS_madvise, addr, length, advice);
}

SH_NO_SANITIZE SH_PUBLIC void *mremap(
    void *addr, size_t old_length, size_t new_length, int flags, ...)
{
    void *target = NULL;
    va_list rest;
    va_start(rest, flags);
    if (flags & MREMAP_FIXED)
        target = va_arg(rest, void *);
    va_end(rest);
    if (fault_now(FAULT_MREMAP)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    /* No sanitizer has one. */
    return (void *)syscall(SYS_mremap, addr, old_length, new_length, flags, target);
}
