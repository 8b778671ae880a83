/* SPDX-License-Identifier: MIT */
/*
 * With misuse:report each mistake is said as ever, the call does nothing, and the
 * program goes on. The program runs itself again with the option set, as a user would.
 */
#include "tests/misuse.h"

#include <errno.h>
#include <stdlib.h>

#include "heaps/heap.h"
#include "lib/options.h"

/* What a call on a misused pointer leaves behind: the message, and that all is well. */
struct attempt {
    void *p;
    void (*function)(void *p);
};

/* Cells that look right after a mistake, however the heap came by them. */
static void use_the_heap(void)
{
    void *p[100];
    for (size_t i = 0; i < 100; i++) {
        p[i] = sh_malloc(i * 37 % 3000 + 1);
        memset(p[i], (int)i, i * 37 % 3000 + 1);
        for (size_t j = 0; j < i; j++)
            if (p[j] == p[i])
                _exit(1);
    }
    for (size_t i = 0; i < 100; i++)
        sh_free(p[i]);
    gc_collect();
}

static void attempt(void *arg)
{
    const struct attempt *attempt = arg;
    attempt->function(attempt->p);
    attempt->function(attempt->p);
    use_the_heap();
}

/* The message, twice, and nothing else. */
static __attribute__((format(printf, 3, 4))) void expect_report(
    void (*mistake)(void *), void *arg, const char *format, ...)
{
    char line[1024], expected[2100];
    va_list args;
    va_start(args, format);
    sh_vformat(line, sizeof line, format, args);
    va_end(args);
    sh_format(expected, sizeof expected, "splitheap: %s\nsplitheap: %s\n", line, line);
    struct child child;
    child_run(&child, mistake, arg);
    if (!child_returned(&child) || strcmp(child.text, expected) != 0)
        fail_msg("status %#x:\n  %swhere was expected:\n  %s", child.status, child.text,
            expected);
}

static void every_taker_of_a_foreign_pointer(void **unused)
{
    int local;
    for (size_t i = 0; i < TAKERS; i++) {
        struct attempt try = {&local, takers[i].function};
        expect_report(attempt, &try, FOREIGN, takers[i].name, (void *)&local);
    }
}

static void every_taker_of_an_interior_pointer(void **unused)
{
    char *p = sh_malloc(100);
    size_t size = sh_malloc_usable_size(p);
    for (size_t i = 0; i < TAKERS; i++) {
        struct attempt try = {p + 8, takers[i].function};
        expect_report(attempt, &try, INTERIOR, takers[i].name, (void *)(p + 8),
            (size_t)8, size, (void *)p);
    }
    sh_free(p);
}

static void every_taker_of_a_freed_pointer(void **unused)
{
    /* Its neighbours keep the span, and one of them is not in the same word. */
    void *others[100];
    for (size_t i = 0; i < 100; i++)
        others[i] = sh_malloc(100);
    void *p = others[50];
    size_t size = sh_malloc_usable_size(p);
    sh_free(p);
    for (size_t i = 0; i < TAKERS; i++) {
        struct attempt try = {p, takers[i].function};
        expect_report(attempt, &try, DOUBLE_FREE, takers[i].name, p, size);
    }
    for (size_t i = 0; i < 100; i++)
        if (i != 50)
            sh_free(others[i]);
}

static void *free_it(void *p)
{
    sh_free(p);
    return NULL;
}

static void free_elsewhere(void *p)
{
    in_thread(free_it, p);
    in_thread(free_it, p);
    in_thread(free_it, p);
    use_the_heap();
}

static void a_double_free_by_another_thread(void **unused)
{
    void *p = sh_malloc(100);
    expect_report(free_elsewhere, p, DOUBLE_FREE, "free", p, sh_malloc_usable_size(p));
    sh_free(p);
}

static void free_large_again(void *p)
{
    sh_free(p);
    sh_free(p);
    sh_free(p);
    use_the_heap();
}

static void a_large_object_freed_again(void **unused)
{
    void *p = sh_malloc((size_t)200 << 10);
    expect_report(free_large_again, p, FREE_PAGE, "free", p);
    sh_free(p);
}

