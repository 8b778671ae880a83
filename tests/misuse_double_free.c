/* SPDX-License-Identifier: MIT */
/* Freeing twice, by whatever thread and whatever road, is seen at once. */
#include "tests/misuse.h"

#define LARGE ((size_t)100000)
#define HUGE_SIZE ((size_t)40 << 20)

static void *alloc_explicit(size_t size)
{
    return sh_malloc(size);
}

static void *alloc_scan(size_t size)
{
    return gc_alloc(size, 0);
}

static void *alloc_leaf(size_t size)
{
    return gc_alloc(size, GC_ALLOC_FLAG_LEAF);
}

static void *alloc_final(size_t size)
{
    return gc_alloc(size, GC_ALLOC_FLAG_HAS_FINALISER);
}

static void *(*const makers[])(size_t) = {
    alloc_explicit, alloc_scan, alloc_leaf, alloc_final};
#define MAKERS (sizeof makers / sizeof makers[0])

/* Neighbours in the span live on, so that the span does. */
static void *make(size_t maker, size_t size)
{
    static void *volatile held[1000];
    static size_t count;
    held[count++ % 1000] = makers[maker](size);
    SH_KEEP(held[0]);
    return makers[maker](size);
}

/* ---- In one thread ---- */

static void at_once(void **unused)
{
    for (size_t m = 0; m < MAKERS; m++) {
        for (size_t t = 0; t < TAKERS; t++) {
            void *p = make(m, 100);
            sh_free(p);
            expect_end(
                takers[t].function, p, DOUBLE_FREE, takers[t].name, p, (size_t)112);
        }
    }
}

static void of_every_size_class(void **unused)
{
    for (size_t size = 16; size <= 32768; size *= 2) {
        void *p = make(0, size);
        sh_free(p);
        expect_end(call_free, p, DOUBLE_FREE, "free", p, size);
        p = make(1, size);
        gc_free(p);
        expect_end(call_gc_free, p, DOUBLE_FREE, "gc_free", p, size);
    }
}

static void after_others_came_and_went(void **unused)
{
    void *at[300];
    for (int i = 0; i < 300; i++)
        at[i] = sh_malloc(64);
    for (int i = 0; i < 300; i += 2)
        sh_free(at[i]);
    for (int i = 0; i < 300; i += 20)
        expect_end(call_free, at[i], DOUBLE_FREE, "free", at[i], (size_t)64);
    for (int i = 1; i < 300; i += 2)
        sh_free(at[i]);
}

static void of_a_large_object(void **unused)
{
    for (size_t m = 0; m < MAKERS; m++) {
        for (size_t t = 0; t < TAKERS; t++) {
            void *p = make(m, LARGE);
            sh_free(p);
            expect_end(takers[t].function, p, FREE_PAGE, takers[t].name, p);
        }
    }
}

static void of_a_huge_object(void **unused)
{
    for (size_t m = 0; m < MAKERS; m++) {
        for (size_t t = 0; t < TAKERS; t++) {
            void *p = makers[m](HUGE_SIZE);
            sh_free(p);
            expect_end(takers[t].function, p, FOREIGN, takers[t].name, p);
        }
    }
}

static void after_realloc_moved_it(void **unused)
{
    void *held = sh_malloc(100), *p = sh_malloc(100);
    void *q = sh_realloc(p, 1000);
    assert_ptr_not_equal(p, q);
    expect_end(call_free, p, DOUBLE_FREE, "free", p, (size_t)112);
    void *r = gc_alloc(100, 0);
    void *s = gc_realloc(r, 1000, true);
    assert_ptr_not_equal(r, s);
    expect_end(call_gc_free, r, DOUBLE_FREE, "gc_free", r, (size_t)112);
    sh_free(held);
}

static void after_realloc_to_0(void **unused)
{
    void *held = sh_malloc(100), *p = sh_malloc(100);
    sh_realloc(p, 0);
    expect_end(call_free, p, DOUBLE_FREE, "free", p, (size_t)112);
    sh_free(held);
}

/* ---- In a magazine ---- */

/* A child's magazines are empty at first, so it is the child that frees. */
#define MAGAZINE_SIZE ((size_t)1024)
#define ROUNDS 20
#define MANY 600 /* more than the magazine has room for */

static void *rounds[MANY];
static size_t freed;
static void (*mistake_then)(void *p);

static void make_rounds(void)
{
    if (rounds[0])
        return;
    for (size_t i = 0; i < MANY; i++) {
        rounds[i] = sh_malloc(MAGAZINE_SIZE);
        void *volatile beside = sh_malloc(MAGAZINE_SIZE); /* so that the span stays */
        SH_KEEP(beside);
    }
}

static void free_then(void *p)
{
    for (size_t i = 0; i < freed; i++)
        sh_free(rounds[i]);
    mistake_then(p);
}

static void expect_double_free(void *p)
{
    for (size_t t = 0; t < TAKERS; t++) {
        mistake_then = takers[t].function;
        expect_end(free_then, p, DOUBLE_FREE, takers[t].name, p, MAGAZINE_SIZE);
    }
}

