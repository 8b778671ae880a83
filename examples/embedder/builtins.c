/* SPDX-License-Identifier: MIT */
/* Making values, and what programs call: numbers, lists, vectors, text. */
#include "lisp.h"

#include <splitheap/gc.h>
#include <stdio.h>
#include <string.h>

const struct type lisp_types[] = {
    [PAIR] = {PAIR, "pair", NULL},
    [REAL] = {REAL, "real", NULL},
    [STRING] = {STRING, "string", NULL},
    [SYMBOL] = {SYMBOL, "symbol", NULL},
    [VECTOR] = {VECTOR, "vector", NULL},
    [PRIMITIVE] = {PRIMITIVE, "primitive", NULL},
    [CLOSURE] = {CLOSURE, "closure", NULL},
    [BINDING] = {BINDING, "binding", NULL},
    [FRAME] = {FRAME, "frame", NULL},
    [TABLE] = {TABLE, "table", NULL},
    [WEAK_TABLE] = {WEAK_TABLE, "weak table", NULL},
    [THREAD] = {THREAD, "thread", NULL},
    [MUTEX] = {MUTEX, "mutex", NULL},
    [HANDLE] = {HANDLE, "handle", lisp_finalise_handle},
    [PORT] = {PORT, "port", lisp_finalise_port},
    [CONSTANT] = {CONSTANT, "constant", NULL},
};

struct object lisp_nil = {&lisp_types[CONSTANT]};
struct object lisp_false = {&lisp_types[CONSTANT]};
struct object lisp_true = {&lisp_types[CONSTANT]};
struct object lisp_nothing = {&lisp_types[CONSTANT]};
struct object lisp_eof = {&lisp_types[CONSTANT]};

/* ---- Making values ---- */

struct value *cons(struct thread *t, struct value *head, struct value *tail)
{
    size_t top = t->top;
    lisp_keep(t, head);
    lisp_keep(t, tail);
    struct pair *pair = lisp_new(t, PAIR, sizeof *pair, PLAIN);
    t->top = top;
    pair->head = head;
    pair->tail = tail;
    return (struct value *)pair;
}

struct value *lisp_real(struct thread *t, double number)
{
    struct real *real = lisp_new(t, REAL, sizeof *real, PLAIN);
    real->number = number;
    return (struct value *)real;
}

struct value *lisp_string(struct thread *t, const char *bytes, size_t length)
{
    struct string *string = lisp_new(t, STRING, sizeof *string + length + 1, PLAIN);
    string->length = length;
    if (length > 0)
        memcpy(string->bytes, bytes, length);
    return (struct value *)string;
}

struct value *lisp_vector(struct thread *t, size_t length, struct value *item)
{
    if (length > SIZE_MAX / 2 / sizeof item)
        lisp_fail(t, "out of memory");
    size_t bytes = sizeof(struct vector) + length * sizeof item;
    struct vector *vector = lisp_new(t, VECTOR, bytes, PLAIN);
    vector->length = length;
    for (size_t i = 0; item && i < length; i++)
        vector->items[i] = item;
    return (struct value *)vector;
}

/* ---- Symbols: for ever, and each once ---- */

enum { BUCKETS = 256 };
static struct symbol *buckets[BUCKETS];
static pthread_mutex_t symbols_lock = PTHREAD_MUTEX_INITIALIZER;

static struct symbol **bucket_of(const char *name, size_t length)
{
    unsigned hash = 5381;
    for (size_t i = 0; i < length; i++)
        hash = hash * 33 + (unsigned char)name[i];
    return &buckets[hash % BUCKETS];
}

static struct symbol *find_symbol(struct symbol *s, const char *name, size_t length)
{
    for (; s; s = s->next)
        if (s->length == length && memcmp(s->name, name, length) == 0)
            return s;
    return NULL;
}

struct value *lisp_symbol(struct thread *t, const char *name, size_t length)
{
    struct symbol **bucket = bucket_of(name, length);
    lisp_lock(t, &symbols_lock);
    struct symbol *found = find_symbol(*bucket, name, length);
    pthread_mutex_unlock(&symbols_lock);
    if (found)
        return (struct value *)found;
    struct symbol *symbol = lisp_new(t, SYMBOL, sizeof *symbol + length + 1, PLAIN);
    memcpy(symbol->name, name, length);
    symbol->length = length;
    size_t top = t->top;
    lisp_keep(t, (struct value *)symbol);
    lisp_lock(t, &symbols_lock);
    found = find_symbol(*bucket, name, length);
    if (!found) {
        symbol->next = *bucket;
        *bucket = found = symbol;
    }
    pthread_mutex_unlock(&symbols_lock);
    t->top = top;
    return (struct value *)found;
}

