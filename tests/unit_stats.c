/* SPDX-License-Identifier: MIT */
/*
 * heaps/stats.h and heaps/mallinfo.h against allocations that are known: the heap holds
 * what is made here and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <malloc.h>

#include "heaps/area.h"
#include "heaps/fill.h"
#include "heaps/heap.h"
#include "heaps/mallinfo.h"
#include "heaps/stats.h"
#include "tests/child.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static struct splitheap_stats look(void)
{
    struct splitheap_stats stats;
    memset(&stats, 0xff, sizeof stats);
    assert_int_equal(splitheap_stats_get(&stats, sizeof stats), sizeof stats);
    assert_int_equal(stats.mapped + stats.given,
        stats.active + stats.dirty + stats.retained + stats.metadata);
    assert_int_equal(
        stats.allocated, stats.small_bytes + stats.large_bytes + stats.huge_bytes);
    assert_int_equal(
        stats.allocated, stats.malloc_bytes + stats.gc_bytes + stats.leaf_bytes);
    size_t objects = stats.small_objects + stats.large_objects + stats.huge_objects;
    assert_int_equal(
        objects, stats.malloc_objects + stats.gc_objects + stats.leaf_objects);
    assert_true(stats.allocated <= stats.active);
    assert_true(stats.resident <= stats.mapped + stats.given);
    assert_true(stats.peak >= stats.mapped + stats.given);
    return stats;
}

static struct splitheap_class class_of(size_t bytes)
{
    struct splitheap_class classes[SH_CLASS_COUNT];
    assert_int_equal(splitheap_stats_classes(classes, SH_CLASS_COUNT), SH_CLASS_COUNT);
    struct splitheap_class found = classes[sh_size_class_of(bytes)];
    assert_true(found.cell_size >= bytes);
    assert_true(found.objects <= found.cells);
    return found;
}

/* ---- Objects ---- */

static void every_object_counts_with_its_cell(void **unused)
{
    static void *p[1000];
    static const size_t sizes[] = {1, 16, 17, 100, 5000, 32768};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct splitheap_stats before = look();
        struct splitheap_class class = class_of(sizes[s]);
        for (size_t i = 0; i < 1000; i++)
            p[i] = sh_malloc(sizes[s]);
        size_t cell = sh_malloc_usable_size(p[0]);
        struct splitheap_stats now = look();
        assert_int_equal(now.allocated, before.allocated + 1000 * cell);
        assert_int_equal(now.small_objects, before.small_objects + 1000);
        assert_int_equal(now.malloc_bytes, before.malloc_bytes + 1000 * cell);
        assert_int_equal(now.malloc_objects, before.malloc_objects + 1000);
        assert_int_equal(class_of(sizes[s]).cell_size, cell);
        assert_int_equal(class_of(sizes[s]).objects, class.objects + 1000);
        assert_true(class_of(sizes[s]).spans > class.spans || class.spans > 0);
        for (size_t i = 0; i < 1000; i += 2)
            sh_free(p[i]);
        assert_int_equal(look().allocated, before.allocated + 500 * cell);
        assert_int_equal(class_of(sizes[s]).objects, class.objects + 500);
        for (size_t i = 1; i < 1000; i += 2)
            sh_free(p[i]);
        assert_int_equal(look().allocated, before.allocated);
        assert_int_equal(class_of(sizes[s]).objects, class.objects);
    }
}

static void objects_count_by_kind(void **unused)
{
    bool automatic = gc_set_auto_collect(false);
    struct splitheap_stats before = look();
    static void *p[90];
    for (size_t i = 0; i < 90; i += 3) {
        p[i] = sh_malloc(64);
        p[i + 1] = gc_alloc(64, 0);
        p[i + 2] = gc_alloc(64, GC_ALLOC_FLAG_LEAF);
    }
    struct splitheap_stats now = look();
    assert_int_equal(now.malloc_objects, before.malloc_objects + 30);
    assert_int_equal(now.gc_objects, before.gc_objects + 30);
    assert_int_equal(now.leaf_objects, before.leaf_objects + 30);
    assert_int_equal(now.malloc_bytes, before.malloc_bytes + 30 * 64);
    assert_int_equal(now.gc_bytes, before.gc_bytes + 30 * 64);
    assert_int_equal(now.leaf_bytes, before.leaf_bytes + 30 * 64);
    for (size_t i = 0; i < 90; i++)
        gc_free(p[i]);
    assert_int_equal(look().allocated, before.allocated);
    gc_set_auto_collect(automatic);
}

