/* SPDX-License-Identifier: MIT */
/*
 * lisp - runs the Lisp programs in files.
 *
 *     lisp [--heap BYTES | --auto BYTES] [--threshold BYTES] [--no-auto-collect] FILE...
 *
 * --heap gives the heap that much memory, half of it by gc_init and half by gc_add, and
 * lets it have no more: 2 MiB where nothing is said. --auto lets it grow by areas of up
 * to that size. An error ends the expression that it is in, and is printed; the exit
 * status is 1 where a file cannot be read.
 */
#include "lisp.h"

#include <splitheap/gc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char prelude[] =
    "(define (append a b) (if (null? a) b (cons (car a) (append (cdr a) b))))"
    "(define (reverse list)"
    "  (let loop ((list list) (made '()))"
    "    (if (null? list) made (loop (cdr list) (cons (car list) made)))))"
    "(define (length list)"
    "  (let loop ((list list) (n 0)) (if (null? list) n (loop (cdr list) (+ n 1)))))"
    "(define (map f list)"
    "  (let loop ((list list) (made '()))"
    "    (if (null? list) (reverse made)"
    "        (loop (cdr list) (cons (f (car list)) made)))))"
    "(define (for-each f list)"
    "  (cond ((pair? list) (f (car list)) (for-each f (cdr list)))))"
    "(define (fold f value list)"
    "  (if (null? list) value (fold f (f value (car list)) (cdr list))))"
    "(define (filter f list)"
    "  (reverse (fold (lambda (made x) (if (f x) (cons x made) made)) '() list)))"
    "(define (range from to)"
    "  (let loop ((n to) (made '()))"
    "    (if (> n from) (loop (- n 1) (cons (- n 1) made)) made)))"
    "(define (times n f)"
    "  (let loop ((i 0)) (cond ((< i n) (f i) (loop (+ i 1))))))"
    "(define (assoc key list)"
    "  (cond ((null? list) #f)"
    "        ((equal? (car (car list)) key) (car list))"
    "        (else (assoc key (cdr list)))))"
    "(define (lookup key list) (cdr (assoc key list)))";

static struct {
    size_t fixed, most, threshold;
    bool no_auto_collect;
    char **files;
    int status;
} options = {.fixed = (size_t)2 << 20};

/* ---- Running ---- */

static struct value *read_and_evaluate(struct thread *t, int count, struct value **args)
{
    (void)count;
    struct reader *reader = (struct reader *)args[0];
    struct value *x = lisp_read(t, reader);
    if (x == END_OF_FILE)
        return END_OF_FILE;
    lisp_keep(t, x);
    return lisp_eval(t, x, NULL);
}

/* What a reader or an error leaves in the middle of an expression is skipped with it. */
static void run_text(struct thread *t, const char *text, size_t length)
{
    static const struct primitive next = PRIMITIVE_OF("next", read_and_evaluate, 1, 1);
    struct value *function = (struct value *)(uintptr_t)&next;
    struct reader reader = {text, text + length};
    struct value *v = NOTHING, *arg = (struct value *)&reader;
    while (v != END_OF_FILE) {
        v = lisp_try(t, function, 1, &arg);
        if (!v)
            printf("error: %s\n", t->message);
    }
}

static void run_file(struct thread *t, const char *name)
{
    struct text text = {NULL, 0, 0};
    char part[4096];
    FILE *file = fopen(name, "r");
    if (!file) {
        fprintf(stderr, "lisp: cannot read %s\n", name);
        options.status = 1;
        return;
    }
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;)
        text_add(&text, part, n);
    fclose(file);
    run_text(t, text.bytes, text.length);
    free(text.bytes);
}

/* All that the roots were, and all tables and finalisers, are gone then. */
static void end(struct thread *t)
{
    gc_info_t info;
    lisp_wait_for_threads(t);
    lisp_sweep_all();
    gc_info(&info);
    if (info.used > 0) {
        fprintf(stderr, "lisp: %zu bytes are left after gc_sweep_all\n", info.used);
        options.status = 1;
    }
}

static struct value *run_all(struct thread *t, int count, struct value **args)
{
    (void)count, (void)args;
    lisp_define_forms(t);
    lisp_define_builtins(t);
    lisp_define_memory(t);
    lisp_define_tables(t);
    lisp_define_threads(t);
    run_text(t, prelude, strlen(prelude));
    for (char **name = options.files; *name; name++)
        run_file(t, *name);
    return NOTHING;
}

/* In a thread, whose stack is as large as those of others. */
static void *run(void *arg)
{
    static const struct primitive all = PRIMITIVE_OF("all", run_all, 0, 0);
    struct thread *t = arg;
    lisp_enter();
    if (!lisp_try(t, (struct value *)(uintptr_t)&all, 0, NULL)) {
        printf("error: %s\n", t->message);
        options.status = 1;
    }
    end(t);
    fflush(stdout);
    exit(options.status);
}

/* ---- The heap ---- */

/* Nothing but what gc_collect gives is a root. */
static void make_precise(void)
{
    gc_set_scan_data_segments(false);
    gc_set_scan_stacks(false);
    gc_set_scan_malloc(false);
}

static void make_heap(void)
{
    if (options.fixed == 0) {
        lisp_split_max = options.most;
        gc_init(NULL, NULL);
        return;
    }
    char *memory = aligned_alloc(4096, options.fixed);
    if (!memory) {
        fprintf(stderr, "lisp: no memory for the heap\n");
        exit(1);
    }
    char *middle = memory + options.fixed / 2;
    gc_init(memory, middle);
    gc_add(middle, memory + options.fixed);
}

static size_t size_option(const char *text, size_t least)
{
    char *end;
    unsigned long long n = strtoull(text ? text : "", &end, 10);
    if (!text || end == text || *end || n < least) {
        fprintf(stderr, "lisp: a size of %zu bytes or more is wanted\n", least);
        exit(2);
    }
    return (size_t)n;
}

static void read_options(char **argv)
{
    for (argv++; *argv && strncmp(*argv, "--", 2) == 0; argv++) {
        if (strcmp(*argv, "--heap") == 0) {
            options.fixed = size_option(*++argv, 65536) & ~(size_t)8191;
        } else if (strcmp(*argv, "--auto") == 0) {
            options.fixed = 0;
            options.most = size_option(*++argv, 65536);
        } else if (strcmp(*argv, "--threshold") == 0) {
            options.threshold = size_option(*++argv, 1);
        } else if (strcmp(*argv, "--no-auto-collect") == 0) {
            options.no_auto_collect = true;
        } else {
            fprintf(stderr, "lisp: no such option: %s\n", *argv);
            exit(2);
        }
    }
    options.files = argv;
}

int main(int argc, char **argv)
{
    (void)argc;
    read_options(argv);
    make_precise();
    make_heap();
    gc_set_threshold(options.threshold);
    gc_set_auto_collect(!options.no_auto_collect);
    struct thread *t = lisp_thread_new();
    if (!t || !lisp_start_thread(run, t)) {
        fprintf(stderr, "lisp: no memory\n");
        return 1;
    }
    pthread_exit(NULL);
}
