/* SPDX-License-Identifier: MIT */
/*
 * The evaluator. A step of it either gives a value or leaves another expression to
 * evaluate in its place, so that calls in tail position take no room.
 *
 * What a level has on its thread's stack:
 *
 *     expression, frame, function, argument...
 */
#include "lisp.h"

#include <stdio.h>
#include <string.h>

struct tail {
    struct value *x;
    struct frame *frame;
};

/* ---- Errors ---- */

void lisp_throw(struct thread *t)
{
    struct catcher *catcher = t->catcher;
    t->catcher = catcher->outer;
    t->top = catcher->top;
    t->depth = catcher->depth;
    longjmp(catcher->jump, 1);
}

void lisp_fail(struct thread *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(t->message, sizeof t->message, format, args);
    va_end(args);
    lisp_throw(t);
}

struct value *lisp_try(
    struct thread *t, struct value *function, int count, struct value **args)
{
    struct catcher catcher = {.top = t->top, .depth = t->depth, .outer = t->catcher};
    if (setjmp(catcher.jump) != 0)
        return NULL;
    t->catcher = &catcher;
    struct value *result = lisp_apply(t, function, count, args);
    t->catcher = catcher.outer;
    return result;
}

/* ---- Variables ---- */

static struct binding *find(struct frame *frame, const struct symbol *symbol)
{
    for (; frame; frame = frame->outer)
        for (struct binding *b = frame->bindings; b; b = b->next)
            if (b->symbol == symbol)
                return b;
    return NULL;
}

static struct value *variable(
    struct thread *t, struct frame *frame, struct symbol *symbol)
{
    struct binding *binding = find(frame, symbol);
    struct value *v = binding ? binding->value : symbol->global;
    if (!v)
        lisp_fail(t, "%s is not defined", symbol->name);
    return v;
}

/* Frame and value are on the stack. */
static void bind(
    struct thread *t, struct frame *frame, struct value *symbol, struct value *value)
{
    lisp_argument(t, symbol, SYMBOL);
    struct binding *binding = lisp_new(t, BINDING, sizeof *binding, PLAIN);
    binding->symbol = (struct symbol *)symbol;
    binding->value = value;
    binding->next = frame->bindings;
    frame->bindings = binding;
}

/* Kept by the caller's top. */
static struct frame *new_frame(struct thread *t, struct frame *outer)
{
    struct frame *frame = lisp_new(t, FRAME, sizeof *frame, PLAIN);
    frame->outer = outer;
    lisp_keep(t, (struct value *)frame);
    return frame;
}

static struct value *rest_list(struct thread *t, int count, struct value **args)
{
    size_t top = t->top;
    struct value *list = NIL;
    lisp_keep(t, list);
    while (count > 0)
        t->stack[t->top - 1] = list = cons(t, args[--count], list);
    t->top = top;
    return list;
}

/* The frame of a call. */
static struct frame *bind_arguments(
    struct thread *t, struct closure *closure, int count, struct value **args)
{
    struct value *names = closure->lambda->head;
    struct frame *frame = new_frame(t, closure->outer);
    int given = 0;
    for (; is_kind(names, PAIR) && given < count; names = tail(names))
        bind(t, frame, head(names), args[given++]);
    if (is_kind(names, SYMBOL)) {
        struct value *rest = rest_list(t, count - given, args + given);
        lisp_keep(t, rest);
        bind(t, frame, names, rest);
    } else if (names != NIL || given < count) {
        lisp_fail(t, "called with %d arguments", count);
    }
    return frame;
}

/* ---- Forms ---- */

/* The n-th item after the form's name. */
static struct value *item(struct thread *t, struct value *x, int n)
{
    for (; n >= 0; n--) {
        x = tail(x);
        if (!is_kind(x, PAIR))
            lisp_fail(t, "a form is too short");
    }
    return head(x);
}

/* All but the last one; that is left to evaluate. */
static struct value *sequence(
    struct thread *t, struct value *list, struct frame *frame, struct tail *next)
{
    if (!is_kind(list, PAIR))
        return NOTHING;
    for (; is_kind(tail(list), PAIR); list = tail(list))
        lisp_eval(t, head(list), frame);
    *next = (struct tail){head(list), frame};
    return NULL;
}

static struct value *form_quote(struct thread *t, struct value *x, struct tail *next)
{
    (void)next;
    return item(t, x, 0);
}

static struct value *form_if(struct thread *t, struct value *x, struct tail *next)
{
    bool yes = lisp_eval(t, item(t, x, 0), next->frame) != FALSE;
    if (!yes && tail(tail(tail(x))) == NIL)
        return NOTHING;
    next->x = item(t, x, yes ? 1 : 2);
    return NULL;
}

