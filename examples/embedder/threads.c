/* SPDX-License-Identifier: MIT */
/* The Lisp's threads, each a thread of the system, and mutexes. */
#include "lisp.h"

#include <sched.h>
#include <splitheap/gc.h>
#include <stdlib.h>
#include <string.h>

/* ---- Threads ---- */

struct thread *lisp_thread_new(void)
{
    struct thread *t = calloc(1, sizeof *t);
    struct value **stack = calloc(STACK_VALUES, sizeof *stack);
    if (!t || !stack) {
        free(t);
        free(stack);
        return NULL;
    }
    t->stack = stack;
    pthread_mutex_lock(&lisp_world);
    t->next = lisp_threads;
    lisp_threads = t;
    pthread_mutex_unlock(&lisp_world);
    return t;
}

void lisp_thread_delete(struct thread *t)
{
    pthread_mutex_lock(&lisp_world);
    struct thread **link = &lisp_threads;
    while (*link != t)
        link = &(*link)->next;
    *link = t->next;
    pthread_cond_broadcast(&lisp_changed);
    pthread_mutex_unlock(&lisp_world);
    free(t->text.bytes);
    free(t->stack);
    free(t);
}

/* Still running, so that nobody collects between the two. */
static void finish(struct thread *t, struct value *result)
{
    struct task *task = t->task;
    pthread_mutex_lock(&lisp_world);
    task->result = result;
    memcpy(task->message, t->message, sizeof task->message - 1);
    task->done = true;
    pthread_cond_broadcast(&lisp_changed);
    pthread_mutex_unlock(&lisp_world);
    lisp_thread_delete(t);
}

/* The function is the first value on its stack. */
static void *run(void *arg)
{
    struct thread *t = arg;
    lisp_enter();
    finish(t, lisp_try(t, t->stack[0], 0, NULL));
    lisp_leave();
    return NULL;
}

bool lisp_start_thread(void *(*routine)(void *), void *arg)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int error = pthread_create(&thread, &attributes, routine, arg);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

/* (spawn function) */
static struct value *spawn(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct task *task = lisp_new(t, THREAD, sizeof *task, PLAIN);
    struct thread *started = lisp_thread_new();
    if (!started)
        lisp_fail(t, "out of memory");
    started->task = task;
    lisp_keep(started, args[0]);
    if (!lisp_start_thread(run, started)) {
        lisp_thread_delete(started);
        lisp_fail(t, "no more threads");
    }
    return (struct value *)task;
}

static void no_waiting_when_locked(struct thread *t)
{
    if (gc_is_locked())
        lisp_fail(t, "waiting with the heap locked");
}

/* (join thread): what its function returned. */
static struct value *join(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct task *task = lisp_argument(t, args[0], THREAD);
    no_waiting_when_locked(t);
    lisp_leave();
    pthread_mutex_lock(&lisp_world);
    while (!task->done)
        pthread_cond_wait(&lisp_changed, &lisp_world);
    pthread_mutex_unlock(&lisp_world);
    lisp_enter();
    if (!task->result)
        lisp_fail(t, "in a thread: %s", task->message);
    return task->result;
}

void lisp_wait_for_threads(struct thread *t)
{
    lisp_leave();
    pthread_mutex_lock(&lisp_world);
    while (lisp_threads != t || t->next)
        pthread_cond_wait(&lisp_changed, &lisp_world);
    pthread_mutex_unlock(&lisp_world);
    lisp_enter();
}

static struct value *yield(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    no_waiting_when_locked(t);
    lisp_leave();
    sched_yield();
    lisp_enter();
    return NOTHING;
}

/* ---- Mutexes ---- */

/* Who waits for one does not keep others from collecting; the stop comes when it has it. */
void lisp_lock(struct thread *t, pthread_mutex_t *lock)
{
    if (pthread_mutex_trylock(lock) == 0)
        return;
    no_waiting_when_locked(t);
    lisp_leave();
    pthread_mutex_lock(lock);
    lisp_enter();
}

static struct value *make_mutex(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    struct mutex *mutex = lisp_new(t, MUTEX, sizeof *mutex, PLAIN);
    pthread_mutex_init(&mutex->lock, NULL);
    return (struct value *)mutex;
}

/* (with-mutex mutex function) */
static struct value *with_mutex(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct mutex *mutex = lisp_argument(t, args[0], MUTEX);
    if (mutex->holder == t)
        lisp_fail(t, "the mutex is locked by this thread already");
    lisp_lock(t, &mutex->lock);
    mutex->holder = t;
    struct value *result = lisp_try(t, args[1], 0, NULL);
    mutex->holder = NULL;
    pthread_mutex_unlock(&mutex->lock);
    if (!result)
        lisp_throw(t);
    return result;
}

void lisp_define_threads(struct thread *t)
{
    static const struct primitive primitives[] = {
        PRIMITIVE_OF("spawn", spawn, 1, 1),
        PRIMITIVE_OF("join", join, 1, 1),
        PRIMITIVE_OF("yield", yield, 0, 0),
        PRIMITIVE_OF("make-mutex", make_mutex, 0, 0),
        PRIMITIVE_OF("with-mutex", with_mutex, 2, 2),
    };
    lisp_define(t, primitives, sizeof primitives / sizeof primitives[0]);
}
