/* SPDX-License-Identifier: MIT */
/* malloc and free as a back end; its workloads are those that know when to free. */
#include "bench/gc/memory.h"
#include "bench/measure.h"

void mem_start(size_t limit)
{
    if (limit != 0)
        bench_fail("malloc has no limit");
}

const char *mem_settings(void)
{
    return "malloc and free by hand";
}

void mem_collect(void)
{
}

void mem_weak_set(void **slot, struct mem_weak *object)
{
    (void)slot;
    (void)object;
    bench_fail("malloc has no weak references");
}

struct mem_ref *mem_ref_new(void *object)
{
    (void)object;
    bench_fail("malloc has no weak references");
}

void *mem_ref_get(struct mem_ref *ref)
{
    (void)ref;
    bench_fail("malloc has no weak references");
}

void mem_final_set(void (*finalise)(void *object))
{
    (void)finalise;
}

struct mem_final *mem_final_new(size_t size)
{
    (void)size;
    bench_fail("malloc has no finalisers");
}
