/* SPDX-License-Identifier: MIT */
/* Pointers that no allocation returned: foreign, interior, never handed out. */
#include "tests/misuse.h"

#define LARGE ((size_t)100000)
#define HUGE_SIZE ((size_t)40 << 20)

static void expect_all(void *p, const char *what)
{
    for (size_t t = 0; t < TAKERS; t++)
        expect_end(takers[t].function, p, what, takers[t].name, p);
}

static void foreign(void **unused)
{
    static char data[64];
    char local[64];
    expect_all(data, FOREIGN);
    expect_all(local, FOREIGN);
    expect_all((void *)(uintptr_t)foreign, FOREIGN);
    void *mapped = sh_os_map(4096, 4096);
    expect_all(mapped, FOREIGN);
    sh_os_unmap(mapped, 4096);
}

static void of_any_bits(void **unused)
{
    static const uintptr_t words[] = {1, 8, 16, 4096, 0xdeadbeef, 0x8000,
        0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0x0000555555555550,
        0xffff800000000000, 0x8000000000000000, 0xaaaaaaaaaaaaaaaa, UINTPTR_MAX,
        UINTPTR_MAX - 15};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        void *p = (void *)words[i];
        expect_end(call_free, p, FOREIGN, "free", p);
        expect_end(call_gc_free, p, FOREIGN, "gc_free", p);
        expect_end(call_realloc, p, FOREIGN, "realloc", p);
    }
}

static void expect_interior(char *start, size_t offset, size_t size)
{
    for (size_t t = 0; t < TAKERS; t++)
        expect_end(takers[t].function, start + offset, INTERIOR, takers[t].name,
            start + offset, offset, size, start);
}

static void interior(void **unused)
{
    char *of_malloc = sh_malloc(100), *of_gc = gc_alloc(100, 0);
    static const size_t offsets[] = {1, 8, 15, 16, 64, 99, 111};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        expect_interior(of_malloc, offsets[i], 112);
        expect_interior(of_gc, offsets[i], 112);
    }
    sh_free(of_malloc);
    gc_free(of_gc);
}

static void interior_of_large(void **unused)
{
    static const size_t sizes[] = {LARGE, HUGE_SIZE};
    for (size_t i = 0; i < 2; i++) {
        char *p = sh_malloc(sizes[i]);
        size_t usable = sh_malloc_usable_size(p);
        expect_interior(p, 1, usable);
        expect_interior(p, 16, usable);
        expect_interior(p, 4096, usable);
        expect_interior(p, usable - 1, usable);
        sh_free(p);
    }
}

static void *make_one(void *unused)
{
    return gc_alloc(48, 0);
}

/* The last cells of a span of which little was handed out yet. */
static void never_handed_out(void **unused)
{
    char *p = in_thread(make_one, NULL);
    char *last = (char *)sh_round_down((uintptr_t)p, 65536) + 65536 / 48 * 48 - 48;
    for (size_t t = 0; t < TAKERS; t++)
        expect_end(takers[t].function, last, NEVER, takers[t].name, last, (size_t)48);
    gc_free(p);
}

static void never_an_object(void **unused)
{
    char *p = sh_malloc(LARGE), *q = sh_malloc(LARGE);
    sh_free(p);
    expect_all(p + 4096, FREE_PAGE);
    expect_all(p + 4096 + 8, FREE_PAGE);
    sh_free(q);
}

/* By another thread than the owner, too. */
static void *free_interior(void *p)
{
    sh_free((char *)p + 16);
    return NULL;
}

static void in_another_thread(void *p)
{
    in_thread(free_interior, p);
}

static void interior_of_anothers(void **unused)
{
    char *p = sh_malloc(100);
    expect_end(
        in_another_thread, p, INTERIOR, "free", p + 16, (size_t)16, (size_t)112, p);
    sh_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign),
        cmocka_unit_test(of_any_bits),
        cmocka_unit_test(interior),
        cmocka_unit_test(interior_of_large),
        cmocka_unit_test(never_handed_out),
        cmocka_unit_test(never_an_object),
        cmocka_unit_test(interior_of_anothers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
