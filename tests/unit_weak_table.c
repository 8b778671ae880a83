/* SPDX-License-Identifier: MIT */
/* heaps/weak_table.h: what was added is found, and the table grows and shrinks with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/weak_table.h"
#include "lib/meta.h"
#include "tests/heap.h"

#define BASE ((uintptr_t)0x7f0000000000)
#define MANY ((size_t)100000)

static void *cell(size_t i)
{
    return (void *)(BASE + i * 16);
}

static size_t room(void)
{
    struct sh_weak_slot *end, *start = sh_weak_slots(&end);
    return (size_t)(end - start);
}

static void add(size_t i)
{
    MUST(sh_weak_reserve(1));
    sh_weak_add(cell(i))->first = sh_hide(cell(i + 7));
}

static bool has(size_t i)
{
    struct sh_weak_slot *slot = sh_weak_find(cell(i));
    return slot && sh_reveal(slot->first) == cell(i + 7);
}

static void remove_all(size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sh_weak_find(cell(i)))
            sh_weak_remove(sh_weak_find(cell(i)));
    assert_int_equal(sh_weak_count(), 0);
}

static void nothing_is_found_in_none(void **unused)
{
    assert_null(sh_weak_find(cell(1)));
    assert_int_equal(sh_weak_count(), 0);
}

static void what_was_added_is_found(void **unused)
{
    for (size_t i = 0; i < MANY; i += 2)
        add(i);
    assert_int_equal(sh_weak_count(), MANY / 2);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(has(i), i % 2 == 0);
    remove_all(MANY);
}

static void it_grows_and_shrinks(void **unused)
{
    for (size_t i = 0; i < MANY; i++) {
        add(i);
        MUST(sh_weak_count() <= room() / 4 * 3);
    }
    assert_in_range(room(), MANY * 4 / 3, MANY * 3);
    for (size_t i = 0; i < MANY; i++) {
        MUST(has(i));
        sh_weak_remove(sh_weak_find(cell(i)));
        MUST(!sh_weak_find(cell(i)));
    }
    assert_in_range(room(), 1, 128);
}

/* Against a plain array, with addresses that collide: a few homes for many. */
static void removing_keeps_the_others(void **unused)
{
    static bool there[512];
    struct random random = {99};
    for (size_t step = 0; step < 200000; step++) {
        size_t i = random_below(&random, 512);
        struct sh_weak_slot *slot = sh_weak_find(cell(i * 4096));
        MUST(there[i] == (slot != NULL));
        if (slot)
            sh_weak_remove(slot);
        else if (sh_weak_reserve(1))
            sh_weak_add(cell(i * 4096));
        there[i] = !there[i];
        MUST(sh_weak_count() <= room() / 4 * 3);
    }
    size_t count = 0;
    for (size_t i = 0; i < 512; i++) {
        MUST(there[i] == (sh_weak_find(cell(i * 4096)) != NULL));
        count += there[i];
    }
    assert_int_equal(sh_weak_count(), count);
    remove_all((size_t)512 * 4096);
}

static void flags_are_no_part_of_the_address(void **unused)
{
    add(1);
    add(2);
    sh_weak_find(cell(1))->key |= SH_WEAK_HOOKED | SH_WEAK_LINK;
    assert_true(has(1) && has(2));
    for (size_t i = 3; i < 1000; i++)
        add(i);
    assert_int_equal(
        sh_weak_find(cell(1))->key & SH_WEAK_FLAGS, SH_WEAK_HOOKED | SH_WEAK_LINK);
    assert_int_equal(sh_weak_find(cell(2))->key & SH_WEAK_FLAGS, 0);
    assert_ptr_equal(sh_reveal(sh_weak_find(cell(1))->key | SH_WEAK_FLAGS), cell(1));
    remove_all(1000);
}

static void without_memory_it_stays_as_it_is(void **unused)
{
    for (size_t i = 0; i < 40; i++)
        add(i);
    size_t before = room();
    assert_false(sh_weak_reserve((size_t)1 << 44));
    assert_int_equal(room(), before);
    for (size_t i = 0; i < 40; i++)
        assert_true(has(i));
    remove_all(40);
}

static int begin(void **unused)
{
    sh_critical_enter();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_in_none),
        cmocka_unit_test(what_was_added_is_found),
        cmocka_unit_test(it_grows_and_shrinks),
        cmocka_unit_test(removing_keeps_the_others),
        cmocka_unit_test(flags_are_no_part_of_the_address),
        cmocka_unit_test(without_memory_it_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
