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

#include "tests/child.h"
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

/* ---- Numbers and settings ---- */

struct mallinfo __libc_mallinfo(void);
int __libc_mallopt(int parameter, int value);

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Each call tells of this one more object, of a cell of 1024 bytes. */
static void mallinfo_is_ours(void **unused)
{
    struct mallinfo before = mallinfo();
    void *p = malloc(1000);
    assert_int_equal(mallinfo().uordblks, before.uordblks + 1024);
    free(p);
    assert_int_equal(mallinfo().uordblks, before.uordblks);
    assert_int_equal(mallinfo().hblks, 0);
    p = malloc((size_t)50 << 20);
    assert_int_equal(mallinfo().hblks, 1);
    assert_int_equal(mallinfo().hblkhd, 50 << 20);
    free(p);
}

static void libc_mallinfo_is_ours(void **unused)
{
    int before = __libc_mallinfo().uordblks;
    void *p = malloc(1000);
    assert_int_equal(__libc_mallinfo().uordblks, before + 1024);
    free(p);
}

static void mallinfo2_is_ours(void **unused)
{
    struct mallinfo2 before = mallinfo2();
    void *p = malloc(1000), *huge = malloc((size_t)50 << 20);
    struct mallinfo2 now = mallinfo2();
    assert_int_equal(now.uordblks, before.uordblks + 1024);
    assert_int_equal(now.hblks, before.hblks + 1);
    assert_int_equal(now.hblkhd, before.hblkhd + ((size_t)50 << 20));
    assert_int_equal(now.arena, now.uordblks + now.fordblks);
    free(p);
    free(huge);
}

/* The number in the attribute of the last element that begins like this. */
static size_t attribute(const char *xml, const char *begin, const char *name)
{
    const char *at = NULL;
    for (const char *next = xml; (next = strstr(next, begin)); next++)
        at = next;
    assert_non_null(at);
    at = strstr(at, name);
    assert_non_null(at);
    return strtoul(at + strlen(name), NULL, 10);
}

static void malloc_info_is_ours(void **unused)
{
    void *huge = malloc((size_t)50 << 20);
    char *xml = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&xml, &len);
    errno = 0;
    assert_int_equal(malloc_info(1, stream), EINVAL);
    assert_int_equal(ftell(stream), 0);
    assert_int_equal(malloc_info(0, stream), 0);
    fclose(stream);
    assert_int_equal(strncmp(xml, "<malloc version=\"1\">\n", 21), 0);
    assert_string_equal(xml + len - 10, "</malloc>\n");
    assert_int_equal(attribute(xml, "<total type=\"mmap\"", "count=\""), 1);
    assert_int_equal(
        attribute(xml, "<total type=\"mmap\"", "size=\""), (size_t)50 << 20);
    free(xml);
    free(huge);
}

static void print_stats(void *unused)
{
    malloc_stats();
}

static void malloc_stats_is_ours(void **unused)
{
    struct child child;
    child_run(&child, print_stats, NULL);
    assert_true(child_returned(&child));
    assert_int_equal(strncmp(child.text, "splitheap: statistics of process ", 33), 0);
}

static void malloc_trim_is_ours(void **unused)
{
    char *p = malloc(3 << 20);
    memset(p, 1, 3 << 20);
    free(p);
    assert_true(mallinfo2().keepcost > 0);
    assert_int_equal(malloc_trim(0), 1);
    assert_int_equal(mallinfo2().keepcost, 0);
    assert_int_equal(malloc_trim(1000), 0);
}

static void mallopt_is_ours(void **unused)
{
    assert_int_equal(mallopt(M_MXFAST, 80), 1);
    assert_int_equal(mallopt(M_MXFAST, 1000), 0);
    assert_int_equal(mallopt(M_MXFAST, -1), 0);
    assert_int_equal(mallopt(M_TRIM_THRESHOLD, 128 << 10), 1);
    assert_int_equal(mallopt(M_TRIM_THRESHOLD, -1), 1);
    assert_int_equal(mallopt(M_TOP_PAD, 0), 1);
    assert_int_equal(mallopt(M_MMAP_THRESHOLD, 1 << 20), 1);
    assert_int_equal(mallopt(M_MMAP_MAX, 0), 1);
    assert_int_equal(mallopt(M_CHECK_ACTION, 3), 1);
    assert_int_equal(mallopt(M_ARENA_TEST, 1), 1);
    assert_int_equal(mallopt(M_ARENA_MAX, 1), 1);
    assert_int_equal(mallopt(12345, 1), 1);
    assert_int_equal(__libc_mallopt(M_MXFAST, 161), 0);
    assert_int_equal(mallopt(M_PERTURB, 1), 1);
    unsigned char *p = malloc(50);
    assert_int_equal(p[0], 0xfe);
    assert_int_equal(p[49], 0xfe);
    free(p);
    assert_int_equal(mallopt(M_PERTURB, 0), 1);
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
        cmocka_unit_test(mallinfo_is_ours),
        cmocka_unit_test(libc_mallinfo_is_ours),
        cmocka_unit_test(mallinfo2_is_ours),
        cmocka_unit_test(malloc_info_is_ours),
        cmocka_unit_test(malloc_stats_is_ours),
        cmocka_unit_test(malloc_trim_is_ours),
        cmocka_unit_test(mallopt_is_ours),
        cmocka_unit_test(the_c_library_uses_them),
        cmocka_unit_test(a_new_threads_are_ours),
        cmocka_unit_test(the_loader_uses_them),
        cmocka_unit_test(thread_specific_data_uses_them),
        cmocka_unit_test(errors_are_the_standards),
        cmocka_unit_test(what_a_thread_returns_outlives_it),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
