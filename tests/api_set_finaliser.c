/* SPDX-License-Identifier: MIT */
/* gc_set_finaliser: on any object, at any time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

static _Atomic size_t finalised, otherwise;
static uintptr_t seen_context; /* hidden */

static void count(void *object, void *context)
{
    MUST(gc_nbytes(object) > 0);
    seen_context = hide(context);
    finalised++;
}

static void count_otherwise(void *object, void *context)
{
    MUST(gc_nbytes(object) > 0);
    otherwise++;
}

static int begin(void **unused)
{
    clear_stack();
    gc_sweep_all();
    finalised = otherwise = 0;
    return 0;
}

#define FRESH_TEST(function) cmocka_unit_test_setup(function, begin)

/* Runs `make` in a thread that is gone before it collects. */
static size_t finalised_after(void *(*make)(void *), void *arg)
{
    in_thread(make, arg);
    clear_stack();
    gc_collect();
    return finalised;
}

/* ---- Any object ---- */

struct make {
    size_t size;
    unsigned flags, many;
};

static void *make_some(void *arg)
{
    struct make *make = arg;
    for (unsigned i = 0; i < make->many; i++) {
        char *object = gc_alloc(make->size, make->flags);
        MUST(object && gc_set_finaliser(object, count, NULL) == 0);
    }
    return NULL;
}

static void any_size_and_kind_will_do(void **unused)
{
    static const struct make makes[] = {{1, 0, 1000}, {16, 0, 1000}, {64, 0, 1000},
        {5000, 0, 300}, {32768, 0, 100}, {40000, 0, 100}, {1 << 20, 0, 20},
        {64 << 20, 0, 4}};
    for (size_t i = 0; i < sizeof makes / sizeof *makes; i++) {
        for (unsigned flags = 0; flags < 4; flags++) {
            struct make make = makes[i];
            make.flags = flags;
            if ((flags & GC_ALLOC_FLAG_HAS_FINALISER) && make.size < 16)
                continue;
            finalised = 0;
            assert_in_range(finalised_after(make_some, &make),
                make.many - make.many / 50 - 1, make.many);
            gc_collect();
            assert_in_range(finalised, make.many - make.many / 50 - 1, make.many + 10);
        }
    }
}

