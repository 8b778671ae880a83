/* SPDX-License-Identifier: MIT */
/*
 * Watching memory for writes, of lib/os_watch.h, on Linux: userfaultfd in asynchronous
 * write-protect mode and PAGEMAP_SCAN (both from Linux 6.7; the kernel's
 * Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst).
 *
 * The descriptor is kept for as long as the process lives, for with it goes the watch; a
 * program that closes descriptors it does not know ends it, and may have another file there
 * by then. That of the page map is opened anew for each round.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/os.h"
#include "lib/options.h"
#include "lib/os_linux_call.h"

/* Of the kernel's interface, which older headers lack. */
#define USER_MODE_ONLY 1
#define API 0xaa
#define WP_UNPOPULATED ((uint64_t)1 << 13)
#define WP_ASYNC ((uint64_t)1 << 15)
#define MODE_WP ((uint64_t)1 << 1)
#define SCAN_PROTECTS ((uint64_t)1 << 0)
#define PAGE_MAY_BE_PROTECTED ((uint64_t)1 << 0)
#define PAGE_IS_WRITTEN ((uint64_t)1 << 1)

struct api {
    uint64_t api, features, ioctls;
};

struct range {
    uint64_t start, len;
};

struct registration {
    struct range range;
    uint64_t mode, ioctls;
};

struct region {
    uint64_t start, end, categories;
};

struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define CALL_API _IOWR(0xaa, 0x3f, struct api)
#define CALL_REGISTER _IOWR(0xaa, 0x00, struct registration)
#define CALL_UNREGISTER _IOR(0xaa, 0x01, struct range)
#define CALL_SCAN _IOWR('f', 16, struct scan)

/* Above those that programs count on being given; but from 64 on the kernel gets a larger
 * table first, which takes milliseconds where there are several threads. */
#define LOWEST_DESCRIPTOR 40

/* Each userfaultfd is a file of its own. */
struct file {
    dev_t device;
    ino_t number;
};

static long watch = -1;     /* the descriptor, */
static struct file watched; /* and what was opened there */
static uint32_t whose;      /* the process that opened it */
static bool tried;          /* in that process */

static long call(long fd, unsigned long what, void *argument)
{
    return sh_os_call4(SYS_ioctl, fd, (long)what, (long)argument, 0);
}

static void close_it(long fd)
{
    sh_os_call4(SYS_close, fd, 0, 0, 0);
}

static long moved_up(long fd)
{
    long up = sh_os_call4(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR, 0);
    if (up < 0)
        return fd;
    close_it(fd);
    return up;
}

static long open_watch(void)
{
    struct api api = {.api = API, .features = WP_UNPOPULATED | WP_ASYNC};
    long fd = sh_os_call4(SYS_userfaultfd, O_CLOEXEC | USER_MODE_ONLY, 0, 0, 0);
    if (fd < 0)
        return fd;
    if (call(fd, CALL_API, &api) == 0)
        return moved_up(fd);
    close_it(fd);
    return -1;
}

static struct file file_at(long fd)
{
    struct stat status;
    if (sh_os_call4(SYS_newfstatat, fd, (long)"", (long)&status, AT_EMPTY_PATH) != 0)
        return (struct file){0, 0};
    return (struct file){status.st_dev, status.st_ino};
}

static bool is_there(void)
{
    if (watch < 0)
        return false;
    struct file now = file_at(watch);
    return now.device == watched.device && now.number == watched.number;
}

/* A filter of system calls may end who makes one that it does not know; there is no asking
 * it. */
static bool is_dangerous(void)
{
    return sh_options.generations != SH_GENERATIONS_ALWAYS &&
           sh_os_call4(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0) != 0;
}

static void begin(void)
{
    watch = sysconf(_SC_PAGESIZE) == (long)SH_PAGE_SIZE ? open_watch() : -1;
    if (watch >= 0)
        watched = file_at(watch);
}

/* A process made by a bare clone is told from its parent, too. */
bool sh_os_watch_prepare(void)
{
    uint32_t process = sh_os_process_id();
    if (tried && whose != process)
        sh_os_watch_fork_child();
    if (is_dangerous()) /* from now on */
        return false;
    if (!tried)
        begin();
    tried = true;
    whose = process;
    return is_there();
}

/* What it has is the parent's memory, not its own. */
void sh_os_watch_fork_child(void)
{
    if (is_there())
        close_it(watch);
    watch = -1;
    tried = false;
}

bool sh_os_watch_add(uintptr_t start, size_t bytes)
{
    struct registration all = {.range = {start, bytes}, .mode = MODE_WP};
    return is_there() && call(watch, CALL_REGISTER, &all) == 0;
}

bool sh_os_watch_drop(uintptr_t start, size_t bytes)
{
    struct range all = {start, bytes};
    return is_there() && whose == sh_os_process_id() && !is_dangerous() &&
           call(watch, CALL_UNREGISTER, &all) == 0;
}

int sh_os_watch_open(void)
{
    /* Of "self" there is none once the initial thread has ended. */
    static const char path[] = "/proc/thread-self/pagemap";
    return (int)sh_os_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
}

/* Ranges with a word more each; the caller's are filled from them. One category more than is
 * of interest is asked for: where PAGE_IS_WRITTEN is all, Linux before 6.9 takes pages that
 * are swapped out, or just being moved, for protected ones. */
#define REGIONS 64

int sh_os_watch_written(
    int round, uintptr_t *at, uintptr_t end, struct sh_os_pages *ranges, int most)
{
    struct region regions[REGIONS];
    struct scan scan = {
        .size = sizeof scan,
        .start = *at,
        .end = end,
        .vec = (uintptr_t)regions,
        .vec_len = (uint64_t)(most < REGIONS ? most : REGIONS),
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN | PAGE_MAY_BE_PROTECTED,
    };
    long count = call(round, CALL_SCAN, &scan);
    if (count < 0)
        return (int)count;
    for (long i = 0; i < count; i++)
        ranges[i] = (struct sh_os_pages){regions[i].start, regions[i].end};
    *at = scan.walk_end;
    return (int)count;
}

bool sh_os_watch_protect(int round, uintptr_t start, uintptr_t end)
{
    struct scan scan = {
        .size = sizeof scan,
        .flags = SCAN_PROTECTS,
        .start = start,
        .end = end,
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };
    return call(round, CALL_SCAN, &scan) >= 0;
}
