/* SPDX-License-Identifier: MIT */
/* A program's own gc_collect and gc_get_max_new_split are what the heap calls. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static _Atomic unsigned collections, questions;
static size_t max_new_split = (size_t)1 << 40;
static void **roots; /* where the heap does not look */
static size_t root_count;

GC_PUBLIC void gc_collect(void)
{
    collections++;
    gc_collect_start();
    gc_collect_root(roots, root_count);
    gc_collect_end();
}

/* Called with no lock held. */
GC_PUBLIC size_t gc_get_max_new_split(void)
{
    MUST(sh_tls.critical == 0);
    questions++;
    return max_new_split;
}

static void *make_garbage(void *bytes)
{
    for (size_t made = 0; made < (size_t)bytes; made += 10000)
        if (!gc_alloc(10000, 0))
            return (void *)1;
    return NULL;
}

static void allocation_calls_the_programs_collect(void **unused)
{
    collections = 0;
    in_thread(make_garbage, (void *)(200 * MIB));
    assert_true(collections > 3);
}

static void it_adds_roots_that_the_heap_does_not_know(void **unused)
{
    static struct batch batch = {.size = 40};
    roots = sh_os_map(2 * SH_PAGE_SIZE, SH_PAGE_SIZE);
    in_thread(make_batch, &batch);
    for (size_t i = 0; i < BATCH; i++)
        roots[i] = reveal(batch.hidden[i]);
    root_count = BATCH;
    clear_stack();
    in_thread(make_garbage, (void *)(200 * MIB));
    assert_int_equal(count_live(&batch), BATCH);
    root_count = 0;
    clear_stack();
    in_thread(make_garbage, (void *)(200 * MIB));
    assert_in_range(count_live(&batch), 0, SLACK);
}

static void growing_asks_the_program(void **unused)
{
    gc_info_t info;
    gc_info(&info);
    assert_int_equal(info.max_new_split, max_new_split);
    gc_info_fast(&info);
    assert_int_equal(info.max_new_split, max_new_split);
    questions = 0;
    gc_free(gc_alloc(100 * MIB, 0));
    assert_true(questions > 0);
}

/* Not a word of memory more; what there is, is collected first. */
static void none_to_be_had_collects_and_then_fails(void **unused)
{
    max_new_split = 0;
    collections = 0;
    errno = 0;
    assert_null(gc_alloc(1000 * MIB, 0));
    assert_int_equal(errno, ENOMEM);
    assert_true(collections > 0);
    errno = 0;
    assert_null(sh_malloc(1000 * MIB));
    assert_int_equal(errno, ENOMEM);
    gc_info_t before, after;
    gc_info_fast(&before);
    assert_null(in_thread(make_garbage, (void *)(500 * MIB)));
    gc_info_fast(&after);
    assert_true(after.total <= before.total);
    max_new_split = (size_t)1 << 40;
    assert_non_null(gc_alloc(1000 * MIB, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_calls_the_programs_collect),
        cmocka_unit_test(it_adds_roots_that_the_heap_does_not_know),
        cmocka_unit_test(growing_asks_the_program),
        cmocka_unit_test(none_to_be_had_collects_and_then_fails),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
