/* SPDX-License-Identifier: MIT */
#include "bench/measure.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double bench_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/*
 * The number after `label` in this process's status. The peak is the kernel's for what
 * runs since exec; getrusage's would count what the parent had before it, too.
 */
static long status_kib(const char *label)
{
    static char text[8192];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);

    if (length < 0)
        bench_fail("cannot read /proc/self/status");
    close(file);
    text[length] = '\0';
    const char *line = strstr(text, label);
    return line != NULL ? strtol(line + strlen(label), NULL, 10) : -1;
}

static long page_faults(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_minflt : -1;
}

static const char *malloc_file(void)
{
    Dl_info info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");

    return symbol != NULL && dladdr(symbol, &info) != 0 ? info.dli_fname : "unknown";
}

static long end_kib = -1; /* as long as it is not marked */

void bench_mark_end(void)
{
    end_kib = status_kib("\nVmRSS:");
}

void bench_report_begin(const char *workload, double seconds, uint64_t checksum)
{
    if (end_kib < 0)
        bench_mark_end();
    long peak_kib = status_kib("\nVmHWM:");

    printf("{\"workload\": \"%s\", \"seconds\": %.6f, \"peak_kib\": %ld, "
           "\"end_kib\": %ld, \"faults\": %ld, \"malloc\": \"%s\", "
           "\"checksum\": %" PRIu64,
        workload, seconds, peak_kib, end_kib, page_faults(), malloc_file(), checksum);
}

void bench_report_end(void)
{
    printf("}\n");
    if (fclose(stdout) != 0)
        bench_fail("cannot write to standard output");
}

void bench_report(const char *workload, double seconds, uint64_t checksum)
{
    bench_report_begin(workload, seconds, checksum);
    bench_report_end();
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
