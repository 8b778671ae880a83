/* SPDX-License-Identifier: MIT */
/*
 * micro_bound - how fast the machine lets a graph be marked, and how fast it is.
 *
 *     micro_bound [SCALE]
 *
 * It makes the graph of the workload `graph` (one GiB at the SCALE of 100), has it marked
 * a few times, and then, on the same cells at the same addresses:
 *
 *     touch   loads a word of every cell, in the order of a walk over the graph, which
 *             leads anywhere, with 8, 16 or 32 loads on their way at a time
 *     read    adds up all words of every cell, in the order of their addresses
 *
 * by one thread, and by two that have half of the cells each. Nobody marks without
 * touching every cell and reading it: the longer of the two times is the bound. Of
 * several times of each the shortest is told.
 */
#include "bench/gc/collections.h"
#include "bench/gc/graph.h"
#include "bench/gc/memory.h"
#include "bench/loads/team.h"
#include "bench/measure.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

enum { MARKINGS = 5, REPEATS = 3, THREADS = 2, SCALE_MAX = 10000 };

static const unsigned depths[] = {8, 16, 32};

enum { DEPTHS = sizeof(depths) / sizeof(depths[0]), IN_FLIGHT_MOST = 32 };

/* The cells, in memory that no collector looks at. */
struct cells {
    struct vertex **made;   /* in the order of their making, about that of addresses */
    struct vertex **walked; /* as a walk found them; more follow, for prefetching */
    uint64_t count;
};

struct pass {
    const struct cells *cells;
    unsigned threads;
    unsigned in_flight;
};

_Noreturn void mem_none(void)
{
    bench_fail("out of memory");
}

static struct vertex **make_list(uint64_t count)
{
    struct vertex **list = mmap(NULL, count * sizeof(struct vertex *),
        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (list == MAP_FAILED)
        bench_fail("no memory for a list");
    return list;
}

static void walk(struct vertex *vertex, struct cells *cells)
{
    cells->walked[cells->count++] = vertex;
    for (unsigned i = 0; i < 2; i++) {
        if (vertex->edge[i] != NULL)
            walk(vertex->edge[i], cells);
    }
}

static struct cells list_cells(const struct graph *graph)
{
    struct cells cells = {.made = make_list(graph->count),
        .walked = make_list(graph->count + IN_FLIGHT_MOST)};

    for (uint64_t i = 0; i < graph->count; i++)
        cells.made[i] = graph->index[i];
    walk(graph->first, &cells);
    for (unsigned i = 0; i < IN_FLIGHT_MOST; i++)
        cells.walked[cells.count + i] = graph->first;
    return cells;
}

/* A thread's part of the cells. */
static void bounds(
    const struct pass *pass, unsigned number, uint64_t *from, uint64_t *to)
{
    *from = pass->cells->count * number / pass->threads;
    *to = pass->cells->count * (number + 1) / pass->threads;
}

static uint64_t touch(unsigned number, void *shared)
{
    const struct pass *pass = shared;
    uint64_t from, to, sum = 0;

    bounds(pass, number, &from, &to);
    for (uint64_t i = from; i < to; i++) {
        __builtin_prefetch(pass->cells->walked[i + pass->in_flight]);
        sum += pass->cells->walked[i]->number;
    }
    return sum;
}

static uint64_t read_all(unsigned number, void *shared)
{
    const struct pass *pass = shared;
    uint64_t from, to, sum = 0;

    bounds(pass, number, &from, &to);
    for (uint64_t i = from; i < to; i++) {
        const uint64_t *words = (const uint64_t *)pass->cells->made[i];
        size_t count = graph_size(i) / sizeof(*words);
        for (size_t w = 0; w < count; w++)
            sum += words[w];
    }
    return sum;
}

/* The shortest time of a few; the sum, once printed, keeps the loads in the program. */
static double best(struct pass pass, team_work work, uint64_t *sum)
{
    double least = 0;

    for (unsigned i = 0; i < REPEATS; i++) {
        double began = bench_now();
        *sum += team_run(pass.threads, work, &pass);
        double seconds = bench_now() - began;
        if (i == 0 || seconds < least)
            least = seconds;
    }
    return least;
}

static uint64_t print_bounds(const struct cells *cells)
{
    uint64_t sum = 0;

    printf("\"bounds\": [");
    for (unsigned threads = 1; threads <= THREADS; threads++) {
        struct pass pass = {.cells = cells, .threads = threads};
        printf("%s{\"threads\": %u, \"touch\": {", threads > 1 ? ", " : "", threads);
        for (unsigned i = 0; i < DEPTHS; i++) {
            pass.in_flight = depths[i];
            printf("%s\"%u\": %.6f", i > 0 ? ", " : "", depths[i],
                best(pass, touch, &sum));
        }
        printf("}, \"read\": %.6f}", best(pass, read_all, &sum));
    }
    printf("], ");
    return sum;
}

int main(int argc, char **argv)
{
    unsigned long scale = argc > 1 ? strtoul(argv[1], NULL, 10) : 100;

    if (argc > 2 || scale < 1 || scale > SCALE_MAX) {
        fprintf(stderr, "usage: micro_bound [SCALE]\n");
        return 2;
    }
    collections_start();
    mem_start(0);
    double start = bench_now();
    struct graph graph = graph_make(graph_count(((uint64_t)1 << 30) * scale / 100));
    struct cells cells = list_cells(&graph);
    uint64_t cost = graph_cost(graph.count);
    graph.index = NULL;
    for (unsigned i = 0; i < MARKINGS; i++)
        census(graph.count, cost);
    bench_report_begin("micro_bound", bench_now() - start, graph_check(&graph));
    printf(", \"cells\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"settings\": \"%s\", ",
        cells.count, cost, mem_settings());
    uint64_t sum = print_bounds(&cells);
    printf("\"sum\": %" PRIu64 ", ", sum);
    collections_print(stdout);
    bench_report_end();
    return 0;
}
