/* SPDX-License-Identifier: MIT */
/*
 * heaps/remote.h: cells freed by threads that do not own them.
 *
 * The invariants are looked at with the world stopped, or while only this thread is at
 * it (which the thread sanitizer does not know): a span is linked in one inbox at most, once, and then its `queued` is set; and one
 * that has remote frees is in its owner's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heaps/cache.h"
#include "heaps/heap.h"
#include "heaps/page_map.h"
#include "heaps/remote.h"
#include "heaps/run.h"
#include "tests/heap.h"

#define SIZE 1024
#define CELLS 64 /* of a span */

static struct sh_span *span_of(const void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    MUST(span);
    return span;
}

SH_NO_SANITIZE static bool is_remote(const void *p)
{
    struct sh_span *span = span_of(p);
    uint32_t cell = sh_span_cell_of(span, (uintptr_t)p);
    return sh_cell_state(span, cell) == SH_CELL_REMOTE;
}

SH_NO_SANITIZE static bool has_remote_frees(struct sh_span *span)
{
    for (uint32_t w = 0; w < sh_span_words(span); w++)
        if (sh_span_word(span, w, SH_CELL_REMOTE))
            return true;
    return false;
}

/* ---- The invariants ---- */

SH_NO_SANITIZE static unsigned links_in(struct sh_cache *cache, struct sh_span *span)
{
    unsigned links = 0, length = 0;
    for (struct sh_span *at = sh_load_acquire(&cache->inbox); at; at = at->inbox_next) {
        MUST(++length < 1000000); /* no circle */
        links += at == span;
    }
    return links;
}

SH_NO_SANITIZE static unsigned links(struct sh_span *span)
{
    unsigned sum = links_in(&sh_shared_cache, span);
    for (struct sh_cache *cache = sh_cache_first(); cache; cache = cache->next)
        sum += links_in(cache, span);
    return sum;
}

SH_NO_SANITIZE static void check_span(struct sh_span *span)
{
    struct sh_cache *owner = sh_span_owner(span);
    if (span->state != SH_SPAN_SMALL || !owner)
        return;
    unsigned sum = links(span);
    bool queued = sh_load_relaxed(&span->queued);
    MUST(sum <= 1);
    /* What is about to be released holds `queued` without a link. */
    MUST(queued == (sum == 1) || span->list == SH_LIST_DEAD);
    if (has_remote_frees(span))
        MUST(links_in(owner, span) == 1);
}

SH_NO_SANITIZE static void check_all(void)
{
    dissolve_caches();
    sh_critical_enter();
    sh_lock_acquire(&sh_shared_lock);
    sh_lock_acquire(&sh_heap_lock);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        check_span(span);
    sh_lock_release(&sh_heap_lock);
    sh_lock_release(&sh_shared_lock);
    sh_critical_leave();
}

/* ---- Step by step ---- */

static void *at[CELLS];
static _Atomic uint32_t step;

static void *take_a_span(void *unused)
{
    /* One span, all of it. */
    for (size_t i = 0; i < CELLS; i++)
        MUST((at[i] = sh_malloc(SIZE)));
    set_flag(&step, 1);
    await_flag(&step, 2);
    return NULL;
}

/* As a thread does that has no room for it in its magazine, or none. */
static void free_remotely(void *p)
{
    struct sh_span *span = span_of(p);
    sh_critical_enter();
    MUST(sh_remote_free(span, sh_span_cell_of(span, (uintptr_t)p)));
    sh_critical_leave();
}

static void free_slots(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        free_remotely(at[i]);
}

