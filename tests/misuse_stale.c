/* SPDX-License-Identifier: MIT */
/* Freeing what a collection took, before and after its span was swept. */
#include "tests/misuse.h"

static struct batch batch;

static void *make_batch_beside_live(void *unused)
{
    static void *volatile live[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        void *p = gc_alloc(batch.size, batch.flags);
        batch.hidden[i] = hide(p);
        live[i] = gc_alloc(batch.size, batch.flags);
        SH_KEEP(live[i]);
    }
    return NULL;
}

/* One that the collection took, but the heap may not have swept yet. */
static void *collect_and_pick(size_t size, bool in_own_thread)
{
    batch = (struct batch){.size = size};
    if (in_own_thread)
        make_batch_beside_live(NULL);
    else
        in_thread(make_batch_beside_live, NULL);
    clear_stack();
    gc_collect();
    for (size_t i = BATCH / 2; i < BATCH; i++)
        if (gc_nbytes(reveal(batch.hidden[i])) == 0)
            return reveal(batch.hidden[i]);
    fail_msg("nothing was collected");
    return NULL;
}

static void stale(size_t size, bool in_own_thread)
{
    void *p = collect_and_pick(size, in_own_thread);
    expect_end(call_gc_free, p, DOUBLE_FREE, "gc_free", p, size);
    expect_end(call_free, p, DOUBLE_FREE, "free", p, size);
    expect_end(call_gc_realloc, p, DOUBLE_FREE, "gc_realloc", p, size);
}

static void of_this_thread(void **unused)
{
    stale(64, true);
    stale(1024, true);
}

static void of_an_ended_thread(void **unused)
{
    stale(64, false);
    stale(1024, false);
}

static void *free_it(void *p)
{
    gc_free(p);
    return NULL;
}

static void free_elsewhere(void *p)
{
    in_thread(free_it, p);
}

static void by_another_thread(void **unused)
{
    void *p = collect_and_pick(64, true);
    expect_end(free_elsewhere, p, DOUBLE_FREE, "gc_free", p, (size_t)64);
}

/* Those of the current span, too, whose other cells lie in the magazine. */
static void of_the_current_span(void **unused)
{
    void *p = collect_and_pick(64, true);
    for (size_t i = 0; i < BATCH; i++) {
        void *q = reveal(batch.hidden[i]);
        if (gc_nbytes(q) == 0)
            p = q;
    }
    expect_end(call_gc_free, p, DOUBLE_FREE, "gc_free", p, (size_t)64);
}

static void after_gc_sweep_all(void **unused)
{
    void *p = gc_alloc(64, 0), *large = gc_alloc(100000, 0);
    gc_sweep_all();
    assert_int_equal(gc_nbytes(p), 0);
    expect_end(call_gc_free, p, DOUBLE_FREE, "gc_free", p, (size_t)64);
    expect_end(call_gc_free, large, FREE_PAGE, "gc_free", large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_this_thread),
        cmocka_unit_test(of_an_ended_thread),
        cmocka_unit_test(by_another_thread),
        cmocka_unit_test(of_the_current_span),
        cmocka_unit_test(after_gc_sweep_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
