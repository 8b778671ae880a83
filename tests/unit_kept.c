/* SPDX-License-Identifier: MIT */
/*
 * heaps/cache.h: caches keep free cells and spans for threads to use again, but not for
 * ever, nor where the memory is wanted by others. The heap has one area and does not
 * grow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/run.h"
#include "tests/caches.h"
#include "tests/spans.h"

#define AREA ((size_t)64 << 20)
#define SIZE ((size_t)1024) /* stays with who frees it */
#define CELLS 4000 /* the last span is half loaded, and nothing in the magazine */
#define THREADS 20 /* more than caches are kept */

size_t gc_get_max_new_split(void)
{
    return 0;
}

static void *at[CELLS];

static void make_all(void)
{
    for (size_t i = 0; i < CELLS; i++)
        at[i] = sh_malloc(SIZE);
}

static void shuffle(void)
{
    struct random random = {.state = 4711};
    for (size_t i = CELLS; i > 1; i--) {
        size_t k = random_below(&random, i);
        void *p = at[i - 1];
        at[i - 1] = at[k];
        at[k] = p;
    }
}

static size_t used_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages) -
           sh_load_relaxed(&sh_heap_counts.free_pages);
}

/* ---- Who frees what others made ---- */

static void *make_and_end(void *unused)
{
    make_all();
    return NULL;
}

static void free_all_of_anothers(void)
{
    join(start(make_and_end, NULL));
    shuffle();
    sh_free(sh_malloc(SIZE)); /* a magazine */
    size_t most = limit(SH_KIND_EXPLICIT, SIZE);
    MUST(rounds(SH_KIND_EXPLICIT, SIZE) < most);
    for (size_t i = 0; i < CELLS; i++)
        sh_free(at[i]);
    MUST(limit(SH_KIND_EXPLICIT, SIZE) < most / 16);
    MUST(rounds(SH_KIND_EXPLICIT, SIZE) <= limit(SH_KIND_EXPLICIT, SIZE));
    /* So few spans stay, once their owner has looked. */
    dissolve_caches();
    MUST(used_pages() * SH_PAGE_SIZE < CELLS * SIZE / 8);
    size_t n = 0;
    while (limit(SH_KIND_EXPLICIT, SIZE) != most)
        at[n++] = sh_malloc(SIZE);
    while (n > 0)
        sh_free(at[--n]);
}

static void who_frees_what_others_made_keeps_little(void **unused)
{
    with_fresh_cache(free_all_of_anothers);
}

/* ---- The inbox ---- */

static void *free_all(void *unused)
{
    for (size_t i = 0; i < CELLS; i++)
        sh_free(at[i]);
    return NULL;
}

/* The current span always has free cells. */
static void go_on(void)
{
    make_all();
    struct sh_span *current = depot_of(SH_KIND_EXPLICIT, SIZE)->current;
    in_thread(free_all, NULL);
    size_t before = used_pages();
    MUST(sh_load_relaxed(&cache()->inbox));
    for (int i = 0; i < 40; i++) {
        sh_free(sh_malloc(SIZE));
        MUST(depot_of(SH_KIND_EXPLICIT, SIZE)->current == current);
        unload(SH_KIND_EXPLICIT, SIZE, 0);
    }
    MUST(!sh_load_relaxed(&cache()->inbox));
    MUST(used_pages() < before / 8);
}

static void an_inbox_does_not_wait_for_ever(void **unused)
{
    with_fresh_cache(go_on);
}

/* ---- Idle caches ---- */

static void *use_each_class(void *unused)
{
    for (size_t size = 16; size <= SH_SMALL_MAX; size += size / 2)
        sh_free(sh_malloc(size));
    return NULL;
}

/* What an idle cache has is not there for large objects, nor for other classes. */
static void idle_caches_give_way(void **unused)
{
    dissolve_caches();
    sh_free(sh_malloc(SIZE)); /* a cache, so that it takes no idle one */
    size_t before = used_pages();
    join(start(use_each_class, NULL));
    MUST(used_pages() >= before + 16 * 16);
    void *p = sh_malloc(AREA - (before + 128) * SH_PAGE_SIZE);
    assert_non_null(p);
    sh_free(p);
}

static _Atomic uint32_t there, leave_now;

static void *use_some(void *unused)
{
    sh_free(sh_malloc(SIZE));
    sh_add_seq_cst(&there, 1u);
    sh_os_wake(&there, INT32_MAX);
    await_flag(&leave_now, 1);
    return NULL;
}

/* Many end at once. What is empty in the caches that are too many goes at once, too. */
static void too_many_are_dissolved(void **unused)
{
    pthread_t threads[THREADS];
    dissolve_caches();
    size_t before = used_pages();
    for (int i = 0; i < THREADS; i++)
        threads[i] = start(use_some, NULL);
    await_flag(&there, THREADS);
    MUST(used_pages() >= before + THREADS * 16);
    set_flag(&leave_now, 1);
    for (int i = 0; i < THREADS; i++)
        join(threads[i]);
    assert_null(sh_shared_cache.dead);
    assert_true(used_pages() <= before + (THREADS - 2) * 16);
    dissolve_caches();
    assert_int_equal(used_pages(), before);
}

/* ---- Spans that are due to be swept ---- */

#define EACH 64 /* one of so many cells stays */

static void *volatile kept[CELLS / EACH + 1];
static _Atomic uint32_t made, may_end;

static void *make_and_keep_few(void *unused)
{
    take_cache();
    for (size_t i = 0; i < CELLS; i++) {
        void *p = gc_alloc(SIZE, GC_ALLOC_FLAG_LEAF);
        MUST(p);
        if (i % EACH == 0)
            kept[i / EACH] = p;
    }
    set_flag(&made, 1);
    await_flag(&may_end, 1);
    clear_stack();
    return NULL;
}

static void *make_one(void *unused)
{
    MUST(gc_alloc(SIZE, GC_ALLOC_FLAG_LEAF));
    return NULL;
}

static void *make_as_many(void *unused)
{
    size_t before = used_pages();
    for (size_t i = 0; i < CELLS - CELLS / EACH - 200; i++)
        MUST(gc_alloc(SIZE, GC_ALLOC_FLAG_LEAF));
    MUST(used_pages() <= before + 2 * 16);
    return NULL;
}

/* A thread ends that did not allocate since the collection. Its spans are full of what
 * that found dead, and are there for others at once. */
static void what_a_collection_freed_is_adopted(void **unused)
{
    memset(at, 0, sizeof at); /* a root, which names cells of tests before */
    dissolve_caches();
    pthread_t maker = start(make_and_keep_few, NULL);
    await_flag(&made, 1);
    gc_collect();
    /* Somebody leaves a span, and somebody looks for one, in the shared cache first. */
    join(start(make_one, NULL));
    make_one(NULL);
    assert_int_equal(sh_shared_cache.depots[SH_KIND_LEAF][class_of(SIZE)].epoch,
        sh_load_relaxed(&sh_epoch));
    set_flag(&may_end, 1);
    join(maker);
    dissolve_caches();
    join(start(make_as_many, NULL));
}

static int begin(void **unused)
{
    return give_area(AREA) || gc_thread_register();
}

int main(void)
{
    stop_time();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_frees_what_others_made_keeps_little),
        cmocka_unit_test(an_inbox_does_not_wait_for_ever),
        cmocka_unit_test(idle_caches_give_way),
        cmocka_unit_test(too_many_are_dissolved),
        cmocka_unit_test(what_a_collection_freed_is_adopted),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