static void the_first_free_queues_the_span_once(void **unused)
{
    step = 0;
    pthread_t owner = start(take_a_span, NULL);
    await_flag(&step, 1);
    struct sh_span *span = span_of(at[40]);
    assert_int_equal(span->cell_count, CELLS);
    assert_false(span->queued);
    assert_int_equal(links(span), 0);
    size_t of_span = 0;
    for (size_t i = 0; i < CELLS; i++) {
        if (span_of(at[i]) != span)
            continue;
        free_remotely(at[i]);
        of_span++;
        assert_int_equal(gc_nbytes(at[i]), 0);
        assert_true(is_remote(at[i]));
        assert_true(span->queued);
        assert_int_equal(links(span), 1);
        assert_int_equal(links_in(sh_span_owner(span), span), 1);
    }
    assert_true(of_span > CELLS / 2);
    set_flag(&step, 2);
    join(owner);
}

static void freeing_twice_is_seen(void **unused)
{
    step = 0;
    pthread_t owner = start(take_a_span, NULL);
    await_flag(&step, 1);
    struct sh_span *span = span_of(at[10]);
    uint32_t cell = sh_span_cell_of(span, (uintptr_t)at[10]);
    sh_critical_enter();
    assert_true(sh_remote_free(span, cell));
    assert_false(sh_remote_free(span, cell));
    sh_critical_leave();
    assert_int_equal(links(span), 1);
    set_flag(&step, 2);
    join(owner);
}

static void *use_again(void *unused)
{
    take_a_span(NULL);
    /* All of it was freed by then; the same cells are handed out, each once. */
    static void *again[8 * CELLS];
    size_t found = 0;
    for (size_t i = 0; i < 8 * CELLS; i++)
        again[i] = sh_malloc(SIZE);
    for (size_t i = 0; i < CELLS; i++) {
        size_t times = 0;
        for (size_t j = 0; j < 8 * CELLS; j++)
            times += again[j] == at[i];
        MUST(times <= 1);
        found += times;
    }
    MUST(found >= CELLS / 2);
    for (size_t i = 0; i < 8 * CELLS; i++)
        sh_free(again[i]);
    set_flag(&step, 3);
    await_flag(&step, 4);
    return NULL;
}

static void the_owner_takes_them_back_and_uses_them_again(void **unused)
{
    step = 0;
    pthread_t owner = start(use_again, NULL);
    await_flag(&step, 1);
    free_slots(0, CELLS);
    check_all();
    set_flag(&step, 2);
    await_flag(&step, 3);
    for (size_t i = 0; i < CELLS; i++)
        if (span_of(at[i])->state == SH_SPAN_SMALL)
            assert_false(is_remote(at[i]));
    set_flag(&step, 4);
    join(owner);
    check_all();
}

static void taking_counts_the_cells(void **unused)
{
    for (size_t i = 0; i < CELLS; i++)
        at[i] = sh_malloc(SIZE);
    struct sh_span *span = span_of(at[5]);
    size_t freed = 0;
    sh_critical_enter();
    for (size_t i = 0; i < 8; i++) {
        if (span_of(at[i]) != span)
            continue;
        assert_true(sh_remote_free(span, sh_span_cell_of(span, (uintptr_t)at[i])));
        freed++;
    }
    uint32_t taken = sh_remote_take(span);
    assert_int_equal(taken, freed);
    assert_int_equal(sh_remote_take(span), 0);
    assert_false(has_remote_frees(span));
    span->used -= taken;
    sh_critical_leave();
    for (size_t i = 0; i < CELLS; i++)
        if (gc_nbytes(at[i]))
            sh_free(at[i]);
}

/* ---- With a magazine ---- */

static struct sh_bin *my_bin(void)
{
    struct sh_cache *cache = sh_tls.self->cache;
    return &cache->bins[SH_KIND_EXPLICIT][sh_size_class_of(SIZE)];
}

static size_t my_rounds(void)
{
    struct sh_cache *cache = sh_tls.self->cache;
    unsigned c = sh_size_class_of(SIZE);
    struct sh_round *magazine = cache->depots[SH_KIND_EXPLICIT][c].magazine;
    return (size_t)(my_bin()->top - magazine);
}