static void other_pointers_are_refused(void **unused)
{
    static int data;
    int local;
    char *object = gc_alloc(100, 0);
    void *malloced = sh_malloc(100), *large = sh_malloc(100000);
    errno = 7;
    assert_int_equal(gc_set_finaliser(NULL, count, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser(&data, count, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser(&local, count, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser(object + 16, count, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser(object + 1, NULL, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser(malloced, count, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser(large, count, NULL), EINVAL);
    assert_int_equal(gc_set_finaliser((void *)UINTPTR_MAX, count, NULL), EINVAL);
    gc_free(object);
    assert_int_equal(gc_set_finaliser(object, count, NULL), EINVAL);
    assert_int_equal(errno, 7);
    sh_free(malloced);
    sh_free(large);
    gc_collect();
    assert_int_equal(finalised, 0);
}

/* ---- Replaced and removed ---- */

static void *make_changed(void *unused)
{
    static const struct gc_type typed = {.finalise = NULL};
    for (unsigned i = 0; i < BATCH; i++) {
        const struct gc_type **object =
            gc_alloc(i % 3 ? 64 : 50000, i % 2 ? GC_ALLOC_FLAG_HAS_FINALISER : 0);
        MUST(gc_set_finaliser(object, NULL, NULL) == 0);
        MUST(gc_set_finaliser(object, count, NULL) == 0);
        *object = &typed;
        if (i % 4 < 2)
            MUST(gc_set_finaliser(object, count_otherwise, object + 1) == 0);
        /* The context of the last one does not lead to it. */
        if (i % 4 < 2)
            MUST(gc_set_finaliser(object, count_otherwise, NULL) == 0);
        if (i % 8 == 7)
            MUST(gc_set_finaliser(object, NULL, NULL) == 0);
    }
    return NULL;
}

static void the_last_one_counts(void **unused)
{
    assert_in_range(
        finalised_after(make_changed, NULL), BATCH * 3 / 8 - SLACK, BATCH * 3 / 8);
    assert_in_range(otherwise, BATCH / 2 - SLACK, BATCH / 2);
}

static void must_not_run(void *object)
{
    MUST(!object);
}

static const struct gc_type forbidden = {.finalise = must_not_run};

static void *make_typed(void *unused)
{
    for (unsigned i = 0; i < BATCH; i++) {
        const struct gc_type **object = gc_alloc(64, GC_ALLOC_FLAG_HAS_FINALISER);
        *object = &forbidden;
        MUST(gc_set_finaliser(object, i % 2 ? count : NULL, NULL) == 0);
    }
    return NULL;
}

static void it_takes_the_place_of_the_types(void **unused)
{
    assert_in_range(finalised_after(make_typed, NULL), BATCH / 2 - SLACK, BATCH / 2);
}

/* ---- Contexts ---- */

static uintptr_t context_of_one;

static void *make_one_with_context(void *arg)
{
    int **context = gc_alloc(64, 0);
    *context = gc_alloc(5000, 0);
    **context = 4711;
    context_of_one = hide(context);
    void **object = gc_alloc(64, 0);
    MUST(gc_set_finaliser(object, count, context) == 0);
    *(uintptr_t *)arg = hide(object);
    return NULL;
}

static void contexts_live_as_long(void **unused)
{
    static void *held[64];
    for (int i = 0; i < 64; i++) {
        uintptr_t hidden = 0;
        in_thread(make_one_with_context, &hidden);
        held[i] = reveal(hidden);
        for (int round = 0; round < 2; round++) {
            clear_stack();
            gc_collect();
            int **context = reveal(context_of_one);
            assert_true(gc_nbytes(context) >= 64 && **context == 4711);
        }
        assert_int_equal(finalised, 0);
        if (i % 2)
            assert_int_equal(gc_set_finaliser(held[i], NULL, NULL), 0);
    }
    memset(held, 0, sizeof held);
    clear_stack();
    gc_collect();
    assert_in_range(finalised, 30, 32);
}

static void the_context_is_passed(void **unused)
{
    uintptr_t hidden;
    in_thread(make_one_with_context, &hidden);
    gc_sweep_all();
    assert_int_equal(finalised, 1);
    assert_true(seen_context == context_of_one);
}

/* ---- gc_free, gc_realloc ---- */

static void *make_and_free(void *unused)
{
    for (int i = 0; i < BATCH; i++) {
        void *object = gc_alloc(i % 2 ? 64 : 50000, 0);
        MUST(gc_set_finaliser(object, count, NULL) == 0);
        gc_free(object);
        object = gc_alloc(i % 2 ? 64 : 50000, 0);
    }
    return NULL;
}

static void freeing_runs_none_and_leaves_none(void **unused)
{
    finalised_after(make_and_free, NULL);
    gc_collect();
    assert_int_equal(finalised, 0);
}

static void *make_and_resize(void *arg)
{
    static const size_t to[] = {10, 100, 1000, 40000, 1 << 20, 40 << 20, 80 << 20};
    const size_t *from = arg;
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        void *object = gc_alloc(*from, 0);
        MUST(gc_set_finaliser(object, count, NULL) == 0);
        object = gc_realloc(object, to[i], true);
        MUST(object);
        object = gc_realloc(object, *from, true);
        MUST(object);
    }
    return NULL;
}

static void resizing_takes_it_along(void **unused)
{
    static const size_t from[] = {16, 200, 40000, 2 << 20, 48 << 20};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        finalised = 0;
        in_thread(make_and_resize, (void *)(uintptr_t)&from[i]);
        gc_sweep_all();
        assert_int_equal(finalised, 7);
    }
}

/* ---- After death ---- */

static void *volatile rescued[BATCH];
static _Atomic size_t rescues;

static void rescue(void *object, void *context)
{
    rescued[rescues++] = object;
    if (context)
        MUST(gc_set_finaliser(object, count, NULL) == 0);
}

static void *make_rescued(void *again)
{
    for (int i = 0; i < BATCH; i++)
        MUST(gc_set_finaliser(gc_alloc(i % 10 ? 64 : 50000, 0), rescue, again) == 0);
    return NULL;
}

static void once_unless_set_again(void **unused)
{
    static int again;
    for (int set_again = 0; set_again < 2; set_again++) {
        rescues = finalised = 0;
        in_thread(make_rescued, set_again ? &again : NULL);
        clear_stack();
        gc_collect();
        size_t saved = rescues;
        assert_in_range(saved, BATCH - SLACK, BATCH);
        gc_collect();
        assert_int_equal(finalised, 0);
        for (size_t i = 0; i < saved; i++)
            assert_true(gc_nbytes(rescued[i]) >= 64);
        memset((void *)(uintptr_t)rescued, 0, sizeof rescued);
        clear_stack();
        gc_collect();
        assert_int_equal(rescues, saved);
        assert_in_range(
            finalised, set_again ? saved - SLACK : 0, set_again ? saved : 0);
        gc_sweep_all();
    }
}

/* Each holds the others: the first that is run takes the rest's away or replaces them. */
static struct ring {
    void *others[8];
} *volatile kept;

static void change_others(void *object, void *context)
{
    struct ring *ring = object;
    otherwise++;
    if (kept)
        return;
    kept = ring;
    for (int i = 0; i < 8; i++) {
        if (ring->others[i] == ring)
            continue;
        gc_finaliser_fn *next = i % 2 ? count : NULL;
        MUST(gc_set_finaliser(ring->others[i], next, NULL) == 0);
    }
}

static void *make_ring(void *unused)
{
    struct ring *rings[8];
    for (int i = 0; i < 8; i++) {
        rings[i] = gc_alloc(sizeof *rings[i], 0);
        MUST(gc_set_finaliser(rings[i], change_others, NULL) == 0);
    }
    for (int i = 0; i < 8; i++)
        memcpy(rings[i], rings, sizeof rings);
    memset(rings, 0, sizeof rings);
    return NULL;
}

static void what_waits_can_be_changed(void **unused)
{
    kept = NULL;
    /* A stale word that leads to one holds them all. */
    for (int i = 0; i < 20 && !kept; i++)
        finalised_after(make_ring, NULL);
    assert_non_null(kept);
    assert_int_equal(otherwise, 1);
    assert_int_equal(finalised, 0);
    kept = NULL;
    gc_sweep_all();
    assert_true(finalised >= 3);
}

static void free_another(void *object, void *context)
{
    struct ring *ring = object;
    finalised++;
    for (int i = 0; i < 8; i++)
        if (ring->others[i] != ring)
            gc_free(ring->others[i]);
}

static void a_finaliser_may_free_what_waits(void **unused)
{
    struct ring *rings[8];
    for (int i = 0; i < 8; i++)
        rings[i] = gc_alloc(sizeof *rings[i], 0);
    for (int i = 0; i < 8; i++) {
        memcpy(rings[i], rings, sizeof rings);
        MUST(gc_set_finaliser(rings[i], free_another, NULL) == 0);
    }
    gc_sweep_all();
    assert_int_equal(finalised, 1);
}

static void make_more(void *object, void *context)
{
    if (finalised++ < BATCH)
        MUST(gc_set_finaliser(gc_alloc(100, 0), make_more, NULL) == 0);
    if (finalised % 100 == 50)
        gc_collect();
    gc_free(object);
}

static void *make_mother(void *unused)
{
    for (int i = 0; i < 100; i++)
        MUST(gc_set_finaliser(gc_alloc(100, 0), make_more, NULL) == 0);
    return NULL;
}

static void a_finaliser_may_make_more_collect_and_free(void **unused)
{
    in_thread(make_mother, NULL);
    gc_sweep_all();
    assert_in_range(finalised, BATCH, BATCH + 101);
}

/* One after the other, while the rest wait: in linear time. */
static void free_itself(void *object, void *context)
{
    finalised++;
    gc_free(object);
}

static void *make_many(void *unused)
{
    for (int i = 0; i < 200000; i++)
        MUST(
            gc_set_finaliser(gc_alloc(16, GC_ALLOC_FLAG_LEAF), free_itself, NULL) == 0);
    return NULL;
}

static void many_may_free_themselves(void **unused)
{
    bool before = gc_set_auto_collect(false);
    assert_in_range(finalised_after(make_many, NULL), 200000 - 100, 200000);
    gc_set_auto_collect(before);
}

/* ---- With collections in other threads ---- */

#define RACE_OBJECTS 300
#define RACE_ROUNDS 40
static _Atomic size_t made, ended;
static _Atomic bool stop;

static void end_one(void *object, void *context)
{
    ended += (uintptr_t)context;
}

static void *race(void *arg)
{
    void *objects[RACE_OBJECTS] = {NULL};
    struct random random = {.state = (uintptr_t)arg + 1};
    for (int round = 0; round < RACE_ROUNDS; round++) {
        for (int i = 0; i < RACE_OBJECTS; i++) {
            size_t deed = random_below(&random, 8);
            if (!objects[i] || deed < 2) {
                objects[i] = gc_alloc(random_below(&random, 20) ? 48 : 40000, 0);
                MUST(objects[i]);
                MUST(gc_set_finaliser(objects[i], end_one, (void *)1) == 0);
                made++;
            } else if (deed == 2) {
                objects[i] =
                    gc_realloc(objects[i], 1 + random_below(&random, 3000), true);
                MUST(objects[i]);
            } else if (deed == 3) {
                gc_free(objects[i]);
                objects[i] = NULL;
                ended++;
            } else if (deed == 4) {
                MUST(gc_set_finaliser(objects[i], NULL, NULL) == 0);
                MUST(gc_set_finaliser(objects[i], end_one, (void *)1) == 0);
            }
        }
    }
    return NULL;
}

static void *collect_often(void *unused)
{
    while (!stop)
        gc_collect();
    return NULL;
}

static void threads_set_and_collect(void **unused)
{
    pthread_t threads[4], collector;
    made = ended = 0;
    stop = false;
    collector = start(collect_often, NULL);
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(race, (void *)i);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    stop = true;
    join(collector);
    gc_sweep_all();
    assert_int_equal(ended, made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH_TEST(any_size_and_kind_will_do),
        FRESH_TEST(other_pointers_are_refused),
        FRESH_TEST(the_last_one_counts),
        FRESH_TEST(it_takes_the_place_of_the_types),
        FRESH_TEST(contexts_live_as_long),
        FRESH_TEST(the_context_is_passed),
        FRESH_TEST(freeing_runs_none_and_leaves_none),
        FRESH_TEST(resizing_takes_it_along),
        FRESH_TEST(once_unless_set_again),
        FRESH_TEST(what_waits_can_be_changed),
        FRESH_TEST(a_finaliser_may_free_what_waits),
        FRESH_TEST(a_finaliser_may_make_more_collect_and_free),
        FRESH_TEST(many_may_free_themselves),
        FRESH_TEST(threads_set_and_collect),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
