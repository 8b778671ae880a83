/* SPDX-License-Identifier: MIT */
/*
 * loads - runs one malloc workload and reports on it.
 *
 *     loads WORKLOAD [SCALE]
 *
 * It is plain C on the malloc that the loader finds: preload the one to measure. SCALE
 * is 100 where it is not given, about a second's work.
 */
#include "loads.h"
#include "measure.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    uint64_t (*run)(unsigned scale);
} loads[] = {
    {"fixed", load_fixed},
    {"mixed", load_mixed},
    {"growth", load_growth},
    {"lifo", load_lifo},
    {"handoff", load_handoff},
    {"relay", load_relay},
};

int main(int argc, char **argv)
{
    unsigned long scale = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;

    for (size_t i = 0; argc > 1 && i < sizeof(loads) / sizeof(loads[0]); i++) {
        if (strcmp(argv[1], loads[i].name) != 0 || scale == 0 || scale > 100000)
            continue;
        double start = bench_now();
        uint64_t checksum = loads[i].run((unsigned)scale);
        bench_report(argv[1], bench_now() - start, checksum);
        return 0;
    }
    fprintf(stderr, "usage: loads fixed|mixed|growth|lifo|handoff|relay [SCALE]\n");
    return 2;
}
