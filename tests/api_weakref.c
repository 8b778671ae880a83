/* SPDX-License-Identifier: MIT */
/* Weak references, by hooks of the program's own, and a dispatcher of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <splitheap/weakref.h>

#include "tests/heap.h"

struct object {
    void *type; /* not a struct gc_type: the dispatcher is ours */
    unsigned number, freed, finalised;
};

static char some_type;
static _Atomic size_t about_to_be_freed, sweeps, dispatched;
static size_t freed_at_sweep;
static bool collected_inside, refers_inside;
static struct gc_weakref *made_inside;
static _Atomic uint32_t hook_step; /* not 0: the hook says 2 and waits for 3 */

GC_PUBLIC void gc_weakref_about_to_be_freed(void *p)
{
    struct object *object = p;
    MUST(gc_nbytes(p) >= sizeof *object);
    MUST(++object->freed == 1 && object->finalised == 0);
    MUST(!gc_is_locked());
    about_to_be_freed++;
    if (hook_step == 1) {
        set_flag(&hook_step, 2);
        await_flag(&hook_step, 3);
    }
    if (refers_inside) {
        gc_weakref_mark(p);
        made_inside = gc_weakref_new(p, NULL, NULL);
    }
    if (!collected_inside)
        return;
    collected_inside = false;
    gc_collect();
}

GC_PUBLIC void gc_weakref_sweep(void)
{
    MUST(!gc_is_locked());
    freed_at_sweep = about_to_be_freed;
    sweeps++;
}

GC_PUBLIC void gc_finalise(void *p)
{
    struct object *object = p;
    MUST(object->type == &some_type && ++object->finalised == 1);
    dispatched++;
}

static int reset(void **unused)
{
    gc_sweep_all();
    about_to_be_freed = sweeps = dispatched = freed_at_sweep = 0;
    return 0;
}

struct order {
    size_t size;
    unsigned flags, marks;
    uintptr_t hidden[BATCH];
};

static void *make_ordered(void *arg)
{
    struct order *order = arg;
    for (unsigned i = 0; i < BATCH; i++) {
        struct object *object = gc_alloc(order->size, order->flags);
        *object = (struct object){.number = i};
        if (order->flags & GC_ALLOC_FLAG_HAS_FINALISER)
            object->type = &some_type;
        for (unsigned m = 0; m < order->marks; m++)
            gc_weakref_mark(object);
        order->hidden[i] = hide(object);
    }
    return NULL;
}

static void make(struct order *order)
{
    in_thread(make_ordered, order);
    clear_stack();
}

static void each_marked_object_is_told_of_once(void **unused)
{
    static const size_t sizes[] = {sizeof(struct object), 100, 5000, 40000};
    for (size_t i = 0; i < 4; i++) {
        for (unsigned flags = 0; flags < 3; flags += GC_ALLOC_FLAG_LEAF) {
            static struct order order;
            order = (struct order){.size = sizes[i], .flags = flags, .marks = 1};
            about_to_be_freed = 0;
            make(&order);
            gc_collect();
            assert_in_range(about_to_be_freed, BATCH - SLACK, BATCH);
            gc_collect();
            gc_collect();
            assert_in_range(about_to_be_freed, BATCH - SLACK, BATCH);
        }
    }
}

static void marking_twice_tells_once(void **unused)
{
    static struct order order = {.size = 64, .marks = 3};
    make(&order);
    gc_collect();
    assert_in_range(about_to_be_freed, BATCH - SLACK, BATCH);
}

static void an_unmarked_object_is_not_told_of(void **unused)
{
    static struct order order = {.size = 64, .marks = 0};
    make(&order);
    gc_collect();
    gc_collect();
    assert_int_equal(about_to_be_freed, 0);
}

static void the_sweep_comes_once_and_after_all(void **unused)
{
    static struct order order = {.size = 64, .marks = 1};
    make(&order);
    sweeps = 0;
    gc_collect();
    assert_int_equal(sweeps, 1);
    assert_int_equal(freed_at_sweep, about_to_be_freed);
    gc_collect();
    assert_int_equal(sweeps, 2);
}

/* It does not count as holding, and nothing that holds is told of. */
static void what_is_held_is_not_told_of(void **unused)
{
    static struct object *held;
    held = gc_alloc(64, 0);
    gc_weakref_mark(held);
    gc_collect();
    gc_collect();
    assert_int_equal(about_to_be_freed, 0);
    assert_int_equal(held->freed, 0);
    gc_free(held);
    assert_int_equal(about_to_be_freed, 1);
    held = NULL;
}

static void freeing_tells(void **unused)
{
    struct object *small = gc_alloc(64, 0), *large = gc_alloc(50000, 0);
    gc_weakref_mark(small);
    gc_weakref_mark(large);
    gc_free(small);
    assert_int_equal(about_to_be_freed, 1);
    assert_null(gc_realloc(large, 0, true));
    assert_int_equal(about_to_be_freed, 2);
    /* The next object there was not marked. */
    for (int i = 0; i < 200; i++)
        gc_free(gc_alloc(64, 0));
    assert_int_equal(about_to_be_freed, 2);
}

static void *alloc_marked(size_t bytes)
{
    void *p = gc_alloc(bytes, 0);
    gc_weakref_mark(p);
    return p;
}