static void what_is_not_reached_does_not_count(void **unused)
{
    struct splitheap_stats before = look();
    uintptr_t hidden[100];
    for (size_t i = 0; i < 100; i++)
        hidden[i] = hide(gc_alloc(48, 0));
    assert_int_equal(look().gc_objects, before.gc_objects + 100);
    clear_stack();
    gc_collect();
    struct splitheap_stats now = look();
    assert_int_equal(now.collections, before.collections + 1);
    /* Some stale word may hold one. */
    assert_true(now.gc_objects <= before.gc_objects + 2);
    assert_true(hidden[0] != 0);
}

static void large_and_huge_objects(void **unused)
{
    struct splitheap_stats before = look();
    void *large = sh_malloc(100000), *huge = sh_malloc(40 * MIB);
    struct splitheap_stats now = look();
    assert_int_equal(now.large_objects, before.large_objects + 1);
    assert_int_equal(now.large_bytes, before.large_bytes + 102400);
    assert_int_equal(now.huge_objects, before.huge_objects + 1);
    assert_int_equal(now.huge_bytes, before.huge_bytes + 40 * MIB);
    assert_int_equal(now.areas, before.areas + 1);
    assert_int_equal(now.spans, before.spans + 2);
    assert_true(now.mapped >= before.mapped + 40 * MIB);
    assert_true(now.peak >= before.mapped + 40 * MIB);
    sh_free(large);
    sh_free(huge);
    struct splitheap_stats after = look();
    assert_int_equal(after.allocated, before.allocated);
    assert_int_equal(after.areas, before.areas);
    assert_int_equal(after.large_bytes + after.huge_bytes, 0);
    assert_true(after.peak >= now.peak);
}

static void *free_all(void *arg)
{
    void **p = arg;
    for (size_t i = 0; i < 100; i++)
        sh_free(p[i]);
    return NULL;
}

static void what_others_freed_is_free(void **unused)
{
    struct splitheap_stats before = look();
    static void *p[100];
    for (size_t i = 0; i < 100; i++)
        p[i] = sh_malloc(200);
    assert_int_equal(look().malloc_objects, before.malloc_objects + 100);
    in_thread(free_all, p);
    assert_int_equal(look().malloc_objects, before.malloc_objects);
}

static _Atomic uint32_t step;

static void *hold(void *arg)
{
    void *p = sh_malloc(200);
    set_flag(arg, 1);
    await_flag(arg, 2);
    sh_free(p);
    return NULL;
}

static void threads_are_counted(void **unused)
{
    struct splitheap_stats before = look();
    pthread_t thread = start(hold, &step);
    await_flag(&step, 1);
    struct splitheap_stats now = look();
    assert_int_equal(now.threads, before.threads + 1);
    assert_int_equal(now.malloc_objects, before.malloc_objects + 1);
    set_flag(&step, 2);
    join(thread);
    assert_int_equal(look().threads, before.threads);
}

static void given_memory_is_told_apart(void **unused)
{
    struct splitheap_stats before = look();
    void *memory = sh_os_map(MIB, SH_PAGE_SIZE);
    gc_add(memory, (char *)memory + MIB);
    struct splitheap_stats now = look();
    assert_int_equal(now.given, before.given + MIB);
    assert_int_equal(now.mapped - now.metadata, before.mapped - before.metadata);
    assert_int_equal(now.areas, before.areas + 1);
}

/* ---- Pages ---- */

static void *large[32];

static void make_dirty(void)
{
    for (size_t i = 0; i < 32; i++)
        large[i] = memset(sh_malloc(MIB), 1, MIB);
    for (size_t i = 0; i < 32; i++)
        sh_free(large[i]);
}

static void trimming_gives_back_what_is_dirty(void **unused)
{
    struct splitheap_stats before = look();
    make_dirty();
    struct splitheap_stats now = look();
    assert_true(now.dirty > 0);
    assert_int_equal(sh_malloc_trim(0), 1);
    struct splitheap_stats after = look();
    assert_int_equal(after.dirty, 0);
    /* Some went with the areas that they were in. */
    size_t gone = now.mapped - now.metadata - (after.mapped - after.metadata);
    assert_true(after.purged > before.purged);
    assert_true(after.purged - before.purged + gone >= now.dirty);
    assert_true(after.purges > before.purges);
    assert_true(after.resident < now.resident);
    assert_int_equal(sh_malloc_trim(0), 0);
}

