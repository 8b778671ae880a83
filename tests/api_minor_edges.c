/* SPDX-License-Identifier: MIT */
/* Minor collections at their edges: whoever wrote to an old object, and whatever the program does meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/collect.h"
#include "heaps/heap.h"
#include "heaps/limit.h"
#include "heaps/minor.h"
#include "heaps/pace.h"
#include "lib/os_watch.h"
#include "tests/heap.h"

#define KEPT 400000 /* so many that a full collection takes a millisecond */
#define PER_PAGE 1024
#define MINORS 3

struct old {
    struct old *next;
    void *young;
    uintptr_t hidden; /* the same, for the test */
    char more[PER_PAGE - 3 * sizeof(void *)];
};

static void **kept;       /* makes the heap large */
static struct old **olds; /* in settled spans */
#define OLDS 4096
static struct gc_collection last;

static void (*during)(void); /* what the program does while it collects */

GC_PUBLIC void gc_collect(void)
{
    gc_collect_start();
    if (during)
        during();
    gc_collect_end();
}

static void listen(void *context, const struct gc_collection *collection)
{
    (void)context;
    last = *collection;
}

static void *make_garbage(void *bytes)
{
    for (size_t made = 0; made < (size_t)bytes; made += 48)
        gc_alloc(48, 0);
    return NULL;
}

static void *make_kept(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < KEPT; i++)
        kept[i] = gc_alloc(32, 0);
    for (size_t i = 0; i < OLDS; i++)
        olds[i] = gc_alloc(sizeof(struct old), 0);
    return NULL;
}

/* The next collection that allocation asks for is a minor one. False: there are none. */
static bool expect_minor(void)
{
    for (int i = 0; i < 20 && !sh_pace_wants_minor(); i++) {
        in_thread(make_garbage, (void *)((size_t)1 << 20));
        gc_collect();
    }
    return sh_pace_wants_minor();
}

static void collect_minor(void)
{
    clear_stack();
    sh_collect_if_unlocked(sh_load_relaxed(&sh_epoch));
}

static int begin(void **unused)
{
    (void)unused;
    kept = gc_alloc(KEPT * sizeof *kept, 0);
    olds = gc_alloc(OLDS * sizeof *olds, 0);
    in_thread(make_kept, NULL);
    gc_set_collection_listener(listen, NULL);
    return 0;
}

static struct old *guarded_one(void)
{
    for (size_t i = OLDS / 2; i < OLDS; i++)
        if (sh_page_map_lookup((uintptr_t)olds[i])->guarded)
            return olds[i];
    return NULL;
}

#define NEED(condition)                                                                \
    do {                                                                               \
        if (!(condition))                                                              \
            skip();                                                                    \
    } while (0)

static struct old *target;

static void *write_young(void *unused)
{
    (void)unused;
    void *young = gc_alloc(80, 0);
    target->hidden = hide(young);
    target->young = young;
    return NULL;
}

static bool is_live(void *p)
{
    struct sh_cell cell;
    return sh_cell_find(p, &cell) == SH_FOUND_LIVE;
}

/* Several, for what was missed once is never looked at again. */
static void collect_minors_and_look(void)
{
    for (int i = 0; i < MINORS && sh_pace_wants_minor(); i++) {
        collect_minor();
        assert_true(last.minor);
        assert_true(is_live(reveal(target->hidden)));
    }
    target->young = NULL;
}

static void what_the_program_wrote_is_found(void **unused)
{
    NEED(expect_minor());
    target = guarded_one();
    assert_non_null(target);
    in_thread(write_young, NULL);
    collect_minors_and_look();
}

static int fds[2];

static void *write_by_read(void *unused)
{
    (void)unused;
    void *young = gc_alloc(80, 0);
    uintptr_t words[2] = {(uintptr_t)young, hide(young)};
    MUST(write(fds[1], words, sizeof words) == sizeof words);
    gc_blocking_begin();
    MUST(read(fds[0], &target->young, sizeof words) == sizeof words);
    gc_blocking_end();
    words[0] = 0;
    return NULL;
}

static void what_the_system_wrote_is_found(void **unused)
{
    NEED(expect_minor());
    assert_int_equal(pipe(fds), 0);
    target = guarded_one();
    assert_non_null(target);
    in_thread(write_by_read, NULL);
    collect_minors_and_look();
    close(fds[0]);
    close(fds[1]);
}

static void *slot;

static void move_to_target(void)
{
    target->hidden = hide(slot);
    target->young = slot;
    slot = NULL;
    clear_stack();
}

static void *hold_young(void *unused)
{
    (void)unused;
    slot = gc_alloc(80, 0);
    return NULL;
}

/* Between gc_collect_start and gc_collect_end. */
static void what_was_written_while_it_collects_is_found(void **unused)
{
    NEED(expect_minor());
    target = guarded_one();
    assert_non_null(target);
    in_thread(hold_young, NULL);
    during = move_to_target;
    collect_minor();
    during = NULL;
    assert_true(last.minor);
    assert_true(is_live(reveal(target->hidden)));
    collect_minors_and_look();
}

/* Of spans that counted as full, what died is used again, though two collections came before
 * anybody looked. */
static void cells_swept_by_a_collection_are_used_again(void **unused)
{
    enum { CELLS = 64000, SIZE = 208, ONE_IN = 8 };
    void **cells = gc_alloc(CELLS * sizeof *cells, 0);
    for (size_t i = 0; i < CELLS; i++)
        cells[i] = gc_alloc(SIZE, 0);
    for (size_t i = 0; i < CELLS; i++)
        if (i % ONE_IN)
            cells[i] = NULL;
    clear_stack();
    gc_collect();
    gc_collect();
    size_t before = sh_limit_used();
    gc_set_auto_collect(false);
    for (size_t i = 0; i < CELLS; i++)
        if (i % ONE_IN)
            cells[i] = gc_alloc(SIZE, 0);
    gc_set_auto_collect(true);
    size_t more = sh_limit_used() - before;
    assert_in_range(more, 0, CELLS * SIZE / SH_PAGE_SIZE / 4);
    gc_free(cells);
}

/* A program may watch it itself, and looking through it takes time. */
static void what_malloc_has_is_not_watched(void **unused)
{
    char *p = sh_malloc((size_t)64 << 20);
    NEED(expect_minor());
    assert_true(sh_page_map_lookup((uintptr_t)guarded_one())->area->watched);
    assert_false(sh_page_map_lookup((uintptr_t)p)->area->watched);
    collect_minor();
    assert_true(last.minor);
    sh_free(p);
}

/* A minor one would look at all of it, and free less. */
static void where_all_is_written_to_it_is_a_full_one(void **unused)
{
    NEED(expect_minor());
    for (size_t i = 0; i < KEPT; i++)
        ++*(char *)kept[i];
    collect_minor();
    assert_false(last.minor);
    NEED(expect_minor());
    for (size_t i = 0; i < KEPT / 8; i++)
        ++*(char *)kept[i];
    collect_minor();
    assert_true(last.minor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_swept_by_a_collection_are_used_again),
        cmocka_unit_test(what_the_program_wrote_is_found),
        cmocka_unit_test(what_the_system_wrote_is_found),
        cmocka_unit_test(what_was_written_while_it_collects_is_found),
        cmocka_unit_test(what_malloc_has_is_not_watched),
        cmocka_unit_test(where_all_is_written_to_it_is_a_full_one),
    };
    return run_on_clean_stack(tests, begin, NULL);
}