void lisp_mark_symbols(void)
{
    gc_collect_root((void **)buckets, BUCKETS);
}

/* ---- Arguments ---- */

const char *lisp_kind_name(const struct value *v)
{
    return is_number(v) ? "number" : ((const struct object *)v)->type->name;
}

void *lisp_argument(struct thread *t, struct value *v, enum kind kind)
{
    if (!is_kind(v, kind))
        lisp_fail(t, "a %s is no %s", lisp_kind_name(v), lisp_types[kind].name);
    return v;
}

intptr_t lisp_whole(struct thread *t, struct value *v)
{
    if (!is_number(v))
        lisp_fail(t, "a %s is no number", lisp_kind_name(v));
    return number_of(v);
}

static double real_of(struct thread *t, struct value *v)
{
    if (is_number(v))
        return (double)number_of(v);
    return ((struct real *)lisp_argument(t, v, REAL))->number;
}

/* ---- Numbers ---- */

/* A whole number while it fits. */
static struct value *whole_or_real(
    struct thread *t, bool overflow, intptr_t n, double real)
{
    if (overflow || n > INTPTR_MAX / 2 || n < INTPTR_MIN / 2)
        return lisp_real(t, real);
    return number(n);
}

static struct value *combine(
    struct thread *t, char sign, struct value *a, struct value *b)
{
    double x = real_of(t, a), y = real_of(t, b);
    double real = sign == '+' ? x + y : sign == '-' ? x - y : x * y;
    if (!is_number(a) || !is_number(b))
        return lisp_real(t, real);
    intptr_t n, p = number_of(a), q = number_of(b);
    bool overflow = sign == '+'   ? __builtin_add_overflow(p, q, &n)
                    : sign == '-' ? __builtin_sub_overflow(p, q, &n)
                                  : __builtin_mul_overflow(p, q, &n);
    return whole_or_real(t, overflow, n, real);
}

static struct value *fold(
    struct thread *t, char sign, struct value *v, int count, struct value **args)
{
    for (int i = 0; i < count; i++)
        v = combine(t, sign, v, args[i]);
    return v;
}

static struct value *add(struct thread *t, int count, struct value **args)
{
    return fold(t, '+', number(0), count, args);
}

static struct value *multiply(struct thread *t, int count, struct value **args)
{
    return fold(t, '*', number(1), count, args);
}

static struct value *subtract(struct thread *t, int count, struct value **args)
{
    if (count == 1)
        return combine(t, '-', number(0), args[0]);
    return fold(t, '-', args[0], count - 1, args + 1);
}

static struct value *divide(struct thread *t, int count, struct value **args)
{
    (void)count;
    return lisp_real(t, real_of(t, args[0]) / real_of(t, args[1]));
}

static intptr_t divisor(struct thread *t, struct value *v)
{
    intptr_t n = lisp_whole(t, v);
    if (n == 0)
        lisp_fail(t, "division by zero");
    return n;
}

static struct value *quotient(struct thread *t, int count, struct value **args)
{
    (void)count;
    intptr_t n = divisor(t, args[1]);
    return number(lisp_whole(t, args[0]) / n);
}

static struct value *remainder_of(struct thread *t, int count, struct value **args)
{
    (void)count;
    intptr_t n = divisor(t, args[1]);
    return number(lisp_whole(t, args[0]) % n);
}

static int compare(struct thread *t, struct value *a, struct value *b)
{
    if (is_number(a) && is_number(b))
        return (number_of(a) > number_of(b)) - (number_of(a) < number_of(b));
    double x = real_of(t, a), y = real_of(t, b);
    return (x > y) - (x < y);
}

static struct value *less(struct thread *t, int count, struct value **args)
{
    (void)count;
    return truth(compare(t, args[0], args[1]) < 0);
}

static struct value *more(struct thread *t, int count, struct value **args)
{
    (void)count;
    return truth(compare(t, args[0], args[1]) > 0);
}

static struct value *equals(struct thread *t, int count, struct value **args)
{
    (void)count;
    return truth(compare(t, args[0], args[1]) == 0);
}

/* ---- Lists and vectors ---- */

static struct value *make_pair(struct thread *t, int count, struct value **args)
{
    (void)count;
    return cons(t, args[0], args[1]);
}

static struct value *car(struct thread *t, int count, struct value **args)
{
    (void)count;
    return ((struct pair *)lisp_argument(t, args[0], PAIR))->head;
}

static struct value *cdr(struct thread *t, int count, struct value **args)
{
    (void)count;
    return ((struct pair *)lisp_argument(t, args[0], PAIR))->tail;
}

