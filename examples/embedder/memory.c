/* SPDX-License-Identifier: MIT */
/*
 * What an embedder has to provide, and what it may: gc_collect made of the library's
 * parts, the limit of growth, and the dispatcher of finalisers. The weak map is in
 * weak.c.
 *
 * A thread of the Lisp is either running or not. It runs from lisp_enter to lisp_leave,
 * and who collects waits until no other runs: then each one's values are in its stack,
 * and stay there. So the roots are these stacks and a few variables, and the C stacks,
 * registers and data segments of the process are none.
 */
#include "lisp.h"

#include <fcntl.h>
#include <splitheap/gc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

pthread_mutex_t lisp_world = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t lisp_changed = PTHREAD_COND_INITIALIZER;
struct thread *lisp_threads; /* under lisp_world, as are the next three */
static unsigned running;
static struct handle *first_due, *last_due; /* finalisers that wait to be called */

static atomic_bool stopping;    /* somebody collects, or is about to */
static atomic_bool due;         /* first_due is not NULL */
static atomic_bool ending;      /* no Lisp runs any more */
static _Thread_local bool runs; /* this thread is running */

enum { RESERVE = 64, RESERVED_BYTES = 64 }; /* so many objects, of so much each */

struct lisp_counts lisp_counts;
size_t lisp_split_max;

/* ---- Running ---- */

void lisp_enter(void)
{
    pthread_mutex_lock(&lisp_world);
    while (stopping)
        pthread_cond_wait(&lisp_changed, &lisp_world);
    running++;
    runs = true;
    pthread_mutex_unlock(&lisp_world);
}

void lisp_leave(void)
{
    pthread_mutex_lock(&lisp_world);
    running--;
    runs = false;
    pthread_cond_broadcast(&lisp_changed);
    pthread_mutex_unlock(&lisp_world);
}

/* Inside gc_lock nobody stops: who collects would wait for the lock, too. */
static void stop_if_wanted(void)
{
    if (stopping && !gc_is_locked()) {
        lisp_leave();
        lisp_enter();
    }
}

/* An allocation runs no finalisers: these may use the thread's text, as its caller does. */
void lisp_step(struct thread *t)
{
    stop_if_wanted();
    if (due && !t->finalising && !gc_is_locked())
        lisp_run_finalisers(t);
}

/* ---- Collecting ---- */

/* Another thread may have been first: its collection, which began only when this thread
 * had stopped, does for both. */
static bool stop_others(void)
{
    pthread_mutex_lock(&lisp_world);
    bool first = !stopping;
    running -= runs;
    if (first) {
        stopping = true;
        while (running > 0)
            pthread_cond_wait(&lisp_changed, &lisp_world);
    } else {
        pthread_cond_broadcast(&lisp_changed);
        while (stopping)
            pthread_cond_wait(&lisp_changed, &lisp_world);
        running += runs;
    }
    pthread_mutex_unlock(&lisp_world);
    return first;
}

static void resume_others(void)
{
    pthread_mutex_lock(&lisp_world);
    stopping = false;
    running += runs;
    pthread_cond_broadcast(&lisp_changed);
    pthread_mutex_unlock(&lisp_world);
}

static void mark_roots(void)
{
    for (struct thread *t = lisp_threads; t; t = t->next) {
        gc_collect_root((void **)t->stack, t->top);
        gc_collect_root((void **)&t->task, 1);
        gc_collect_root((void **)&t->reserve, 1);
    }
    gc_collect_root((void **)&first_due, 1);
    lisp_mark_symbols();
}

/* The library's hook: called by allocation, with no lock held, and by whoever wants it. */
void gc_collect(void)
{
    if (gc_is_locked() || !stop_others())
        return;
    gc_collect_start();
    mark_roots();
    gc_collect_end();
    lisp_counts.collections++;
    resume_others();
}

/* The library's hook. */
size_t gc_get_max_new_split(void)
{
    lisp_counts.split_questions++;
    return lisp_split_max;
}

/* ---- Finalisers ---- */

/*
 * The library's hook: the dispatcher. It runs inside gc_collect_end, while the other
 * threads are stopped, so that it must not wait for one; what is to run Lisp only
 * queues the object, and so holds it.
 */