/* The cell on top, one in the midst, the oldest. */
static void of_what_lies_in_the_magazine(void **unused)
{
    make_rounds();
    freed = ROUNDS;
    expect_double_free(rounds[ROUNDS - 1]);
    expect_double_free(rounds[ROUNDS / 2]);
    expect_double_free(rounds[0]);
    mistake_then = call_free;
    for (size_t i = 0; i < ROUNDS; i += 3) {
        char *p = rounds[i];
        expect_end(
            free_then, p + 16, INTERIOR, "free", p + 16, (size_t)16, MAGAZINE_SIZE, p);
    }
}

/* The older ones went back to their spans. */
static void of_what_was_unloaded(void **unused)
{
    make_rounds();
    freed = MANY;
    expect_double_free(rounds[0]);
    expect_double_free(rounds[100]);
    expect_double_free(rounds[MANY - 1]);
    mistake_then = call_gc_free;
    for (size_t i = 0; i < MANY; i += 50)
        expect_end(
            free_then, rounds[i], DOUBLE_FREE, "gc_free", rounds[i], MAGAZINE_SIZE);
}

static void hand_out_and_free_twice(void *p)
{
    if (sh_malloc(MAGAZINE_SIZE) != p)
        return;
    sh_free(p);
    sh_free(p);
}

static void of_what_came_and_went(void **unused)
{
    make_rounds();
    freed = ROUNDS;
    void *top = rounds[ROUNDS - 1];
    mistake_then = hand_out_and_free_twice;
    expect_end(free_then, top, DOUBLE_FREE, "free", top, MAGAZINE_SIZE);
}

/* ---- In several ---- */

static void *free_it(void *p)
{
    sh_free(p);
    return NULL;
}

static void free_elsewhere(void *p)
{
    in_thread(free_it, p);
}

/*
 * The others wait to be told: making a thread between the two frees would allocate, and
 * might be given what the first one freed.
 */
static _Atomic uint32_t turn;

static void *free_at_1(void *p)
{
    await_flag(&turn, 1);
    sh_free(p);
    return NULL;
}

static void *free_at_2(void *p)
{
    await_flag(&turn, 2);
    sh_free(p);
    return NULL;
}

static void another_frees_then_the_owner(void *p)
{
    in_thread(free_it, p);
    sh_free(p);
}

static void the_owner_frees_then_another(void *p)
{
    pthread_t other = start(free_at_1, p);
    sh_free(p);
    set_flag(&turn, 1);
    join(other);
}

static void two_others_free(void *p)
{
    pthread_t first = start(free_at_1, p);
    pthread_t second = start(free_at_2, p);
    set_flag(&turn, 1);
    join(first);
    set_flag(&turn, 2);
    join(second);
}

static void by_other_threads(void **unused)
{
    static void (*const ways[])(void *) = {
        another_frees_then_the_owner, the_owner_frees_then_another, two_others_free};
    for (size_t w = 0; w < 3; w++) {
        for (size_t m = 0; m < MAKERS; m++) {
            void *p = make(m, 100);
            expect_end(ways[w], p, DOUBLE_FREE, "free", p, (size_t)112);
            p = make(m, LARGE);
            expect_end(ways[w], p, FREE_PAGE, "free", p);
            p = makers[m](HUGE_SIZE);
            expect_end(ways[w], p, FOREIGN, "free", p);
            sh_free(p);
        }
    }
}

static void *make_100(void *unused)
{
    make(0, 100);
    return make(0, 100);
}

/* It lies in its owner's magazine, who is somebody else. */
static void of_what_another_has_in_its_magazine(void **unused)
{
    make_rounds();
    freed = ROUNDS;
    mistake_then = free_elsewhere;
    for (size_t i = 0; i < ROUNDS; i += 6)
        expect_end(free_then, rounds[i], DOUBLE_FREE, "free", rounds[i], MAGAZINE_SIZE);
}

static _Atomic uint32_t freed_there;

static void *free_and_wait(void *p)
{
    MUST(gc_thread_register() == 0);
    sh_free(sh_malloc(MAGAZINE_SIZE)); /* a magazine to put it in */
    sh_free(p);
    set_flag(&freed_there, 1);
    for (;;)
        sleep_us(1000000);
    return NULL;
}

/* It lies in the magazine of a thread that lives on; the owner frees it, or a third. */
static void another_keeps_it_and_the_owner_frees(void *p)
{
    start(free_and_wait, p);
    await_flag(&freed_there, 1);
    sh_free(p);
}

static void another_keeps_it_and_a_third_frees(void *p)
{
    start(free_and_wait, p);
    await_flag(&freed_there, 1);
    in_thread(free_it, p);
}

static void of_what_lies_in_anothers_magazine(void **unused)
{
    make_rounds();
    void *p = rounds[MANY / 2];
    expect_end(
        another_keeps_it_and_the_owner_frees, p, DOUBLE_FREE, "free", p, MAGAZINE_SIZE);
    expect_end(
        another_keeps_it_and_a_third_frees, p, DOUBLE_FREE, "free", p, MAGAZINE_SIZE);
}

