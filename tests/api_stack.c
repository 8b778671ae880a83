/* SPDX-License-Identifier: MIT */
/*
 * Coroutines and stacks made by hand: what lies on one is a root while somebody runs on
 * it and while nobody does, announced, switched by gc_stack_switch or without a word.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>

#include "tests/heap.h"

#define BYTES 100
#define STACK ((size_t)64 << 10)

/* ---- A coroutine ---- */

struct coroutine {
    ucontext_t context, *back;
    char *low;
    struct gc_stack *stack;
    bool tells; /* every switch */
    bool over;
    void (*body)(struct coroutine *self);
    uintptr_t hidden; /* what it holds */
};

static SH_NOINLINE void leave(struct coroutine *self)
{
    if (self->tells)
        gc_stack_switch(self->stack, NULL);
    swapcontext(&self->context, self->back);
}

static void begin(unsigned high, unsigned low)
{
    struct coroutine *self = (struct coroutine *)((uintptr_t)high << 32 | low);
    self->body(self);
    self->over = true;
    leave(self);
}

/* Its contexts live here: they hold registers, and so are roots. */
static SH_NOINLINE void enter(struct coroutine *self)
{
    ucontext_t here;
    self->back = &here;
    if (self->tells)
        gc_stack_switch(NULL, self->stack);
    swapcontext(&here, &self->context);
}

static void prepare(struct coroutine *self, void (*body)(struct coroutine *))
{
    uintptr_t address = (uintptr_t)self;
    self->body = body;
    self->over = false;
    getcontext(&self->context);
    self->context.uc_stack.ss_sp = self->low;
    self->context.uc_stack.ss_size = STACK;
    self->context.uc_link = NULL;
    makecontext(&self->context, (void (*)(void))begin, 2, (unsigned)(address >> 32),
        (unsigned)address);
}

static char *map_stack(void)
{
    char *low =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(low != MAP_FAILED);
    return low;
}

static void make(struct coroutine *self, bool tells, void (*body)(struct coroutine *))
{
    memset(self, 0, sizeof *self);
    self->low = map_stack();
    self->stack = gc_stack_add(self->low, self->low + STACK);
    MUST(self->stack);
    self->tells = tells;
    prepare(self, body);
}

static void unmake(struct coroutine *self)
{
    gc_stack_remove(self->stack);
    munmap(self->low, STACK);
}

/* ---- What they hold ---- */

static SH_NOINLINE bool is_live(uintptr_t hidden)
{
    return gc_nbytes(reveal(hidden)) >= BYTES;
}

static SH_NOINLINE uintptr_t make_object(void)
{
    void *p = gc_alloc(BYTES, 0);
    MUST(p);
    fill(p, BYTES, 3);
    return hide(p);
}

/* In a frame of its own, until the coroutine is entered again. */
static void hold(struct coroutine *self)
{
    self->hidden = make_object();
    void *volatile p = reveal(self->hidden);
    leave(self);
    MUST(filled(p, BYTES, 3));
    p = NULL;
}

/* Deep, so that it lies below what is scanned once the coroutine has come back up. */
static SH_NOINLINE void hold_deep(struct coroutine *self, int depth)
{
    volatile char frame[1024];
    frame[0] = (char)depth;
    if (depth > 0) {
        hold_deep(self, depth - 1);
    } else {
        self->hidden = make_object();
        void *volatile p = reveal(self->hidden);
        leave(self);
        SH_KEEP(p);
    }
    SH_KEEP(frame);
}

static void hold_deep_and_come_up(struct coroutine *self)
{
    hold_deep(self, 8);
    leave(self);
}

static void collect(void)
{
    clear_stack();
    gc_collect();
}

static void collect_and_hold(struct coroutine *self)
{
    collect();
    hold(self);
}

static void check_holding(bool tells, void (*body)(struct coroutine *))
{
    struct coroutine c;
    make(&c, tells, body);
    enter(&c);
    collect();
    assert_true(is_live(c.hidden));
    enter(&c);
    assert_true(c.over);
    unmake(&c);
    memset(&c.context, 0, sizeof c.context);
    collect();
    assert_false(is_live(c.hidden));
}

static void what_a_suspended_coroutine_holds_stays(void **unused)
{
    check_holding(false, hold);
    check_holding(true, hold);
}

/* That it stood there when it collected says nothing of the next collection. */
static void a_coroutine_that_collected_is_a_root_again(void **unused)
{
    check_holding(false, collect_and_hold);
    check_holding(true, collect_and_hold);
}

static void only_what_is_in_use_is_scanned_where_switches_are_told(void **unused)
{
    struct coroutine c;
    make(&c, true, hold_deep_and_come_up);
    enter(&c);
    collect();
    bool deep = is_live(c.hidden);
    enter(&c);
    memset(&c.context, 0, sizeof c.context);
    collect();
    bool come_up = is_live(c.hidden);
    unmake(&c);
    make(&c, false, hold_deep_and_come_up);
    enter(&c);
    enter(&c);
    collect();
    bool untold = is_live(c.hidden); /* all of it */
    unmake(&c);
    assert_true(deep && untold);
    assert_false(come_up);
}

