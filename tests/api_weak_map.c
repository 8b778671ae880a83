/* SPDX-License-Identifier: MIT */
/* Weak maps: by key, by value, by both; and going over them while they change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include <splitheap/weakref.h>

#include "heaps/limit.h"
#include "heaps/sweep.h"
#include "heaps/weak_table.h"
#include "tests/heap.h"

#define BOTH (GC_WEAK_KEYS | GC_WEAK_VALUES)

static struct gc_weak_map *map;
static void *held[BATCH];

static int reset(void **unused)
{
    map = NULL;
    memset(held, 0, sizeof held);
    gc_sweep_all();
    return 0;
}

static size_t count(void)
{
    size_t entries = gc_weak_map_count(map);
    clear_stack();
    return entries;
}

/* ---- What goes when ---- */

/* The one side of each entry is held, or (`both`) neither is; a value leads to its key. */
static void *fill_map(void *arg)
{
    unsigned weak = (unsigned)(uintptr_t)arg;
    map = gc_weak_map_new(weak & BOTH);
    for (size_t i = 0; i < BATCH; i++) {
        void **key = gc_alloc(32, 0), **value = gc_alloc(32, 0);
        value[0] = key;
        value[1] = word(i);
        MUST(gc_weak_map_set(map, key, value) == 0);
        held[i] = (weak & BOTH) == GC_WEAK_KEYS ? (void *)key : (void *)value;
    }
    return NULL;
}

static void *all_there(void *unused)
{
    void **value;
    for (size_t i = 0; i < BATCH; i++) {
        void *key = gc_weak_map_get(map, held[i], NULL) ? held[i] : *(void **)held[i];
        if (!gc_weak_map_get(map, key, (void **)&value) || value[0] != key ||
            value[1] != word(i))
            return NULL;
    }
    return map;
}

static void entries_go_with(unsigned weak)
{
    apart(fill_map, word(weak));
    gc_collect();
    gc_collect();
    assert_int_equal(count(), BATCH);
    assert_non_null(apart(all_there, NULL));
    memset(held, 0, BATCH / 2 * sizeof *held);
    gc_collect();
    assert_in_range(count(), BATCH / 2, BATCH / 2 + SLACK);
    memset(held, 0, sizeof held);
    gc_collect();
    assert_in_range(count(), 0, SLACK);
    assert_in_range(sh_weak_count(), 0, 4 * SLACK);
}

static void entries_go_with_their_keys(void **unused)
{
    entries_go_with(GC_WEAK_KEYS);
}

static void entries_go_with_their_values(void **unused)
{
    entries_go_with(GC_WEAK_VALUES);
}

static void entries_go_with_either(void **unused)
{
    entries_go_with(BOTH);
}

static void *fill_and_hold_keys(void *weak)
{
    map = gc_weak_map_new((unsigned)(uintptr_t)weak);
    for (size_t i = 0; i < BATCH; i++) {
        held[i] = gc_alloc(32, 0);
        MUST(gc_weak_map_set(map, held[i], gc_alloc(32, 0)) == 0);
    }
    return NULL;
}

static void what_is_held_on_one_side_only(void **unused)
{
    apart(fill_and_hold_keys, word(BOTH));
    gc_collect();
    assert_in_range(count(), 0, SLACK);
    apart(fill_and_hold_keys, word(GC_WEAK_VALUES));
    gc_collect();
    assert_in_range(count(), 0, SLACK);
    apart(fill_and_hold_keys, word(GC_WEAK_KEYS));
    gc_collect();
    assert_int_equal(count(), BATCH);
}

static void a_dropped_map_goes_with_all_it_has(void **unused)
{
    apart(fill_map, word(GC_WEAK_KEYS));
    gc_collect();
    map = NULL;
    gc_collect();
    assert_in_range(sh_weak_count(), 0, 2 * SLACK);
}

/* ---- Setting ---- */

static void values_can_be_set_again(void **unused)
{
    for (unsigned weak = 1; weak <= BOTH; weak++) {
        void *key = gc_alloc(32, 0), *one = gc_alloc(32, 0), *other = gc_alloc(32, 0);
        void *value;
        map = gc_weak_map_new(weak);
        assert_false(gc_weak_map_get(map, key, &value));
        assert_int_equal(gc_weak_map_set(map, key, one), 0);
        assert_int_equal(gc_weak_map_set(map, key, other), 0);
        assert_true(gc_weak_map_get(map, key, &value));
        assert_ptr_equal(value, other);
        assert_int_equal(gc_weak_map_count(map), 1);
        /* What it was is forgotten. */
        gc_free(one);
        assert_true(gc_weak_map_get(map, key, NULL));
        gc_free(weak & GC_WEAK_KEYS ? key : other);
        assert_false(gc_weak_map_get(map, key, &value));
        assert_int_equal(gc_weak_map_count(map), 0);
        gc_free(weak & GC_WEAK_KEYS ? other : key);
        map = NULL;
    }
    assert_int_equal(sh_weak_count(), 0);
}

