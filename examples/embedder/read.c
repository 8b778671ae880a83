/* SPDX-License-Identifier: MIT */
/* Text to values: lists, quotes, strings, numbers, symbols; ; begins a comment. */
#include "lisp.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct value *read_value(struct thread *t, struct reader *r);

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (isspace((unsigned char)*r->at) || *r->at == ';')) {
        if (*r->at == ';')
            while (r->at < r->end && *r->at != '\n')
                r->at++;
        else
            r->at++;
    }
}

static bool ends_word(char c)
{
    return isspace((unsigned char)c) || strchr("()'\";", c);
}

static struct value *number_from(struct thread *t, const char *word)
{
    char *end;
    errno = 0;
    long long whole = strtoll(word, &end, 10);
    if (*end == '\0' && end != word && errno == 0 && whole >> 62 == whole >> 63)
        return number((intptr_t)whole);
    if (!isdigit((unsigned char)*word) &&
        !(word[0] == '-' && isdigit((unsigned char)word[1])))
        return NULL;
    double real = strtod(word, &end);
    return *end == '\0' ? lisp_real(t, real) : NULL;
}

static struct value *read_word(struct thread *t, struct reader *r)
{
    const char *start = r->at;
    char word[64];
    while (r->at < r->end && !ends_word(*r->at))
        r->at++;
    size_t length = (size_t)(r->at - start);
    if (length >= sizeof word)
        lisp_fail(t, "a word of more than %zu characters", sizeof word - 1);
    memcpy(word, start, length);
    word[length] = '\0';
    if (strcmp(word, "#t") == 0 || strcmp(word, "#f") == 0)
        return truth(word[1] == 't');
    struct value *v = number_from(t, word);
    return v ? v : lisp_symbol(t, word, length);
}

static struct value *read_string(struct thread *t, struct reader *r)
{
    t->text.length = 0;
    for (r->at++; r->at < r->end && *r->at != '"'; r->at++) {
        if (*r->at == '\\' && r->at + 1 < r->end) {
            r->at++;
            text_add(&t->text, *r->at == 'n' ? "\n" : r->at, 1);
        } else {
            text_add(&t->text, r->at, 1);
        }
    }
    if (r->at == r->end)
        lisp_fail(t, "a string has no end");
    r->at++;
    return lisp_string(t, t->text.bytes, t->text.length);
}

/* Up to the parenthesis: its items wait on the stack until the list is made of them. */
static struct value *read_list(struct thread *t, struct reader *r)
{
    size_t top = t->top;
    struct value *list = NIL;
    r->at++;
    for (skip_space(r); r->at < r->end && *r->at != ')'; skip_space(r)) {
        if (*r->at == '.' && r->at + 1 < r->end && ends_word(r->at[1])) {
            r->at++;
            list = read_value(t, r);
            skip_space(r);
            break;
        }
        lisp_keep(t, read_value(t, r));
    }
    if (r->at == r->end || *r->at != ')')
        lisp_fail(t, "a list has no end");
    r->at++;
    size_t count = t->top - top;
    lisp_keep(t, list);
    for (size_t i = count; i > 0; i--)
        t->stack[t->top - 1] = list = cons(t, t->stack[top + i - 1], list);
    t->top = top;
    return list;
}

static struct value *read_quoted(struct thread *t, struct reader *r)
{
    size_t top = t->top;
    r->at++;
    struct value *v = read_value(t, r);
    lisp_keep(t, v);
    v = cons(t, v, NIL);
    lisp_keep(t, v);
    v = cons(t, lisp_symbol(t, "quote", 5), v);
    t->top = top;
    return v;
}

static struct value *read_value(struct thread *t, struct reader *r)
{
    skip_space(r);
    if (r->at == r->end)
        return END_OF_FILE;
    switch (*r->at) {
    case '(':
        return read_list(t, r);
    case ')':
        r->at++;
        lisp_fail(t, "a parenthesis too many");
    case '\'':
        return read_quoted(t, r);
    case '"':
        return read_string(t, r);
    default:
        return read_word(t, r);
    }
}

struct value *lisp_read(struct thread *t, struct reader *reader)
{
    return read_value(t, reader);
}