static void collect_deep(int depth)
{
    volatile char frame[1024];
    frame[0] = (char)depth;
    if (depth > 0)
        collect_deep(depth - 1);
    else
        gc_collect();
    SH_KEEP(frame);
}

/* Without telling, it is entered, collects, and is left from deeper than before. */
static void collect_and_hold_deep(struct coroutine *self)
{
    leave(self);
    self->tells = false;
    collect_deep(2);
    hold_deep(self, 8);
}

static void what_was_told_is_out_of_date_once_a_collection_saw_it_entered(void **unused)
{
    struct coroutine c;
    make(&c, true, collect_and_hold_deep);
    enter(&c);
    c.tells = false;
    enter(&c);
    memset(&c.context, 0, sizeof c.context);
    collect();
    bool kept = is_live(c.hidden);
    unmake(&c);
    assert_true(kept);
}

static void a_removed_stack_is_no_root(void **unused)
{
    struct coroutine c;
    make(&c, true, hold);
    enter(&c);
    gc_stack_remove(c.stack);
    memset(&c.context, 0, sizeof c.context);
    collect();
    bool kept = is_live(c.hidden);
    munmap(c.low, STACK);
    assert_false(kept);
}

/* ---- The stack that was left ---- */

static void collect_here(struct coroutine *self)
{
    collect();
    clear_stack(); /* the marker's frames name what it found */
    leave(self);
}

static SH_NOINLINE void hold_and_enter(struct coroutine *c)
{
    void *volatile p = reveal(c->hidden);
    enter(c);
    MUST(is_live(c->hidden));
    MUST(filled(p, BYTES, 3));
    p = NULL;
}

static void *hold_and_enter_both(void *unused)
{
    for (int tells = 0; tells < 2; tells++) {
        struct coroutine c;
        make(&c, tells, collect_here);
        gc_lock();
        gc_unlock();
        c.hidden = make_object();
        hold_and_enter(&c);
        memset(&c.context, 0, sizeof c.context);
        collect();
        MUST(
            !SH_INTERPOSE || !is_live(c.hidden)); /* a sanitizer's frames keep copies */
        unmake(&c);
    }
    return NULL;
}

static void what_the_left_stack_holds_stays(void **unused)
{
    hold_and_enter_both(NULL);
    in_thread(hold_and_enter_both, NULL);
}

/* ---- Others collect ---- */

static _Atomic uint32_t step;

static void *enter_it(void *c)
{
    enter(c);
    return NULL;
}

static void wait_and_hold(struct coroutine *self)
{
    void *volatile p = reveal(self->hidden);
    set_flag(&step, 1);
    await_flag(&step, 2);
    MUST(filled(p, BYTES, 3));
    leave(self);
    set_flag(&step, 3);
    await_flag(&step, 4);
    MUST(filled(p, BYTES, 3));
    p = NULL;
}

/* Begun by one thread, gone on with by another. */
static void coroutines_move_between_threads(void **unused)
{
    for (int tells = 0; tells < 2; tells++) {
        struct coroutine c;
        make(&c, tells, wait_and_hold);
        c.hidden = make_object();
        step = 0;
        gc_lock();
        pthread_t one = start(enter_it, &c);
        await_flag(&step, 1);
        gc_unlock();
        collect();
        assert_true(is_live(c.hidden));
        set_flag(&step, 2);
        join(one);
        collect();
        assert_true(is_live(c.hidden));
        pthread_t other = start(enter_it, &c);
        await_flag(&step, 3);
        collect();
        assert_true(is_live(c.hidden));
        set_flag(&step, 4);
        join(other);
        unmake(&c);
    }
}

/* ---- A signal on an alternate stack comes to a coroutine ---- */

static void wait_in_handler(int signal)
{
    set_flag(&step, 1);
    await_flag(&step, 2);
}

static void hold_and_be_signalled(struct coroutine *self)
{
    void *volatile p = reveal(self->hidden);
    raise(SIGUSR1);
    MUST(filled(p, BYTES, 3));
    p = NULL;
}

static void *enter_with_alt_stack(void *c)
{
    static char stack[64 << 10];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    MUST(sigaltstack(&alt, NULL) == 0);
    enter(c);
    alt.ss_flags = SS_DISABLE;
    sigaltstack(&alt, NULL);
    return NULL;
}

