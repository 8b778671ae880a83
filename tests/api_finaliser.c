/* SPDX-License-Identifier: MIT */
/* Finalisers, by the default dispatcher. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

/* What a finaliser finds, and is to do. */
struct object {
    const struct gc_type *type;
    struct object *other;
    unsigned number, times;
};

static _Atomic size_t finalised;
static pthread_t finalised_by;
static bool locked_inside;

static void count(void *p)
{
    struct object *object = p;
    MUST(gc_nbytes(p) >= sizeof *object && ++object->times == 1);
    finalised_by = pthread_self();
    locked_inside = gc_is_locked();
    finalised++;
}

static const struct gc_type counting = {.finalise = count};

/* For tests that no object of those before, which a word on the stack kept, may disturb. */
static _Atomic size_t finalised_apart;

static void count_apart(void *p)
{
    finalised_apart++;
}

static const struct gc_type counting_apart = {.finalise = count_apart};

static struct object *make(const struct gc_type *type, size_t size, unsigned flags)
{
    struct object *object = gc_alloc(size, flags | GC_ALLOC_FLAG_HAS_FINALISER);
    MUST(object && object->type == NULL);
    *object = (struct object){.type = type};
    return object;
}

/* ---- Batches, made by a thread that is gone ---- */

struct order {
    const struct gc_type *type;
    size_t size;
    unsigned flags;
    uintptr_t hidden[BATCH];
};

static void *make_ordered(void *arg)
{
    struct order *order = arg;
    for (unsigned i = 0; i < BATCH; i++) {
        struct object *object = make(order->type, order->size, order->flags);
        object->number = i;
        order->hidden[i] = hide(object);
    }
    return NULL;
}

static size_t finalised_of(struct order *order)
{
    finalised = 0;
    in_thread(make_ordered, order);
    clear_stack();
    gc_collect();
    return finalised;
}

static void what_is_dropped_is_finalised_once(void **unused)
{
    static const size_t sizes[] = {sizeof(struct object), 100, 5000, 40000};
    for (size_t i = 0; i < 4; i++) {
        static struct order order;
        order = (struct order){.type = &counting, .size = sizes[i]};
        assert_in_range(finalised_of(&order), BATCH - SLACK, BATCH);
        for (int round = 0; round < 3; round++)
            gc_collect();
        assert_in_range(finalised, BATCH - SLACK, BATCH + SLACK);
        order.flags = GC_ALLOC_FLAG_LEAF;
        assert_in_range(finalised_of(&order), BATCH - SLACK, BATCH);
    }
}

/* Its memory is free from the collection after on. */
static void what_was_finalised_is_freed(void **unused)
{
    static struct order order;
    order = (struct order){.type = &counting, .size = 64};
    finalised_of(&order);
    gc_collect();
    size_t live = 0;
    for (size_t i = 0; i < BATCH; i++)
        live += gc_nbytes(reveal(order.hidden[i])) != 0;
    assert_in_range(live, 0, SLACK);
}

static void a_null_type_has_no_finaliser(void **unused)
{
    static struct order order;
    /* What a word on the stack kept in the tests before may come now. */
    order = (struct order){.type = NULL, .size = 64};
    assert_in_range(finalised_of(&order), 0, SLACK);
    static const struct gc_type nothing = {.finalise = NULL};
    order.type = &nothing;
    assert_in_range(finalised_of(&order), 0, SLACK);
    gc_collect();
}

/* The word is any other then. */
static void *make_without_flag(void *unused)
{
    for (int i = 0; i < BATCH; i++) {
        struct object *object = gc_alloc(sizeof *object, 0);
        object->type = &counting_apart;
    }
    return NULL;
}

static void without_the_flag_there_is_none(void **unused)
{
    in_thread(make_without_flag, NULL);
    clear_stack();
    gc_collect();
    gc_collect();
    assert_int_equal(finalised_apart, 0);
}

static void *make_and_free(void *unused)
{
    for (int i = 0; i < BATCH; i++) {
        struct object *object = make(&counting_apart, i % 2 ? 64 : 50000, 0);
        if (i % 3 == 0)
            gc_free(object);
        else if (i % 3 == 1)
            sh_free(object);
        else
            MUST(!gc_realloc(object, 0, true));
    }
    return NULL;
}

static void gc_free_runs_no_finaliser(void **unused)
{
    in_thread(make_and_free, NULL);
    clear_stack();
    gc_collect();
    gc_collect();
    assert_int_equal(finalised_apart, 0);
}

