/* SPDX-License-Identifier: MIT */
/* Ephemerons: a value lives while its key does, whatever it leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include <splitheap/weakref.h>

#include "heaps/ephemeron.h"
#include "tests/heap.h"

#define LONG (SH_TSAN ? 50000 : 1000000)

static void *held, *held_too;
static size_t finalised;

static int reset(void **unused)
{
    held = held_too = NULL;
    gc_sweep_all();
    finalised = 0;
    return 0;
}

static size_t live_after_collecting(void)
{
    struct gc_collection_totals before, after;
    gc_get_collection_totals(&before);
    gc_collect();
    gc_get_collection_totals(&after);
    return after.marked_objects - before.marked_objects;
}

/* ---- One ---- */

static void *make_one(void *unused)
{
    void **key = unseen(0), **value = unseen(0);
    held = key;
    held_too = gc_ephemeron_new(key, value);
    value[0] = key; /* which keeps nothing */
    value[1] = value;
    return NULL;
}

static void *has_value(void *unused)
{
    void **value = NULL, *key = gc_ephemeron_get(held_too, (void **)&value);
    return key && key == held && value && value[0] == key && value[1] == value
               ? held_too
               : NULL;
}

static void *is_over(void *unused)
{
    void *value = &value, *key = gc_ephemeron_get(held_too, &value);
    return !key && !value ? held_too : NULL;
}

static void a_value_lives_while_its_key_does(void **unused)
{
    apart(make_one, NULL);
    gc_collect();
    gc_collect();
    assert_non_null(apart(has_value, NULL));
    held = NULL;
    gc_collect();
    assert_non_null(apart(is_over, NULL));
    assert_int_equal(sh_weak_count(), 0);
}

static void a_value_dies_with_its_ephemeron(void **unused)
{
    apart(make_one, NULL);
    size_t live = live_after_collecting();
    held_too = NULL;
    assert_int_equal(live_after_collecting(), live - 2);
    assert_int_equal(sh_weak_count(), 0);
}

static void freeing_ends_it(void **unused)
{
    apart(make_one, NULL);
    gc_ephemeron_free(held_too);
    held_too = NULL;
    assert_int_equal(sh_weak_count(), 0);
    gc_ephemeron_free(NULL);
    apart(make_one, NULL);
    gc_free(held);
    held = NULL;
    assert_non_null(apart(is_over, NULL));
}

static void any_word_is_a_value(void **unused)
{
    void *key = gc_alloc(64, 0), *value = NULL;
    struct gc_ephemeron *one = gc_ephemeron_new(key, NULL),
                        *other = gc_ephemeron_new(key, (void *)77);
    gc_collect();
    assert_ptr_equal(gc_ephemeron_get(one, &value), key);
    assert_null(value);
    assert_ptr_equal(gc_ephemeron_get(other, &value), key);
    assert_ptr_equal(value, (void *)77);
    assert_ptr_equal(gc_ephemeron_get(other, NULL), key);
    gc_free(key);
}

static void only_live_objects_are_keys(void **unused)
{
    static char data[64];
    errno = 0;
    assert_null(gc_ephemeron_new(data, NULL));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(gc_ephemeron_new(NULL, NULL));
    assert_int_equal(errno, EINVAL);
}

/* A key of malloc's lives until it is freed; what lives by it is kept by the ephemeron. */
static void a_key_may_be_malloced(void **unused)
{
    static void *key;
    key = sh_malloc(100);
    void **value = gc_alloc(64, 0);
    value[0] = key;
    held_too = gc_ephemeron_new(key, value);
    held = key;
    value[1] = value;
    value = NULL;
    clear_stack();
    gc_collect();
    assert_non_null(apart(has_value, NULL));
    sh_free(key);
    assert_non_null(apart(is_over, NULL));
}

/* ---- Finalisers ---- */

static void finalise(void *object)
{
    void *value = NULL;
    MUST(gc_ephemeron_get(held_too, &value) == object && value);
    finalised++;
}

static const struct gc_type counted = {.finalise = finalise};

static void *make_finalised(void *unused)
{
    void **key = unseen(GC_ALLOC_FLAG_HAS_FINALISER), **value = unseen(0);
    key[0] = (void *)(uintptr_t)&counted;
    held_too = gc_ephemeron_new(key, value);
    return NULL;
}

/* As a long reference: it ends when the key is gone for good. */
static void a_finaliser_finds_the_value_of_its_object(void **unused)
{
    apart(make_finalised, NULL);
    gc_collect();
    assert_int_equal(finalised, 1);
    clear_stack();
    gc_collect();
    assert_non_null(apart(is_over, NULL));
}

/* ---- Chains ---- */

struct order {
    size_t count;
    bool backwards; /* the last key was made first */
    bool ring;      /* the last value is the first key */
    size_t size;    /* of a key */
};

/* ephemerons[i]: keys[i] -> keys[i + 1]. All ephemerons are held, and the first key. */
static void *make_chain(void *arg)
{
    struct order *order = arg;
    size_t count = order->count;
    void **keys = gc_alloc((count + 1) * sizeof *keys, 0);
    void **ephemerons = gc_alloc(count * sizeof *ephemerons, 0);
    for (size_t i = 0; i <= count; i++)
        keys[order->backwards ? count - i : i] = gc_alloc(order->size, 0);
    if (order->ring)
        keys[count] = keys[0];
    for (size_t i = 0; i < count; i++) {
        size_t k = order->backwards ? count - 1 - i : i;
        ephemerons[i] = gc_ephemeron_new(keys[k], keys[k + 1]);
        MUST(ephemerons[i]);
    }
    held = keys[0];
    held_too = ephemerons;
    gc_free(keys);
    return NULL;
}

