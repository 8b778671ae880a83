/* SPDX-License-Identifier: MIT */
/*
 * gc - runs one of the collector's workloads on one back end, and reports on it and on
 * its collections.
 *
 *     gc-BACKEND [--heap PERCENT] [--verify] WORKLOAD [SCALE [THREADS]]
 *     gc-BACKEND --list
 *
 * SCALE is 100 where it is not given, THREADS 2 where the workload has any number.
 * --heap limits the heap to so many percent of the most that lives; where the limit
 * does not do, the exit status is 3. --verify collects often, and looks at all live data
 * after each collection.
 */
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct load {
    const char *name;
    uint64_t (*run)(unsigned scale, unsigned threads);
    uint64_t (*live)(unsigned scale, unsigned threads);
    bool collected; /* it does not know when to free */
} loads[] = {
    {"trees-down", load_trees_down, live_trees, false},
    {"trees-up", load_trees_up, live_trees, false},
    {"gcbench", load_gcbench, live_gcbench, false},
    {"quad", load_quad, live_quad, false},
    {"list", load_list, live_list, false},
    {"strings", load_strings, live_strings, false},
    {"lru", load_lru, live_lru, false},
    {"graph", load_graph, live_graph, false},
    {"arrays", load_arrays, live_arrays, false},
    {"weak", load_weak, NULL, true},
    {"references", load_references, NULL, true},
    {"finalisers", load_finalisers, NULL, true},
    {"idle", load_idle, NULL, false},
};

enum { LOADS = sizeof(loads) / sizeof(loads[0]), SCALE_MAX = 10000, HEAP_MAX = 100000 };

void mem_none(void)
{
    fprintf(stderr, "bench: out of memory\n");
    _Exit(MEM_EXIT_NONE);
}

static bool runs_here(const struct load *load)
{
    return MEM_COLLECTS || !load->collected;
}

static const struct load *load_find(const char *name)
{
    for (size_t i = 0; i < LOADS; i++) {
        if (strcmp(loads[i].name, name) == 0 && runs_here(&loads[i]))
            return &loads[i];
    }
    return NULL;
}

static int list(void)
{
    for (size_t i = 0; i < LOADS; i++) {
        if (runs_here(&loads[i]))
            puts(loads[i].name);
    }
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: gc-BACKEND [--heap PERCENT] [--verify] WORKLOAD [SCALE "
                    "[THREADS]], gc-BACKEND --list\n");
    return 2;
}

/* The word at `index` as a number from 1 to `most`; 0 where it is none. */
static unsigned number(
    int argc, char **argv, int index, unsigned otherwise, unsigned most)
{
    if (index >= argc)
        return otherwise;
    unsigned long found = strtoul(argv[index], NULL, 10);
    return found <= most ? (unsigned)found : 0;
}

static void run(
    const struct load *load, unsigned scale, unsigned threads, unsigned heap)
{
    uint64_t live = load->live != NULL ? load->live(scale, threads) : 0;

    collections_start();
    mem_start(live * heap / 100);
    double start = bench_now();
    uint64_t checksum = load->run(scale, threads);
    double seconds = bench_now() - start - census_seconds();
    bench_report_begin(load->name, seconds, checksum);
    printf(
        ", \"live_bytes\": %" PRIu64 ", \"settings\": \"%s\", ", live, mem_settings());
    collections_print(stdout);
    bench_report_end();
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"list", no_argument, NULL, 'l'},
        {"heap", required_argument, NULL, 'h'},
        {"verify", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    unsigned heap = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'l')
            return list();
        if (option == 'v')
            verifying = true;
        else if (option != 'h' || (heap = number(1, &optarg, 0, 0, HEAP_MAX)) == 0)
            return usage();
    }
    const struct load *load = optind < argc ? load_find(argv[optind]) : NULL;
    unsigned scale = number(argc, argv, optind + 1, 100, SCALE_MAX);
    unsigned threads = number(argc, argv, optind + 2, 2, TEAM_MAX);
    if (load == NULL || scale == 0 || threads == 0 || (heap != 0 && load->live == NULL))
        return usage();
    run(load, scale, threads, heap);
    return 0;
}
