/* SPDX-License-Identifier: MIT */
/* Statistics as text and as JSON. See heaps/stats.h. No lock. */
#include "heaps/stats.h"
#include "lib/os.h"

#define ROW(field, what) {#field, what},
static const struct {
    const char *name, *what;
} rows[] = {SH_STATS(ROW)};

#define FIELD_COUNT (sizeof rows / sizeof rows[0])

/* The fields in the order of the rows: heaps/stats.c holds them to it. */
static size_t value(const struct sh_stats *stats, size_t row)
{
    return ((const size_t *)&stats->sums)[row];
}

static size_t percent(size_t part, size_t whole)
{
    return whole ? part * 100 / whole : 0;
}

/* ---- Text ---- */

static void print_text(const struct sh_stats *stats, const struct sh_sink *sink)
{
    sh_print(sink, "splitheap: statistics of process %u\n", sh_os_process_id());
    for (size_t i = 0; i < FIELD_COUNT; i++)
        sh_print(
            sink, "%16zu  %-14s  %s\n", value(stats, i), rows[i].name, rows[i].what);
    sh_print(sink, "%16s  %10s  %10s  %10s  %s\n", "cells of bytes", "spans", "cells",
        "objects", "in use");
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        const struct splitheap_class *class = &stats->classes[c];
        if (class->spans)
            sh_print(sink, "%16zu  %10zu  %10zu  %10zu  %5zu %%\n", class->cell_size,
                class->spans, class->cells, class->objects,
                percent(class->objects, class->cells));
    }
}

/* ---- JSON ---- */

static void print_json(const struct sh_stats *stats, const struct sh_sink *sink)
{
    sh_print(sink, "{\"process\": %u,\n", sh_os_process_id());
    for (size_t i = 0; i < FIELD_COUNT; i++)
        sh_print(sink, " \"%s\": %zu,\n", rows[i].name, value(stats, i));
    sh_print(sink, " \"classes\": [");
    const char *before = "";
    for (unsigned c = 0; c < SH_CLASS_COUNT; c++) {
        const struct splitheap_class *class = &stats->classes[c];
        if (!class->spans)
            continue;
        sh_print(sink,
            "%s\n  {\"cell_size\": %zu, \"spans\": %zu, \"cells\": %zu, \"objects\": "
            "%zu}",
            before, class->cell_size, class->spans, class->cells, class->objects);
        before = ",";
    }
    sh_print(sink, "]}\n");
}

void sh_stats_print(
    const struct sh_stats *stats, enum sh_stats_form form, const struct sh_sink *sink)
{
    if (form == SH_STATS_JSON)
        print_json(stats, sink);
    else
        print_text(stats, sink);
}