static void what_calls_return(void **unused)
{
    int local;
    void *p = &local;
    errno = 0;
    assert_null(sh_realloc(p, 10));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(sh_malloc_usable_size(p), 0);
    assert_null(gc_realloc(p, 10, true));
    assert_int_equal(gc_nbytes(p), 0);
}

static void sized_wrongly(void *p)
{
    sh_free_sized(p, 1000);
    sh_free_aligned_sized(p, 16, 1000);
    if (gc_nbytes(p) == 0)
        _exit(1);
    sh_free_aligned_sized(p, 3, 100);
    if (gc_nbytes(p) == 0)
        _exit(2);
    sh_free_aligned_sized(p, 16, 100);
    if (gc_nbytes(p) != 0)
        _exit(3);
}

static void wrong_sizes(void **unused)
{
    void *p = sh_malloc(100);
    struct child child;
    child_run(&child, sized_wrongly, p);
    assert_true(child_returned(&child));
    assert_int_equal(child.writes, 3);
    assert_non_null(strstr(child.text, "wrong size: 1000 bytes given"));
    assert_non_null(strstr(child.text, "wrong alignment: 3 given"));
    sh_free(p);
}

static void unlock_twice(void *unused)
{
    gc_unlock();
    gc_lock();
    gc_unlock();
    gc_unlock();
    if (gc_is_locked() || !gc_alloc(10, 0))
        _exit(1);
    use_the_heap();
}

static void more_unlocks_than_locks(void **unused)
{
    expect_report(unlock_twice, NULL, "gc_unlock without gc_lock");
}

static void free_twice_inside(void *p)
{
    gc_lock();
    gc_free((char *)p + 16);
    gc_free((char *)p + 16);
    gc_unlock();
    use_the_heap();
}

static void inside_a_lock(void **unused)
{
    char *p = sh_malloc(100);
    expect_report(free_twice_inside, p, INTERIOR, "gc_free", (void *)(p + 16),
        (size_t)16, sh_malloc_usable_size(p), (void *)p);
    sh_free(p);
}

static void add_nothing(void *p)
{
    gc_add(p, p);
    gc_add(p, p);
    use_the_heap();
}

static void memory_that_cannot_be_added(void **unused)
{
    int local;
    expect_report(add_nothing, &local,
        "gc_add(%p, %p): no whole page of 4096 bytes lies between; give start < end "
        "and two pages at least",
        (void *)&local, (void *)&local);
}

#define AREA ((size_t)256 << 10)

static void free_the_heaps_own(void *p)
{
    sh_free(p);
    if (sh_realloc(p, 10) || gc_nbytes(p) == 0)
        _exit(1);
    sh_free(p);
}

static void an_object_that_holds_an_area(void **unused)
{
    char *p = sh_malloc(AREA);
    gc_add(p + AREA / 2, p + AREA);
    struct child child;
    child_run(&child, free_the_heaps_own, p);
    assert_true(child_returned(&child));
    assert_int_equal(child.writes, 3);
}

int main(int argc, char **argv)
{
    sh_heap_init();
    if (sh_options.misuse != SH_MISUSE_REPORT) {
        if (argc > 1)
            return 1;
        setenv("SPLITHEAP_CONF", "misuse:report", 1);
        execl("/proc/self/exe", argv[0], "again", NULL);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_taker_of_a_foreign_pointer),
        cmocka_unit_test(every_taker_of_an_interior_pointer),
        cmocka_unit_test(every_taker_of_a_freed_pointer),
        cmocka_unit_test(a_double_free_by_another_thread),
        cmocka_unit_test(a_large_object_freed_again),
        cmocka_unit_test(what_calls_return),
        cmocka_unit_test(wrong_sizes),
        cmocka_unit_test(more_unlocks_than_locks),
        cmocka_unit_test(inside_a_lock),
        cmocka_unit_test(memory_that_cannot_be_added),
        cmocka_unit_test(an_object_that_holds_an_area),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
