/* SPDX-License-Identifier: MIT */
/* gc_info, gc_info_fast, gc_dump_info, gc_dump_alloc_table: the heap in numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static gc_info_t look(void)
{
    gc_info_t info;
    memset(&info, 0xff, sizeof info);
    gc_info(&info);
    return info;
}

static gc_info_t look_fast(void)
{
    gc_info_t info;
    memset(&info, 0xff, sizeof info);
    gc_info_fast(&info);
    return info;
}

/* ---- gc_info ---- */

static void the_sums_are_right(void **unused)
{
    void *held = gc_alloc(100000, 0);
    gc_info_t info = look();
    assert_int_equal(info.total, info.used + info.free);
    assert_int_equal(info.total % 4096, 0);
    assert_true(info.total >= 16 * MIB);
    assert_true(info.max_free * 16 <= info.free && info.max_free > 0);
    assert_true(info.max_block * 16 >= 100000);
    gc_free(held);
}

static void max_new_split_is_what_the_hook_says(void **unused)
{
    size_t before = gc_get_max_new_split();
    gc_info_t info = look();
    size_t after = gc_get_max_new_split();
    /* Others use memory, too. */
    assert_true(info.max_new_split > 0);
    assert_true(info.max_new_split / 2 <= sh_max(before, after));
    assert_true(info.max_new_split >= sh_min(before, after) / 2);
}

static void used_counts_cells_of_every_kind(void **unused)
{
    bool automatic = gc_set_auto_collect(false);
    static const size_t sizes[] = {16, 64, 1024, 32768, 65536, 40 * MIB};
    for (size_t i = 0; i < 6; i++) {
        gc_info_t before = look();
        void *scan = gc_alloc(sizes[i], 0);
        assert_int_equal(look().used, before.used + sizes[i]);
        void *leaf = gc_alloc(sizes[i], GC_ALLOC_FLAG_LEAF);
        void *malloced = sh_malloc(sizes[i]);
        assert_int_equal(look().used, before.used + 3 * sizes[i]);
        gc_free(scan);
        gc_free(leaf);
        assert_int_equal(look().used, before.used + sizes[i]);
        sh_free(malloced);
        assert_int_equal(look().used, before.used);
    }
    gc_set_auto_collect(automatic);
}

static void blocks_are_counted(void **unused)
{
    static void *one[100], *two[50], *three[20];
    gc_info_t before = look();
    for (size_t i = 0; i < 100; i++)
        one[i] = gc_alloc(i % 16 + 1, 0);
    for (size_t i = 0; i < 50; i++)
        two[i] = gc_alloc(i % 16 + 17, 0);
    for (size_t i = 0; i < 20; i++)
        three[i] = gc_alloc(48, 0);
    gc_info_t info = look();
    assert_int_equal(info.num_1block, before.num_1block + 100);
    assert_int_equal(info.num_2block, before.num_2block + 50);
    assert_int_equal(info.used, before.used + 100 * 16 + 50 * 32 + 20 * 48);
    for (size_t i = 0; i < 100; i++)
        gc_free(one[i]);
    for (size_t i = 0; i < 50; i++)
        gc_free(two[i]);
    info = look();
    assert_int_equal(info.num_1block, before.num_1block);
    assert_int_equal(info.num_2block, before.num_2block);
    for (size_t i = 0; i < 20; i++)
        gc_free(three[i]);
}

static void max_block_is_the_largest_cell(void **unused)
{
    void *huge = gc_alloc(100 * MIB, 0);
    assert_int_equal(look().max_block, 100 * MIB / 16);
    void *larger = sh_malloc(101 * MIB);
    assert_int_equal(look().max_block, 101 * MIB / 16);
    gc_free(huge);
    sh_free(larger);
    assert_true(look().max_block < 100 * MIB / 16);
}

/* What runs on behind the last free block and before the first counts as one. */
static void max_free_is_the_longest_run(void **unused)
{
    size_t longest = look().max_free;
    void *p = gc_alloc(longest * 16, 0);
    assert_non_null(p);
    gc_free(p);
    assert_true(look().max_free >= longest);
}

static void dead_objects_do_not_count(void **unused)
{
    static struct batch batch = {.size = 1024};
    gc_collect();
    size_t before = look().used;
    in_thread(make_batch, &batch);
    assert_int_equal(look().used, before + BATCH * 1024);
    clear_stack();
    gc_collect();
    assert_in_range(look().used, 0, before + SLACK * 1024);
}

