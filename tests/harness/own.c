/* SPDX-License-Identifier: MIT */
/* Memory, time and sleep of the harness's own. See own.h. */
#include "tests/harness/own.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness/report.h"

static void *map(size_t bytes, int flags)
{
    long start = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
        flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
    if (start == -1)
        give_up("no memory for the harness itself (%zu bytes): %m", bytes);
    return (void *)start;
}

void *own_map(size_t bytes)
{
    return map(bytes, MAP_PRIVATE);
}

void *own_map_shared(size_t bytes)
{
    return map(bytes, MAP_SHARED);
}

void own_unmap(void *start, size_t bytes)
{
    syscall(SYS_munmap, start, bytes);
}

uint64_t own_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void own_wait(_Atomic uint32_t *word, uint32_t value, unsigned ms)
{
    int error = errno;
    struct timespec timeout = {ms / 1000, (long)(ms % 1000) * 1000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ms ? &timeout : NULL, NULL, 0);
    errno = error;
}

void own_wake(_Atomic uint32_t *word)
{
    int error = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    errno = error;
}

void own_sleep_us(unsigned us)
{
    int error = errno;
    struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};
    syscall(SYS_nanosleep, &time, NULL);
    errno = error;
}
