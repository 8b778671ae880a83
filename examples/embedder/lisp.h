/* SPDX-License-Identifier: MIT */
/*
 * A small Lisp on splitheap, as an interpreter uses it that was written against the
 * seed's header: precise, with a collector of its own made of the library's parts.
 *
 *   memory.c    allocation, roots, stopping the threads, gc_collect and the other hooks
 *   weak.c      hash tables, weak ones, and the map behind those
 *   read.c      text to values          print.c    values to text
 *   eval.c      expressions, closures   builtins.c what programs can call
 *   threads.c   threads, mutexes        main.c     the heap's shape, and running files
 *
 * A value is a word: a whole number if its lowest bit is set, else a pointer to an
 * object. Every object begins with its type, so that the finaliser's dispatcher finds it
 * where the library looks for it.
 *
 * Roots. Every thread has a stack of values, apart from its C stack, which is all that a
 * collection sees of it: what has to survive an allocation lies there. Objects do not
 * move, so a C variable may hold a copy. A function that keeps values notes the top at
 * its beginning and puts it back at its end; a call's arguments lie there already.
 *
 * Threads run at once. They stop for a collection of their own will: at an allocation,
 * at each step of the evaluator, and wherever they wait (lisp_leave and lisp_enter).
 */
#ifndef LISP_H
#define LISP_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Values ---- */

struct value; /* never defined: a number, or an object */
struct thread;

enum kind {
    PAIR,
    REAL,
    STRING,
    SYMBOL,
    VECTOR,
    PRIMITIVE,
    CLOSURE,
    BINDING,
    FRAME,
    TABLE,
    WEAK_TABLE,
    THREAD,
    MUTEX,
    HANDLE,
    PORT,
    CONSTANT,
};

struct type {
    enum kind kind;
    const char *name;
    void (*finalise)(void *object); /* NULL: it needs none */
};

/* Of one kind each; the indices are the kinds. */
extern const struct type lisp_types[];

struct object {
    const struct type *type;
};

struct pair {
    const struct type *type;
    struct value *head, *tail;
};

struct real {
    const struct type *type;
    double number;
};

struct string {
    const struct type *type;
    size_t length;
    char bytes[]; /* and a 0 */
};

struct tail;
typedef struct value *form_fn(struct thread *t, struct value *x, struct tail *tail);

struct symbol {
    const struct type *type;
    struct symbol *next;  /* of the same bucket */
    struct value *global; /* NULL: unbound */
    form_fn *form;        /* NULL: it names no special form */
    size_t length;
    char name[];
};

struct vector {
    const struct type *type;
    size_t length;
    struct value *items[];
};

typedef struct value *primitive_fn(struct thread *t, int count, struct value **args);

/* In the program, not in the heap. */
struct primitive {
    const struct type *type;
    const char *name;
    primitive_fn *function;
    int least, most; /* arguments; most < 0: any number */
};

struct closure {
    const struct type *type;
    struct pair *lambda; /* (parameters body...) */
    struct frame *outer;
};

struct binding {
    const struct type *type;
    struct symbol *symbol;
    struct value *value;
    struct binding *next;
};

struct frame {
    const struct type *type;
    struct binding *bindings;
    struct frame *outer;
};

/* Linear probing; no entry is ever marked as deleted. Of a weak one, keys are hidden. */
struct table {
    const struct type *type;
    struct vector *slots; /* key, value, key, value */
    size_t count;
    pthread_mutex_t lock;
};

struct mutex {
    const struct type *type;
    pthread_mutex_t lock;
    struct thread *_Atomic holder;
};

/* What a thread leaves. */
struct task {
    const struct type *type;
    struct value *result; /* NULL: an error, which is */
    char message[64];
    bool done; /* under lisp_world, as the others until then */
};

/* Its procedure is called once, with its label, after the handle died. */
struct handle {
    const struct type *type;
    struct value *label, *procedure;
    struct handle *next; /* of those that died and were not called yet */
};

struct port {
    const struct type *type;
    int file; /* -1: closed */
};

extern struct object lisp_nil, lisp_false, lisp_true, lisp_nothing, lisp_eof;

#define NIL ((struct value *)&lisp_nil)
#define FALSE ((struct value *)&lisp_false)
#define TRUE ((struct value *)&lisp_true)
#define NOTHING ((struct value *)&lisp_nothing)
#define END_OF_FILE ((struct value *)&lisp_eof)

static inline bool is_number(const struct value *v)
{
    return (intptr_t)v & 1;
}

static inline struct value *number(intptr_t n)
{
    return (struct value *)(((uintptr_t)n << 1) | 1);
}

static inline intptr_t number_of(const struct value *v)
{
    return (intptr_t)v >> 1;
}

static inline bool is_kind(const struct value *v, enum kind kind)
{
    return !is_number(v) && ((const struct object *)v)->type->kind == kind;
}

static inline struct value *truth(bool yes)
{
    return yes ? TRUE : FALSE;
}

static inline struct value *head(struct value *pair)
{
    return ((struct pair *)pair)->head;
}

static inline struct value *tail(struct value *pair)
{
    return ((struct pair *)pair)->tail;
}

const char *lisp_kind_name(const struct value *v);

/* ---- Text, outside the heap ---- */

struct text {
    char *bytes; /* from malloc */
    size_t length, room;
};

