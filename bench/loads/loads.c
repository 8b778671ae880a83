/* SPDX-License-Identifier: MIT */
/*
 * loads - runs one malloc workload and reports on it.
 *
 *     loads WORKLOAD [SCALE [THREADS]]
 *     loads --list
 *
 * It is plain C on the malloc that the loader finds: preload the one to measure. SCALE
 * is 100 where it is not given, about a second's work; THREADS is 2, and nothing to the
 * workloads that have a fixed number of them.
 */
#include "bench/loads/loads.h"
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <stdio.h>
#include <string.h>

/* Either has a fixed number of threads or is told. */
static const struct load {
    const char *name;
    uint64_t (*run)(unsigned scale);
    uint64_t (*run_threads)(unsigned scale, unsigned threads);
} loads[] = {
    {"fixed", load_fixed, NULL},
    {"mixed", load_mixed, NULL},
    {"growth", load_growth, NULL},
    {"lifo", load_lifo, NULL},
    {"handoff", load_handoff, NULL},
    {"relay", load_relay, NULL},
    {"cfrac-like", load_cfrac, NULL},
    {"espresso-like", load_espresso, NULL},
    {"glibc-simple", load_glibc_simple, NULL},
    {"malloc-large", load_malloc_large, NULL},
    {"alloc-test", NULL, load_alloc_test},
    {"cache-scratch", NULL, load_cache_scratch},
    {"cache-thrash", NULL, load_cache_thrash},
    {"glibc-thread", NULL, load_glibc_thread},
    {"larson", NULL, load_larson},
    {"mleak", NULL, load_mleak},
    {"mstress", NULL, load_mstress},
    {"rptest", NULL, load_rptest},
    {"xmalloc-test", NULL, load_xmalloc_test},
    {"calloc", NULL, load_calloc},
    {"aligned", NULL, load_aligned},
    {"release", NULL, load_release},
};

enum { LOADS = sizeof(loads) / sizeof(loads[0]), SCALE_MAX = 100000 };

static const struct load *load_find(const char *name)
{
    for (size_t i = 0; i < LOADS; i++) {
        if (strcmp(loads[i].name, name) == 0)
            return &loads[i];
    }
    return NULL;
}

static unsigned long number(int argc, char **argv, int index, unsigned long otherwise)
{
    return argc > index ? strtoul(argv[index], NULL, 10) : otherwise;
}

static void run(const struct load *load, unsigned scale, unsigned threads)
{
    double start = bench_now();
    uint64_t checksum =
        load->run != NULL ? load->run(scale) : load->run_threads(scale, threads);

    bench_report(load->name, bench_now() - start, checksum);
}

static int list(void)
{
    for (size_t i = 0; i < LOADS; i++)
        puts(loads[i].name);
    return 0;
}

int main(int argc, char **argv)
{
    const struct load *load = argc > 1 ? load_find(argv[1]) : NULL;
    unsigned long scale = number(argc, argv, 2, 100);
    unsigned long threads = number(argc, argv, 3, 2);

    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    if (load == NULL || scale < 1 || scale > SCALE_MAX || threads < 1 ||
        threads > TEAM_MAX) {
        fprintf(stderr, "usage: loads WORKLOAD [SCALE [THREADS]], loads --list\n");
        return 2;
    }
    run(load, (unsigned)scale, (unsigned)threads);
    return 0;
}
