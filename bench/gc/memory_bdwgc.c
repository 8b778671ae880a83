/* SPDX-License-Identifier: MIT */
/* bdwgc as a back end. See bench/gc/memory.h. */
#include "bench/gc/collections.h"
#include "bench/gc/memory.h"
#include "bench/measure.h"

#include <stdio.h>
#include <unistd.h>

static struct collection current; /* under bdwgc's allocation lock, as are the events */
static uint64_t mark_began;
static void (*finaliser)(void *object);

static uint64_t heap_bytes(void)
{
    struct GC_prof_stats_s stats;

    GC_get_prof_stats_unsafe(&stats, sizeof(stats));
    return stats.heapsize_full - stats.unmapped_bytes;
}

static void GC_CALLBACK note(GC_EventType event)
{
    uint64_t now = collections_now();

    switch (event) {
    case GC_EVENT_PRE_STOP_WORLD:
        current = (struct collection){.began = now, .heap = heap_bytes()};
        break;
    case GC_EVENT_POST_STOP_WORLD:
        current.stop_ns = now - current.began;
        break;
    case GC_EVENT_MARK_START:
        mark_began = now;
        break;
    case GC_EVENT_MARK_END:
        current.mark_ns = now - mark_began;
        break;
    case GC_EVENT_POST_START_WORLD:
        current.pause_ns = now - current.began;
        current.heap_after = heap_bytes();
        collections_add(current);
        break;
    default:
        break;
    }
}

/*
 * Its best settings for these workloads, in which only stacks hold pointers into the
 * middle of objects: a 16-byte object then takes 16 bytes, not 32. Its variables of the
 * environment GC_ALL_INTERIOR_POINTERS and GC_MARKERS count for more. The markers would
 * else only be started with the program's second thread.
 */
void mem_start(size_t limit)
{
    GC_set_all_interior_pointers(0);
    GC_set_markers_count((unsigned)sysconf(_SC_NPROCESSORS_ONLN));
    GC_INIT();
    GC_start_mark_threads();
    GC_set_warn_proc(GC_ignore_warn_proc);
    GC_set_on_collection_event(note);
    if (limit != 0)
        GC_set_max_heap_size(limit);
    if (verifying)
        GC_set_free_space_divisor(20);
}

const char *mem_settings(void)
{
    static char text[160];

    snprintf(text, sizeof(text),
        "bdwgc %u.%u.%u, thread-local allocation, %d markers, "
        "interior pointers %s, free space divisor %lu",
        GC_get_version() >> 16, GC_get_version() >> 8 & 255, GC_get_version() & 255,
        GC_get_parallel() + 1,
        GC_get_all_interior_pointers() ? "everywhere" : "on stacks",
        (unsigned long)GC_get_free_space_divisor());
    return text;
}

void mem_collect(void)
{
    GC_gcollect();
}

void mem_weak_set(void **slot, struct mem_weak *object)
{
    object->slot = slot;
    *slot = object;
    if (GC_general_register_disappearing_link(slot, object) == GC_NO_MEMORY)
        mem_none();
}

struct mem_ref {
    GC_hidden_pointer object;
};

struct mem_ref *mem_ref_new(void *object)
{
    struct mem_ref *ref = GC_MALLOC_ATOMIC(sizeof(*ref));

    if (ref == NULL)
        mem_none();
    ref->object = GC_HIDE_POINTER(object);
    if (GC_general_register_disappearing_link((void **)&ref->object, object) ==
        GC_NO_MEMORY)
        mem_none();
    return ref;
}

static void *GC_CALLBACK reveal(void *ref)
{
    GC_hidden_pointer object = ((struct mem_ref *)ref)->object;

    return object != 0 ? GC_REVEAL_POINTER(object) : NULL;
}

/* As its manual has it: no collection comes between reading and having the pointer. */
void *mem_ref_get(struct mem_ref *ref)
{
    return GC_call_with_alloc_lock(reveal, ref);
}

static void GC_CALLBACK finalise(void *object, void *context)
{
    (void)context;
    finaliser(object);
}

void mem_final_set(void (*function)(void *object))
{
    finaliser = function;
}

/* No order, as with splitheap: objects that lead to one another are dead together. */
struct mem_final *mem_final_new(size_t size)
{
    struct mem_final *object = GC_MALLOC(size);

    if (object == NULL)
        mem_none();
    GC_register_finalizer_no_order(object, finalise, NULL, NULL, NULL);
    return object;
}
