/* SPDX-License-Identifier: MIT */
/*
 * graph: see bench/gc/graph.h. One GiB of it is made, then a smaller one that dies, and the
 * large one is looked at from end to end.
 */
#include "bench/gc/graph.h"
#include "bench/gc/collections.h"
#include "bench/gc/loads.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

enum { MEAN = 96, WORDS = 13, CENSUSES = 2, SMALLER = 16 };

static const uint64_t FULL = (uint64_t)1 << 30;

static uint64_t words_of(uint64_t number)
{
    return (bench_seed(number) >> 32) % WORDS;
}

size_t graph_size(uint64_t number)
{
    return sizeof(struct vertex) + words_of(number) * sizeof(uint64_t);
}

uint64_t graph_count(uint64_t bytes)
{
    return bytes / MEAN + 1;
}

uint64_t graph_cost(uint64_t count)
{
    uint64_t cost = 0;

    for (uint64_t number = 0; number < count; number++)
        cost += mem_cost(graph_size(number));
    return cost;
}

static struct vertex *make_vertex(uint64_t number)
{
    struct vertex *vertex = mem_new(graph_size(number));

    for (unsigned i = 0; i < GRAPH_EDGES; i++)
        vertex->edge[i] = NULL;
    vertex->number = number;
    for (uint64_t i = 0; i < words_of(number); i++)
        vertex->data[i] = number % 1000 + i;
    return vertex;
}

/* Hangs a vertex below one of those before it that has a place. */
static void hang(struct vertex **index, uint64_t number, uint64_t *random)
{
    for (;;) {
        struct vertex *parent = index[bench_random(random) % number];
        for (unsigned i = 0; i < 2; i++) {
            if (parent->edge[i] == NULL) {
                parent->edge[i] = index[number];
                return;
            }
        }
    }
}

struct graph graph_make(uint64_t count)
{
    struct graph graph = {.count = count};
    uint64_t random = bench_seed(1);

    graph.index = mem_zeroed(count * sizeof(struct vertex *));
    for (uint64_t number = 0; number < count; number++) {
        graph.index[number] = make_vertex(number);
        if (number > 0)
            hang(graph.index, number, &random);
    }
    for (uint64_t number = 0; number < count; number++) {
        for (unsigned i = 2; i < GRAPH_EDGES; i++)
            graph.index[number]->edge[i] = graph.index[bench_random(&random) % count];
    }
    graph.first = graph.index[0];
    return graph;
}

/* Goes down the tree, which leads to every vertex once. */
static uint64_t check_from(const struct vertex *vertex, uint64_t count, uint64_t *found)
{
    uint64_t words = words_of(vertex->number), sum = vertex->number;

    if (vertex->number >= count || vertex->edge[2] == NULL || vertex->edge[3] == NULL)
        bench_fail("a vertex is damaged");
    for (uint64_t i = 0; i < words; i++) {
        if (vertex->data[i] != vertex->number % 1000 + i)
            bench_fail("a vertex's data are damaged");
    }
    if (vertex->number % 16 == 0 && vertex->edge[2]->number >= count)
        bench_fail("a neighbour is damaged");
    ++*found;
    for (unsigned i = 0; i < 2; i++) {
        if (vertex->edge[i] != NULL)
            sum += check_from(vertex->edge[i], count, found);
    }
    return sum;
}

uint64_t graph_check(const struct graph *graph)
{
    uint64_t found = 0, sum = check_from(graph->first, graph->count, &found);

    if (found != graph->count)
        bench_fail("the graph has lost vertices");
    return sum;
}

void graph_drop(struct graph *graph)
{
    for (uint64_t number = 0; MEM_FREES && number < graph->count; number++)
        mem_free(graph->index[number]);
    mem_free(graph->index);
}

static uint64_t count_of(unsigned scale)
{
    return graph_count(FULL * scale / 100);
}

uint64_t load_graph(unsigned scale, unsigned threads)
{
    struct graph graph = graph_make(count_of(scale));

    (void)threads;
    if (!MEM_FREES)
        graph.index = NULL;
    verify_collect();
    struct graph smaller = graph_make(graph.count / SMALLER + 1);
    uint64_t found = graph_check(&graph), sum = found + graph_check(&smaller);
    graph_drop(&smaller);
    smaller = (struct graph){0};
    uint64_t cost = graph_cost(graph.count);
    for (unsigned i = 0; i < CENSUSES; i++)
        census(graph.count, cost);
    if (verifying && graph_check(&graph) != found)
        bench_fail("the graph has changed");
    graph_drop(&graph);
    return sum;
}

uint64_t live_graph(unsigned scale, unsigned threads)
{
    (void)threads;
    uint64_t cost =
        graph_cost(count_of(scale)) + count_of(scale) * sizeof(struct vertex *);

    return cost + cost / SMALLER;
}