static void what_is_held_is_any_word(void **unused)
{
    void *object = gc_alloc(32, 0), *value;
    map = gc_weak_map_new(GC_WEAK_KEYS);
    assert_int_equal(gc_weak_map_set(map, object, NULL), 0);
    assert_true(gc_weak_map_get(map, object, &value));
    assert_null(value);
    assert_int_equal(gc_weak_map_set(map, object, word(UINTPTR_MAX)), 0);
    assert_true(gc_weak_map_get(map, object, &value));
    assert_ptr_equal(value, word(UINTPTR_MAX));
    map = gc_weak_map_new(GC_WEAK_VALUES);
    for (uintptr_t i = 0; i < 100; i++)
        assert_int_equal(gc_weak_map_set(map, word(i), object), 0);
    for (uintptr_t i = 0; i < 100; i++) {
        assert_true(gc_weak_map_get(map, word(i), &value));
        assert_ptr_equal(value, object);
    }
    gc_free(object);
    assert_int_equal(gc_weak_map_count(map), 0);
}

static void what_is_wrong_is_refused(void **unused)
{
    static char data[64];
    void *object = gc_alloc(32, 0);
    errno = 0;
    assert_null(gc_weak_map_new(0));
    assert_int_equal(errno, EINVAL);
    assert_null(gc_weak_map_new(4));
    map = gc_weak_map_new(GC_WEAK_KEYS);
    assert_int_equal(gc_weak_map_set(map, data, object), EINVAL);
    assert_int_equal(gc_weak_map_set(map, NULL, object), EINVAL);
    assert_false(gc_weak_map_remove(map, data));
    map = gc_weak_map_new(BOTH);
    assert_int_equal(gc_weak_map_set(map, object, data), EINVAL);
    assert_int_equal(gc_weak_map_set(map, data, object), EINVAL);
    assert_int_equal(gc_weak_map_count(map), 0);
    assert_int_equal(sh_weak_count(), 0);
    /* Where something was there, it still is. */
    assert_int_equal(gc_weak_map_set(map, object, object), 0);
    assert_int_equal(gc_weak_map_set(map, object, data), EINVAL);
    assert_true(gc_weak_map_get(map, object, NULL));
    gc_lock();
    assert_int_equal(gc_weak_map_set(map, object, object), ENOMEM);
    errno = 0;
    assert_null(gc_weak_map_iterate(map));
    assert_int_equal(errno, ENOMEM);
    gc_unlock();
    gc_free(object);
}

/* ---- Against an array ---- */

static void as_a_model_does(unsigned weak)
{
    static uintptr_t model[BATCH];
    struct random random = {weak + 7};
    map = gc_weak_map_new(weak);
    for (size_t i = 0; i < BATCH; i++) {
        held[i] = gc_alloc(32, 0);
        model[i] = 0;
    }
    for (unsigned step = 0; step < 30000; step++) {
        /* Mostly growing, then mostly shrinking. */
        size_t i = random_below(&random, BATCH);
        bool grow = random_below(&random, 8) < (step / 6000 % 2 ? 1 : 7);
        void *value = NULL;
        MUST(gc_weak_map_get(map, held[i], &value) == (model[i] != 0));
        MUST(value == word(model[i]));
        if (grow) {
            size_t v = random_below(&random, BATCH);
            MUST(gc_weak_map_set(map, held[i], held[v]) == 0);
            model[i] = (uintptr_t)held[v];
        } else {
            MUST(gc_weak_map_remove(map, held[i]) == (model[i] != 0));
            model[i] = 0;
        }
    }
    size_t entries = 0;
    for (size_t i = 0; i < BATCH; i++)
        entries += model[i] != 0;
    assert_int_equal(gc_weak_map_count(map), entries);
    memset(model, 0, sizeof model);
}

static void it_does_as_a_model_does(void **unused)
{
    for (unsigned weak = 1; weak <= BOTH; weak++)
        as_a_model_does(weak);
}

