/* SPDX-License-Identifier: MIT */
/* heaps/deferred.h: frees that wait for the last gc_unlock. */
#include "tests/misuse.h"

#include "heaps/deferred.h"
#include "tests/spans.h"

#define MANY 1000 /* over many chunks of the list */

static void *objects[MANY];

static void (*in_hook)(void *object);
static unsigned told;

void gc_weakref_about_to_be_freed(void *object)
{
    told++;
    if (in_hook)
        in_hook(object);
}

static int begin(void **unused)
{
    return give_area((size_t)64 << 20);
}

static void make_objects(size_t bytes, unsigned flags)
{
    for (size_t i = 0; i < MANY; i++) {
        objects[i] = gc_alloc(bytes, flags);
        assert_non_null(objects[i]);
    }
}

static size_t live_objects(void)
{
    size_t live = 0;
    for (size_t i = 0; i < MANY; i++)
        live += gc_nbytes(objects[i]) != 0;
    return live;
}

static void freed_inside_lives_until_the_last_unlock(void **unused)
{
    make_objects(100, 0);
    gc_lock();
    gc_lock();
    for (size_t i = 0; i < MANY; i++)
        gc_free(objects[i]);
    assert_int_equal(live_objects(), MANY);
    assert_non_null(sh_tls.self->deferred);
    gc_unlock();
    assert_int_equal(live_objects(), MANY);
    gc_unlock();
    assert_int_equal(live_objects(), 0);
    assert_null(sh_tls.self->deferred);
}

static void any_kind_and_size_can_wait(void **unused)
{
    static const size_t sizes[] = {1, 32768, 40000, 1000000, (size_t)40 << 20};
    void *p[15];
    for (size_t i = 0; i < 5; i++) {
        p[i * 3] = gc_alloc(sizes[i], 0);
        p[i * 3 + 1] = gc_alloc(sizes[i], GC_ALLOC_FLAG_LEAF);
        p[i * 3 + 2] = sh_malloc(sizes[i]);
    }
    gc_lock();
    for (int i = 0; i < 15; i++)
        gc_free(p[i]);
    for (int i = 0; i < 15; i++)
        assert_int_not_equal(gc_nbytes(p[i]), 0);
    gc_unlock();
    for (int i = 0; i < 15; i++)
        assert_int_equal(gc_nbytes(p[i]), 0);
}

static void adding_is_all_that_it_does(void **unused)
{
    make_objects(48, 0);
    for (size_t i = 0; i < MANY; i++)
        assert_true(sh_deferred_add(objects[i]));
    assert_int_equal(live_objects(), MANY);
    sh_deferred_free(sh_tls.self);
    assert_int_equal(live_objects(), 0);
    assert_null(sh_tls.self->deferred);
    sh_deferred_free(sh_tls.self);
}

static void *end_inside(void *unused)
{
    gc_lock();
    for (size_t i = 0; i < MANY; i++)
        gc_free(objects[i]);
    MUST(live_objects() == MANY);
    gc_unlock();
    return NULL;
}

static void others_objects_can_wait(void **unused)
{
    make_objects(100, 0);
    in_thread(end_inside, NULL);
    assert_int_equal(live_objects(), 0);
}

static void *lock_and_unlock(void *unused)
{
    gc_lock();
    gc_unlock();
    return NULL;
}

/* The list is the thread's: what this one put off is not another's to free. */
static void anothers_unlock_frees_nothing(void **unused)
{
    make_objects(100, 0);
    for (size_t i = 0; i < MANY; i++)
        assert_true(sh_deferred_add(objects[i]));
    in_thread(lock_and_unlock, NULL);
    assert_int_equal(live_objects(), MANY);
    lock_and_unlock(NULL);
    assert_int_equal(live_objects(), 0);
}

static void without_a_record_nothing_is_put_off(void **unused)
{
    void *p = gc_alloc(100, 0);
    struct sh_thread *self = sh_tls.self;
    sh_tls.self = NULL;
    bool added = sh_deferred_add(p);
    sh_tls.self = self;
    assert_false(added);
    assert_null(self->deferred);
    gc_free(p);
}

/* ---- What freeing calls may free ---- */

static size_t next_object;

static void free_the_next(void *object)
{
    if (next_object < MANY)
        gc_free(objects[next_object++]);
}

static void a_hook_may_put_off_more(void **unused)
{
    make_objects(100, 0);
    for (size_t i = 0; i < MANY; i++)
        gc_weakref_mark(objects[i]);
    told = 0;
    next_object = 1;
    in_hook = free_the_next;
    gc_lock();
    gc_free(objects[0]);
    assert_int_equal(told, 0);
    gc_unlock();
    in_hook = NULL;
    assert_int_equal(told, MANY);
    assert_int_equal(live_objects(), 0);
    assert_null(sh_tls.self->deferred);
}

/* ---- Mistakes ---- */

static void free_twice_inside(void *p)
{
    gc_lock();
    gc_free(p);
    gc_free(p);
    gc_unlock();
}

static void free_inside(void *p)
{
    gc_lock();
    gc_free(p);
    _exit(1); /* at once, not by gc_unlock */
}

static void mistakes_are_seen(void **unused)
{
    char *p = gc_alloc(100, 0), *neighbour = gc_alloc(100, 0);
    static char foreign;
    expect_end(free_twice_inside, p, DOUBLE_FREE, "gc_free", p, (size_t)112);
    expect_end(
        free_inside, p + 8, INTERIOR, "gc_free", p + 8, (size_t)8, (size_t)112, p);
    expect_end(free_inside, &foreign, FOREIGN, "gc_free", &foreign);
    gc_free(p);
    expect_end(free_inside, p, DOUBLE_FREE, "gc_free", p, (size_t)112);
    gc_free(neighbour);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_inside_lives_until_the_last_unlock),
        cmocka_unit_test(any_kind_and_size_can_wait),
        cmocka_unit_test(adding_is_all_that_it_does),
        cmocka_unit_test(others_objects_can_wait),
        cmocka_unit_test(anothers_unlock_frees_nothing),
        cmocka_unit_test(without_a_record_nothing_is_put_off),
        cmocka_unit_test(a_hook_may_put_off_more),
        cmocka_unit_test(mistakes_are_seen),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
