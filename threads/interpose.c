/* SPDX-License-Identifier: MIT */
/*
 * pthread_create and thrd_create, in place of the C library's: a thread is registered
 * before its start routine runs, so that what it is given is a root from its first
 * instruction on.
 *
 * Until then the argument is held by the start record, a root of its own: malloc may be
 * another's. The new thread frees it once the argument is on its own, registered stack.
 *
 * In a fully static program the C library's pthread_create is an archive member that
 * nothing would ask for, ours being there; timer_create is a public function that asks
 * for the member, in a static program and in no other.
 *
 * Locks: none held. Any thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <threads.h>
#include <time.h>

#include "lib/check.h"
#include "lib/compiler.h"
#include "lib/meta.h"
#include "lib/os_thread.h"
#include "threads/registry.h"
#include "threads/static_roots.h"

#ifndef SH_INTERPOSE
#define SH_INTERPOSE 1
#endif

#if SH_INTERPOSE

struct start {
    void *(*routine)(void *); /* NULL: c11_routine */
    thrd_start_t c11_routine;
    void *arg;
    size_t stack_size;
};

static struct start *hold(struct start what)
{
    sh_critical_enter();
    struct start *start = sh_meta_alloc(sizeof *start);
    if (start) {
        *start = what;
        if (sh_roots_add(&start->arg, &start->arg + 1) != 0) {
            sh_meta_free(start, sizeof *start);
            start = NULL;
        }
    }
    sh_critical_leave();
    return start;
}

static void let_go(struct start *start)
{
    sh_critical_enter();
    sh_roots_remove(&start->arg, &start->arg + 1);
    sh_meta_free(start, sizeof *start);
    sh_critical_leave();
}

/* Cancellation, pthread_exit and exceptions unwind through here: it holds nothing. */
static void *run(void *record)
{
    struct start start = *(struct start *)record;
    struct sh_thread *self = sh_thread_enter();
    if (self)
        self->stack_size = start.stack_size;
    let_go(record);
    if (start.routine)
        return start.routine(start.arg);
    return (void *)(intptr_t)start.c11_routine(start.arg);
}

static sh_os_create_fn *behind_ours(void)
{
    sh_os_create_fn *create = sh_os_pthread_create();
    if (!create)
        sh_fatal("no pthread_create but ours; link with -Wl,-u,__pthread_create");
    return create;
}

static int create(pthread_t *thread, const pthread_attr_t *attr, struct start what)
{
    sh_os_create_fn *behind = behind_ours();
    what.stack_size = sh_os_stack_size(attr);
    struct start *start = hold(what);
    if (!start)
        return EAGAIN;
    int error = behind(thread, attr, run, start);
    if (error)
        let_go(start);
    return error;
}

SH_PUBLIC int pthread_create(
    pthread_t *thread, const pthread_attr_t *attr, void *(*routine)(void *), void *arg)
{
    return create(thread, attr, (struct start){.routine = routine, .arg = arg});
}

/* A thrd_t is a pthread_t, and thrd_join takes its int from where we return it. */
SH_PUBLIC int thrd_create(thrd_t *thr, thrd_start_t func, void *arg)
{
    struct start start = {.c11_routine = func, .arg = arg};
    switch (create(thr, NULL, start)) {
    case 0:
        return thrd_success;
    case ENOMEM:
        return thrd_nomem;
    default:
        return thrd_error;
    }
}

extern __typeof__(timer_create) *const sh_interpose_anchor;
__typeof__(timer_create) *const sh_interpose_anchor = timer_create;

#endif /* SH_INTERPOSE */
