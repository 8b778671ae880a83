/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double bench_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* getrusage would count what the parent had before exec, too. */
static long peak_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");

    if (status == NULL)
        bench_fail("cannot read /proc/self/status");
    while (kib < 0 && fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    }
    fclose(status);
    return kib;
}

static const char *malloc_file(void)
{
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");

    return symbol != NULL && dladdr(symbol, &info) != 0 ? info.dli_fname : "unknown";
}

void bench_report(const char *workload, double seconds, uint64_t checksum)
{
    printf("{\"workload\": \"%s\", \"seconds\": %.6f, \"peak_kib\": %ld, "
           "\"malloc\": \"%s\", \"checksum\": %" PRIu64 "}\n",
        workload, seconds, peak_kib(), malloc_file(), checksum);
    if (fclose(stdout) != 0)
        bench_fail("cannot write to standard output");
}

void bench_fail(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

void *bench_malloc(size_t size)
{
    void *ptr = malloc(size);

    if (ptr == NULL)
        bench_fail("malloc failed");
    return ptr;
}

void *bench_realloc(void *ptr, size_t size)
{
    void *moved = realloc(ptr, size);

    if (moved == NULL)
        bench_fail("realloc failed");
    return moved;
}
