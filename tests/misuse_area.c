/* SPDX-License-Identifier: MIT */
/* Memory that gc_init and gc_add cannot take. */
#include "tests/misuse.h"

#define NO_PAGE                                                                        \
    "%s(%p, %p): no whole page of 4096 bytes lies between; give start < end and two "  \
    "pages at least"
#define TAKEN "%s(%p, %p): the heap has some of this memory already"
#define BEYOND "%s(%p, %p): beyond the 47-bit addresses that the heap can map"

struct range {
    void *start, *end;
};

static void init(void *arg)
{
    struct range *range = arg;
    gc_init(range->start, range->end);
}

static void add(void *arg)
{
    struct range *range = arg;
    gc_add(range->start, range->end);
}

static void expect_both(void *start, void *end, const char *what)
{
    struct range range = {start, end};
    expect_end(init, &range, what, "gc_init", start, end);
    expect_end(add, &range, what, "gc_add", start, end);
}

static SH_ALIGNED(4096) char memory[1 << 20];

static void empty_backward_or_too_small(void **unused)
{
    expect_both(memory, memory, NO_PAGE);
    expect_both(memory + 65536, memory, NO_PAGE);
    expect_both(memory, memory + 4095, NO_PAGE);
    expect_both(memory + 1, memory + 4097, NO_PAGE);
    expect_both(memory + 1, memory + 8191, NO_PAGE);
    expect_both(NULL, (void *)1, NO_PAGE);
    expect_both((void *)UINTPTR_MAX, NULL, NO_PAGE);
    expect_both((void *)(UINTPTR_MAX - 100), (void *)UINTPTR_MAX, NO_PAGE);
    struct range null = {NULL, NULL};
    expect_end(add, &null, NO_PAGE, "gc_add", NULL, NULL);
    expect_no_end(init, &null);
}

static void one_page_will_do(void **unused)
{
    struct range aligned = {memory, memory + 4096};
    struct range odd = {memory + 1, memory + 8192};
    expect_no_end(init, &aligned);
    expect_no_end(add, &aligned);
    expect_no_end(add, &odd);
}

static void add_twice(void *arg)
{
    struct range *range = arg;
    gc_add(memory + 65536, memory + 131072);
    gc_add(range->start, range->end);
}

static void overlapping(void **unused)
{
    struct range ranges[] = {
        {memory + 65536, memory + 131072},
        {memory + 61440, memory + 69632},
        {memory + 126976, memory + 135168},
        {memory + 69632, memory + 73728},
        {memory, memory + sizeof memory},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        expect_end(
            add_twice, &ranges[i], TAKEN, "gc_add", ranges[i].start, ranges[i].end);
    struct range before = {memory, memory + 65536};
    struct range behind = {memory + 131072, memory + 135168};
    expect_no_end(add_twice, &before);
    expect_no_end(add_twice, &behind);
}

/* The heap's own memory is not to be added, nor are addresses that nobody has. */
static void not_the_programs(void **unused)
{
    char *large = gc_alloc(100000, 0), *huge = gc_alloc((size_t)40 << 20, 0);
    expect_both(large, large + 65536, TAKEN);
    expect_both(huge + 4096, huge + 65536, TAKEN);
    char *small = sh_malloc(20000);
    expect_both(small, small + 20000, TAKEN);
    sh_free(small);
    expect_both((void *)0x7fffffff0000, (void *)0x800000010000, BEYOND);
    expect_both((void *)0xffff800000000000, (void *)0xffff800000100000, BEYOND);
    gc_free(large);
    gc_free(huge);
}

static void remove_twice(void *other)
{
    char *low = memory;
    struct gc_stack *stack = gc_stack_add(low, low + 4096);
    gc_stack_remove(stack);
    for (size_t i = 0; i < 100; i++) /* other records of ours do not take its place */
        MUST(gc_add_roots(low, low + 8) == 0);
    gc_stack_switch(NULL, stack);
    gc_stack_switch(stack, NULL);
    gc_stack_remove(stack);
}

static void a_stack_that_was_removed(void **unused)
{
    struct gc_stack *stack = gc_stack_add(memory, memory + 4096);
    gc_stack_remove(stack);
    expect_end(remove_twice, NULL, "gc_stack_remove(%p): it was removed already",
        (void *)stack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_backward_or_too_small),
        cmocka_unit_test(one_page_will_do),
        cmocka_unit_test(overlapping),
        cmocka_unit_test(not_the_programs),
        cmocka_unit_test(a_stack_that_was_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
