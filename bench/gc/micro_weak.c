/* SPDX-License-Identifier: MIT */
/*
 * micro_weak - what weak references and finalisers cost, one thing at a time.
 *
 *     micro_weak [COUNT]
 *
 * Of so many objects (a million), as JSON: nanoseconds for making and reading a reference,
 * and milliseconds of marking, and of the whole pause, the shortest of a few collections:
 * with the objects alone; with a reference to each; with half of the objects dead; with a
 * chain of ephemerons, whose every key only the ephemeron before it leads to. And with a
 * finaliser for each, all alive and all dead, nanoseconds for setting and running one. Of a
 * weak map, how long setting an entry took, at most, and what looks at all of them, in the
 * processor's time of the thread.
 */
#include "bench/gc/collections.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <splitheap/weakref.h>

enum { COUNT = 1000000, COLLECTIONS = 5 };

static struct gc_collection last;

static void note(void *context, const struct gc_collection *found)
{
    (void)context;
    last = *found;
}

_Noreturn void mem_none(void)
{
    bench_fail("out of memory");
}

static void collect(const char *what, unsigned times)
{
    uint64_t mark = UINT64_MAX, pause = UINT64_MAX;

    for (unsigned i = 0; i < times; i++) {
        gc_collect();
        mark = last.mark_ns < mark ? last.mark_ns : mark;
        pause = last.pause_ns < pause ? last.pause_ns : pause;
    }
    printf("  \"%s\": {\"mark_ms\": %.2f, \"pause_ms\": %.2f},\n", what,
        (double)mark / 1e6, (double)pause / 1e6);
}

static void **make_objects(size_t count)
{
    void **objects = mem_zeroed(count * sizeof(*objects));

    for (size_t i = 0; i < count; i++)
        objects[i] = mem_zeroed(32);
    return objects;
}

static void told(const char *what, double since, size_t count)
{
    printf("  \"%s_ns\": %.1f,\n", what, (bench_now() - since) * 1e9 / (double)count);
}

static size_t finalised;

static void count_finalised(void *object, void *context)
{
    (void)object;
    (void)context;
    finalised++;
}

static void measure_finalisers(size_t count)
{
    void **objects = make_objects(count);

    if (gc_set_finaliser_mode(GC_FINALISE_ON_DEMAND) != 0)
        bench_fail("gc_set_finaliser_mode failed");
    double start = bench_now();
    for (size_t i = 0; i < count; i++) {
        if (gc_set_finaliser(objects[i], count_finalised, NULL) != 0)
            mem_none();
    }
    told("finaliser_set", start, count);
    collect("finalisers", COLLECTIONS);
    for (size_t i = 0; i < count; i++)
        objects[i] = NULL;
    collect("all_finalised", 1);
    start = bench_now();
    gc_run_finalisers(SIZE_MAX);
    told("finaliser_run", start, count);
    if (finalised < count - count / 100)
        bench_fail("finalisers that did not run");
}

static void measure_references(size_t count)
{
    void **objects = make_objects(count);
    struct gc_weakref **refs = mem_zeroed(count * sizeof(struct gc_weakref *));

    collect("objects", COLLECTIONS);
    double start = bench_now();
    for (size_t i = 0; i < count; i++) {
        refs[i] = gc_weakref_new(objects[i], NULL, NULL);
        if (refs[i] == NULL)
            mem_none();
    }
    told("reference_new", start, count);
    start = bench_now();
    for (size_t i = 0; i < count; i++) {
        if (gc_weakref_get(refs[i]) != objects[i])
            bench_fail("a reference leads elsewhere");
    }
    told("reference_get", start, count);
    collect("references", COLLECTIONS);
    for (size_t i = 0; i < count; i += 2)
        objects[i] = NULL;
    collect("half_dead", 1);
    start = bench_now();
    for (size_t i = 0; i < count; i++)
        gc_weakref_free(refs[i]);
    told("reference_free", start, count);
}

/* All ephemerons are held, and the first key. */
static void measure_ephemerons(size_t count)
{
    void **ephemerons = mem_zeroed(count * sizeof(*ephemerons));
    void *first = mem_zeroed(16);
    double start = bench_now();

    for (void *key = first, *next; count > 0; key = next) {
        next = mem_zeroed(16);
        ephemerons[--count] = gc_ephemeron_new(key, next);
        if (ephemerons[count] == NULL)
            mem_none();
    }
    printf("  \"ephemerons_s\": %.3f,\n", bench_now() - start);
    collect("ephemeron_chain", COLLECTIONS);
    if (gc_ephemeron_get(ephemerons[0], NULL) == NULL)
        bench_fail("an ephemeron's key is gone");
    __asm__ volatile("" ::"r"(first));
}

static double thread_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void measure_map(size_t count)
{
    void **keys = make_objects(count);
    struct gc_weak_map *map = gc_weak_map_new(GC_WEAK_KEYS);
    double longest = 0, start;

    for (size_t i = 0; i < count; i++) {
        start = thread_ms();
        if (gc_weak_map_set(map, keys[i], NULL) != 0)
            mem_none();
        double took = thread_ms() - start;
        longest = took > longest ? took : longest;
    }
    printf("  \"map_set_longest_ms\": %.2f,\n", longest);
    start = thread_ms();
    if (gc_weak_map_count(map) != count)
        bench_fail("a weak map lost an entry");
    printf("  \"map_count_ms\": %.1f,\n", thread_ms() - start);
    start = thread_ms();
    if (gc_weak_map_iterate(map) == NULL)
        mem_none();
    printf("  \"map_iterate_ms\": %.1f,\n", thread_ms() - start);
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : COUNT;
    double began = bench_now();

    if (count < 1 || count > (size_t)100 * COUNT)
        bench_fail("COUNT is from 1 to 100000000");
    gc_init(NULL, NULL);
    gc_set_auto_collect(false);
    if (gc_set_collection_listener(note, NULL) != 0)
        bench_fail("gc_set_collection_listener failed");
    printf("{\n");
    measure_references(count);
    measure_ephemerons(count);
    measure_map(count);
    measure_finalisers(count);
    gc_sweep_all();
    printf("  \"objects_each\": %zu,\n  \"seconds\": %.3f\n}\n", count,
        bench_now() - began);
    return 0;
}
