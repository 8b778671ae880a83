/* SPDX-License-Identifier: MIT */
/* The C library's names are ours: before main, in the C library itself, and after. */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <splitheap/malloc.h>

#include "tests/heap.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);
void *__libc_memalign(size_t alignment, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);

static bool ours(const void *p)
{
    return gc_nbytes(p) > 0;
}

static void *before_main;

__attribute__((constructor)) static void allocate_early(void)
{
    before_main = malloc(100);
}

static void works_before_main(void **unused)
{
    assert_true(ours(before_main));
    free(before_main);
    assert_false(ours(before_main));
}

static void every_name_is_ours(void **unused)
{
    void *p[16] = {NULL};
    int n = 0;
    p[n++] = malloc(100);
    p[n++] = calloc(10, 10);
    p[n++] = realloc(NULL, 100);
    p[n++] = reallocarray(NULL, 10, 10);
    assert_int_equal(posix_memalign(&p[n++], 64, 100), 0);
    p[n++] = aligned_alloc(64, 128);
    p[n++] = memalign(64, 100);
    p[n++] = valloc(100);
    p[n++] = pvalloc(100);
    p[n++] = __libc_malloc(100);
    p[n++] = __libc_calloc(10, 10);
    p[n++] = __libc_realloc(NULL, 100);
    p[n++] = __libc_memalign(64, 100);
    p[n++] = __libc_valloc(100);
    p[n++] = __libc_pvalloc(100);
    for (int i = 0; i < n; i++) {
        assert_true(ours(p[i]));
        assert_true(malloc_usable_size(p[i]) >= 100);
        assert_int_equal(malloc_usable_size(p[i]), gc_nbytes(p[i]));
    }
    for (int i = 0; i < n; i++) {
        if (i % 4 == 0)
            free(p[i]);
        else if (i % 4 == 1)
            cfree(p[i]);
        else if (i % 4 == 2)
            __libc_free(p[i]);
        else
            free_sized(p[i], 100);
        assert_false(ours(p[i]));
    }
    p[0] = aligned_alloc(64, 128);
    free_aligned_sized(p[0], 64, 128);
    assert_false(ours(p[0]));
}

static void the_c_library_uses_them(void **unused)
{
    char *copy = strdup("some text"), *line = NULL;
    assert_true(ours(copy));
    free(copy);
    size_t room = 0;
    FILE *file = tmpfile();
    fputs("a line\n", file);
    rewind(file);
    assert_int_equal(getline(&line, &room, file), 7);
    assert_true(ours(line));
    free(line);
    fclose(file);
}

static void *in_new_thread(void *unused)
{
    void *p = malloc(100);
    MUST(ours(p));
    return p;
}

static void a_new_threads_are_ours(void **unused)
{
    void *p = in_thread(in_new_thread, NULL);
    assert_true(ours(p));
    free(p);
}

static void the_loader_uses_them(void **unused)
{
    for (int i = 0; i < 20; i++) {
        void *module = dlopen("libm.so.6", RTLD_NOW);
        assert_non_null(module);
        assert_non_null(dlsym(module, "cos"));
        assert_null(dlsym(module, "no such name"));
        assert_non_null(dlerror());
        dlclose(module);
    }
}

static pthread_key_t keys[200];

static void *use_many_keys(void *unused)
{
    for (int i = 0; i < 200; i++)
        MUST(pthread_setspecific(keys[i], malloc(16)) == 0);
    return NULL;
}

/* Beyond 32 keys the C library allocates in pthread_setspecific. */
static void thread_specific_data_uses_them(void **unused)
{
    for (int i = 0; i < 200; i++)
        assert_int_equal(pthread_key_create(&keys[i], free), 0);
    for (int i = 0; i < 20; i++)
        in_thread(use_many_keys, NULL);
    for (int i = 0; i < 200; i++)
        pthread_key_delete(keys[i]);
}

static void errors_are_the_standards(void **unused)
{
    volatile size_t too_much = (size_t)PTRDIFF_MAX + 1, most = SIZE_MAX;
    errno = 0;
    assert_null(malloc(too_much));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(calloc(most, 2));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(realloc(NULL, most));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(reallocarray(NULL, most, most));
    assert_int_equal(errno, ENOMEM);
    void *p = NULL;
    errno = EDOM;
    assert_int_equal(posix_memalign(&p, 3, 8), EINVAL);
    assert_int_equal(posix_memalign(&p, 16, too_much), ENOMEM);
    assert_int_equal(errno, EDOM);
    p = malloc(100);
    errno = EDOM;
    free(p);
    assert_int_equal(errno, EDOM);
}

/* Destructors of thread-local objects of others run before and after ours. */
static SH_TLS void *kept;

static void *leave_garbage(void *unused)
{
    kept = malloc(1000);
    pthread_exit(malloc(10));
}

static void what_a_thread_returns_outlives_it(void **unused)
{
    for (int i = 0; i < 100; i++) {
        void *p = in_thread(leave_garbage, NULL);
        assert_true(ours(p));
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(works_before_main),
        cmocka_unit_test(every_name_is_ours),
        cmocka_unit_test(the_c_library_uses_them),
        cmocka_unit_test(a_new_threads_are_ours),
        cmocka_unit_test(the_loader_uses_them),
        cmocka_unit_test(thread_specific_data_uses_them),
        cmocka_unit_test(errors_are_the_standards),
        cmocka_unit_test(what_a_thread_returns_outlives_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