static void a_coroutine_below_an_alternate_stack_is_a_root(void **unused)
{
    struct sigaction action = {.sa_handler = wait_in_handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    for (int tells = 0; tells < 2; tells++) {
        struct coroutine c;
        make(&c, tells, hold_and_be_signalled);
        step = 0;
        c.hidden = make_object();
        gc_lock();
        pthread_t thread = start(enter_with_alt_stack, &c);
        await_flag(&step, 1);
        gc_unlock();
        collect();
        assert_true(is_live(c.hidden));
        set_flag(&step, 2);
        join(thread);
        unmake(&c);
    }
}

/* ---- Stacks in the heap ---- */

static struct coroutine *volatile collected;

static void *make_collected(void *unused)
{
    struct coroutine *c = gc_alloc(sizeof *c, 0);
    c->low = gc_alloc(STACK, 0);
    c->tells = true;
    c->stack = gc_stack_add(c->low, c->low + STACK);
    prepare(c, hold);
    collected = c;
    enter(c);
    return NULL;
}

static SH_NOINLINE void look_at_collected(
    uintptr_t *object, uintptr_t *stack, struct gc_stack **announced)
{
    *object = collected->hidden;
    *stack = hide(collected->low);
    *announced = collected->stack;
}

static void a_collected_stack_is_as_live_as_its_cell(void **unused)
{
    uintptr_t object, stack;
    struct gc_stack *announced;
    in_thread(make_collected, NULL);
    look_at_collected(&object, &stack, &announced);
    collect();
    assert_true(is_live(object) && is_live(stack));
    collected = NULL;
    collect();
    assert_false(is_live(object));
    assert_false(is_live(stack));
    collect(); /* what is announced may be no memory any more */
    gc_stack_remove(announced);
}

static void a_mallocd_stack_needs_no_word(void **unused)
{
    struct coroutine c = {.low = sh_malloc(STACK), .tells = false};
    prepare(&c, hold);
    enter(&c);
    collect();
    assert_true(is_live(c.hidden));
    enter(&c);
    memset(c.low, 0, STACK);
    sh_free(c.low);
    memset(&c, 0, offsetof(struct coroutine, hidden));
    collect();
    assert_false(is_live(c.hidden));
}

/* ---- Many ---- */

static _Atomic bool over;

static void hold_often(struct coroutine *self)
{
    while (!sh_load_relaxed(&over)) {
        void *volatile p = gc_alloc(BYTES, 0);
        fill(p, BYTES, 9);
        leave(self);
        MUST(gc_nbytes(p) >= BYTES && filled(p, BYTES, 9));
    }
}

#define MANY 40

static void *run_many(void *tells)
{
    static SH_TLS struct coroutine many[MANY];
    for (int i = 0; i < MANY; i++)
        make(&many[i], tells != NULL, hold_often);
    for (int i = 0; !sh_load_relaxed(&over); i = (i + 7) % MANY) {
        enter(&many[i]);
        if (i % 5 == 0) {
            unmake(&many[i]);
            make(&many[i], tells != NULL, hold_often);
        }
    }
    for (int i = 0; i < MANY; i++)
        unmake(&many[i]);
    return NULL;
}

static void many_switch_while_others_collect(void **unused)
{
    pthread_t threads[4];
    over = false;
    for (uintptr_t i = 0; i < 4; i++)
        threads[i] = start(run_many, (void *)(i % 2));
    for (int i = 0; i < 100; i++)
        gc_collect();
    over = true;
    for (int i = 0; i < 4; i++)
        join(threads[i]);
}

/* ---- Misuse that returns ---- */

static void a_range_is_forward(void **unused)
{
    static char at[64] SH_ALIGNED(8);
    errno = 0;
    assert_null(gc_stack_add(at + 64, at));
    assert_int_equal(errno, EINVAL);
    assert_null(gc_stack_add(at, at));
    assert_null(gc_stack_add(NULL, at));
    assert_null(gc_stack_add(at + 1, at + 7));
    assert_null(gc_stack_add((void *)(UINTPTR_MAX - 2), (void *)UINTPTR_MAX));
    struct gc_stack *stack = gc_stack_add(at, at + 64);
    assert_non_null(stack);
    gc_stack_switch(stack, stack); /* nobody is on it */
    gc_stack_switch(NULL, NULL);
    collect();
    gc_stack_remove(stack);
    gc_stack_remove(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_suspended_coroutine_holds_stays),
        cmocka_unit_test(a_coroutine_that_collected_is_a_root_again),
        cmocka_unit_test(only_what_is_in_use_is_scanned_where_switches_are_told),
        cmocka_unit_test(what_was_told_is_out_of_date_once_a_collection_saw_it_entered),
        cmocka_unit_test(a_removed_stack_is_no_root),
        cmocka_unit_test(what_the_left_stack_holds_stays),
        cmocka_unit_test(coroutines_move_between_threads),
        cmocka_unit_test(a_coroutine_below_an_alternate_stack_is_a_root),
        cmocka_unit_test(a_collected_stack_is_as_live_as_its_cell),
        cmocka_unit_test(a_mallocd_stack_needs_no_word),
        cmocka_unit_test(many_switch_while_others_collect),
        cmocka_unit_test(a_range_is_forward),
    };
    MUST(gc_thread_register() == 0);
    return run_on_clean_stack(tests, NULL, NULL);
}
