/* SPDX-License-Identifier: MIT */
/* Expecting a mistake to end a child process with one exact message. */
#ifndef SH_TESTS_MISUSE_H
#define SH_TESTS_MISUSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/print.h"
#include "tests/child.h"
#include "tests/heap.h"

/* The message is what follows "splitheap: ". */
static SH_UNUSED __attribute__((format(printf, 3, 4))) void expect_end(
    void (*mistake)(void *), void *arg, const char *format, ...)
{
    char expected[1024];
    size_t length = sh_format(expected, sizeof expected, "splitheap: ");
    va_list args;
    va_start(args, format);
    length += sh_vformat(expected + length, sizeof expected - length, format, args);
    va_end(args);
    sh_format(expected + length, sizeof expected - length, "\n");
    struct child child;
    child_run(&child, mistake, arg);
    if (!child_aborted_with(&child, expected))
        fail_msg("status %#x after %u writes:\n  %swhere was expected:\n  %s",
            child.status, child.writes, child.text, expected);
}

static SH_UNUSED void expect_no_end(void (*deed)(void *), void *arg)
{
    struct child child;
    child_run(&child, deed, arg);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

#define DOUBLE_FREE                                                                    \
    "%s(%p): double free: the %zu-byte cell there is free already; it was freed or "   \
    "collected before, look for its other owner"
#define FREE_PAGE                                                                      \
    "%s(%p): not allocated: the page there is the heap's but free; what was there "    \
    "was freed before, or it never was an object"
#define FOREIGN                                                                        \
    "%s(%p): foreign pointer: no memory of this heap is there; pass only what its "    \
    "functions returned"
#define INTERIOR                                                                       \
    "%s(%p): interior pointer: it points %zu bytes into the %zu-byte cell at %p; "     \
    "pass the pointer that the allocation returned"
#define NEVER                                                                          \
    "%s(%p): never allocated: the %zu-byte cell there was not handed out yet; pass a " \
    "pointer that an allocation returned"

/* The functions that want the start of a live object. */
static SH_UNUSED void call_free(void *p)
{
    sh_free(p);
}

static SH_UNUSED void call_gc_free(void *p)
{
    gc_free(p);
}

static SH_UNUSED void call_realloc(void *p)
{
    sh_realloc(p, 77);
}

static SH_UNUSED void call_gc_realloc(void *p)
{
    (void)gc_realloc(p, 77, true);
}

static SH_UNUSED void call_usable_size(void *p)
{
    sh_malloc_usable_size(p);
}

static SH_UNUSED void call_free_sized(void *p)
{
    sh_free_sized(p, 1);
}

static SH_UNUSED void call_free_aligned_sized(void *p)
{
    sh_free_aligned_sized(p, 1, 1);
}

static const struct {
    const char *name;
    void (*function)(void *p);
} takers[] = {
    {"free", call_free},
    {"gc_free", call_gc_free},
    {"realloc", call_realloc},
    {"gc_realloc", call_gc_realloc},
    {"malloc_usable_size", call_usable_size},
    {"free_sized", call_free_sized},
    {"free_aligned_sized", call_free_aligned_sized},
};
#define TAKERS (sizeof takers / sizeof takers[0])

#endif /* SH_TESTS_MISUSE_H */
