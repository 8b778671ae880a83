/* SPDX-License-Identifier: MIT */
/*
 * mallinfo and its kin. See heaps/mallinfo.h.
 *
 * malloc_info writes to a FILE, and so this file alone uses stdio, outside of all locks
 * and critical sections: it may allocate.
 */
#include "heaps/mallinfo.h"

#include <errno.h>
#include <limits.h>

#include "heaps/fill.h"
#include "heaps/heap.h"
#include "heaps/stats.h"
#include "lib/bits.h"
#include "lib/compiler.h"

/* As glibc's malloc.h has them; the others are accepted, whatever they are. */
enum { M_MXFAST_ = 1, M_PERTURB_ = -6 };
#define MXFAST_MAX 160

/* Cells of a size class that nothing is in. */
static size_t free_cells(const struct splitheap_class *class)
{
    return class->cells - class->objects;
}

static void count_free(const struct sh_stats *stats, size_t *count, size_t *bytes)
{
    *count = stats->sums.free_runs;
    *bytes = stats->sums.dirty + stats->sums.retained;
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        *count += free_cells(&stats->classes[c]);
        *bytes += free_cells(&stats->classes[c]) * stats->classes[c].cell_size;
    }
}

static struct sh_mallinfo2 summed_up(const struct sh_stats *stats)
{
    const struct splitheap_stats *sums = &stats->sums;
    struct sh_mallinfo2 info = {
        .arena = sums->mapped + sums->given - sums->huge_bytes,
        .hblks = sums->huge_objects,
        .hblkhd = sums->huge_bytes,
        .uordblks = sums->allocated - sums->huge_bytes,
        .keepcost = sums->dirty,
    };
    size_t bytes;
    count_free(stats, &info.ordblks, &bytes);
    info.fordblks = info.arena - info.uordblks;
    return info;
}

struct sh_mallinfo2 sh_mallinfo2(void)
{
    struct sh_stats stats;
    sh_stats_gather(&stats);
    return summed_up(&stats);
}

static int as_int(size_t n)
{
    return (int)sh_min(n, INT_MAX);
}

struct sh_mallinfo sh_mallinfo(void)
{
    struct sh_mallinfo2 info = sh_mallinfo2();
    return (struct sh_mallinfo){
        .arena = as_int(info.arena),
        .ordblks = as_int(info.ordblks),
        .hblks = as_int(info.hblks),
        .hblkhd = as_int(info.hblkhd),
        .uordblks = as_int(info.uordblks),
        .fordblks = as_int(info.fordblks),
        .keepcost = as_int(info.keepcost),
    };
}

/* ---- XML ---- */

static void print_sizes(const struct sh_stats *stats, const struct sh_sink *sink)
{
    size_t from = 1;
    sh_print(sink, "<sizes>\n");
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        size_t size = stats->classes[c].cell_size;
        size_t count = free_cells(&stats->classes[c]);
        if (count)
            sh_print(sink,
                "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", from,
                size, count * size, count);
        from = size + 1;
    }
    sh_print(sink, "</sizes>\n");
}

static void print_free(const struct sh_stats *stats, const struct sh_sink *sink)
{
    size_t count, bytes;
    count_free(stats, &count, &bytes);
    sh_print(sink,
        "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
        "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n",
        count, bytes);
}

static void print_system(const struct sh_stats *stats, const struct sh_sink *sink)
{
    size_t now = stats->sums.mapped + stats->sums.given;
    sh_print(sink,
        "<system type=\"current\" size=\"%zu\"/>\n"
        "<system type=\"max\" size=\"%zu\"/>\n"
        "<aspace type=\"total\" size=\"%zu\"/>\n"
        "<aspace type=\"mprotect\" size=\"%zu\"/>\n",
        now, sh_max(stats->sums.peak, now), now, now);
}

static void print_xml(const struct sh_stats *stats, const struct sh_sink *sink)
{
    sh_print(sink, "<malloc version=\"1\">\n<heap nr=\"0\">\n");
    print_sizes(stats, sink);
    print_free(stats, sink);
    print_system(stats, sink);
    sh_print(sink, "</heap>\n");
    print_free(stats, sink);
    sh_print(sink, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n",
        stats->sums.huge_objects, stats->sums.huge_bytes);
    print_system(stats, sink);
    sh_print(sink, "</malloc>\n");
}

static void write_stream(void *data, const char *text, size_t len)
{
    fwrite(text, 1, len, data);
}

int sh_malloc_info(int options, FILE *stream)
{
    struct sh_stats stats;
    struct sh_sink sink = {.data = stream, .write = write_stream};
    if (options != 0)
        return EINVAL;
    sh_stats_gather(&stats);
    print_xml(&stats, &sink);
    return 0;
}

/* ---- The rest ---- */

void sh_malloc_stats(void)
{
    struct sh_stats stats;
    sh_stats_gather(&stats);
    sh_stats_print(&stats, SH_STATS_TEXT, &sh_stderr_sink);
}

int sh_malloc_trim(SH_UNUSED size_t pad)
{
    return sh_heap_trim();
}

int sh_mallopt(int parameter, int value)
{
    if (parameter == M_PERTURB_) {
        sh_heap_init();
        sh_fill_perturb((uint8_t)value);
    }
    return parameter != M_MXFAST_ || (value >= 0 && value <= MXFAST_MAX);
}