static struct value *set_car(struct thread *t, int count, struct value **args)
{
    (void)count;
    ((struct pair *)lisp_argument(t, args[0], PAIR))->head = args[1];
    return NOTHING;
}

static struct value *set_cdr(struct thread *t, int count, struct value **args)
{
    (void)count;
    ((struct pair *)lisp_argument(t, args[0], PAIR))->tail = args[1];
    return NOTHING;
}

static struct value *list(struct thread *t, int count, struct value **args)
{
    struct value *made = NIL;
    while (count > 0)
        made = cons(t, args[--count], made);
    return made;
}

static struct value *is_pair(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count;
    return truth(is_kind(args[0], PAIR));
}

static struct value *is_null(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count;
    return truth(args[0] == NIL);
}

static struct value *is_eq(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count;
    return truth(args[0] == args[1]);
}

static bool equal(struct value *a, struct value *b)
{
    for (; is_kind(a, PAIR) && is_kind(b, PAIR); a = tail(a), b = tail(b))
        if (!equal(head(a), head(b)))
            return false;
    return lisp_same(a, b);
}

static struct value *is_equal(struct thread *t, int count, struct value **args)
{
    (void)t, (void)count;
    return truth(equal(args[0], args[1]));
}

static struct value * not(struct thread * t, int count, struct value **args)
{
    (void)t, (void)count;
    return truth(args[0] == FALSE);
}

static struct value *make_vector(struct thread *t, int count, struct value **args)
{
    intptr_t length = lisp_whole(t, args[0]);
    if (length < 0)
        lisp_fail(t, "a vector of %td items", length);
    return lisp_vector(t, (size_t)length, count > 1 ? args[1] : NIL);
}

static struct value **vector_item(struct thread *t, struct value **args)
{
    struct vector *vector = lisp_argument(t, args[0], VECTOR);
    intptr_t index = lisp_whole(t, args[1]);
    if (index < 0 || (size_t)index >= vector->length)
        lisp_fail(t, "no item %td", index);
    return &vector->items[index];
}

static struct value *vector_ref(struct thread *t, int count, struct value **args)
{
    (void)count;
    return *vector_item(t, args);
}

static struct value *vector_set(struct thread *t, int count, struct value **args)
{
    (void)count;
    *vector_item(t, args) = args[2];
    return NOTHING;
}

static struct value *vector_length(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct vector *vector = lisp_argument(t, args[0], VECTOR);
    return number((intptr_t)vector->length);
}

/* ---- Text ---- */

/* What the arguments look like one after the other, in t->text. */
static void print_all(struct thread *t, int count, struct value **args)
{
    t->text.length = 0;
    for (int i = 0; i < count; i++)
        lisp_print(&t->text, args[i], false);
}

static struct value *display(struct thread *t, int count, struct value **args)
{
    print_all(t, count, args);
    fwrite(t->text.bytes, 1, t->text.length, stdout);
    return NOTHING;
}

static struct value *print_line(struct thread *t, int count, struct value **args)
{
    print_all(t, count, args);
    text_add(&t->text, "\n", 1);
    fwrite(t->text.bytes, 1, t->text.length, stdout);
    return NOTHING;
}

static struct value *write_value(struct thread *t, int count, struct value **args)
{
    (void)count;
    t->text.length = 0;
    lisp_print(&t->text, args[0], true);
    fwrite(t->text.bytes, 1, t->text.length, stdout);
    return NOTHING;
}

/* (string value...): also string-append, number->string, symbol->string. */
static struct value *string(struct thread *t, int count, struct value **args)
{
    print_all(t, count, args);
    return lisp_string(t, t->text.bytes, t->text.length);
}

static struct value *string_length(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct string *s = lisp_argument(t, args[0], STRING);
    return number((intptr_t)s->length);
}

static struct value *substring(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct string *s = lisp_argument(t, args[0], STRING);
    intptr_t from = lisp_whole(t, args[1]), to = lisp_whole(t, args[2]);
    if (from < 0 || from > to || (size_t)to > s->length)
        lisp_fail(t, "no substring from %td to %td", from, to);
    return lisp_string(t, s->bytes + from, (size_t)(to - from));
}

/* Where the second lies in the first, or #f. */
static struct value *string_find(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct string *s = lisp_argument(t, args[0], STRING);
    struct string *part = lisp_argument(t, args[1], STRING);
    const char *at = memmem(s->bytes, s->length, part->bytes, part->length);
    return at ? number(at - s->bytes) : FALSE;
}