static struct value *form_cond(struct thread *t, struct value *x, struct tail *next)
{
    for (x = tail(x); is_kind(x, PAIR); x = tail(x)) {
        struct value *clause = head(x);
        lisp_argument(t, clause, PAIR);
        struct value *test = head(clause);
        bool is_else = test == lisp_symbol(t, "else", 4);
        struct value *v = is_else ? TRUE : lisp_eval(t, test, next->frame);
        if (v != FALSE)
            return tail(clause) == NIL ? v
                                       : sequence(t, tail(clause), next->frame, next);
    }
    return NOTHING;
}

static struct value *form_begin(struct thread *t, struct value *x, struct tail *next)
{
    return sequence(t, tail(x), next->frame, next);
}

static struct value *form_and(struct thread *t, struct value *x, struct tail *next)
{
    if (tail(x) == NIL)
        return TRUE;
    for (x = tail(x); is_kind(tail(x), PAIR); x = tail(x))
        if (lisp_eval(t, head(x), next->frame) == FALSE)
            return FALSE;
    next->x = head(x);
    return NULL;
}

static struct value *form_or(struct thread *t, struct value *x, struct tail *next)
{
    if (tail(x) == NIL)
        return FALSE;
    for (x = tail(x); is_kind(tail(x), PAIR); x = tail(x)) {
        struct value *v = lisp_eval(t, head(x), next->frame);
        if (v != FALSE)
            return v;
    }
    next->x = head(x);
    return NULL;
}

/* `lambda` is (parameters body...), and held by the expression. */
static struct value *make_closure(
    struct thread *t, struct value *lambda, struct frame *frame)
{
    lisp_argument(t, lambda, PAIR);
    struct closure *closure = lisp_new(t, CLOSURE, sizeof *closure, PLAIN);
    closure->lambda = (struct pair *)lambda;
    closure->outer = frame;
    return (struct value *)closure;
}

static struct value *form_lambda(struct thread *t, struct value *x, struct tail *next)
{
    return make_closure(t, tail(x), next->frame);
}

static void define(
    struct thread *t, struct frame *frame, struct value *name, struct value *v)
{
    struct symbol *symbol = lisp_argument(t, name, SYMBOL);
    lisp_keep(t, v);
    if (frame)
        bind(t, frame, name, v);
    else
        symbol->global = v;
}

/* (define name value), (define (name parameters) body...) */
static struct value *form_define(struct thread *t, struct value *x, struct tail *next)
{
    struct value *name = item(t, x, 0);
    if (!is_kind(name, PAIR)) {
        define(t, next->frame, name, lisp_eval(t, item(t, x, 1), next->frame));
        return NOTHING;
    }
    struct value *lambda = cons(t, tail(name), tail(tail(x)));
    lisp_keep(t, lambda);
    define(t, next->frame, head(name), make_closure(t, lambda, next->frame));
    return NOTHING;
}

static struct value *form_set(struct thread *t, struct value *x, struct tail *next)
{
    struct symbol *symbol = lisp_argument(t, item(t, x, 0), SYMBOL);
    struct value *v = lisp_eval(t, item(t, x, 1), next->frame);
    struct binding *binding = find(next->frame, symbol);
    if (!binding)
        variable(t, NULL, symbol);
    if (binding)
        binding->value = v;
    else
        symbol->global = v;
    return NOTHING;
}

/* (let name ((variable value)...) body...): a closure that is called at once. */
static struct value *named_let(struct thread *t, struct value *x, struct tail *next)
{
    struct value *names = NIL, *rest = tail(tail(x));
    struct frame *frame = new_frame(t, next->frame);
    struct value *list = item(t, rest, -1);
    size_t first = t->top;
    for (; is_kind(list, PAIR); list = tail(list))
        lisp_keep(t, lisp_eval(t, item(t, head(list), 0), next->frame));
    int count = (int)(t->top - first);
    lisp_keep(t, names);
    size_t at = t->top - 1;
    for (int n = count; n > 0; n--) {
        list = head(rest);
        for (int i = 1; i < n; i++)
            list = tail(list);
        t->stack[at] = names = cons(t, head(head(list)), names);
    }
    struct value *lambda = cons(t, names, tail(rest));
    lisp_keep(t, lambda);
    struct value *closure = make_closure(t, lambda, frame);
    lisp_keep(t, closure);
    bind(t, frame, head(tail(x)), closure);
    frame = bind_arguments(t, (struct closure *)closure, count, t->stack + first);
    return sequence(t, tail(lambda), frame, next);
}