static void unload(size_t keep)
{
    struct sh_cache *cache = sh_tls.self->cache;
    sh_critical_enter();
    sh_cache_unload(cache, SH_KIND_EXPLICIT, sh_size_class_of(SIZE), keep);
    sh_cache_give_back(sh_cache_detach_dead(cache));
    sh_critical_leave();
}

static uint8_t state_of(const void *p)
{
    struct sh_span *span = span_of(p);
    return sh_cell_state(span, sh_span_cell_of(span, (uintptr_t)p));
}

/* The cells of one of the owner's spans, at the front. */
static size_t sort_out(void)
{
    struct sh_span *span = span_of(at[CELLS / 2]);
    size_t n = 0;
    for (size_t i = 0; i < CELLS; i++) {
        void *p = at[i];
        if (span_of(p) != span)
            continue;
        at[i] = at[n];
        at[n++] = p;
    }
    return n;
}

/* A cell that another thread made stays with who freed it, and the owner is told nothing
 * until it leaves that magazine: then of many at once. */
static void what_is_freed_stays_with_who_freed_it(void **unused)
{
    step = 0;
    pthread_t owner = start(take_a_span, NULL);
    await_flag(&step, 1);
    MUST(gc_thread_register() == 0);
    sh_free(sh_malloc(SIZE)); /* a magazine to put them in */
    unload(0);
    size_t n = sort_out();
    assert_true(n >= CELLS / 2);
    struct sh_span *span = span_of(at[0]);
    uint32_t used = span->used;
    for (size_t i = 0; i < n; i++) {
        sh_free(at[i]);
        assert_int_equal(my_rounds(), i + 1);
        assert_int_equal(my_bin()->top->cell, (uintptr_t)at[i]);
        assert_int_equal(state_of(at[i]), SH_CELL_HELD);
        assert_int_equal(gc_nbytes(at[i]), 0);
    }
    assert_int_equal(links(span), 0);
    assert_false(span->queued);
    assert_int_equal(span->remote_words, 0);
    assert_int_equal(span->used, used);
    /* What was freed last comes first; it is the other's cell still. */
    for (size_t i = n; i-- > n / 2;) {
        assert_ptr_equal(sh_malloc(SIZE), at[i]);
        assert_int_equal(state_of(at[i]), SH_CELL_LIVE);
        assert_ptr_not_equal(sh_span_owner(span), sh_tls.self->cache);
    }
    unload(2);
    assert_int_equal(my_rounds(), 2);
    for (size_t i = 0; i < n / 2 - 2; i++)
        assert_true(is_remote(at[i]));
    assert_int_equal(state_of(at[n / 2 - 1]), SH_CELL_HELD);
    assert_int_equal(links_in(sh_span_owner(span), span), 1);
    assert_true(span->queued && span->remote_words);
    check_all();
    unload(0);
    assert_true(is_remote(at[n / 2 - 1]));
    check_all();
    for (size_t i = n / 2; i < n; i++)
        sh_free(at[i]);
    free_slots(n, CELLS);
    set_flag(&step, 2);
    join(owner);
    check_all();
    /* The owner is gone; its span is not, while cells of it lie here. */
    assert_int_equal(span->state, SH_SPAN_SMALL);
    assert_ptr_equal(sh_span_owner(span), &sh_shared_cache);
    assert_int_equal(span->used, n - n / 2);
    assert_int_equal(state_of(at[n - 1]), SH_CELL_HELD);
    sh_span_valid(span);
    unload(0);
    assert_int_equal(links_in(&sh_shared_cache, span), 1);
    check_all();
}

static void *leave_anothers_cells(void *unused)
{
    MUST(gc_thread_register() == 0);
    sh_free(sh_malloc(SIZE));
    for (size_t i = 0; i < CELLS; i++)
        sh_free(at[i]);
    MUST(my_rounds() >= CELLS);
    return NULL;
}