static void it_grows_and_shrinks(void **unused)
{
    map = gc_weak_map_new(GC_WEAK_KEYS);
    size_t small = used_bytes();
    struct batch {
        void *keys[20 * BATCH];
    } *batch = gc_alloc(sizeof *batch, 0);
    for (size_t i = 0; i < 20 * BATCH; i++) {
        batch->keys[i] = gc_alloc(16, 0);
        assert_int_equal(gc_weak_map_set(map, batch->keys[i], NULL), 0);
    }
    assert_int_equal(gc_weak_map_count(map), 20 * BATCH);
    for (size_t i = 0; i < 20 * BATCH; i++)
        assert_true(gc_weak_map_remove(map, batch->keys[i]));
    gc_free(batch);
    clear_stack();
    gc_collect();
    assert_in_range(used_bytes(), 0, small + 200000);
}

/* There is room for entries, in cells between others, but not for more buckets: that is not
 * found out, by collections, at each new key. */
static void without_memory_for_buckets_it_goes_on(void **unused)
{
    enum { KEYS = 4 * BATCH };
    struct batch {
        void *keys[KEYS], *others[2 * KEYS];
    } *batch = gc_alloc(sizeof *batch, 0);
    map = gc_weak_map_new(GC_WEAK_KEYS);
    for (size_t i = 0; i < KEYS; i++)
        batch->keys[i] = gc_alloc(16, 0);
    for (size_t i = 0; i < 2 * KEYS; i++)
        batch->others[i] = gc_alloc(64, 0);
    MUST(gc_weak_map_set(map, batch->keys[0], NULL) == 0);
    for (size_t i = 0; i < 2 * KEYS; i += 2)
        gc_free(batch->others[i]);
    clear_stack();
    gc_collect();
    sh_heap_trim();
    uint32_t before = sh_load_relaxed(&sh_epoch);
    gc_set_max_heap(sh_limit_used() * SH_PAGE_SIZE);
    for (size_t i = 1; i < KEYS; i++) {
        MUST(gc_weak_map_set(map, batch->keys[i], word(i)) == 0);
        MUST(sh_load_relaxed(&sh_epoch) - before < 200);
    }
    assert_in_range(sh_load_relaxed(&sh_epoch) - before, 1, 200); /* there was none */
    gc_set_max_heap(0);
    for (size_t i = 0; i < KEYS; i++) {
        void *value;
        MUST(gc_weak_map_get(map, batch->keys[i], &value) && value == word(i));
        MUST(gc_weak_map_set(map, batch->keys[i], NULL) == 0);
    }
    assert_int_equal(gc_weak_map_count(map), KEYS);
}

/* Entries move to other buckets by and by: what is looked for, changed, dies or is gone over
 * meanwhile is where it is. */
static void what_moves_is_found(void **unused)
{
    static bool there[20 * BATCH];
    enum { KEYS = 20 * BATCH };
    struct batch {
        void *keys[KEYS];
    } *batch = gc_alloc(sizeof *batch, 0);
    map = gc_weak_map_new(GC_WEAK_KEYS);
    struct random random = {.state = 5};
    for (size_t i = 0; i < KEYS; i++)
        batch->keys[i] = gc_alloc(16, 0);
    for (unsigned round = 0; round < 3; round++) {
        size_t count = 0;
        for (size_t i = 0; i < KEYS; i++) {
            if (round % 2 == 0)
                MUST(gc_weak_map_set(map, batch->keys[i], word(i)) == 0);
            else
                gc_weak_map_remove(map, batch->keys[i]);
            there[i] = round % 2 == 0;
            size_t j = random_below(&random, KEYS);
            MUST(gc_weak_map_get(map, batch->keys[j], NULL) == there[j]);
            if (i % 999 == 0) {
                struct gc_weak_map_iter *iter = gc_weak_map_iterate(map);
                for (count = 0; gc_weak_map_next(iter, NULL, NULL);)
                    count++;
                MUST(count == (round % 2 ? KEYS - 1 - i : i + 1));
                gc_free(iter);
            }
        }
        memset(there, round % 2 == 0, sizeof there);
    }
    assert_int_equal(gc_weak_map_count(map), KEYS);
}

/* ---- Going over it ---- */

static size_t go_over(struct gc_weak_map_iter *iter, unsigned char *times)
{
    void *key, **value;
    size_t entries = 0;
    while (gc_weak_map_next(iter, &key, (void **)&value)) {
        MUST(value[0] == key);
        times[(uintptr_t)value[1]]++;
        entries++;
    }
    MUST(!gc_weak_map_next(iter, &key, (void **)&value));
    return entries;
}