/* The object is whole, but goes after. */
static void what_the_hook_makes_is_cleared_too(void **unused)
{
    refers_inside = true;
    gc_free(alloc_marked(64));
    gc_free(alloc_marked(50000));
    refers_inside = false;
    assert_int_equal(about_to_be_freed, 2);
    assert_non_null(made_inside);
    assert_null(gc_weakref_get(made_inside));
    gc_collect();
    for (int i = 0; i < 200; i++)
        gc_free(gc_alloc(64, 0));
    assert_int_equal(about_to_be_freed, 2);
}

static void *free_it(void *p)
{
    gc_free(p);
    return NULL;
}

static void freeing_elsewhere_tells(void **unused)
{
    struct object *object = gc_alloc(64, 0);
    gc_weakref_mark(object);
    in_thread(free_it, object);
    assert_int_equal(about_to_be_freed, 1);
}

static void moving_tells_of_where_it_was(void **unused)
{
    struct object *object = gc_alloc(64, 0);
    gc_weakref_mark(object);
    object = gc_realloc(object, 1000, true);
    assert_int_equal(about_to_be_freed, 1);
    gc_free(object);
    assert_int_equal(about_to_be_freed, 1);
}

static void both_are_told_the_weak_reference_first(void **unused)
{
    static struct order order = {
        .size = 64, .flags = GC_ALLOC_FLAG_HAS_FINALISER, .marks = 1};
    make(&order);
    gc_collect();
    assert_in_range(about_to_be_freed, BATCH - SLACK, BATCH);
    assert_int_equal(dispatched, about_to_be_freed);
}

static void *make_and_collect(void *unused)
{
    static struct order order = {
        .size = 64, .flags = GC_ALLOC_FLAG_HAS_FINALISER, .marks = 1};
    make(&order);
    gc_collect();
    return NULL;
}

/* Where one thread is about to tell of an object, another does not finalise it: it may come
 * back by that, and would be told of while it is held. */
static void a_finaliser_waits_for_the_hook(void **unused)
{
    gc_set_finaliser_mode(GC_FINALISE_ON_DEMAND);
    hook_step = 1;
    pthread_t thread = start(make_and_collect, NULL);
    await_flag(&hook_step, 2);
    size_t told = about_to_be_freed;
    assert_int_equal(told, 1);
    /* It tells of the others, and finalises them. */
    gc_run_finalisers(SIZE_MAX);
    assert_in_range(dispatched, BATCH - SLACK - 1, BATCH - 1);
    assert_int_equal(dispatched + 1, about_to_be_freed);
    set_flag(&hook_step, 3);
    join(thread);
    hook_step = 0;
    assert_int_equal(gc_run_finalisers(SIZE_MAX), 1);
    assert_int_equal(dispatched, about_to_be_freed);
    gc_set_finaliser_mode(GC_FINALISE_AT_ONCE);
}

static void the_dispatcher_is_replaceable(void **unused)
{
    static struct order order = {.size = 64, .flags = GC_ALLOC_FLAG_HAS_FINALISER};
    make(&order);
    gc_collect();
    assert_in_range(dispatched, BATCH - SLACK, BATCH);
}

static void what_is_no_live_object_is_ignored(void **unused)
{
    static char data[64];
    char *p = gc_alloc(64, 0), *q = gc_alloc(64, 0), local;
    gc_weakref_mark(NULL);
    gc_weakref_mark(data);
    gc_weakref_mark(&local);
    gc_weakref_mark((void *)0x123456789a);
    gc_weakref_mark((void *)UINTPTR_MAX);
    gc_weakref_mark(p + 16);
    gc_weakref_mark(p + 1);
    gc_free(q);
    gc_weakref_mark(q);
    gc_free(p);
    gc_sweep_all();
    assert_int_equal(about_to_be_freed, 0);
}

static void sweep_all_tells(void **unused)
{
    static struct object *held[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        held[i] = gc_alloc(64, 0);
        gc_weakref_mark(held[i]);
    }
    gc_sweep_all();
    assert_int_equal(about_to_be_freed, BATCH);
}

static void a_hook_may_collect(void **unused)
{
    static struct order order = {.size = 64, .marks = 1};
    make(&order);
    collected_inside = true;
    gc_collect();
    assert_false(collected_inside);
    assert_in_range(about_to_be_freed, BATCH - SLACK, BATCH);
}

/* malloc'd memory may be referenced weakly, too; only free ends it. */
static void malloced_memory_is_told_of_when_freed(void **unused)
{
    struct object *object = sh_calloc(1, 64);
    gc_weakref_mark(object);
    gc_collect();
    assert_int_equal(about_to_be_freed, 0);
    sh_free(object);
    assert_int_equal(about_to_be_freed, 1);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_marked_object_is_told_of_once),
        TEST(marking_twice_tells_once),
        TEST(an_unmarked_object_is_not_told_of),
        TEST(the_sweep_comes_once_and_after_all),
        TEST(what_is_held_is_not_told_of),
        TEST(freeing_tells),
        TEST(what_the_hook_makes_is_cleared_too),
        TEST(freeing_elsewhere_tells),
        TEST(moving_tells_of_where_it_was),
        TEST(both_are_told_the_weak_reference_first),
        TEST(a_finaliser_waits_for_the_hook),
        TEST(the_dispatcher_is_replaceable),
        TEST(what_is_no_live_object_is_ignored),
        TEST(sweep_all_tells),
        TEST(a_hook_may_collect),
        TEST(malloced_memory_is_told_of_when_freed),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
