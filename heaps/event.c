/* SPDX-License-Identifier: MIT */
/* What a collection did. See heaps/event.h. */
#include "heaps/event.h"

#include <string.h>

#include "heaps/area.h"
#include "heaps/limit.h"
#include "heaps/probe.h"
#include "heaps/text_file.h"
#include "threads/registry.h"
#include "threads/static_roots.h"
#include "threads/stop.h"

struct gc_collection sh_event;
static _Atomic size_t roots;     /* bytes, of the collection under way */
static uint64_t marking, marked; /* when its marking began, and ended */

/* Under the heap's lock. */
static struct gc_collection_totals totals;
static gc_collection_fn *listener;
static void *listener_context;

/* This thread's listener runs: what it causes is not told. */
static SH_TLS bool telling;

/* Their numbers could be taken for addresses. */
void sh_event_init(void)
{
    sh_roots_exclude(&sh_event, &sh_event + 1);
    sh_roots_exclude(&totals, &totals + 1);
}

/* ---- Recording ---- */

void sh_event_begin(enum gc_cause cause)
{
    SH_PROBE1(collection_begin, cause);
    (void)cause;
}

void sh_event_stopped(enum gc_cause cause)
{
    uint64_t began = sh_world_stop_began();
    sh_event = (struct gc_collection){
        .number = sh_event.number + 1,
        .began = began,
        .stop_ns = sh_os_now_ns() - began,
        .cause = cause,
        .threads = (unsigned)sh_registry_count(),
        .markers = 1,
        .heap_bytes = sh_limit_used() * SH_PAGE_SIZE,
    };
    sh_store_relaxed(&roots, (size_t)0);
    SH_PROBE2(collection_stopped, sh_event.number, sh_event.stop_ns);
}

void sh_event_marking(size_t allocated_bytes)
{
    sh_event.allocated_bytes = allocated_bytes;
    marking = sh_os_now_ns();
}

void sh_event_roots(size_t bytes)
{
    sh_add_relaxed(&roots, bytes);
}

void sh_event_marked(void)
{
    marked = sh_os_now_ns();
    sh_event.mark_ns = marked - marking;
    sh_event.root_bytes = sh_load_relaxed(&roots);
    SH_PROBE2(collection_marked, sh_event.number, sh_event.mark_ns);
}

void sh_event_resumed(void)
{
    sh_event.pause_ns = sh_os_now_ns() - sh_event.began;
    SH_PROBE2(collection_resumed, sh_event.number, sh_event.pause_ns);
}

/* ---- Totals ---- */

static void at_least(uint64_t *most, uint64_t value)
{
    if (*most < value)
        *most = value;
}

static void add_up(const struct gc_collection *one)
{
    totals.collections++;
    totals.by_request += one->cause == GC_CAUSE_EXPLICIT;
    totals.by_pacing += one->cause == GC_CAUSE_PACING;
    totals.for_memory += one->cause == GC_CAUSE_MEMORY;
    totals.minor += one->minor;
    totals.stop_ns += one->stop_ns;
    totals.mark_ns += one->mark_ns;
    totals.pause_ns += one->pause_ns;
    totals.root_bytes += one->root_bytes;
    totals.marked_objects += one->marked_objects;
    totals.marked_bytes += one->marked_bytes;
    totals.allocated_bytes += one->allocated_bytes;
    at_least(&totals.stop_ns_max, one->stop_ns);
    at_least(&totals.mark_ns_max, one->mark_ns);
    at_least(&totals.pause_ns_max, one->pause_ns);
    at_least(&totals.marked_bytes_max, one->marked_bytes);
    at_least(&totals.heap_bytes_max, one->heap_bytes);
}

struct gc_collection sh_event_end(void)
{
    sh_event.heap_bytes_after = sh_limit_used() * SH_PAGE_SIZE;
    sh_lock_acquire(&sh_heap_lock);
    add_up(&sh_event);
    sh_lock_release(&sh_heap_lock);
    return sh_event;
}

SH_PUBLIC void gc_get_collection_totals(struct gc_collection_totals *now)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    *now = totals;
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
}

/* ---- Telling ---- */

static const char *const causes[] = {
    [GC_CAUSE_EXPLICIT] = "explicit",
    [GC_CAUSE_PACING] = "pacing",
    [GC_CAUSE_MEMORY] = "memory",
};

/* One line, in one piece where it goes to a file. */
static void print_line(const struct sh_sink *sink, const struct gc_collection *one)
{
    sh_print(sink,
        "{\"process\": %u, \"number\": %lu, \"cause\": \"%s\", \"minor\": %s, "
        "\"began\": %lu, "
        "\"stop_ns\": %lu, \"mark_ns\": %lu, \"pause_ns\": %lu, \"threads\": %u, "
        "\"markers\": %u, ",
        sh_os_process_id(), one->number, causes[one->cause],
        one->minor ? "true" : "false", one->began, one->stop_ns, one->mark_ns,
        one->pause_ns, one->threads, one->markers);
    sh_print(sink,
        "\"root_bytes\": %zu, \"marked_objects\": %zu, \"marked_bytes\": %zu, "
        "\"heap_bytes\": %zu, \"heap_bytes_after\": %zu, \"allocated_bytes\": %zu}\n",
        one->root_bytes, one->marked_objects, one->marked_bytes, one->heap_bytes,
        one->heap_bytes_after, one->allocated_bytes);
}

/* A path that cannot be opened is said once, and no line is written. */
static SH_NOINLINE void write_line(const struct gc_collection *one)
{
    static _Atomic bool said;
    struct sh_text_file file;
    const char *path = sh_options.gc_log;
    int error = sh_text_file_open(&file, strcmp(path, "stderr") == 0 ? "" : path);
    if (!error) {
        print_line(&file.sink, one);
        sh_text_file_close(&file);
    } else if (!sh_exchange_seq_cst(&said, true)) {
        sh_print(&sh_stderr_sink,
            "splitheap: the file %s for gc_log cannot be opened: error %d\n", file.path,
            error);
    }
}

static void call_listener(const struct gc_collection *one)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    gc_collection_fn *function = listener;
    void *context = listener_context;
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
    if (!function || telling)
        return;
    telling = true;
    function(context, one);
    telling = false;
}

void sh_event_tell(const struct gc_collection *one)
{
    if (sh_options.gc_log[0])
        write_line(one);
    call_listener(one);
}

SH_PUBLIC int gc_set_collection_listener(gc_collection_fn *function, void *context)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    listener = function;
    listener_context = context;
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
    return 0;
}