static void each_entry_comes_once(void **unused)
{
    unsigned char times[BATCH] = {0};
    apart(fill_map, word(GC_WEAK_KEYS));
    assert_int_equal(go_over(gc_weak_map_iterate(map), times), BATCH);
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(times[i], 1);
    map = gc_weak_map_new(BOTH);
    assert_int_equal(go_over(gc_weak_map_iterate(map), times), 0);
}

/* Those removed meanwhile do not come, nor do new ones; the others do, once. */
static void it_may_change_meanwhile(void **unused)
{
    unsigned char times[2 * BATCH] = {0};
    apart(fill_map, word(GC_WEAK_KEYS));
    struct gc_weak_map_iter *iter = gc_weak_map_iterate(map);
    void *key;
    assert_true(gc_weak_map_next(iter, &key, NULL));
    for (size_t i = 0; i < BATCH; i++)
        if (i % 3 == 0 && held[i] != key) {
            assert_true(gc_weak_map_remove(map, held[i]));
            held[i] = NULL;
        }
    void **fresh = gc_alloc(5 * BATCH * sizeof *fresh, 0);
    for (size_t i = 0; i < 5 * BATCH; i++) {
        fresh[i] = gc_alloc(32, 0);
        assert_int_equal(gc_weak_map_set(map, fresh[i], fresh[i]), 0);
    }
    gc_collect();
    size_t left = 0;
    for (size_t i = 0; i < BATCH; i++)
        left += held[i] && held[i] != key;
    assert_int_equal(go_over(iter, times), left);
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(times[i], held[i] && held[i] != key);
}

static struct gc_weak_map_iter *kept_iter;

static void *iterate(void *unused)
{
    kept_iter = gc_weak_map_iterate(map);
    return NULL;
}

static void *go_over_apart(void *unused)
{
    unsigned char times[BATCH] = {0};
    return word(go_over(kept_iter, times));
}

static void it_keeps_no_key(void **unused)
{
    apart(fill_map, word(GC_WEAK_KEYS));
    apart(iterate, NULL);
    memset(held, 0, BATCH / 4 * sizeof *held);
    gc_collect();
    assert_in_range((size_t)apart(go_over_apart, NULL), BATCH - BATCH / 4,
        BATCH - BATCH / 4 + SLACK);
    kept_iter = NULL;
}

/* ---- Threads ---- */

enum { THREADS = 3, ROUNDS = 1500 };

static void *churn(void *seed)
{
    struct random random = {(uintptr_t)seed};
    void *keys[64] = {NULL};
    for (unsigned round = 0; round < ROUNDS; round++) {
        void **key = &keys[random_below(&random, 64)], **value;
        if (!*key || random_below(&random, 3) == 0) {
            *key = gc_alloc(32, 0);
            value = gc_alloc(32, 0);
            value[0] = *key;
            MUST(gc_weak_map_set(map, *key, value) == 0);
        } else if (random_below(&random, 5) == 0) {
            gc_weak_map_remove(map, *key);
            *key = NULL;
        } else {
            MUST(gc_weak_map_get(map, *key, (void **)&value));
            MUST(value[0] == *key);
        }
        if (round % 100 == 0) {
            struct gc_weak_map_iter *iter = gc_weak_map_iterate(map);
            void *each;
            while (gc_weak_map_next(iter, &each, (void **)&value))
                MUST(value[0] == each);
        }
        if (round % 500 == 0)
            gc_collect();
    }
    return NULL;
}

static void threads_share_one(void **unused)
{
    pthread_t threads[THREADS];
    size_t threshold = gc_set_threshold(64 << 10);
    map = gc_weak_map_new(GC_WEAK_KEYS);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start(churn, word(i + 1));
    for (unsigned i = 0; i < THREADS; i++)
        join(threads[i]);
    gc_set_threshold(threshold);
    clear_stack();
    gc_collect();
    assert_in_range(count(), 0, THREADS * 64);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(entries_go_with_their_keys),
        TEST(entries_go_with_their_values),
        TEST(entries_go_with_either),
        TEST(what_is_held_on_one_side_only),
        TEST(a_dropped_map_goes_with_all_it_has),
        TEST(values_can_be_set_again),
        TEST(what_is_held_is_any_word),
        TEST(what_is_wrong_is_refused),
        TEST(it_does_as_a_model_does),
        TEST(it_grows_and_shrinks),
        TEST(without_memory_for_buckets_it_goes_on),
        TEST(what_moves_is_found),
        TEST(each_entry_comes_once),
        TEST(it_may_change_meanwhile),
        TEST(it_keeps_no_key),
        TEST(threads_share_one),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
