/* SPDX-License-Identifier: MIT */
/*
 * What a collection did: the listener, the totals, and the option gc_log, for which the
 * program runs itself again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static struct gc_collection last;
static unsigned calls;

static void listen(void *context, const struct gc_collection *collection)
{
    last = *collection;
    calls++;
    *(unsigned *)context += 1;
}

static struct gc_collection_totals totals_now(void)
{
    struct gc_collection_totals totals;
    gc_get_collection_totals(&totals);
    return totals;
}

static unsigned context;

static int begin(void **unused)
{
    calls = 0;
    gc_collect();
    return gc_set_collection_listener(listen, &context);
}

static int end(void **unused)
{
    gc_set_threshold(0);
    gc_set_auto_collect(true);
    return gc_set_collection_listener(NULL, NULL);
}

#define EVENT_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

static void it_is_told_once_for_each_collection(void **unused)
{
    unsigned told = context;
    uint64_t before = totals_now().collections;
    gc_collect();
    assert_int_equal(calls, 1);
    assert_int_equal(context, told + 1);
    assert_int_equal(last.number, before + 1);
    assert_int_equal(totals_now().collections, before + 1);
    gc_collect();
    assert_int_equal(calls, 2);
    assert_int_equal(last.number, before + 2);
    assert_int_equal(gc_set_collection_listener(NULL, NULL), 0);
    gc_collect();
    assert_int_equal(calls, 2);
    assert_int_equal(totals_now().collections, before + 3);
}

static void times_lie_within_the_call(void **unused)
{
    uint64_t from = sh_os_now_ns();
    gc_collect();
    uint64_t to = sh_os_now_ns();
    assert_true(last.began >= from && last.began <= to);
    assert_true(last.pause_ns <= to - from);
    assert_true(last.stop_ns + last.mark_ns <= last.pause_ns);
    assert_true(last.mark_ns > 0);
}

static void *volatile hold[BATCH];

static void objects_and_bytes_are_exact(void **unused)
{
    gc_collect();
    struct gc_collection before = last;
    for (size_t i = 0; i < BATCH; i++)
        hold[i] = gc_alloc(48, i % 2 ? GC_ALLOC_FLAG_LEAF : 0);
    void *volatile large = gc_alloc(MIB, 0);
    gc_collect();
    /* A stale word may have held one before, and hold it no more. */
    assert_in_range(
        last.marked_objects + 4 - before.marked_objects, BATCH + 1, BATCH + 9);
    assert_in_range(last.marked_bytes + 4 * 64 - before.marked_bytes, BATCH * 48 + MIB,
        BATCH * 48 + MIB + 16 * 64);
    assert_in_range(
        last.allocated_bytes, BATCH * 48 + MIB, BATCH * 48 + MIB + 128 * 1024);
    assert_true(last.heap_bytes >= last.marked_bytes);
    assert_true(large != NULL);
}

/* The mapping of a dead large object goes with the collection. */
static void what_is_given_back_is_seen(void **unused)
{
    gc_set_auto_collect(false);
    for (int i = 0; i < 8; i++)
        assert_non_null(gc_alloc(MIB, GC_ALLOC_FLAG_LEAF));
    clear_stack();
    gc_collect();
    assert_true(last.heap_bytes >= 8 * MIB);
    assert_true(last.heap_bytes_after + 6 * MIB <= last.heap_bytes);
    gc_collect();
    assert_true(last.heap_bytes < 8 * MIB);
}

static void malloc_is_a_root(void **unused)
{
    gc_collect();
    size_t before = last.root_bytes;
    assert_true(before > 0);
    void *volatile p = sh_malloc(4 * MIB);
    gc_collect();
    assert_in_range(last.root_bytes, before + 3 * MIB, before + 6 * MIB);
    sh_free(p);
}

/* ---- Causes ---- */

static void allocate(size_t bytes)
{
    for (size_t done = 0; done < bytes; done += 1024)
        MUST(gc_alloc(1024, GC_ALLOC_FLAG_LEAF));
}

static void pacing_is_told_from_a_request(void **unused)
{
    struct gc_collection_totals before = totals_now();
    gc_set_threshold(MIB);
    allocate(3 * MIB);
    struct gc_collection_totals now = totals_now();
    assert_true(calls >= 2);
    assert_int_equal(last.cause, GC_CAUSE_PACING);
    assert_int_equal(now.by_pacing - before.by_pacing, calls);
    assert_int_equal(now.by_request, before.by_request);
    gc_collect();
    assert_int_equal(last.cause, GC_CAUSE_EXPLICIT);
    assert_int_equal(totals_now().by_request, before.by_request + 1);
}

