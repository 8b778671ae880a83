/* SPDX-License-Identifier: MIT */
/*
 * The options junk and zero. The program runs itself again with each of them set, as a
 * user would: what an option does is seen in memory, handed out and freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "heaps/fill.h"
#include "heaps/heap.h"
#include "lib/print.h"
#include "tests/child.h"
#include "tests/heap.h"

#define NEW 0xa5
#define FREED 0x5a
#define OURS 0x77

static const size_t sizes[] = {1, 16, 100, 1000, 5000, 32768, 40000, 300000, 3000000};
#define SIZES (sizeof sizes / sizeof sizes[0])

static bool all(const void *start, size_t bytes, unsigned char byte)
{
    const unsigned char *at = start;
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != byte)
            return false;
    return true;
}

static void expect_all(const void *start, size_t bytes, unsigned char byte)
{
    if (!all(start, bytes, byte))
        fail_msg("%zu bytes at %p are not all %02x", bytes, start, byte);
}

/* Memory of that size that something was in. */
static void leave_behind(size_t bytes)
{
    void *p[20];
    for (size_t i = 0; i < 20; i++) {
        p[i] = sh_malloc(bytes);
        memset(p[i], OURS, sh_malloc_usable_size(p[i]));
    }
    for (size_t i = 0; i < 20; i++)
        sh_free(p[i]);
}

static void expect_new(void *p, unsigned char byte)
{
    expect_all(p, sh_malloc_usable_size(p), byte);
    memset(p, OURS, sh_malloc_usable_size(p));
    sh_free(p);
}

static void what_is_handed_out_holds(unsigned char byte)
{
    for (size_t i = 0; i < SIZES; i++) {
        size_t n = sizes[i];
        for (int round = 0; round < 3; round++) {
            leave_behind(n);
            expect_new(sh_malloc(n), byte);
            expect_new(sh_memalign(64, n), byte);
            expect_new(sh_memalign(8192, n), byte);
            expect_new(sh_realloc(NULL, n), byte);
            expect_new(gc_alloc(n, GC_ALLOC_FLAG_LEAF), byte);
            char *p = sh_calloc(1, n);
            expect_all(p, n, 0);
            sh_free(p);
            p = gc_alloc(n, 0);
            expect_all(p, n, 0);
            gc_free(p);
        }
    }
}

/* Growing keeps what was asked for, and the rest is as new. */
static void what_grows_holds(unsigned char byte)
{
    static const size_t larger[] = {500, 40000, 300000, 301000, 900000, 5000000};
    leave_behind(1000000);
    size_t old = 100;
    char *p = sh_malloc(old);
    for (size_t i = 0; i < sizeof larger / sizeof larger[0]; i++) {
        old = sh_malloc_usable_size(p);
        memset(p, OURS, old);
        p = sh_realloc(p, larger[i]);
        expect_all(p, sh_min(old, larger[i]), OURS);
        if (larger[i] > old)
            expect_all(p + old, larger[i] - old, byte);
    }
    sh_free(p);
}

static void *malloc_some(void *unused)
{
    leave_behind(100);
    return sh_malloc(100);
}

static void *free_it(void *p)
{
    sh_free(p);
    return NULL;
}

static void in_other_threads_too(unsigned char new_byte)
{
    void *p = in_thread(malloc_some, NULL);
    expect_new(p, new_byte);
}

/* What was freed, by whom, is filled but for what the heap has to say there. */
static void what_is_freed_holds(unsigned char byte)
{
    void *p[40];
    for (size_t i = 0; i < 40; i++)
        memset(p[i] = i % 2 ? sh_malloc(100) : gc_alloc(100, 0), OURS, 100);
    for (size_t i = 0; i < 40; i++) {
        if (i % 8 == 7)
            continue;
        if (i % 3 == 0)
            in_thread(free_it, p[i]);
        else if (i % 3 == 1)
            sh_free(p[i]);
        else
            gc_free(p[i]);
        expect_all(p[i], 100, byte);
    }
    for (size_t i = 7; i < 40; i += 8) {
        expect_all(p[i], 100, OURS);
        sh_free(p[i]);
    }
}

/* ---- The options ---- */

static void junk_true(void)
{
    what_is_handed_out_holds(NEW);
    what_grows_holds(NEW);
    in_other_threads_too(NEW);
    what_is_freed_holds(FREED);
}

static void junk_alloc(void)
{
    what_is_handed_out_holds(NEW);
    what_grows_holds(NEW);
    in_other_threads_too(NEW);
    what_is_freed_holds(OURS);
}

static void junk_free(void)
{
    what_is_freed_holds(FREED);
    void *p = sh_malloc(100);
    memset(p, OURS, 100);
    sh_free(p);
    assert_false(all(p, 100, OURS));
}

static void zero(void)
{
    what_is_handed_out_holds(0);
    what_grows_holds(0);
    in_other_threads_too(0);
    what_is_freed_holds(OURS);
}

static void zero_and_junk(void)
{
    what_is_handed_out_holds(0);
    what_grows_holds(0);
    what_is_freed_holds(FREED);
}

static void neither(void)
{
    assert_false(sh_load_relaxed(&sh_fill_on));
    what_is_freed_holds(OURS);
}

static const struct {
    const char *conf;
    void (*look)(void);
} looks[] = {
    {"junk:true", junk_true},
    {"junk:alloc", junk_alloc},
    {"junk:free", junk_free},
    {"zero:true", zero},
    {"junk:true,zero:true", zero_and_junk},
    {"junk:false", neither},
};

#define LOOKS (sizeof looks / sizeof looks[0])

static void run_with(void *arg)
{
    char number[8];
    size_t which = (size_t)(uintptr_t)arg;
    sh_format(number, sizeof number, "%zu", which);
    setenv("SPLITHEAP_CONF", looks[which].conf, 1);
    execl("/proc/self/exe", "api_fill", number, NULL);
    _exit(99);
}

static void each_option_fills_as_it_says(void **unused)
{
    for (size_t i = 0; i < LOOKS; i++) {
        struct child child;
        child_run(&child, run_with, (void *)(uintptr_t)i);
        if (!child_returned(&child))
            fail_msg("%s: status %#x: %s", looks[i].conf, child.status, child.text);
    }
}

static size_t chosen;

static void look(void **unused)
{
    looks[chosen].look();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest outer[] = {cmocka_unit_test(each_option_fills_as_it_says)};
    const struct CMUnitTest inner[] = {cmocka_unit_test(look)};
    if (argc == 1)
        return run_on_clean_stack(outer, NULL, NULL);
    chosen = strtoul(argv[1], NULL, 10);
    return cmocka_run_group_tests_name(looks[chosen].conf, inner, NULL, NULL);
}