static void trimming_gives_back_what_is_kept(void **unused)
{
    sh_malloc_trim(0);
    for (size_t i = 0; i < 32; i++)
        large[i] = sh_malloc(3000);
    assert_true(class_of(3000).spans > 0);
    for (size_t i = 0; i < 32; i++)
        sh_free(large[i]);
    assert_int_equal(sh_malloc_trim(0), 1);
    assert_int_equal(class_of(3000).spans, 0);
    void *p = sh_malloc(3000);
    assert_int_equal(class_of(3000).objects, 1);
    sh_free(p);
}

static void untouched_memory_is_not_resident(void **unused)
{
    sh_malloc_trim(0);
    struct splitheap_stats before = look();
    void *p = sh_malloc(16);
    struct splitheap_stats now = look();
    assert_true(now.active >= before.active);
    assert_true(now.resident <= before.resident + 2 * SH_PAGE_SIZE);
    sh_free(p);
}

/* ---- The calls ---- */

static void older_programs_know_less(void **unused)
{
    struct splitheap_stats stats;
    memset(&stats, 0xff, sizeof stats);
    assert_int_equal(splitheap_stats_get(&stats, sizeof(size_t)), sizeof stats);
    assert_int_not_equal(stats.allocated, SIZE_MAX);
    assert_int_equal(stats.active, SIZE_MAX);
    struct splitheap_class two[3] = {{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1}};
    assert_int_equal(splitheap_stats_classes(two, 2), SH_CLASS_COUNT);
    assert_int_equal(two[0].cell_size, 16);
    assert_int_equal(two[2].cell_size, 1);
    assert_int_equal(splitheap_stats_classes(NULL, 0), SH_CLASS_COUNT);
}

struct heard {
    char text[32768];
    size_t len;
};

static void hear(void *data, const char *text, size_t len)
{
    struct heard *heard = data;
    assert_true(heard->len + len < sizeof heard->text);
    memcpy(heard->text + heard->len, text, len);
    heard->len += len;
}

static const char *print(int form)
{
    static struct heard heard;
    memset(&heard, 0, sizeof heard);
    splitheap_stats_print(hear, &heard, form);
    return heard.text;
}

/* The number after `key` in the text. */
static size_t number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    assert_non_null(at);
    return strtoul(at + strlen(key), NULL, 10);
}

