/* SPDX-License-Identifier: MIT */
#include "bench/gc/collections.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

enum { ROOM = 1 << 16 }; /* more are counted, and not kept */

static struct collection *table;
static uint64_t started;
static _Atomic uint64_t count;
static uint64_t known_objects, known_bytes, excluded_ns;
static _Atomic bool in_census;

bool verifying;

uint64_t collections_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void collections_start(void)
{
    table = mmap(NULL, ROOM * sizeof(*table), PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED)
        bench_fail("no memory for the table of collections");
    started = collections_now();
}

void collections_add(struct collection one)
{
    uint64_t at = atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);

    if (atomic_load_explicit(&in_census, memory_order_relaxed)) {
        one.census = true;
        one.objects = known_objects;
        one.bytes = known_bytes;
    }
    if (at < ROOM)
        table[at] = one;
}

uint64_t collections_count(void)
{
    return atomic_load_explicit(&count, memory_order_relaxed);
}

void collections_print(FILE *file)
{
    uint64_t kept = collections_count() < ROOM ? collections_count() : ROOM;

    fprintf(file,
        "\"columns\": [\"began\", \"stop_ns\", \"mark_ns\", \"pause_ns\", \"heap\", "
        "\"heap_after\", \"objects\", \"bytes\", \"minor\", \"census\"], "
        "\"collections\": [");
    for (uint64_t i = 0; i < kept; i++) {
        const struct collection *one = &table[i];
        fprintf(file,
            "%s[%.4f, %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
            ", %" PRIu64 ", %" PRIu64 ", %d, %d]",
            i > 0 ? ", " : "", (double)(one->began - started) / 1e9, one->stop_ns,
            one->mark_ns, one->pause_ns, one->heap, one->heap_after, one->objects,
            one->bytes, one->minor, one->census);
    }
    fprintf(file, "]");
}

void census(uint64_t objects, uint64_t bytes)
{
    uint64_t began = collections_now();

    if (!MEM_COLLECTS)
        return;
    known_objects = objects;
    known_bytes = bytes;
    atomic_store_explicit(&in_census, true, memory_order_relaxed);
    mem_collect();
    atomic_store_explicit(&in_census, false, memory_order_relaxed);
    excluded_ns += collections_now() - began;
}

double census_seconds(void)
{
    return (double)excluded_ns / 1e9;
}

void verify_collect(void)
{
    if (verifying)
        mem_collect();
}
