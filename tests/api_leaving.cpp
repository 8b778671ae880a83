/* SPDX-License-Identifier: MIT */
/*
 * Leaving our frames by another way than return: C++ exceptions and longjmp out of
 * finalisers and weak reference hooks, through gc_collect and gc_alloc; and callbacks
 * that allocate, collect, lock, and make threads. Also std::thread.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

extern "C" {
#include <setjmp.h>

#include <cmocka.h>
}

#include <splitheap/gc.h>

static const unsigned objects = 200;

static unsigned finalised, left;
static void (*deed)(void);

struct typed {
    const struct gc_type *type;
    size_t number;
};

static void finalise(void *object)
{
    if (static_cast<typed *>(object)->number >= objects)
        abort();
    finalised++;
    if (deed)
        deed();
}

static const struct gc_type type = {finalise};

static void finalise_with(void *object, void *context)
{
    if (context != &left)
        abort();
    finalise(object);
}

/* How an object has its finaliser. */
enum way { BY_TYPE, BY_SETTING };

static void make_one(enum way way, unsigned number)
{
    auto *p = static_cast<typed *>(
        gc_alloc(sizeof(typed), way == BY_TYPE ? GC_ALLOC_FLAG_HAS_FINALISER : 0));
    p->type = way == BY_TYPE ? &type : nullptr;
    p->number = number;
    if (way == BY_SETTING && gc_set_finaliser(p, finalise_with, &left) != 0)
        abort();
}

static void make_objects(enum way way)
{
    std::thread maker([way] {
        for (unsigned i = 0; i < objects; i++)
            make_one(way, i);
    });
    maker.join();
}

/* Until all but a few that stale words hold have been finalised. */
static void collect_all(void (*collect)(void))
{
    for (unsigned i = 0; i < 4 * objects && finalised < objects - 4; i++)
        collect();
    assert_in_range(finalised, objects - 4, objects);
    deed = nullptr;
    gc_collect();
    assert_false(gc_is_locked());
    void *p = gc_alloc(100, 0);
    assert_non_null(p);
    gc_free(p);
}

static void begin(void (*what)(void), enum way way = BY_TYPE)
{
    deed = nullptr;
    gc_collect();
    finalised = left = 0;
    make_objects(way);
    deed = what;
}

/* ---- Exceptions ---- */

static void throw_it()
{
    if (finalised % 3 == 0)
        throw std::runtime_error("out of a finaliser");
}

static void collect_and_catch()
{
    try {
        gc_collect();
    } catch (const std::runtime_error &) {
        left++;
    }
}

static void allocate_and_catch()
{
    try {
        for (unsigned i = 0; i < 100; i++)
            (void)!gc_alloc(10000, 0);
    } catch (const std::runtime_error &) {
        left++;
    }
}

static void exceptions_pass_through(void **)
{
    for (auto way : {BY_TYPE, BY_SETTING}) {
        begin(throw_it, way);
        collect_all(collect_and_catch);
        assert_true(left > 10);
    }
}

static void exceptions_pass_through_allocation(void **)
{
    size_t before = gc_set_threshold(100000);
    for (auto way : {BY_TYPE, BY_SETTING}) {
        begin(throw_it, way);
        collect_all(allocate_and_catch);
        assert_true(left > 10);
    }
    gc_set_threshold(before);
}

/* None is lost, and none comes twice. */
static void exceptions_pass_through_gc_run_finalisers(void **)
{
    for (auto way : {BY_TYPE, BY_SETTING}) {
        begin(throw_it, way);
        gc_set_finaliser_mode(GC_FINALISE_ON_DEMAND);
        gc_collect();
        size_t ran = 1;
        while (ran) {
            try {
                ran = gc_run_finalisers(SIZE_MAX);
            } catch (const std::runtime_error &) {
                left++;
            }
        }
        gc_set_finaliser_mode(GC_FINALISE_AT_ONCE);
        assert_in_range(finalised, objects - 4, objects);
        assert_int_equal(left, finalised / 3);
    }
}

/* Caught in a finaliser that had others run: that one goes on, and so do the rest. */
static void throw_and_catch_inside()
{
    unsigned before = left;
    try {
        gc_collect();
        throw_it();
    } catch (const std::runtime_error &) {
        left++;
    }
    if (left != before + (finalised % 3 == 0))
        abort();
}

static void exceptions_stay_inside(void **)
{
    begin(throw_and_catch_inside, BY_SETTING);
    gc_collect();
    assert_in_range(finalised, objects - 4, objects);
    assert_int_equal(left, finalised / 3);
}

/* ---- longjmp ---- */

static jmp_buf place;

static void jump()
{
    if (finalised % 5 == 0)
        longjmp(place, 1);
}

static void collect_and_be_jumped_out_of()
{
    if (setjmp(place) == 0)
        gc_collect();
    else
        left++;
}

static void jumps_pass_through(void **)
{
    for (auto way : {BY_TYPE, BY_SETTING}) {
        begin(jump, way);
        collect_all(collect_and_be_jumped_out_of);
        assert_true(left > 10);
    }
}

static void sweep_all_below(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = *above;
    gc_sweep_all();
    *above = frame[0];
}

/* The frame that was left says nothing of those that lie below it. */
static void all_is_finalised_after_a_jump(void **)
{
    volatile char here = 0;
    begin(jump);
    collect_and_be_jumped_out_of();
    assert_int_equal(left, 1);
    deed = nullptr;
    sweep_all_below(&here);
    assert_int_equal(finalised, objects);
}

/* ---- Callbacks that use the library ---- */

static void use_everything()
{
    void *p = gc_alloc(300, 0);
    if (!p)
        abort();
    gc_free(p);
    if (finalised % 20 == 0)
        gc_collect();
    gc_lock();
    gc_lock();
    if (gc_alloc(10, 0))
        abort();
    gc_unlock();
    gc_unlock();
    if (finalised % 20 == 1)
        std::thread([] {
            if (gc_thread_register() != 0 || !gc_alloc(10, 0))
                abort();
            gc_collect();
        }).join();
}

static void collect()
{
    gc_collect();
}

static void callbacks_use_everything(void **)
{
    begin(use_everything);
    collect_all(collect);
}

/* ---- std::thread ---- */

static void threads_of_the_cxx_library(void **)
{
    std::vector<std::thread> threads;
    for (unsigned n = 0; n < 4; n++)
        threads.emplace_back([n] {
            void *own[2000];
            for (unsigned i = 0; i < 2000; i++) {
                own[i] = gc_alloc(i % 300 + 1, 0);
                if (i % 500 == n)
                    gc_collect();
            }
            for (void *p : own)
                if (gc_nbytes(p) == 0)
                    abort();
        });
    for (auto &thread : threads)
        thread.join();
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exceptions_pass_through),
        cmocka_unit_test(exceptions_pass_through_allocation),
        cmocka_unit_test(exceptions_pass_through_gc_run_finalisers),
        cmocka_unit_test(exceptions_stay_inside), cmocka_unit_test(jumps_pass_through),
        cmocka_unit_test(callbacks_use_everything),
        cmocka_unit_test(threads_of_the_cxx_library),
        cmocka_unit_test(all_is_finalised_after_a_jump), /* it takes all objects away */
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
