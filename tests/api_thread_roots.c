/* SPDX-License-Identifier: MIT */
/*
 * Thread-local variables, of the program and of an object that came by dlopen, and
 * values of pthread_setspecific are roots: in threads that run, that wait in the kernel,
 * and inside gc_blocking_begin.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/heap.h"

#define BYTES 100
#define KEYS 100 /* more than lie in the C library's descriptor */

static __thread void *volatile local;
static pthread_key_t keys[KEYS];
static void (*module_set)(uintptr_t);

enum where { LOCAL, MODULES, FIRST_KEY, LAST_KEY, PLACES };

static void keep(enum where where, void *p)
{
    switch (where) {
    case LOCAL:
        local = p;
        break;
    case MODULES:
        module_set((uintptr_t)p);
        break;
    case FIRST_KEY:
        pthread_setspecific(keys[0], p);
        break;
    default:
        pthread_setspecific(keys[KEYS - 1], p);
        break;
    }
}

enum how { RUNNING, WAITING, BLOCKING, WAYS };

static struct {
    enum where where;
    enum how how;
    uintptr_t hidden;
} task;

static _Atomic uint32_t step;
static int fds[2];

static SH_NOINLINE void make_and_keep(void)
{
    void *p = gc_alloc(BYTES, 0);
    fill(p, BYTES, 4);
    task.hidden = hide(p);
    keep(task.where, p);
}

static void pass_the_time(void)
{
    char c;
    if (task.how == BLOCKING)
        gc_blocking_begin();
    set_flag(&step, 1);
    if (task.how == RUNNING)
        while (sh_load_relaxed(&step) == 1)
            ;
    else
        MUST(read(fds[0], &c, 1) == 1);
    if (task.how == BLOCKING)
        gc_blocking_end();
}

static void *hold(void *unused)
{
    make_and_keep();
    clear_stack();
    pass_the_time();
    keep(task.where, NULL);
    clear_stack();
    set_flag(&step, 3);
    await_flag(&step, 4);
    return NULL;
}

static SH_NOINLINE bool is_live(void)
{
    return gc_nbytes(reveal(task.hidden)) >= BYTES;
}

static void collect(void)
{
    clear_stack();
    gc_collect();
    clear_stack();
}

static void check(enum where where, enum how how)
{
    step = 0;
    task.where = where;
    task.how = how;
    pthread_t thread = start(hold, NULL);
    await_flag(&step, 1);
    for (int i = 0; i < 3; i++)
        collect();
    assert_true(is_live());
    set_flag(&step, 2);
    if (how != RUNNING)
        MUST(write(fds[1], "x", 1) == 1);
    await_flag(&step, 3);
    collect();
    assert_false(is_live());
    set_flag(&step, 4);
    join(thread);
}

static void check_all(enum where where)
{
    for (enum how how = RUNNING; how < WAYS; how++)
        check(where, how);
}

static void thread_locals_are_roots(void **unused)
{
    check_all(LOCAL);
}

static void thread_locals_of_modules_are_roots(void **unused)
{
#if SH_INTERPOSE /* else the loader takes them from another's malloc */
    void *module = dlopen(TEST_MODULE, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(module);
    *(void **)&module_set = dlsym(module, "module_set");
    check_all(MODULES);
    dlclose(module);
#endif
}

static void specific_values_are_roots(void **unused)
{
    check_all(FIRST_KEY);
#if SH_INTERPOSE
    check_all(LAST_KEY);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thread_locals_are_roots),
        cmocka_unit_test(thread_locals_of_modules_are_roots),
        cmocka_unit_test(specific_values_are_roots),
    };
    MUST(pipe(fds) == 0 && gc_thread_register() == 0);
    for (int i = 0; i < KEYS; i++)
        MUST(pthread_key_create(&keys[i], NULL) == 0);
    return run_on_clean_stack(tests, NULL, NULL);
}