/* The owner has ended; nobody has adopted the span yet. */
static void of_what_a_dead_thread_left(void **unused)
{
    void *p = in_thread(make_100, NULL);
    expect_end(two_others_free, p, DOUBLE_FREE, "free", p, (size_t)112);
    expect_end(another_frees_then_the_owner, p, DOUBLE_FREE, "free", p, (size_t)112);
}

static _Atomic uint32_t go;

static void *free_on_go(void *p)
{
    await_flag(&go, 1);
    sh_free(p);
    return NULL;
}

static void both_at_once(void *p)
{
    pthread_t one = start(free_on_go, p), two = start(free_on_go, p);
    set_flag(&go, 1);
    join(one);
    join(two);
}

/* Whoever comes second, exactly one of two remote frees is one too many. */
static void at_the_same_time(void **unused)
{
    for (int i = 0; i < 20; i++) {
        void *p = make(0, 100);
        expect_end(both_at_once, p, DOUBLE_FREE, "free", p, (size_t)112);
    }
}

/* ---- Two rounds of one cell ---- */

#define RACE                                                                           \
    "free(%p): double free: two threads freed the cell there at the same time; look "  \
    "for its other owner"
#define KEPT_SIZE ((size_t)2048) /* stays with who frees it */

static _Atomic uint32_t turn;
static void *volatile popped;

static void *free_again_and_take(void *p)
{
    sh_free(sh_malloc(KEPT_SIZE)); /* a magazine */
    sh_free(p);
    set_flag(&turn, 1);
    await_flag(&turn, 2);
    popped = sh_malloc(KEPT_SIZE);
    set_flag(&turn, 3);
    for (;;)
        sleep_us(1000000);
    return NULL;
}

static void *free_again_and_end(void *p)
{
    sh_free(sh_malloc(KEPT_SIZE));
    sh_free(p);
    return NULL;
}

/* As if the owner had found it LIVE before the other thread freed it. */
static void free_as_owner(void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    sh_free(p);
    sh_cell_set(span, sh_span_cell_of(span, (uintptr_t)p), SH_CELL_LIVE);
}

static void pop_twice(void *p)
{
    free_as_owner(p);
    start(free_again_and_take, p);
    await_flag(&turn, 1);
    MUST(sh_malloc(KEPT_SIZE) == p);
    set_flag(&turn, 2);
    await_flag(&turn, 3);
}

static void pop_then_unload(void *p)
{
    free_as_owner(p);
    join(start(free_again_and_end, p));
    MUST(sh_malloc(KEPT_SIZE) == p);
    dissolve_caches();
}

static void unload_then_pop(void *p)
{
    free_as_owner(p);
    in_thread(free_again_and_end, p);
    sh_malloc(KEPT_SIZE);
}

static void by_owner_and_another_in_the_same_instant(void **unused)
{
    static void (*const ways[])(void *) = {pop_twice, pop_then_unload, unload_then_pop};
    for (size_t w = 0; w < 3; w++) {
        void *p = make(0, KEPT_SIZE);
        expect_end(ways[w], p, RACE, p);
    }
}

/* ---- Inside gc_lock, where freeing is put off ---- */

static void lock_and_free(void *p)
{
    gc_lock();
    gc_free(p);
}

static void lock_and_free_twice(void *p)
{
    gc_lock();
    gc_free(p);
    gc_free(p);
    gc_unlock();
}

static void lock_and_free_by_both_faces(void *p)
{
    gc_lock();
    gc_free(p);
    sh_free(p);
    gc_unlock();
}

static void inside_gc_lock(void **unused)
{
    void *p = make(1, 100);
    expect_end(lock_and_free_twice, p, DOUBLE_FREE, "gc_free", p, (size_t)112);
    expect_end(lock_and_free_by_both_faces, p, DOUBLE_FREE, "gc_free", p, (size_t)112);
    gc_free(p);
    expect_end(lock_and_free, p, DOUBLE_FREE, "gc_free", p, (size_t)112);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_once),
        cmocka_unit_test(of_every_size_class),
        cmocka_unit_test(after_others_came_and_went),
        cmocka_unit_test(of_a_large_object),
        cmocka_unit_test(of_a_huge_object),
        cmocka_unit_test(after_realloc_moved_it),
        cmocka_unit_test(after_realloc_to_0),
        cmocka_unit_test(of_what_lies_in_the_magazine),
        cmocka_unit_test(of_what_was_unloaded),
        cmocka_unit_test(of_what_came_and_went),
        cmocka_unit_test(by_other_threads),
        cmocka_unit_test(of_what_another_has_in_its_magazine),
        cmocka_unit_test(of_what_lies_in_anothers_magazine),
        cmocka_unit_test(of_what_a_dead_thread_left),
        cmocka_unit_test(at_the_same_time),
        cmocka_unit_test(by_owner_and_another_in_the_same_instant),
        cmocka_unit_test(inside_gc_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