static void both_forms_say_the_same(void **unused)
{
    void *p = sh_malloc(5000);
    struct splitheap_stats now = look();
    const char *json = print(SPLITHEAP_JSON);
    char key[64], line[128];
#define IN_JSON(field, what)                                                           \
    assert_int_equal(number_after(json, "\n \"" #field "\": "), now.field);
    SH_STATS(IN_JSON)
    struct splitheap_class class = class_of(5000);
    sh_format(key, sizeof key, "{\"cell_size\": %zu, \"spans\": ", class.cell_size);
    assert_int_equal(number_after(json, key), class.spans);
    const char *text = print(SPLITHEAP_TEXT);
#define IN_TEXT(field, what)                                                           \
    sh_format(line, sizeof line, "\n%16zu  %-14s  " what "\n", now.field, #field);     \
    assert_non_null(strstr(text, line));
    SH_STATS(IN_TEXT)
    sh_format(line, sizeof line, "\n%16zu  %10zu  %10zu  %10zu  ", class.cell_size,
        class.spans, class.cells, class.objects);
    assert_non_null(strstr(text, line));
    sh_free(p);
}

/* ---- The C library's ---- */

static void mallinfo_is_the_same_in_other_words(void **unused)
{
    void *small = sh_malloc(100), *huge = sh_malloc(40 * MIB);
    struct splitheap_stats stats = look();
    struct sh_mallinfo2 info = sh_mallinfo2();
    assert_int_equal(info.hblks, 1);
    assert_int_equal(info.hblkhd, 40 * MIB);
    assert_int_equal(info.uordblks, stats.allocated - 40 * MIB);
    assert_int_equal(info.arena + info.hblkhd, stats.mapped + stats.given);
    assert_int_equal(info.arena, info.uordblks + info.fordblks);
    assert_int_equal(info.keepcost, stats.dirty);
    assert_true(info.ordblks > 0);
    assert_int_equal(info.smblks + info.usmblks + info.fsmblks, 0);
    struct sh_mallinfo old = sh_mallinfo();
    assert_int_equal(old.arena, info.arena);
    assert_int_equal(old.ordblks, info.ordblks);
    assert_int_equal(old.hblks, 1);
    assert_int_equal(old.hblkhd, 40 * MIB);
    assert_int_equal(old.uordblks, info.uordblks);
    assert_int_equal(old.fordblks, info.fordblks);
    assert_int_equal(old.keepcost, info.keepcost);
    sh_free(small);
    sh_free(huge);
}

static void an_old_mallinfo_is_full_at_two_gigabytes(void **unused)
{
    void *huge = sh_malloc((size_t)3 << 30);
    if (!huge)
        skip();
    assert_int_equal(sh_mallinfo2().hblkhd, (size_t)3 << 30);
    assert_int_equal(sh_mallinfo().hblkhd, INT32_MAX);
    sh_free(huge);
}

/* malloc is the C library's here, and so is mallopt. */
static void mallopt_answers_as_the_c_librarys(void **unused)
{
    if (!SH_INTERPOSE)
        skip(); /* it is a sanitizer's */
    static const int values[] = {INT32_MIN, -1, 0, 1, 80, 128, 160, 161, 1 << 20,
        32 << 20, (32 << 20) + 1, INT32_MAX};
    for (int parameter = -20; parameter < 20; parameter++) {
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            if (parameter == M_PERTURB || parameter == M_ARENA_TEST)
                continue; /* takes effect; an assertion of the C library's */
            assert_int_equal(
                sh_mallopt(parameter, values[i]), mallopt(parameter, values[i]));
        }
    }
}

static bool all(const void *start, size_t bytes, unsigned char byte)
{
    const unsigned char *at = start;
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != byte)
            return false;
    return true;
}

static void perturbed(void *unused)
{
    void *before = sh_malloc(100), *kept = sh_malloc(100);
    MUST(sh_mallopt(M_PERTURB, 0x1234) == 1);
    for (int i = 0; i < 100; i++) {
        void *p = sh_malloc(100);
        MUST(all(p, 100, 0xcb));
        sh_free(p);
        MUST(all(p, 100, 0x34));
    }
    sh_free(before);
    MUST(all(before, 100, 0x34));
    void *p = sh_calloc(10, 10);
    MUST(all(p, 100, 0));
    sh_free(p);
    MUST(sh_mallopt(M_PERTURB, 0) == 1);
    MUST(!sh_load_relaxed(&sh_fill_on));
    p = sh_malloc(100);
    memset(p, 0x77, 100);
    sh_free(p);
    MUST(!all(p, 100, 0x34));
    sh_free(kept);
}

static void mallopt_perturbs(void **unused)
{
    struct child child;
    child_run(&child, perturbed, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

/* What is dirty stays so until it is trimmed, however slow the machine is. */
static int begin(void **unused)
{
    stop_time();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_object_counts_with_its_cell),
        cmocka_unit_test(objects_count_by_kind),
        cmocka_unit_test(what_is_not_reached_does_not_count),
        cmocka_unit_test(large_and_huge_objects),
        cmocka_unit_test(what_others_freed_is_free),
        cmocka_unit_test(threads_are_counted),
        cmocka_unit_test(given_memory_is_told_apart),
        cmocka_unit_test(trimming_gives_back_what_is_dirty),
        cmocka_unit_test(trimming_gives_back_what_is_kept),
        cmocka_unit_test(untouched_memory_is_not_resident),
        cmocka_unit_test(older_programs_know_less),
        cmocka_unit_test(both_forms_say_the_same),
        cmocka_unit_test(mallinfo_is_the_same_in_other_words),
        cmocka_unit_test(an_old_mallinfo_is_full_at_two_gigabytes),
        cmocka_unit_test(mallopt_answers_as_the_c_librarys),
        cmocka_unit_test(mallopt_perturbs),
    };
    return run_on_clean_stack(tests, begin, NULL);
}