/* A cell that had a finaliser has none in its next life. */
static void *free_and_make_plain(void *unused)
{
    for (int i = 0; i < BATCH; i++) {
        gc_free(make(&counting_apart, 64, 0));
        struct object *object = gc_alloc(64, 0);
        object->type = &counting_apart;
    }
    return NULL;
}

static void the_next_object_there_has_none(void **unused)
{
    in_thread(free_and_make_plain, NULL);
    clear_stack();
    gc_collect();
    gc_collect();
    assert_int_equal(finalised_apart, 0);
}

static void what_is_held_is_not_finalised(void **unused)
{
    static struct object *held[100];
    for (unsigned i = 0; i < 100; i++)
        held[i] = make(&counting_apart, 64, 0);
    gc_collect();
    gc_collect();
    assert_int_equal(finalised_apart, 0);
    memset(held, 0, sizeof held);
    clear_stack();
    gc_collect();
    assert_in_range(finalised_apart, 95, 100);
}

static void it_runs_in_the_collecting_thread_and_unlocked(void **unused)
{
    static struct order order;
    order = (struct order){.type = &counting, .size = 64};
    locked_inside = true;
    finalised_by = 0;
    finalised_of(&order);
    assert_true(pthread_equal(finalised_by, pthread_self()));
    assert_false(locked_inside);
}

/* ---- What it may reach, and do ---- */

static void check_other(void *p)
{
    struct object *object = p;
    MUST(object->other && object->other->number == object->number + 1000);
    MUST(gc_nbytes(object->other) >= sizeof *object);
    count(p);
}

static const struct gc_type checking = {.finalise = check_other};

static void *make_pairs(void *unused)
{
    for (unsigned i = 0; i < BATCH; i++) {
        struct object *object = make(&checking, 64, 0);
        object->number = i;
        object->other = gc_alloc(i % 2 ? 100 : 50000, 0);
        object->other->number = i + 1000;
    }
    return NULL;
}

static void what_it_reaches_is_intact(void **unused)
{
    finalised = 0;
    in_thread(make_pairs, NULL);
    clear_stack();
    gc_collect();
    assert_in_range(finalised, BATCH - SLACK, BATCH + SLACK);
}

static void *make_rings(void *unused)
{
    for (unsigned i = 0; i < BATCH / 2; i++) {
        struct object *one = make(&checking, 64, 0), *two = make(&counting, 64, 0);
        one->number = i;
        two->number = i + 1000;
        one->other = two;
        two->other = one;
    }
    return NULL;
}

static void rings_are_finalised(void **unused)
{
    finalised = 0;
    in_thread(make_rings, NULL);
    clear_stack();
    gc_collect();
    assert_in_range(finalised, BATCH - SLACK, BATCH + SLACK);
}

static struct object *volatile rescued[BATCH];

static void rescue(void *p)
{
    struct object *object = p;
    count(p);
    rescued[object->number] = object;
}

static const struct gc_type rescuing = {.finalise = rescue};

/* It may be held again; its finaliser has run. */
static void it_may_rescue_the_object(void **unused)
{
    static struct order order;
    order = (struct order){.type = &rescuing, .size = 64};
    size_t ran = finalised_of(&order);
    for (int i = 0; i < 3; i++)
        gc_collect();
    for (unsigned i = 0; i < BATCH; i++) {
        if (!rescued[i])
            continue;
        assert_true(gc_nbytes(rescued[i]) >= sizeof(struct object));
        assert_int_equal(rescued[i]->number, i);
        rescued[i] = NULL;
    }
    clear_stack();
    gc_collect();
    assert_int_equal(finalised, ran);
}

static void use_the_heap(void *p)
{
    count(p);
    void *q = gc_alloc(100, 0), *r = sh_malloc(100);
    MUST(q && r && all_zero(q, 100));
    gc_free(gc_realloc(q, 1000, true));
    sh_free(r);
    gc_lock();
    MUST(!gc_alloc(1, 0));
    gc_unlock();
    gc_free(p);
}

static const struct gc_type using = {.finalise = use_the_heap};

static void it_may_use_the_heap(void **unused)
{
    static struct order order;
    order = (struct order){.type = &using, .size = 64};
    assert_in_range(finalised_of(&order), BATCH - SLACK, BATCH);
}