static void a_huge_object_has_an_area_of_its_own(void **unused)
{
    gc_info_t before = look();
    void *p = gc_alloc(40 * MIB, 0);
    assert_int_equal(look().total, before.total + 40 * MIB);
    assert_int_equal(look_fast().total, before.total + 40 * MIB);
    gc_free(p);
    assert_int_equal(look().total, before.total);
}

static _Atomic bool over;

static void *use_the_heap(void *unused)
{
    struct random random = {.state = 7};
    void *own[50] = {NULL};
    while (!sh_load_relaxed(&over)) {
        size_t i = random_below(&random, 50);
        gc_free(own[i]);
        own[i] = gc_alloc(random_below(&random, 3000) + 1, 0);
    }
    return NULL;
}

static void others_may_be_at_it(void **unused)
{
    pthread_t threads[4];
    over = false;
    for (int i = 0; i < 4; i++)
        threads[i] = start(use_the_heap, NULL);
    for (int i = 0; i < 100; i++) {
        gc_info_t info = look(), fast = look_fast();
        assert_int_equal(info.total, info.used + info.free);
        assert_int_equal(fast.total, fast.used + fast.free);
    }
    over = true;
    for (int i = 0; i < 4; i++)
        join(threads[i]);
}

/* ---- gc_info_fast ---- */

static void the_fast_numbers_agree(void **unused)
{
    bool automatic = gc_set_auto_collect(false);
    void *p = gc_alloc(MIB, 0);
    gc_info_t info = look(), fast = look_fast();
    assert_int_equal(fast.total, info.total);
    assert_int_equal(fast.total, fast.used + fast.free);
    assert_true(fast.used >= info.used); /* whole spans */
    assert_int_equal(fast.max_free, 0);
    assert_int_equal(fast.num_1block, 0);
    assert_int_equal(fast.num_2block, 0);
    assert_int_equal(fast.max_block, 0);
    assert_true(fast.max_new_split > 0);
    void *q = gc_alloc(2 * MIB, 0);
    assert_int_equal(look_fast().used, fast.used + 2 * MIB);
    gc_free(q);
    assert_int_equal(look_fast().used, fast.used);
    gc_free(p);
    gc_set_auto_collect(automatic);
}

/* ---- The dumps ---- */

struct text {
    char at[16 << 20];
    size_t length;
};

static struct text text;

static void print_strn(void *data, const char *str, size_t len)
{
    struct text *into = data;
    MUST(into->length + len < sizeof into->at);
    memcpy(into->at + into->length, str, len);
    into->length += len;
    into->at[into->length] = '\0';
}

static const gc_print_t print = {.data = &text, .print_strn = print_strn};

static void gc_dump_info_prints_gc_info(void **unused)
{
    text.length = 0;
    gc_info_t info = look();
    gc_dump_info(&print);
    gc_info_t read;
    int end = 0;
    int n = sscanf(text.at,
        "GC: total: %zu, used: %zu, free: %zu, max new split: %zu\n"
        " No. of 1-blocks: %zu, 2-blocks: %zu, max blk sz: %zu, max free sz: %zu\n%n",
        &read.total, &read.used, &read.free, &read.max_new_split, &read.num_1block,
        &read.num_2block, &read.max_block, &read.max_free, &end);
    assert_int_equal(n, 8);
    assert_int_equal((size_t)end, text.length);
    assert_int_equal(read.total, info.total);
    assert_int_equal(read.used, info.used);
    assert_int_equal(read.free, info.free);
    assert_int_equal(read.num_1block, info.num_1block);
    assert_int_equal(read.num_2block, info.num_2block);
    assert_int_equal(read.max_block, info.max_block);
    assert_int_equal(read.max_free, info.max_free);
}

static void without_a_print_it_is_standard_error(void **unused)
{
    static char read[4096];
    int file = memfd_create("dump", 0), saved = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    gc_dump_info(NULL);
    gc_dump_alloc_table(NULL);
    dup2(saved, STDERR_FILENO);
    assert_true(pread(file, read, sizeof read - 1, 0) > 0);
    assert_int_equal(strncmp(read, "GC: total: ", 11), 0);
    assert_non_null(strstr(read, "\nGC memory area 0x"));
    close(file);
    close(saved);
}