/* Has the type that the library's dumps print by. */
void text_add(void *text, const char *bytes, size_t length);
void text_format(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* As `write` does, or as `display`, which leaves out the quotes of strings. */
void lisp_print(struct text *text, struct value *v, bool quotes);

/* ---- Threads and errors ---- */

enum {
    STACK_VALUES = 1 << 18, /* a thread's, of which touched pages cost */
    DEPTH_MAX = 20000,      /* calls of the evaluator inside each other */
    THREAD_STACK = 64 << 20,
    MESSAGE_MAX = 256,
};

/* Where an error goes to. */
struct catcher {
    jmp_buf jump;
    size_t top;
    unsigned depth;
    struct catcher *outer;
};

struct thread {
    struct value **stack; /* the roots */
    size_t top;
    struct pair *reserve; /* memory for an error's handler: a list */
    int reserved;         /* its length */
    unsigned depth;
    bool finalising;
    struct catcher *catcher;
    struct task *task;
    struct thread *next;
    char message[MESSAGE_MAX]; /* of the error on its way: it needs no memory */
    struct text text;          /* to print into */
};

/* printf's formats; goes to the innermost catcher. */
__attribute__((noreturn, format(printf, 2, 3))) void lisp_fail(
    struct thread *t, const char *format, ...);

/* The error that is in t->message. */
__attribute__((noreturn)) void lisp_throw(struct thread *t);

/* Calls `function`, and returns its value; after an error NULL, and t->message says
 * which. */
struct value *lisp_try(
    struct thread *t, struct value *function, int count, struct value **args);

struct thread *lisp_thread_new(void); /* NULL: no memory */
void lisp_thread_delete(struct thread *t);

/* A thread of the system, with a large stack; false: there are no more. */
bool lisp_start_thread(void *(*routine)(void *), void *arg);

/* Until no other thread of the Lisp is left. */
void lisp_wait_for_threads(struct thread *t);

/* Where waiting is, a collection need not wait. */
void lisp_lock(struct thread *t, pthread_mutex_t *lock);

/* ---- Memory ---- */

enum { FINALISED = true, PLAIN = false };

/* An object of that kind, the rest zero. Fails where there is no memory. */
void *lisp_new(struct thread *t, enum kind kind, size_t bytes, bool finalised);

/* Sets memory aside for an error's handler, if there is any; lets a handler have some. */
void lisp_take_reserve(struct thread *t);
void lisp_give_reserve(struct thread *t);

/* Keeps `v` until the top is put back. */
void lisp_keep(struct thread *t, struct value *v);

/* Before and after what may take its time: between the two the thread's values stay as
 * they are, for others collect. */
void lisp_enter(void);
void lisp_leave(void);

/* Lets a collection happen that another thread waits for; runs what finalisers are due.
 */
void lisp_step(struct thread *t);

/* Signalled whenever a thread enters, leaves or ends; under lisp_world. */
extern pthread_mutex_t lisp_world;
extern pthread_cond_t lisp_changed;
extern struct thread *lisp_threads;

/* What the hooks count. */
struct lisp_counts {
    _Atomic size_t collections, freed_keys, weak_sweeps, finalised, split_questions;
};
extern struct lisp_counts lisp_counts;

void lisp_finalise_handle(void *object);
void lisp_finalise_port(void *object);
void lisp_run_finalisers(struct thread *t);

/* The bytes that the heap may grow by at a time: gc_get_max_new_split. */
extern size_t lisp_split_max;

/* At the end: runs the finalisers of all that is left, and frees it. */
void lisp_sweep_all(void);

/* ---- Making values ---- */

struct value *cons(struct thread *t, struct value *head, struct value *tail);
struct value *lisp_real(struct thread *t, double number);
struct value *lisp_string(struct thread *t, const char *bytes, size_t length);
struct value *lisp_symbol(struct thread *t, const char *name, size_t length);
struct value *lisp_vector(struct thread *t, size_t length, struct value *item);
void lisp_mark_symbols(void);

/* ---- Tables: weak.c ---- */

struct value *lisp_table(struct thread *t, bool weak);
struct value *lisp_table_get(
    struct thread *t, struct table *table, struct value *key, struct value *otherwise);
void lisp_table_put(
    struct thread *t, struct table *table, struct value *key, struct value *value);
void lisp_table_remove(struct thread *t, struct table *table, struct value *key);
struct value *lisp_table_keys(struct thread *t, struct table *table);
bool lisp_same(const struct value *a, const struct value *b);

/* ---- Reading ---- */

struct reader {
    const char *at, *end;
};

/* The next value of the text, or END_OF_FILE. */
struct value *lisp_read(struct thread *t, struct reader *reader);

/* ---- Evaluating ---- */

void lisp_define_forms(struct thread *t);
struct value *lisp_eval(
    struct thread *t, struct value *expression, struct frame *frame);
struct value *lisp_apply(
    struct thread *t, struct value *function, int count, struct value **args);

/* ---- What programs call ---- */

#define PRIMITIVE_OF(name, function, least, most)                                      \
    {                                                                                  \
        &lisp_types[PRIMITIVE], name, function, least, most                            \
    }

void lisp_define(struct thread *t, const struct primitive *primitives, size_t count);
void lisp_define_builtins(struct thread *t);
void lisp_define_memory(struct thread *t);
void lisp_define_tables(struct thread *t);
void lisp_define_threads(struct thread *t);

/* The argument, which must be of that kind. */
void *lisp_argument(struct thread *t, struct value *v, enum kind kind);
intptr_t lisp_whole(struct thread *t, struct value *v);

#endif /* LISP_H */