static void collect_inside(void *p)
{
    struct object *object = p;
    count(p);
    if (object->number % 100 == 0)
        gc_collect();
}

static const struct gc_type collecting = {.finalise = collect_inside};

static void it_may_collect(void **unused)
{
    static struct order order;
    order = (struct order){.type = &collecting, .size = 64};
    assert_in_range(finalised_of(&order), BATCH - SLACK, BATCH);
}

static void make_another(void *p)
{
    struct object *object = p;
    count(p);
    if (object->number < 5)
        make(object->type, 64, 0)->number = object->number + 1;
}

static const struct gc_type breeding = {.finalise = make_another};

/* ---- Resizing ---- */

static void *make_and_resize(void *unused)
{
    for (int i = 0; i < BATCH; i++) {
        struct object *object = make(&counting, 64, 0);
        object = gc_realloc(object, i % 2 ? 1000 : 40000, true);
        MUST(object && object->type == &counting);
    }
    return NULL;
}

static void resizing_keeps_the_finaliser(void **unused)
{
    finalised = 0;
    in_thread(make_and_resize, NULL);
    clear_stack();
    gc_collect();
    assert_in_range(finalised, BATCH - SLACK, BATCH + SLACK);
}

/* ---- gc_sweep_all ---- */

static void gc_sweep_all_runs_every_finaliser_and_frees_everything(void **unused)
{
    static struct object *held[BATCH];
    static void *plain[BATCH];
    void *malloced = sh_malloc(100);
    gc_sweep_all();
    finalised = 0;
    for (unsigned i = 0; i < BATCH; i++) {
        held[i] = make(&counting, i % 2 ? 64 : 50000, 0);
        plain[i] = gc_alloc(i * 20 + 1, i % 3 ? 0 : GC_ALLOC_FLAG_LEAF);
    }
    gc_sweep_all();
    assert_int_equal(finalised, BATCH);
    for (unsigned i = 0; i < BATCH; i++) {
        assert_int_equal(gc_nbytes(held[i]), 0);
        assert_int_equal(gc_nbytes(plain[i]), 0);
    }
    assert_true(gc_nbytes(malloced) >= 100);
    sh_free(malloced);
    gc_sweep_all();
    assert_int_equal(finalised, BATCH);
    assert_non_null(gc_alloc(100, 0));
}

static void gc_sweep_all_finalises_what_finalisers_make(void **unused)
{
    gc_sweep_all();
    finalised = 0;
    make(&breeding, 64, 0);
    gc_sweep_all();
    assert_int_equal(finalised, 6);
}

/* What other threads hold goes, too; their caches work on. */
static _Atomic uint32_t step;

static void *hold(void *unused)
{
    struct object *own = make(&counting, 64, 0);
    set_flag(&step, 1);
    await_flag(&step, 2);
    MUST(gc_nbytes(own) == 0);
    for (int i = 0; i < 1000; i++)
        make(&counting, 64, 0);
    return NULL;
}

static void gc_sweep_all_takes_what_others_hold(void **unused)
{
    gc_sweep_all();
    finalised = 0;
    step = 0;
    pthread_t thread = start(hold, NULL);
    await_flag(&step, 1);
    gc_sweep_all();
    assert_int_equal(finalised, 1);
    set_flag(&step, 2);
    join(thread);
    gc_sweep_all();
    assert_int_equal(finalised, 1001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_dropped_is_finalised_once),
        cmocka_unit_test(what_was_finalised_is_freed),
        cmocka_unit_test(a_null_type_has_no_finaliser),
        cmocka_unit_test(without_the_flag_there_is_none),
        cmocka_unit_test(gc_free_runs_no_finaliser),
        cmocka_unit_test(the_next_object_there_has_none),
        cmocka_unit_test(what_is_held_is_not_finalised),
        cmocka_unit_test(it_runs_in_the_collecting_thread_and_unlocked),
        cmocka_unit_test(what_it_reaches_is_intact),
        cmocka_unit_test(rings_are_finalised),
        cmocka_unit_test(it_may_rescue_the_object),
        cmocka_unit_test(it_may_use_the_heap),
        cmocka_unit_test(it_may_collect),
        cmocka_unit_test(resizing_keeps_the_finaliser),
        cmocka_unit_test(gc_sweep_all_runs_every_finaliser_and_frees_everything),
        cmocka_unit_test(gc_sweep_all_finalises_what_finalisers_make),
        cmocka_unit_test(gc_sweep_all_takes_what_others_hold),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