static void out_of_memory_is_a_cause(void **unused)
{
    gc_set_auto_collect(false);
    struct gc_collection_totals before = totals_now();
    gc_set_max_heap(last.heap_bytes + 16 * MIB);
    allocate(40 * MIB);
    gc_set_max_heap(0);
    assert_true(calls >= 1);
    assert_int_equal(last.cause, GC_CAUSE_MEMORY);
    assert_int_equal(totals_now().for_memory - before.for_memory, calls);
}

static void totals_add_up(void **unused)
{
    struct gc_collection_totals before = totals_now(), sum = before;
    for (int i = 0; i < 5; i++) {
        allocate(MIB);
        gc_collect();
        sum.pause_ns += last.pause_ns;
        sum.mark_ns += last.mark_ns;
        sum.stop_ns += last.stop_ns;
        sum.root_bytes += last.root_bytes;
        sum.marked_objects += last.marked_objects;
        sum.marked_bytes += last.marked_bytes;
        sum.allocated_bytes += last.allocated_bytes;
    }
    struct gc_collection_totals now = totals_now();
    assert_int_equal(now.collections, before.collections + 5);
    assert_int_equal(now.pause_ns, sum.pause_ns);
    assert_int_equal(now.mark_ns, sum.mark_ns);
    assert_int_equal(now.stop_ns, sum.stop_ns);
    assert_int_equal(now.root_bytes, sum.root_bytes);
    assert_int_equal(now.marked_objects, sum.marked_objects);
    assert_int_equal(now.marked_bytes, sum.marked_bytes);
    assert_int_equal(now.allocated_bytes, sum.allocated_bytes);
    assert_true(now.pause_ns_max >= last.pause_ns && now.pause_ns_max <= now.pause_ns);
    assert_int_equal(now.by_request + now.by_pacing + now.for_memory, now.collections);
}

/* ---- What a listener may do ---- */

static size_t depth, deepest;

static void collect_and_allocate(void *unused, const struct gc_collection *collection)
{
    deepest = sh_max(deepest, ++depth);
    calls++;
    last = *collection;
    gc_collect();
    MUST(gc_alloc(100, 0));
    gc_lock();
    gc_unlock();
    struct gc_collection_totals totals;
    gc_get_collection_totals(&totals);
    MUST(totals.collections == collection->number + 1);
    gc_info_t info;
    gc_info(&info);
    depth--;
}

static void it_may_use_all_and_is_not_nested(void **unused)
{
    gc_set_collection_listener(collect_and_allocate, NULL);
    gc_collect();
    assert_int_equal(calls, 1);
    assert_int_equal(deepest, 1);
    uint64_t number = last.number;
    gc_collect();
    assert_int_equal(calls, 2);
    assert_int_equal(last.number, number + 2);
}

static bool told_first, finalised;

static void note_order(void *unused, const struct gc_collection *collection)
{
    told_first = !finalised;
}

static void finalise(void *object)
{
    finalised = true;
}

static const struct gc_type type = {finalise};

static void *make_finalised(void *unused)
{
    *(const struct gc_type **)gc_alloc(64, GC_ALLOC_FLAG_HAS_FINALISER) = &type;
    return NULL;
}

static void it_comes_before_finalisers(void **unused)
{
    gc_set_collection_listener(note_order, NULL);
    in_thread(make_finalised, NULL);
    clear_stack();
    gc_collect();
    assert_true(finalised);
    assert_true(told_first);
}

static pthread_t teller;

static void note_thread(void *unused, const struct gc_collection *collection)
{
    teller = pthread_self();
    calls++;
    last = *collection;
}

static void *collect_once(void *unused)
{
    gc_collect();
    return NULL;
}

static void it_is_called_in_the_collecting_thread(void **unused)
{
    gc_set_collection_listener(note_thread, NULL);
    pthread_t thread = start(collect_once, NULL);
    join(thread);
    assert_int_equal(calls, 1);
    assert_true(pthread_equal(teller, thread));
    assert_int_equal(last.threads, 2);
    assert_true(last.markers >= 1);
}

static void inside_gc_lock_nothing_is_told(void **unused)
{
    uint64_t before = totals_now().collections;
    gc_lock();
    gc_collect();
    gc_unlock();
    assert_int_equal(calls, 0);
    assert_int_equal(totals_now().collections, before);
}

