/* SPDX-License-Identifier: MIT */
/* splitheap as a back end. See bench/gc/memory.h. */
#include "bench/gc/collections.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <splitheap/weakref.h>

static struct gc_type final_type;

/* Called in the thread that collected, after the threads were resumed. */
static void note(void *context, const struct gc_collection *found)
{
    (void)context;
    collections_add((struct collection){
        .began = found->began,
        .stop_ns = found->stop_ns,
        .mark_ns = found->mark_ns,
        .pause_ns = found->pause_ns,
        .heap = found->heap_bytes,
        .heap_after = found->heap_bytes_after,
        .objects = found->marked_objects,
        .bytes = found->marked_bytes,
        .minor = found->minor,
    });
}

void mem_start(size_t limit)
{
    gc_init(NULL, NULL);
    if (gc_set_collection_listener(note, NULL) != 0)
        bench_fail("gc_set_collection_listener failed");
    if (limit != 0)
        gc_set_max_heap(limit);
    if (verifying)
        gc_set_threshold((size_t)1 << 18);
}

const char *mem_settings(void)
{
    return "defaults";
}

void mem_collect(void)
{
    gc_collect();
}

void mem_weak_set(void **slot, struct mem_weak *object)
{
    object->slot = slot;
    *slot = object;
    gc_weakref_mark(object);
}

void gc_weakref_about_to_be_freed(void *object)
{
    *((struct mem_weak *)object)->slot = NULL;
}

/* A struct mem_ref is a struct gc_weakref. */
struct mem_ref *mem_ref_new(void *object)
{
    struct gc_weakref *ref = gc_weakref_new(object, NULL, NULL);

    if (ref == NULL)
        mem_none();
    return (struct mem_ref *)ref;
}

void *mem_ref_get(struct mem_ref *ref)
{
    return gc_weakref_get((struct gc_weakref *)ref);
}

void mem_final_set(void (*finalise)(void *object))
{
    final_type.finalise = finalise;
}

struct mem_final *mem_final_new(size_t size)
{
    struct mem_final *object = gc_alloc(size, GC_ALLOC_FLAG_HAS_FINALISER);

    if (object == NULL)
        mem_none();
    object->type = &final_type;
    return object;
}