void gc_finalise(void *object)
{
    ((struct object *)object)->type->finalise(object);
}

void lisp_finalise_handle(void *object)
{
    struct handle *handle = object;
    lisp_counts.finalised++;
    if (ending)
        return;
    if (first_due)
        last_due->next = handle;
    else
        first_due = handle;
    last_due = handle;
    due = true;
}

void lisp_finalise_port(void *object)
{
    struct port *port = object;
    lisp_counts.finalised++;
    if (port->file >= 0)
        close(port->file);
    port->file = -1;
}

/* On top of the stack. Collections change the queue only while nobody runs. */
static struct handle *next_due(struct thread *t)
{
    pthread_mutex_lock(&lisp_world);
    struct handle *handle = first_due;
    if (handle) {
        t->stack[t->top - 1] = (struct value *)handle;
        first_due = handle->next;
        due = first_due != NULL;
    }
    pthread_mutex_unlock(&lisp_world);
    return handle;
}

void lisp_run_finalisers(struct thread *t)
{
    struct handle *handle;
    lisp_keep(t, NIL);
    t->finalising = true;
    while ((handle = next_due(t))) {
        if (!lisp_try(t, (struct value *)handle, 0, NULL))
            fprintf(stderr, "in a finaliser: %s\n", t->message);
    }
    t->finalising = false;
    t->top--;
}

void lisp_sweep_all(void)
{
    ending = true;
    gc_sweep_all();
}

/* ---- Allocating ---- */

void lisp_keep(struct thread *t, struct value *v)
{
    if (t->top == STACK_VALUES)
        lisp_fail(t, "too deep");
    t->stack[t->top++] = v;
}

/*
 * The library has collected before it returns NULL. But where threads collect at once
 * one does it for all, and what it freed another may have taken: once more, then.
 */
void *lisp_new(struct thread *t, enum kind kind, size_t bytes, bool finalised)
{
    unsigned flags = finalised ? GC_ALLOC_FLAG_HAS_FINALISER : 0;
    stop_if_wanted();
    struct object *object = gc_alloc(bytes, flags);
    if (!object && !gc_is_locked()) {
        gc_collect();
        object = gc_alloc(bytes, flags);
    }
    if (!object)
        lisp_fail(t, "out of memory");
    object->type = &lisp_types[kind];
    return object;
}

/*
 * When memory is out, what an error's handler is going to drop still fills it. What the
 * handler needs until then was set aside: many small objects, for frames, bindings and
 * short texts are such, and the place of one large object need not do for them.
 */
void lisp_take_reserve(struct thread *t)
{
    struct pair *pair;
    for (; t->reserved < RESERVE && (pair = gc_alloc(RESERVED_BYTES, 0));
         t->reserved++) {
        *pair = (struct pair){&lisp_types[PAIR], NIL, (struct value *)t->reserve};
        t->reserve = pair;
    }
}

/* Half of it: the rest is for an outer handler, if this one runs out of memory itself. */
void lisp_give_reserve(struct thread *t)
{
    for (int left = t->reserved / 2; t->reserved > left; t->reserved--) {
        struct pair *pair = t->reserve;
        t->reserve = (struct pair *)pair->tail;
        gc_free(pair);
    }
}

/* ---- What programs call ---- */

static struct value *collect(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count, (void)args;
    gc_collect();
    return NOTHING;
}

static struct value *auto_collect(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count;
    return truth(gc_set_auto_collect(args[0] != FALSE));
}

static struct value *threshold(struct thread *t, int count, struct value **args)
{
    (void)count;
    intptr_t bytes = lisp_whole(t, args[0]);
    return number((intptr_t)gc_set_threshold(bytes > 0 ? (size_t)bytes : 0));
}

/* (with-gc-locked function argument...): nothing can be allocated meanwhile. */
static struct value *with_gc_locked(struct thread *t, int count, struct value **args)
{
    gc_lock();
    struct value *result = lisp_try(t, args[0], count - 1, args + 1);
    gc_unlock();
    if (!result)
        lisp_throw(t);
    return result;
}

struct number_name {
    const char *name;
    size_t number;
};