/* ---- Several threads ---- */

static _Atomic uint64_t told, numbers;

static void count(void *unused, const struct gc_collection *collection)
{
    sh_add_seq_cst(&told, 1u);
    sh_add_seq_cst(&numbers, collection->number);
}

static void *collect_often(void *unused)
{
    for (int i = 0; i < 50; i++) {
        MUST(gc_alloc(100, 0));
        gc_collect();
    }
    return NULL;
}

static void none_is_lost_between_threads(void **unused)
{
    pthread_t threads[4];
    gc_set_collection_listener(count, NULL);
    uint64_t first = totals_now().collections;
    for (int i = 0; i < 4; i++)
        threads[i] = start(collect_often, NULL);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    uint64_t done = totals_now().collections;
    assert_int_equal(told, done - first);
    assert_int_equal(numbers, (done * (done + 1) - first * (first + 1)) / 2);
}

/* ---- The option ---- */

static char log_path[64];

static void log_to_a_file(void *path)
{
    char conf[200];
    snprintf(conf, sizeof conf, "gc_log:%s", (const char *)path);
    setenv("SPLITHEAP_CONF", conf, 1);
    execl("/proc/self/exe", "api_collection_events", "log", NULL);
    _exit(99);
}

static int log_three(void)
{
    gc_collect();
    gc_set_threshold(MIB);
    allocate(MIB + MIB / 2);
    gc_set_threshold(0);
    gc_collect();
    return 0;
}

static unsigned lines(const char *text, const char *with)
{
    unsigned count = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        const char *found = strstr(text, with);
        count += found && found < end && text[0] == '{' && end[-1] == '}';
    }
    return count;
}

static void assert_logged(const char *text)
{
    assert_int_equal(lines(text, "\"number\": "), 3);
    assert_int_equal(lines(text, "\"number\": 2, \"cause\": \"pacing\""), 1);
    assert_int_equal(lines(text, "\"cause\": \"explicit\""), 2);
    assert_int_equal(lines(text, "\"pause_ns\": "), 3);
    assert_int_equal(lines(text, "\"allocated_bytes\": "), 3);
}

static void gc_log_writes_a_line_each_to_a_file(void **unused)
{
    struct child child;
    static char text[8192];
    char pattern[64];
    snprintf(
        pattern, sizeof pattern, "/tmp/splitheap-gc-log-%u.%%p", (unsigned)getpid());
    child_run(&child, log_to_a_file, pattern);
    assert_true(child_returned(&child));
    assert_string_equal(child.text, "");
    snprintf(log_path, sizeof log_path, "/tmp/splitheap-gc-log-%u.%u",
        (unsigned)getpid(), (unsigned)child.pid);
    FILE *file = fopen(log_path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    unlink(log_path);
    assert_logged(text);
}

static void gc_log_writes_to_standard_error(void **unused)
{
    struct child child;
    child_run(&child, log_to_a_file, "stderr");
    assert_true(child_returned(&child));
    assert_logged(child.text);
    assert_int_equal(child.writes, 3);
}

static void a_path_that_cannot_be_opened_is_said_once(void **unused)
{
    struct child child;
    child_run(&child, log_to_a_file, "/nowhere/at/all");
    assert_true(child_returned(&child));
    assert_string_equal(child.text,
        "splitheap: the file /nowhere/at/all for gc_log cannot be opened: error 2\n");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return log_three();
    const struct CMUnitTest tests[] = {
        EVENT_TEST(it_is_told_once_for_each_collection),
        EVENT_TEST(times_lie_within_the_call),
        EVENT_TEST(objects_and_bytes_are_exact),
        EVENT_TEST(what_is_given_back_is_seen),
        EVENT_TEST(malloc_is_a_root),
        EVENT_TEST(pacing_is_told_from_a_request),
        EVENT_TEST(out_of_memory_is_a_cause),
        EVENT_TEST(totals_add_up),
        EVENT_TEST(it_may_use_all_and_is_not_nested),
        EVENT_TEST(it_comes_before_finalisers),
        EVENT_TEST(it_is_called_in_the_collecting_thread),
        EVENT_TEST(inside_gc_lock_nothing_is_told),
        EVENT_TEST(none_is_lost_between_threads),
        cmocka_unit_test(gc_log_writes_a_line_each_to_a_file),
        cmocka_unit_test(gc_log_writes_to_standard_error),
        cmocka_unit_test(a_path_that_cannot_be_opened_is_said_once),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