static size_t count_ended(size_t count)
{
    size_t ended = 0;
    for (size_t i = 0; i < count; i++)
        ended += !gc_ephemeron_get(((struct gc_ephemeron **)held_too)[i], NULL);
    return ended;
}

static void *count_ended_apart(void *order)
{
    return (void *)count_ended(((struct order *)order)->count);
}

static size_t looks_for(struct order order)
{
    reset(NULL);
    apart(make_chain, &order);
    size_t before = sh_ephemeron_looks;
    gc_collect();
    size_t looks = sh_ephemeron_looks - before;
    assert_int_equal((size_t)apart(count_ended_apart, &order), 0);
    held = NULL;
    clear_stack();
    gc_collect();
    size_t ended = (size_t)apart(count_ended_apart, &order);
    /* A word somewhere may look like a key in the midst. */
    assert_in_range(ended, 1, order.count);
    return looks;
}

/* Counted, not timed: each link is looked at a few times, however long the chain. */
static void a_chain_takes_linear_time(void **unused)
{
    for (int backwards = 0; backwards < 2; backwards++) {
        size_t count = backwards ? LONG / 10 : LONG;
        size_t some = looks_for((struct order){count / 10, backwards, false, 16});
        size_t many = looks_for((struct order){count, backwards, false, 16});
        assert_in_range(some, count / 10, count / 10 * 5);
        assert_in_range(many, some * 9, some * 11);
    }
}

static void a_ring_goes_with_its_last_holder(void **unused)
{
    struct order order = {1000, false, true, 208};
    apart(make_chain, &order);
    gc_collect();
    assert_int_equal((size_t)apart(count_ended_apart, &order), 0);
    held = NULL;
    clear_stack();
    gc_collect();
    assert_int_equal((size_t)apart(count_ended_apart, &order), order.count);
    assert_int_equal(sh_weak_count(), 0);
}

/* Of large objects and leaves, whose markings take other ways. */
static void *make_mixed(void *unused)
{
    static const size_t sizes[] = {16, 100, 5000, 60000, 40};
    void **ephemerons = gc_alloc(500 * sizeof *ephemerons, 0);
    void *key = gc_alloc(16, 0);
    held = key;
    for (size_t i = 0; i < 500; i++) {
        /* The next key hangs at the end of a value; or is it, a leaf. */
        size_t size = sizes[i % 5];
        bool leaf = i % 7 == 0;
        void **value = gc_alloc(size, leaf ? GC_ALLOC_FLAG_LEAF : 0);
        void *next = leaf ? (void *)value : gc_alloc(i % 2 ? 16 : 50000, 0);
        if (!leaf)
            value[size / sizeof *value - 1] = next;
        ephemerons[i] = gc_ephemeron_new(key, value);
        key = next;
    }
    held_too = ephemerons;
    return NULL;
}

static void values_are_of_any_kind(void **unused)
{
    struct order order = {.count = 500};
    apart(make_mixed, NULL);
    gc_collect();
    gc_collect();
    assert_int_equal((size_t)apart(count_ended_apart, &order), 0);
    held = NULL;
    clear_stack();
    gc_collect();
    assert_in_range((size_t)apart(count_ended_apart, &order), 1, 500);
}

/* ---- Threads ---- */

enum { THREADS = 3, ROUNDS = 2000 };

static void *churn(void *seed)
{
    struct random random = {(uintptr_t)seed};
    void *keys[8] = {NULL};
    struct gc_ephemeron *ephemerons[64] = {NULL};
    for (unsigned round = 0; round < ROUNDS; round++) {
        uintptr_t *value = gc_alloc(64, 0);
        void **key = &keys[random_below(&random, 8)];
        if (!*key || random_below(&random, 4) == 0)
            *key = gc_alloc(32, 0);
        value[0] = (uintptr_t)*key;
        value[1] = ~(uintptr_t)value;
        ephemerons[round % 64] = gc_ephemeron_new(*key, value);
        value = NULL;
        struct gc_ephemeron *some = ephemerons[random_below(&random, 64)];
        void *found = some ? gc_ephemeron_get(some, (void **)&value) : NULL;
        MUST(!found == !value);
        MUST(!value || (value[0] == (uintptr_t)found && value[1] == ~(uintptr_t)value));
        if (round % 300 == 0)
            gc_collect();
    }
    return NULL;
}

static void threads_and_collections(void **unused)
{
    pthread_t threads[THREADS];
    size_t threshold = gc_set_threshold(64 << 10);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start(churn, (void *)(i + 1));
    for (unsigned i = 0; i < THREADS; i++)
        join(threads[i]);
    gc_set_threshold(threshold);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_value_lives_while_its_key_does),
        TEST(a_value_dies_with_its_ephemeron),
        TEST(freeing_ends_it),
        TEST(any_word_is_a_value),
        TEST(only_live_objects_are_keys),
        TEST(a_key_may_be_malloced),
        TEST(a_finaliser_finds_the_value_of_its_object),
        TEST(a_chain_takes_linear_time),
        TEST(a_ring_goes_with_its_last_holder),
        TEST(values_are_of_any_kind),
        TEST(threads_and_collections),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
