/* SPDX-License-Identifier: MIT */
/* Collections and their pauses. See stats.h. */
#include "tests/harness/stats.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "tests/harness/backend.h"

struct collections collections;

static void raise_to(_Atomic uint64_t *longest, uint64_t ns)
{
    uint64_t seen = sh_load_relaxed(longest);
    while (seen < ns && !sh_cas_acquire(longest, &seen, ns))
        ;
}

static void count(uint64_t ns)
{
    sh_add_relaxed(&collections.count, (uint64_t)1);
    sh_add_relaxed(&collections.total_ns, ns);
    raise_to(&collections.longest_ns, ns);
    raise_to(&collections.longest_late_ns, ns);
}

void stats_count_collection(void)
{
    sh_add_relaxed(&collections.count, (uint64_t)1);
}

static void hear(void *unused, const struct gc_collection *collection)
{
    (void)unused;
    count(collection->pause_ns);
    if (collection->minor)
        sh_add_relaxed(&collections.minor, (uint64_t)1);
}

void stats_listen(void)
{
    if (backend->collects)
        gc_set_collection_listener(hear, NULL);
}

uint64_t stats_resident(void)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    const char *second = n > 0 ? strchr(text, ' ') : NULL;
    return second ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
