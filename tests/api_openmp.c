/* SPDX-License-Identifier: MIT */
/* OpenMP: the workers of a team hold and make objects while one of them collects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <omp.h>

#include "tests/heap.h"

#define WORKERS 4
#define BYTES 300

/* Registers, for where pthread_create is not ours. */
static SH_NOINLINE void *make(int i)
{
    MUST(gc_thread_register() == 0);
    void *p = gc_alloc(BYTES, 0);
    MUST(p);
    fill(p, BYTES, (uint32_t)i);
    return p;
}

static _Atomic unsigned wrong;

/* What a worker of an earlier region held it does not hold any more; so others' objects
 * are found dead meanwhile. */
static struct batch garbage;

static void a_team_holds_what_it_makes(void **unused)
{
    garbage = (struct batch){.size = 64};
    in_thread(make_batch, &garbage);
    clear_stack();
#pragma omp parallel num_threads(WORKERS)
    {
        int me = omp_get_thread_num();
        void *volatile mine = make(me);
#pragma omp barrier
        if (me == omp_get_num_threads() - 1)
            for (int i = 0; i < 5; i++)
                gc_collect();
#pragma omp barrier
        if (gc_nbytes(mine) < BYTES || !filled(mine, BYTES, (uint32_t)me))
            sh_add_relaxed(&wrong, 1u);
        mine = NULL;
    }
    assert_int_equal(wrong, 0);
    assert_in_range(count_live(&garbage), 0, SLACK);
}

/* Between regions the workers sleep; the next one is theirs, too. */
static void teams_come_again(void **unused)
{
    size_t made = 0;
    for (int round = 0; round < 20; round++) {
#pragma omp parallel for num_threads(WORKERS) reduction(+ : made)
        for (int i = 0; i < 200; i++) {
            void *volatile p = make(i);
            if (i % 50 == 0)
                gc_collect();
            made += filled(p, BYTES, (uint32_t)i);
        }
        gc_collect();
    }
    assert_int_equal(made, 20 * 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_team_holds_what_it_makes),
        cmocka_unit_test(teams_come_again),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