static struct value *form_let(struct thread *t, struct value *x, struct tail *next)
{
    struct value *list = item(t, x, 0);
    if (is_kind(list, SYMBOL))
        return named_let(t, x, next);
    struct frame *frame = new_frame(t, next->frame);
    for (; is_kind(list, PAIR); list = tail(list)) {
        struct value *v = lisp_eval(t, item(t, head(list), 0), next->frame);
        define(t, frame, head(head(list)), v);
    }
    return sequence(t, tail(tail(x)), frame, next);
}

/* let* and letrec: each value sees what was bound before, and its own closures all. */
static struct value *form_let_in_order(
    struct thread *t, struct value *x, struct tail *next)
{
    struct value *list = item(t, x, 0);
    struct frame *frame = new_frame(t, next->frame);
    for (; is_kind(list, PAIR); list = tail(list)) {
        struct value *v = lisp_eval(t, item(t, head(list), 0), frame);
        define(t, frame, head(head(list)), v);
    }
    return sequence(t, tail(tail(x)), frame, next);
}

void lisp_define_forms(struct thread *t)
{
    static const struct {
        const char *name;
        form_fn *form;
    } forms[] = {
        {"quote", form_quote},
        {"if", form_if},
        {"cond", form_cond},
        {"begin", form_begin},
        {"and", form_and},
        {"or", form_or},
        {"lambda", form_lambda},
        {"define", form_define},
        {"set!", form_set},
        {"let", form_let},
        {"let*", form_let_in_order},
        {"letrec", form_let_in_order},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct value *symbol = lisp_symbol(t, forms[i].name, strlen(forms[i].name));
        ((struct symbol *)symbol)->form = forms[i].form;
    }
}

/* ---- Calls ---- */

static struct value *call_primitive(
    struct thread *t, const struct primitive *p, int count, struct value **args)
{
    if (count < p->least || (p->most >= 0 && count > p->most))
        lisp_fail(t, "%s: called with %d arguments", p->name, count);
    return p->function(t, count, args);
}

/* Function and arguments are on the stack. */
static struct value *call(struct thread *t, struct value *function, int count,
    struct value **args, struct tail *next)
{
    if (is_kind(function, PRIMITIVE))
        return call_primitive(t, (struct primitive *)function, count, args);
    if (is_kind(function, HANDLE)) {
        struct handle *handle = (struct handle *)function;
        return lisp_apply(t, handle->procedure, 1, &handle->label);
    }
    struct closure *closure = lisp_argument(t, function, CLOSURE);
    struct frame *frame = bind_arguments(t, closure, count, args);
    return sequence(t, closure->lambda->tail, frame, next);
}

static struct value *step(struct thread *t, struct tail *next)
{
    struct value *x = next->x;
    if (is_kind(x, SYMBOL))
        return variable(t, next->frame, (struct symbol *)x);
    if (!is_kind(x, PAIR))
        return x;
    if (is_kind(head(x), SYMBOL) && ((struct symbol *)head(x))->form)
        return ((struct symbol *)head(x))->form(t, x, next);
    struct value *function = lisp_eval(t, head(x), next->frame);
    lisp_keep(t, function);
    size_t first = t->top;
    for (x = tail(x); is_kind(x, PAIR); x = tail(x))
        lisp_keep(t, lisp_eval(t, head(x), next->frame));
    return call(t, function, (int)(t->top - first), t->stack + first, next);
}

static struct value *evaluate(struct thread *t, struct tail next)
{
    size_t top = t->top;
    struct value *result;
    if (t->depth >= DEPTH_MAX)
        lisp_fail(t, "too deep");
    t->depth++;
    do {
        t->top = top;
        lisp_keep(t, next.x);
        lisp_keep(t, (struct value *)next.frame);
        lisp_step(t);
        result = step(t, &next);
    } while (!result);
    t->depth--;
    t->top = top;
    return result;
}

struct value *lisp_eval(struct thread *t, struct value *expression, struct frame *frame)
{
    if (is_number(expression))
        return expression;
    return evaluate(t, (struct tail){expression, frame});
}

struct value *lisp_apply(
    struct thread *t, struct value *function, int count, struct value **args)
{
    size_t top = t->top;
    struct tail next;
    lisp_keep(t, function);
    for (int i = 0; i < count; i++)
        lisp_keep(t, args[i]);
    struct value *result = call(t, function, count, t->stack + top + 1, &next);
    if (!result)
        result = evaluate(t, next);
    t->top = top;
    return result;
}
