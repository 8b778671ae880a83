/* SPDX-License-Identifier: MIT */
/*
 * heaps/cache.h: a handler of the program's that leaves malloc or free by longjmp,
 * between any two instructions of their fast paths, loses a cell at most. The processor
 * traps after each instruction; the n-th time round the handler leaves after the n-th.
 *
 * heaps/gc.c: between any two instructions of an allocation, a typed cell that lives has
 * no type that it had before it was freed.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/caches.h"

#if defined(__x86_64__) && !SH_TSAN

#define SIZE ((size_t)2048) /* stays with who frees it */
#define KEPT 40
#define STEPS_MOST 5000

static sigjmp_buf back;
static volatile unsigned steps, leave_after;

static void (*volatile at_each_step)(void);

static void trapped(int signal)
{
    if (at_each_step)
        at_each_step();
    else if (++steps == leave_after)
        siglongjmp(back, 1);
}

#define TRAP_FLAG ((uint64_t)0x100)

static inline void trap_each_instruction(void)
{
    __asm__ volatile("pushfq; orq %0, (%%rsp); popfq"
                     :
                     : "i"(TRAP_FLAG)
                     : "memory", "cc");
}

static inline void trap_no_more(void)
{
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq"
                     :
                     : "i"(~TRAP_FLAG)
                     : "memory", "cc");
}

static void *volatile made;

static void make(void *unused)
{
    made = sh_malloc(SIZE);
}

static void drop(void *p)
{
    sh_free(p);
}

/* True: the handler left. */
static bool interrupted(void (*deed)(void *), void *p)
{
    steps = 0;
    if (sigsetjmp(back, 1))
        return true;
    trap_each_instruction();
    deed(p);
    trap_no_more();
    return false;
}

static void *cells[KEPT];

/* All that is handed out now is whole and its own. */
static void look(void)
{
    for (size_t i = 0; i < KEPT; i++) {
        cells[i] = sh_malloc(SIZE);
        fill(cells[i], SIZE, (unsigned)i);
        MUST(state_of(cells[i]) == SH_CELL_LIVE);
    }
    for (size_t i = 0; i < KEPT; i++)
        MUST(filled(cells[i], SIZE, (unsigned)i));
    sh_span_valid(depot_of(SH_KIND_EXPLICIT, SIZE)->current);
    for (size_t i = 0; i < KEPT; i++)
        sh_free(cells[i]);
    unload(SH_KIND_EXPLICIT, SIZE, KEPT / 2);
}

static void leave_at_each_step(void (*deed)(void *), void *(*argument)(void))
{
    look();
    for (leave_after = 1;; leave_after++) {
        MUST(leave_after < STEPS_MOST);
        bool left = interrupted(deed, argument());
        look();
        if (!left)
            return;
    }
}

static void *none(void)
{
    return NULL;
}

static void *own_cell(void)
{
    return sh_malloc(SIZE);
}

/* Left by a thread that ended. */
static void *others[STEPS_MOST];
static size_t next_other;

static void *make_others(void *unused)
{
    for (size_t i = 0; i < STEPS_MOST; i++)
        others[i] = sh_malloc(SIZE);
    return NULL;
}

static void *others_cell(void)
{
    return others[next_other++];
}

static void leave_malloc_by_each(void)
{
    leave_at_each_step(make, none);
    MUST(leave_after > 10);
}

static void leave_free_by_each(void)
{
    leave_at_each_step(drop, own_cell);
    MUST(leave_after > 20);
}

static void leave_anothers_free_by_each(void)
{
    leave_at_each_step(drop, others_cell);
    MUST(leave_after > 20);
}

static void malloc_may_be_left(void **unused)
{
    with_fresh_cache(leave_malloc_by_each);
}

static void free_may_be_left(void **unused)
{
    with_fresh_cache(leave_free_by_each);
}

static void free_of_what_another_made_may_be_left(void **unused)
{
    in_thread(make_others, NULL);
    with_fresh_cache(leave_anothers_free_by_each);
}

/* ---- Stopped for a collection, not left ---- */

#define TYPED_SIZE 64
#define STALE ((void *)0x5a5a)

static volatile unsigned lived, stale;

/* A collector would come here where no critical section keeps it off. */
static void look_for_stale_types(void)
{
    for (size_t i = 0; i < KEPT && !sh_tls.critical; i++) {
        if (state_of(cells[i]) != SH_CELL_LIVE)
            continue;
        lived++;
        stale += *(void *volatile *)cells[i] == STALE;
    }
}

static void free_with_stale_types(void)
{
    for (size_t i = 0; i < KEPT; i++)
        cells[i] = gc_alloc(TYPED_SIZE, GC_ALLOC_FLAG_TYPED);
    for (size_t i = 0; i < KEPT; i++) {
        *(void **)cells[i] = STALE;
        gc_free(cells[i]);
    }
}

/* Until all of them may have come again. */
static void look_while_they_are_made(void)
{
    lived = stale = 0;
    at_each_step = look_for_stale_types;
    for (int i = 0; i < 4 * KEPT; i++) {
        trap_each_instruction();
        made = gc_alloc(TYPED_SIZE, GC_ALLOC_FLAG_TYPED);
        trap_no_more();
        MUST(made && !stale);
    }
    at_each_step = NULL;
    MUST(lived > 1);
}

/* Out of the magazine, and, that being empty, out of the current span. */
static void make_typed_ones(void)
{
    free_with_stale_types();
    look_while_they_are_made();
    free_with_stale_types();
    unload(SH_KIND_TYPED, TYPED_SIZE, 0);
    look_while_they_are_made();
}

static void what_lives_has_no_type_of_what_was_freed(void **unused)
{
    with_fresh_cache(make_typed_ones);
}

static int begin(void **unused)
{
    struct sigaction action = {.sa_handler = trapped};
    return sigaction(SIGTRAP, &action, NULL) || gc_thread_register();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malloc_may_be_left),
        cmocka_unit_test(free_may_be_left),
        cmocka_unit_test(free_of_what_another_made_may_be_left),
        cmocka_unit_test(what_lives_has_no_type_of_what_was_freed),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}

#else

int main(void)
{
    return 77;
}

#endif