static struct value *string_to_symbol(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct string *s = lisp_argument(t, args[0], STRING);
    return lisp_symbol(t, s->bytes, s->length);
}

/* ---- Control ---- */

/* (apply function list) */
static struct value *apply(struct thread *t, int count, struct value **args)
{
    (void)count;
    size_t top = t->top;
    for (struct value *x = args[1]; is_kind(x, PAIR); x = tail(x))
        lisp_keep(t, head(x));
    struct value *result = lisp_apply(t, args[0], (int)(t->top - top), t->stack + top);
    t->top = top;
    return result;
}

static struct value *fail(struct thread *t, int count, struct value **args)
{
    print_all(t, count, args);
    lisp_fail(t, "%.*s", (int)t->text.length, t->text.bytes);
}

static struct value *message(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    return lisp_string(t, t->message, strlen(t->message));
}

/* Where there is no memory for its text, that is the error; this text needs none. */
static struct value *error_text(struct thread *t)
{
    static const struct primitive make = PRIMITIVE_OF("message", message, 0, 0);
    static struct string none = {&lisp_types[STRING], 13, {"out of memory"}};
    struct value *text = lisp_try(t, (struct value *)(uintptr_t)&make, 0, NULL);
    return text ? text : (struct value *)&none;
}

/* (try function handler): the handler gets the error's text. */
static struct value *try(struct thread *t, int count, struct value **args)
{
    (void)count;
    lisp_take_reserve(t);
    struct value *result = lisp_try(t, args[0], 0, NULL);
    if (result)
        return result;
    lisp_give_reserve(t);
    struct value *text = error_text(t);
    result = lisp_apply(t, args[1], 1, &text);
    lisp_keep(t, result);
    lisp_take_reserve(t);
    t->top--;
    return result;
}

void lisp_define(struct thread *t, const struct primitive *primitives, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *name = primitives[i].name;
        struct value *symbol = lisp_symbol(t, name, strlen(name));
        ((struct symbol *)symbol)->global = (struct value *)(uintptr_t)&primitives[i];
    }
}

void lisp_define_builtins(struct thread *t)
{
    static const struct primitive primitives[] = {
        PRIMITIVE_OF("+", add, 0, -1),
        PRIMITIVE_OF("-", subtract, 1, -1),
        PRIMITIVE_OF("*", multiply, 0, -1),
        PRIMITIVE_OF("/", divide, 2, 2),
        PRIMITIVE_OF("quotient", quotient, 2, 2),
        PRIMITIVE_OF("remainder", remainder_of, 2, 2),
        PRIMITIVE_OF("<", less, 2, 2),
        PRIMITIVE_OF(">", more, 2, 2),
        PRIMITIVE_OF("=", equals, 2, 2),
        PRIMITIVE_OF("cons", make_pair, 2, 2),
        PRIMITIVE_OF("car", car, 1, 1),
        PRIMITIVE_OF("cdr", cdr, 1, 1),
        PRIMITIVE_OF("set-car!", set_car, 2, 2),
        PRIMITIVE_OF("set-cdr!", set_cdr, 2, 2),
        PRIMITIVE_OF("list", list, 0, -1),
        PRIMITIVE_OF("pair?", is_pair, 1, 1),
        PRIMITIVE_OF("null?", is_null, 1, 1),
        PRIMITIVE_OF("eq?", is_eq, 2, 2),
        PRIMITIVE_OF("equal?", is_equal, 2, 2),
        PRIMITIVE_OF("not", not, 1, 1),
        PRIMITIVE_OF("make-vector", make_vector, 1, 2),
        PRIMITIVE_OF("vector-ref", vector_ref, 2, 2),
        PRIMITIVE_OF("vector-set!", vector_set, 3, 3),
        PRIMITIVE_OF("vector-length", vector_length, 1, 1),
        PRIMITIVE_OF("display", display, 0, -1),
        PRIMITIVE_OF("print", print_line, 0, -1),
        PRIMITIVE_OF("write", write_value, 1, 1),
        PRIMITIVE_OF("string", string, 0, -1),
        PRIMITIVE_OF("string-length", string_length, 1, 1),
        PRIMITIVE_OF("substring", substring, 3, 3),
        PRIMITIVE_OF("string-find", string_find, 2, 2),
        PRIMITIVE_OF("string->symbol", string_to_symbol, 1, 1),
        PRIMITIVE_OF("apply", apply, 2, 2),
        PRIMITIVE_OF("error", fail, 0, -1),
        PRIMITIVE_OF("try", try, 2, 2),
    };
    lisp_define(t, primitives, sizeof primitives / sizeof primitives[0]);
}
