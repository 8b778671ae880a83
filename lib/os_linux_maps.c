/* SPDX-License-Identifier: MIT */
/*
 * Mappings, read from /proc/self/maps where there is one, of lib/os_thread.h on Linux.
 *
 * Locks: none. Any thread, while the world is stopped, too.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "lib/os_linux_call.h"

/* A line of /proc/self/maps, as far as "low-high perm" goes. */
#define LINE_KEPT 48

struct maps {
    long fd;
    long at, len; /* of `chunk` */
    char chunk[1024];
};

SH_NO_SANITIZE static bool refill(struct maps *maps)
{
    do {
        maps->len = sh_os_call4(
            SYS_read, maps->fd, (long)maps->chunk, (long)sizeof maps->chunk, 0);
    } while (maps->len == -EINTR);
    maps->at = 0;
    return maps->len > 0;
}

/* The start of the next line; the rest is skipped. */
SH_NO_SANITIZE static bool next_line(struct maps *maps, char *line)
{
    for (int n = 0;;) {
        if (maps->at >= maps->len && !refill(maps))
            return false;
        char c = maps->chunk[maps->at++];
        if (c == '\n') {
            line[n] = '\0';
            return true;
        }
        if (n < LINE_KEPT - 1)
            line[n++] = c;
    }
}

SH_NO_SANITIZE static const char *hex_at(const char *at, uintptr_t *value)
{
    *value = 0;
    for (;; at++) {
        unsigned digit = (unsigned)*at - '0';
        if (digit > 9)
            digit = (unsigned)*at - 'a' + 10;
        if (digit > 15 || (digit > 9 && *at < 'a'))
            return at;
        *value = *value << 4 | digit;
    }
}

SH_NO_SANITIZE static struct sh_range parse(const char *line)
{
    struct sh_range range;
    const char *at = hex_at(line, &range.low);
    if (*at++ != '-')
        return (struct sh_range){0, 0};
    at = hex_at(at, &range.high);
    if (at[0] != ' ' || at[1] != 'r')
        return (struct sh_range){0, 0};
    return range;
}

/* Reads lines until one contains `address`; *run is where the readable mappings begin
 * that lie against each other up to there. */
SH_NO_SANITIZE static struct sh_range search(
    struct maps *maps, uintptr_t address, uintptr_t *run)
{
    struct sh_range range, last = {0, 0};
    char line[LINE_KEPT];
    while (next_line(maps, line)) {
        range = parse(line);
        if (range.low != last.high || !last.high)
            *run = range.low;
        if (address >= range.low && address < range.high)
            return range;
        last = range;
    }
    return (struct sh_range){0, 0};
}

/* Where there is no /proc, the kernel is asked page by page, and not without end. It
 * reads the set of signals before it finds that it is to do nothing with it. */
#define PROBES 4096
#define PROBE_STEP ((uintptr_t)4096)

SH_NO_SANITIZE static bool is_readable(uintptr_t page)
{
    return sh_os_call4(SYS_rt_sigprocmask, -1, (long)page, 0, 8) == -EINVAL;
}

SH_NO_SANITIZE static struct sh_range probe(uintptr_t address)
{
    uintptr_t page = address & ~(PROBE_STEP - 1);
    struct sh_range range = {page, page};
    for (int i = 0; i < PROBES && is_readable(range.high); i++)
        range.high += PROBE_STEP;
    if (range.high == page)
        return (struct sh_range){0, 0};
    for (int i = 0; i < PROBES && is_readable(range.low - PROBE_STEP); i++)
        range.low -= PROBE_STEP;
    return range;
}

SH_NO_SANITIZE static struct sh_range find(uintptr_t address, uintptr_t *run)
{
    static const char path[] = "/proc/self/maps";
    struct maps maps = {.at = 0, .len = 0};
    maps.fd = sh_os_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
    if (maps.fd < 0)
        return (struct sh_range){0, 0};
    struct sh_range found = search(&maps, address, run);
    sh_os_call4(SYS_close, maps.fd, 0, 0, 0);
    return found;
}

SH_NO_SANITIZE struct sh_range sh_os_mapping(uintptr_t address)
{
    uintptr_t run;
    struct sh_range range = find(address, &run);
    return range.high ? range : probe(address);
}

/* The kernel splits a mapping where a part of it is locked, or advised otherwise. */
SH_NO_SANITIZE struct sh_range sh_os_mapped_run(uintptr_t address)
{
    uintptr_t run;
    struct sh_range range = find(address, &run);
    if (!range.high)
        return probe(address);
    range.low = run;
    return range;
}