/* The character of the block at p in the dump. */
static char block_at(const void *p)
{
    static char line_start[32];
    uintptr_t line = (uintptr_t)p & ~(uintptr_t)1023;
    snprintf(line_start, sizeof line_start, "\n%p: ", (void *)line);
    const char *found = strstr(text.at, line_start);
    return found ? found[strlen(line_start) + ((uintptr_t)p - line) / 16] : '?';
}

static void dump(void)
{
    text.length = 0;
    gc_dump_alloc_table(&print);
}

static void every_block_has_its_character(void **unused)
{
    char *scan = gc_alloc(100, 0), *leaf = gc_alloc(48, GC_ALLOC_FLAG_LEAF);
    char *malloced = sh_malloc(32), *freed = gc_alloc(3000, 0);
    char *large = gc_alloc(100000, 0);
    gc_free(freed);
    dump();
    assert_int_equal(block_at(scan), 'h');
    for (int i = 16; i < 112; i += 16)
        assert_int_equal(block_at(scan + i), '=');
    assert_int_equal(block_at(leaf), 'l');
    assert_int_equal(block_at(leaf + 16), '=');
    assert_int_equal(block_at(leaf + 32), '=');
    assert_int_equal(block_at(malloced), 'e');
    assert_int_equal(block_at(malloced + 16), '=');
    assert_int_equal(block_at(freed), '.');
    assert_int_equal(block_at(large), 'h');
    for (int i = 16; i < 100000; i += 1600)
        assert_int_equal(block_at(large + i), '=');
    gc_free(scan);
    gc_free(leaf);
    sh_free(malloced);
    gc_free(large);
}

/* "GC memory area FROM to TO, ORIGIN:", lines of 64 blocks, and what is all free. */
static void the_format_is_line_by_line(void **unused)
{
    void *held = gc_alloc(100, 0), *huge = gc_alloc(40 * MIB, 0);
    dump();
    size_t areas = 0, huge_areas = 0, lines = 0, free_lines = 0;
    for (const char *next = text.at; *next; next = strchr(next, '\n') + 1) {
        char at[128];
        snprintf(at, sizeof at, "%.*s", (int)strcspn(next, "\n"), next);
        void *from, *to;
        char origin[16], blocks[80];
        size_t count;
        int end = 0;
        if (sscanf(at, "GC memory area %p to %p, %15[a-z]:%n", &from, &to, origin,
                &end) == 3 &&
            end > 0) {
            assert_true(from < to);
            areas++;
            huge_areas += strcmp(origin, "huge") == 0;
        } else if (sscanf(at, " (%zu lines all free)%n", &count, &end) == 1 && end) {
            assert_true(count > 0);
            free_lines += count;
        } else {
            assert_int_equal(sscanf(at, "%p: %79s%n", &from, blocks, &end), 2);
            assert_int_equal((uintptr_t)from % 1024, 0);
            assert_int_equal(strlen(blocks), 64);
            assert_int_equal(strspn(blocks, ".hle="), 64);
            lines++;
        }
        assert_int_equal(at[end], '\0');
    }
    assert_true(areas >= 2 && huge_areas >= 1);
    assert_int_equal((lines + free_lines) * 1024, look().total);
    gc_free(held);
    gc_free(huge);
}

static void heads_are_live_cells(void **unused)
{
    static struct batch batch = {.size = 64};
    gc_sweep_all();
    make_batch(&batch);
    dump();
    for (size_t i = 0; i < BATCH; i++)
        assert_int_equal(block_at(reveal(batch.hidden[i])), 'h');
    gc_sweep_all();
    dump();
    for (size_t i = 0; i < BATCH; i++)
        assert_int_not_equal(block_at(reveal(batch.hidden[i])), 'h');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sums_are_right),
        cmocka_unit_test(max_new_split_is_what_the_hook_says),
        cmocka_unit_test(used_counts_cells_of_every_kind),
        cmocka_unit_test(blocks_are_counted),
        cmocka_unit_test(max_block_is_the_largest_cell),
        cmocka_unit_test(max_free_is_the_longest_run),
        cmocka_unit_test(dead_objects_do_not_count),
        cmocka_unit_test(a_huge_object_has_an_area_of_its_own),
        cmocka_unit_test(others_may_be_at_it),
        cmocka_unit_test(the_fast_numbers_agree),
        cmocka_unit_test(gc_dump_info_prints_gc_info),
        cmocka_unit_test(without_a_print_it_is_standard_error),
        cmocka_unit_test(every_block_has_its_character),
        cmocka_unit_test(the_format_is_line_by_line),
        cmocka_unit_test(heads_are_live_cells),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