/* Who ends with another's cells in its magazine sends them home. */
static void who_ends_gives_the_others_cells_back(void **unused)
{
    step = 0;
    pthread_t owner = start(use_again, NULL);
    await_flag(&step, 1);
    in_thread(leave_anothers_cells, NULL);
    for (size_t i = 0; i < CELLS; i++)
        assert_true(is_remote(at[i]));
    check_all();
    set_flag(&step, 2);
    await_flag(&step, 3);
    set_flag(&step, 4);
    join(owner);
    check_all();
}

/* ---- A dying owner ---- */

static void a_dying_owners_frees_are_taken_back(void **unused)
{
    step = 0;
    pthread_t owner = start(take_a_span, NULL);
    await_flag(&step, 1);
    free_slots(0, 20);
    set_flag(&step, 2);
    join(owner);
    dissolve_caches();
    for (size_t i = 20; i < CELLS; i++) {
        struct sh_span *span = span_of(at[i]);
        assert_ptr_equal(sh_span_owner(span), &sh_shared_cache);
        assert_false(has_remote_frees(span));
        assert_int_equal(links(span), 0);
    }
    /* The next one goes to the inbox of the shared cache. */
    struct sh_span *span = span_of(at[30]);
    free_remotely(at[30]);
    assert_int_equal(links_in(&sh_shared_cache, span), 1);
    free_remotely(at[31]);
    assert_int_equal(links(span), 1);
    free_slots(20, 30);
    free_slots(32, CELLS);
    check_all();
}

static void *mine[4 * CELLS];

static void *adopt(void *unused)
{
    /* The span left behind is the only one with room for these. */
    for (size_t i = 0; i < 8; i++)
        MUST((mine[i] = sh_malloc(SIZE)));
    set_flag(&step, 1);
    await_flag(&step, 2);
    for (size_t i = 8; i < 4 * CELLS; i++)
        MUST((mine[i] = sh_malloc(SIZE)));
    for (size_t i = 0; i < 4 * CELLS; i++)
        fill(mine[i], SIZE, (unsigned)i);
    set_flag(&step, 3);
    await_flag(&step, 4);
    for (size_t i = 0; i < 4 * CELLS; i++) {
        MUST(filled(mine[i], SIZE, (unsigned)i));
        sh_free(mine[i]);
    }
    return NULL;
}

/*
 * A prototype once reported a false double free under thread churn because a span
 * adopted from a dead thread was queued twice. Step by step: the span is in the dead
 * thread's inbox when that ends, in the shared cache's when it is adopted, and in the
 * adopter's afterwards; it must leave each before it enters the next.
 */
static void an_adopted_span_is_not_queued_twice(void **unused)
{
    step = 0;
    pthread_t owner = start(take_a_span, NULL);
    await_flag(&step, 1);
    struct sh_span *span = span_of(at[40]);
    struct sh_cache *dead = sh_span_owner(span);
    free_remotely(at[40]);
    assert_int_equal(links_in(dead, span), 1);
    set_flag(&step, 2);
    join(owner);
    dissolve_caches();
    assert_int_equal(links(span), 0);
    for (size_t i = 41; i < 50; i++) {
        free_remotely(at[i]);
        if (span_of(at[i]) == span)
            assert_int_equal(links_in(&sh_shared_cache, span), 1);
        assert_true(links(span) <= 1);
    }
    step = 0;
    pthread_t adopter = start(adopt, NULL);
    await_flag(&step, 1);
    struct sh_cache *heir = sh_span_owner(span);
    assert_ptr_not_equal(heir, &sh_shared_cache);
    assert_int_equal(links_in(&sh_shared_cache, span), 0);
    for (size_t i = 50; i < 60; i++) {
        free_remotely(at[i]);
        assert_true(links(span_of(at[i])) == 1);
        assert_int_equal(links_in(sh_span_owner(span_of(at[i])), span_of(at[i])), 1);
    }
    check_all();
    set_flag(&step, 2);
    await_flag(&step, 3);
    check_all();
    for (size_t i = 0; i < 4 * CELLS; i++)
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(mine[i], mine[j]);
    free_slots(0, 40);
    free_slots(60, CELLS);
    check_all();
    set_flag(&step, 4);
    join(adopter);
    check_all();
}

