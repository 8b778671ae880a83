/* SPDX-License-Identifier: MIT */
/* heaps/weak_table.h: records of cells, against plain arrays of what is in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/callback.h"
#include "heaps/tables.h"
#include "heaps/weak_link.h"
#include "lib/meta.h"
#include "tests/spans.h"

static int begin(void **unused)
{
    return give_area((size_t)8 << 20);
}

static struct sh_span *span;
static struct {
    uintptr_t first; /* 0: not chained */
    bool link, hooked;
} wanted[SH_CLASS_CELLS_MAX];

static struct sh_cell cell_at(uint32_t index)
{
    return (struct sh_cell){.span = span, .index = index};
}

static void make_words(struct sh_span *of)
{
    sh_lock_acquire(&sh_callback_lock);
    sh_lock_acquire(&sh_weak_lock);
    MUST(sh_weak_make_words(of));
    sh_lock_release(&sh_weak_lock);
    sh_lock_release(&sh_callback_lock);
}

static void chain(uint32_t cell, uintptr_t value)
{
    make_words(span);
    uintptr_t *first = sh_weak_make_first(cell_at(cell));
    MUST(first && *first == wanted[cell].first);
    *first = wanted[cell].first = value;
}

static void unchain(uint32_t cell)
{
    sh_weak_remove_first(cell_at(cell));
    wanted[cell].first = 0;
}

static void set_link(uint32_t cell, bool link)
{
    if (link) {
        make_words(span);
        MUST(sh_weak_set_link(cell_at(cell)));
    } else {
        sh_weak_clear_links(span, cell / 64, sh_cell_bit(cell));
    }
    wanted[cell].link = link;
}

static void set_hooked(uint32_t cell, bool hooked)
{
    if (hooked)
        MUST(sh_weak_hook(cell_at(cell)));
    else
        MUST(sh_weak_clear_hooked(cell_at(cell)) == wanted[cell].hooked);
    wanted[cell].hooked = hooked;
}

static void check(uint32_t cell)
{
    uintptr_t *first = sh_weak_first(cell_at(cell));
    MUST((first ? *first : 0) == wanted[cell].first);
    MUST(sh_weak_is_link(cell_at(cell)) == wanted[cell].link);
    bool weak = sh_table_test(cell_at(cell), &span->weak_bits);
    MUST(weak == (wanted[cell].first || wanted[cell].link || wanted[cell].hooked));
    if (weak)
        MUST(sh_weak_is_hooked(cell_at(cell)) == wanted[cell].hooked);
}

static void check_all(void)
{
    size_t count = 0;
    for (uint32_t cell = 0; cell < span->cell_count; cell++) {
        check(cell);
        count += (size_t)(wanted[cell].first != 0) + wanted[cell].link;
    }
    assert_int_equal(sh_weak_count(), count);
}

static void remove_all(void)
{
    for (uint32_t cell = 0; cell < span->cell_count; cell++) {
        unchain(cell);
        set_link(cell, false);
        set_hooked(cell, false);
    }
    check_all();
}

static void nothing_is_found_in_none(void **unused)
{
    EACH_SPAN(span, i)
    {
        remove_all();
        assert_null(sh_weak_words(span));
    }
}

static void what_was_set_is_found(void **unused)
{
    EACH_SPAN(span, i)
    {
        for (uint32_t cell = 0; cell < span->cell_count; cell++)
            chain(cell, cell + 1);
        check_all();
        remove_all();
        for (uint32_t cell = span->cell_count; cell-- > 0;)
            chain(cell, cell + 1);
        check_all();
        remove_all();
    }
}

/* With times of many and times of few. */
static void random_ones_too(void **unused)
{
    struct random random = {.state = 1};
    EACH_SPAN(span, i)
    {
        for (unsigned round = 0; round < 12; round++) {
            for (unsigned step = 0; step < 3000; step++) {
                uint32_t cell = (uint32_t)random_below(&random, span->cell_count);
                bool on = random_below(&random, 12) >= round;
                unsigned what = (unsigned)random_below(&random, 4);
                if (what == 0)
                    set_link(cell, on);
                else if (what == 1)
                    set_hooked(cell, on);
                else if (on)
                    chain(cell, 1 + random_below(&random, 1000));
                else
                    unchain(cell);
                check(cell);
            }
            check_all();
        }
        remove_all();
    }
}

static void a_large_object_has_a_record_too(void **unused)
{
    span = large_span(SH_KIND_SCAN, 20);
    chain(0, 7);
    set_link(0, true);
    check_all();
    remove_all();
    sh_run_give(span);
}

/* Eight bytes for a cell that links lead to, and five for eight cells, whether or not. */
static void it_takes_little(void **unused)
{
    span = small_span(SH_KIND_SCAN, 64);
    for (unsigned round = 0; round < 3; round++) {
        size_t before = sh_meta_bytes();
        for (uint32_t cell = 0; cell < span->cell_count; cell++)
            chain(cell, 1);
        size_t most =
            (size_t)span->cell_count / 64 * (sizeof(struct sh_weak_word) + 512) + 1024;
        /* By chunks. */
        if (round == 0)
            assert_in_range(sh_meta_bytes() - before, 0, most + ((size_t)1 << 20));
        else
            assert_int_equal(sh_meta_bytes(), before);
        remove_all();
    }
    for (uint32_t w = 0; w < sh_span_words(span); w++)
        assert_null(sh_weak_words(span)[w].first);
    sh_run_give(span);
}

