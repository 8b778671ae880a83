/* SPDX-License-Identifier: MIT */
/* Values to text, which lies outside the heap. */
#include "lisp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without memory the text just ends there. */
void text_add(void *to, const char *bytes, size_t length)
{
    struct text *text = to;
    if (text->length + length > text->room) {
        size_t room = (text->length + length) * 2 + 64;
        char *more = realloc(text->bytes, room);
        if (!more)
            return;
        text->bytes = more;
        text->room = room;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

void text_format(struct text *text, const char *format, ...)
{
    char line[128];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length > 0)
        text_add(text, line,
            (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

static void print_string(struct text *text, const struct string *string, bool quotes)
{
    if (!quotes) {
        text_add(text, string->bytes, string->length);
        return;
    }
    text_add(text, "\"", 1);
    for (size_t i = 0; i < string->length; i++) {
        const char *c = &string->bytes[i];
        if (*c == '"' || *c == '\\')
            text_add(text, "\\", 1);
        text_add(text, *c == '\n' ? "\\n" : c, *c == '\n' ? 2 : 1);
    }
    text_add(text, "\"", 1);
}

static void print_list(struct text *text, struct value *list, bool quotes)
{
    const char *before = "(";
    for (; is_kind(list, PAIR); list = tail(list), before = " ") {
        text_add(text, before, 1);
        lisp_print(text, head(list), quotes);
    }
    if (list != NIL) {
        text_add(text, " . ", 3);
        lisp_print(text, list, quotes);
    }
    text_add(text, ")", 1);
}

static void print_vector(struct text *text, const struct vector *vector, bool quotes)
{
    text_add(text, "#(", 2);
    for (size_t i = 0; i < vector->length; i++) {
        if (i > 0)
            text_add(text, " ", 1);
        lisp_print(text, vector->items[i], quotes);
    }
    text_add(text, ")", 1);
}

static void print_constant(struct text *text, const struct value *v)
{
    text_format(text, "%s",
        v == NIL     ? "()"
        : v == TRUE  ? "#t"
        : v == FALSE ? "#f"
                     : "");
}

void lisp_print(struct text *text, struct value *v, bool quotes)
{
    if (is_number(v)) {
        text_format(text, "%zd", (size_t)number_of(v));
        return;
    }
    const struct object *object = (struct object *)v;
    switch (object->type->kind) {
    case PAIR:
        print_list(text, v, quotes);
        break;
    case VECTOR:
        print_vector(text, (struct vector *)v, quotes);
        break;
    case STRING:
        print_string(text, (struct string *)v, quotes);
        break;
    case SYMBOL:
        text_add(text, ((struct symbol *)v)->name, ((struct symbol *)v)->length);
        break;
    case REAL:
        text_format(text, "%.15g", ((struct real *)v)->number);
        break;
    case CONSTANT:
        print_constant(text, v);
        break;
    default:
        text_format(text, "#<%s>", object->type->name);
    }
}