static void add_number(struct thread *t, struct value **list, struct number_name what)
{
    size_t top = t->top;
    lisp_keep(t, *list);
    struct value *name = lisp_symbol(t, what.name, strlen(what.name));
    struct value *entry = cons(t, name, number((intptr_t)what.number));
    lisp_keep(t, entry);
    *list = cons(t, entry, *list);
    t->top = top;
}

static struct value *number_list(
    struct thread *t, const struct number_name *numbers, size_t count)
{
    struct value *list = NIL;
    while (count > 0)
        add_number(t, &list, numbers[--count]);
    return list;
}

/* ((total . 1) ...): gc_info. */
static struct value *heap_info(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    gc_info_t info;
    gc_info(&info);
    const struct number_name numbers[] = {
        {"total", info.total},
        {"used", info.used},
        {"free", info.free},
        {"max-free", info.max_free},
        {"1-block", info.num_1block},
        {"2-block", info.num_2block},
        {"max-block", info.max_block},
        {"max-new-split", info.max_new_split},
    };
    return number_list(t, numbers, sizeof numbers / sizeof numbers[0]);
}

/* What the hooks counted. */
static struct value *hook_counts(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    const struct number_name numbers[] = {
        {"collections", lisp_counts.collections},
        {"freed-keys", lisp_counts.freed_keys},
        {"weak-sweeps", lisp_counts.weak_sweeps},
        {"finalised", lisp_counts.finalised},
        {"split-questions", lisp_counts.split_questions},
    };
    return number_list(t, numbers, sizeof numbers / sizeof numbers[0]);
}

static struct value *dump_info(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    t->text.length = 0;
    gc_dump_info(&(gc_print_t){&t->text, text_add});
    return lisp_string(t, t->text.bytes, t->text.length);
}

static struct value *dump_table(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    t->text.length = 0;
    gc_dump_alloc_table(&(gc_print_t){&t->text, text_add});
    return lisp_string(t, t->text.bytes, t->text.length);
}

/* The bytes of the value's own object; 0 of what is none in the heap. */
static struct value *object_bytes(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count;
    return number(is_number(args[0]) ? 0 : (intptr_t)gc_nbytes(args[0]));
}

/* (make-handle label procedure) */
static struct value *make_handle(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct handle *handle = lisp_new(t, HANDLE, sizeof *handle, FINALISED);
    handle->label = args[0];
    handle->procedure = args[1];
    return (struct value *)handle;
}

static struct value *open_file(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct string *name = lisp_argument(t, args[0], STRING);
    struct port *port = lisp_new(t, PORT, sizeof *port, FINALISED);
    port->file = open(name->bytes, O_RDONLY | O_CLOEXEC);
    if (port->file < 0)
        lisp_fail(t, "cannot open %.100s", name->bytes);
    return (struct value *)port;
}

static struct value *port_number(struct thread *t, int count, struct value **args)
{
    (void)count;
    return number(((struct port *)lisp_argument(t, args[0], PORT))->file);
}

static struct value *close_port(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct port *port = lisp_argument(t, args[0], PORT);
    if (port->file >= 0)
        close(port->file);
    port->file = -1;
    return NOTHING;
}

void lisp_define_memory(struct thread *t)
{
    static const struct primitive primitives[] = {
        PRIMITIVE_OF("gc", collect, 0, 0),
        PRIMITIVE_OF("gc-auto", auto_collect, 1, 1),
        PRIMITIVE_OF("gc-threshold", threshold, 1, 1),
        PRIMITIVE_OF("with-gc-locked", with_gc_locked, 1, -1),
        PRIMITIVE_OF("gc-info", heap_info, 0, 0),
        PRIMITIVE_OF("gc-counts", hook_counts, 0, 0),
        PRIMITIVE_OF("gc-dump-info", dump_info, 0, 0),
        PRIMITIVE_OF("gc-dump-table", dump_table, 0, 0),
        PRIMITIVE_OF("object-bytes", object_bytes, 1, 1),
        PRIMITIVE_OF("make-handle", make_handle, 2, 2),
        PRIMITIVE_OF("open-file", open_file, 1, 1),
        PRIMITIVE_OF("port-number", port_number, 1, 1),
        PRIMITIVE_OF("close-port", close_port, 1, 1),
    };
    lisp_define(t, primitives, sizeof primitives / sizeof primitives[0]);
}