static void what_leads_to_a_span_that_ends_is_cleared(void **unused)
{
    struct sh_span *links = small_span(SH_KIND_SCAN, 32);
    span = small_span(SH_KIND_EXPLICIT, 64);
    struct sh_span *target = span;
    hand_cell_out(target, 70);
    struct sh_weak_link *link[3];
    for (uint32_t i = 0; i < 3; i++) {
        link[i] = hand_cell_out(links, i);
        sh_weak_link_init(link[i], SH_WEAK_LONG, i == 1);
        MUST(sh_weak_link_prepare(link[i], (void *)sh_span_cell(target, 70)));
        sh_lock_acquire(&sh_weak_lock);
        MUST(sh_weak_link_attach(link[i], (void *)sh_span_cell(target, 70)) == 0);
        sh_lock_release(&sh_weak_lock);
    }
    assert_int_equal(sh_weak_count(), 4);
    sh_span_setup(
        target, target->base, target->cell_size, target->cell_count, SH_KIND_EXPLICIT);
    assert_null(sh_weak_words(target));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(sh_load_relaxed(&link[i]->target), 0);
        assert_int_equal(sh_weak_is_queued(link[i]), i == 1);
    }
    /* And one that itself goes with its span. */
    sh_span_setup(
        links, links->base, links->cell_size, links->cell_count, SH_KIND_SCAN);
    assert_int_equal(sh_weak_count(), 0);
    sh_weak_add_queued(); /* there is none */
    sh_run_give(target);
    sh_run_give(links);
}

/* ---- Two threads come to one cell ---- */

enum { ROUNDS = SH_TSAN ? 2000 : 20000, CELL = 70 };

static _Atomic uint32_t begun, done;

/* What the other thread does in each round; returns whether it took the hook. */
static bool (*other)(void);
static bool other_took;

static void *do_other(void *unused)
{
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        await_round(&begun, round);
        sh_critical_enter();
        other_took = other();
        sh_critical_leave();
        sh_store_seq_cst(&done, round);
    }
    return unused;
}

/* A new span in each, in which the cell is hooked before or not. */
static void each_round(bool hooked, bool (*its)(void), void (*ours)(uint32_t round))
{
    other = its;
    sh_store_seq_cst(&begun, 0);
    pthread_t thread = start(do_other, NULL);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        span = small_span(SH_KIND_SCAN, 64);
        hand_cell_out(span, CELL);
        if (hooked)
            MUST(sh_weak_hook(cell_at(CELL)));
        sh_store_seq_cst(&begun, round);
        for (volatile uint32_t i = 0; i < round % 200; i++) {
        }
        ours(round);
        sh_run_give(span);
    }
    join(thread);
}

static bool hook(void)
{
    MUST(sh_weak_hook(cell_at(CELL)));
    return false;
}

static bool take_hook(void)
{
    sh_lock_acquire(&sh_callback_lock);
    bool took = sh_weak_unhook(cell_at(CELL));
    sh_lock_release(&sh_callback_lock);
    return took;
}

/* Or two links, of which the first is gone again. */
static void chain_cell(uint32_t round)
{
    for (unsigned links = 1 + (round & 1); links > 0; links--) {
        make_words(span);
        sh_lock_acquire(&sh_weak_lock);
        uintptr_t *first = sh_weak_make_first(cell_at(CELL));
        MUST(first);
        *first = 1;
        if (links > 1)
            sh_weak_remove_first(cell_at(CELL));
        sh_lock_release(&sh_weak_lock);
    }
}

static void end_round(uint32_t round, bool hooked)
{
    await_round(&done, round);
    assert_true(sh_table_test(cell_at(CELL), &span->weak_bits));
    assert_non_null(sh_weak_first(cell_at(CELL)));
    assert_int_equal(sh_weak_is_hooked(cell_at(CELL)), hooked);
    sh_weak_remove_first(cell_at(CELL));
    assert_int_equal(sh_table_test(cell_at(CELL), &span->weak_bits), hooked);
}

static void chain_while_hooked(uint32_t round)
{
    chain_cell(round);
    end_round(round, true);
}

static void chain_while_taken(uint32_t round)
{
    chain_cell(round);
    await_round(&done, round);
    assert_true(other_took);
    end_round(round, false);
}

static void free_while_taken(uint32_t round)
{
    bool took = sh_weak_freed(cell_at(CELL));
    await_round(&done, round);
    assert_int_equal(took + other_took, 1);
    assert_false(sh_table_test(cell_at(CELL), &span->weak_bits));
}

static void a_hook_is_not_lost_with_the_first_record(void **unused)
{
    each_round(false, hook, chain_while_hooked);
}

static void a_hook_is_taken_once(void **unused)
{
    each_round(true, take_hook, chain_while_taken);
    each_round(true, take_hook, free_while_taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPAN_TEST(nothing_is_found_in_none),
        SPAN_TEST(what_was_set_is_found),
        SPAN_TEST(random_ones_too),
        SPAN_TEST(a_large_object_has_a_record_too),
        SPAN_TEST(it_takes_little),
        SPAN_TEST(what_leads_to_a_span_that_ends_is_cleared),
        SPAN_TEST(a_hook_is_not_lost_with_the_first_record),
        SPAN_TEST(a_hook_is_taken_once),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