/* Pushed on an inbox whose owner changed before: whoever finds it hands it on. */
static void what_lies_in_a_former_owners_inbox_is_passed_on(void **unused)
{
    step = 0;
    pthread_t owner = start(take_a_span, NULL);
    await_flag(&step, 1);
    struct sh_span *span = span_of(at[40]);
    struct sh_cache *cache = sh_span_owner(span);
    free_remotely(at[40]);
    assert_int_equal(links_in(cache, span), 1);
    /* As if it were adopted by this thread, whose drain then finds it. */
    sh_critical_enter();
    sh_remote_pass_on(cache);
    assert_int_equal(links_in(cache, span), 1); /* it is its owner's still */
    sh_critical_leave();
    check_all();
    set_flag(&step, 2);
    join(owner);
    dissolve_caches();
    free_slots(0, 40);
    free_slots(41, CELLS);
}

/* ---- Churn ---- */

#define SLOTS 512

static struct {
    _Atomic uint32_t busy;
    void *p;
    size_t size;
    unsigned seed;
} slots[SLOTS];

static _Atomic uint64_t seeds;
static _Atomic bool over;

static void use_slot(struct random *random)
{
    size_t i = random_below(random, SLOTS);
    if (sh_exchange_acquire(&slots[i].busy, 1u))
        return;
    if (slots[i].p) {
        MUST(filled(slots[i].p, slots[i].size, slots[i].seed));
        sh_free(slots[i].p);
        slots[i].p = NULL;
    } else {
        slots[i].size = (size_t)64 << random_below(random, 5);
        slots[i].seed = (unsigned)random_next(random);
        slots[i].p = sh_malloc(slots[i].size);
        fill(slots[i].p, slots[i].size, slots[i].seed);
    }
    sh_store_release(&slots[i].busy, 0u); /* pairs with the exchange above */
}

static void *live_briefly(void *unused)
{
    MUST(gc_thread_register() == 0); /* a stranger would not be stopped */
    struct random random = {.state = sh_add_relaxed(&seeds, 0x9e3779b97f4a7c15u) | 1};
    for (size_t n = random_below(&random, 2000); n > 0; n--)
        use_slot(&random);
    return NULL;
}

static void *beget(void *unused)
{
    while (!sh_load_relaxed(&over))
        in_thread(live_briefly, NULL);
    return NULL;
}

static void under_churn_the_invariants_hold(void **unused)
{
    pthread_t threads[6];
    seeds = sh_os_now_ns();
    print_message("seed %llu\n", (unsigned long long)seeds);
    over = false;
    for (int i = 0; i < 6; i++)
        threads[i] = start(beget, NULL);
    uint64_t until = sh_os_now_ns() + 2000000000;
    while (sh_os_now_ns() < until) {
        stop_to_collect();
        check_all();
        resume();
        sleep_us(1000);
    }
    over = true;
    for (int i = 0; i < 6; i++)
        join(threads[i]);
    check_all();
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].p)
            sh_free(slots[i].p);
    check_all();
}

int main(void)
{
    stop_time();
    sh_heap_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_free_queues_the_span_once),
        cmocka_unit_test(freeing_twice_is_seen),
        cmocka_unit_test(the_owner_takes_them_back_and_uses_them_again),
        cmocka_unit_test(taking_counts_the_cells),
        cmocka_unit_test(what_is_freed_stays_with_who_freed_it),
        cmocka_unit_test(who_ends_gives_the_others_cells_back),
        cmocka_unit_test(a_dying_owners_frees_are_taken_back),
        cmocka_unit_test(an_adopted_span_is_not_queued_twice),
        cmocka_unit_test(what_lies_in_a_former_owners_inbox_is_passed_on),
        cmocka_unit_test(under_churn_the_invariants_hold),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
