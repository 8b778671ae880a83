/* SPDX-License-Identifier: MIT */
/*
 * Minor collections (heaps/minor.h): what an old object leads to stays, however it came to
 * do so; what is new and dead goes; and where words are not what they seem, and where a
 * program wants none, there are none.
 *
 * With generations:always they come as often as they can, whether they pay or not. Some are
 * full all the same; so each test goes on until enough were minor ones, and what it asserts
 * holds of the others, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <splitheap/weakref.h>

#include "lib/options.h"
#include "lib/os_watch.h"
#include "tests/child.h"
#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

/* ---- Objects ---- */

/* `check` is a function of `number`. */
struct node {
    uintptr_t number, check;
    struct node *edge[3];
};

static uintptr_t check_of(uintptr_t number)
{
    return ~(number * 0x9e3779b97f4a7c15u) | 1; /* no pointer */
}

static struct node *make_sized(uintptr_t number, size_t bytes)
{
    struct node *node = gc_alloc(bytes, 0);
    MUST(node);
    node->number = number;
    node->check = check_of(number);
    return node;
}

static struct node *make(uintptr_t number)
{
    return make_sized(number, sizeof(struct node));
}

/* Live, and its own. */
static bool is_whole(const struct node *node)
{
    return gc_nbytes(node) >= sizeof *node && node->check == check_of(node->number);
}

static bool is_number(const struct node *node, uintptr_t number)
{
    return node && is_whole(node) && node->number == number;
}

/* ---- Collections ---- */

static _Atomic unsigned minors, fulls;
static _Atomic bool last_minor;

static void listen(void *unused, const struct gc_collection *collection)
{
    sh_store_seq_cst(&last_minor, collection->minor);
    MUST(!collection->minor || collection->cause == GC_CAUSE_PACING);
    sh_add_seq_cst(collection->minor ? &minors : &fulls, 1u);
}

static unsigned collections(void)
{
    return sh_load_seq_cst(&minors) + sh_load_seq_cst(&fulls);
}

/* Dies at once, and overwrites what died before, of all small sizes. */
static SH_NOINLINE void litter(void)
{
    static const size_t sizes[] = {16, 32, sizeof(struct node), 64, 96, 128, 200, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        memset(gc_alloc(sizes[i], 0), 0x5a, sizes[i]);
    MUST(gc_alloc(3000, GC_ALLOC_FLAG_LEAF));
}

/* Until there was a collection; whether it was a minor one. */
static bool step(void)
{
    unsigned before = collections();
    clear_stack();
    for (size_t i = 0; collections() == before; i++) {
        MUST(i < 1000000); /* 4 GiB */
        litter();
    }
    clear_stack();
    return sh_load_seq_cst(&last_minor);
}

#define MINORS (SH_CHECKS >= 3 ? 3 : 6) /* the heap is looked at each time */
#define STEPS 1000                      /* far more than are ever needed */

/* Between collections something is changed, and after each one looked at. */
static void go_on(void (*change)(void), void (*check)(void), unsigned enough)
{
    unsigned found = 0;
    for (unsigned i = 0; found < enough; i++) {
        MUST(i < STEPS);
        change();
        found += step();
        check();
    }
}

static void nothing(void)
{
}

static void until_minor(void)
{
    go_on(nothing, nothing, 1);
}

/* ---- A heap that is large enough ---- */

#define OLD ((size_t)(SH_CHECKS >= 3 ? 100000 : 200000)) /* nodes, up to 9 MiB */
#define SOME ((size_t)500)                               /* of them, in a round */

static struct node **old;
static struct random chance = {1};

/* Each leads to one before it. */
static void make_old(void)
{
    old = gc_alloc(OLD * sizeof *old, 0);
    MUST(old);
    for (size_t i = 0; i < OLD; i++) {
        old[i] = make(i);
        old[i]->edge[0] = i ? old[random_below(&chance, i)] : NULL;
    }
}

static struct node *any_old(void)
{
    return old[random_below(&chance, OLD)];
}

/* What is only here for one test. */
static void **holder;
#define HELD ((size_t)20000)

static int begin(void **unused)
{
    holder = gc_alloc(HELD * sizeof *holder, 0);
    until_minor();
    return holder ? 0 : -1;
}

static int end(void **unused)
{
    holder = NULL;
    for (size_t i = 0; i < OLD; i++) {
        MUST(is_number(old[i], i));
        MUST(!old[i]->edge[0] || is_whole(old[i]->edge[0]));
        old[i]->edge[1] = old[i]->edge[2] = NULL;
    }
    return 0;
}

#define MINOR_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

/* ---- Who wrote ---- */

static uintptr_t next_number = OLD;

/* That which the program reads about it is no pointer. */
static struct {
    struct node *from;
    uintptr_t number;
} given[SOME];

static void *give_to_small(void *unused)
{
    for (size_t i = 0; i < SOME; i++) {
        struct node *from = any_old(), *child = make(next_number++);
        child->edge[0] = make(next_number++);
        from->edge[1] = child;
        for (size_t j = 0; j < i; j++)
            if (given[j].from == from) /* it was given one before */
                given[j].number = child->number;
        given[i].from = from;
        given[i].number = child->number;
    }
    return NULL;
}

static void change_small(void)
{
    apart(give_to_small, NULL);
}

static void check_small(void)
{
    for (size_t i = 0; i < SOME; i++) {
        struct node *child = given[i].from->edge[1];
        MUST(is_number(child, given[i].number));
        MUST(is_number(child->edge[0], given[i].number + 1));
    }
}

static void stores_into_small_objects(void **unused)
{
    go_on(change_small, check_small, MINORS);
}

/* Arrays of their own: of a few pages, of many, and huge. */
static const size_t lengths[] = {600, 5000, 20000, 200000, 1000000};
#define ARRAYS (sizeof lengths / sizeof lengths[0])
static struct node **arrays[ARRAYS];
static uintptr_t array_numbers[ARRAYS][SOME];
static size_t array_places[ARRAYS][SOME];

/* In each stretch of the array there is one, so that none is written to twice. */
static void *give_to_arrays(void *unused)
{
    for (size_t a = 0; a < ARRAYS; a++)
        for (size_t i = 0; i < SOME; i++) {
            size_t stretch = lengths[a] / SOME;
            size_t at = i * stretch + random_below(&chance, stretch);
            arrays[a][array_places[a][i]] = NULL;
            arrays[a][at] = make(array_numbers[a][i] = next_number++);
            array_places[a][i] = at;
        }
    return NULL;
}

static void change_arrays(void)
{
    apart(give_to_arrays, NULL);
}

static void check_arrays(void)
{
    for (size_t a = 0; a < ARRAYS; a++)
        for (size_t i = 0; i < SOME; i++)
            MUST(is_number(arrays[a][array_places[a][i]], array_numbers[a][i]));
}

static void stores_into_large_arrays(void **unused)
{
    for (size_t a = 0; a < ARRAYS; a++) {
        arrays[a] = gc_alloc(lengths[a] * sizeof(void *), 0);
        for (size_t i = 0; i < SOME; i++)
            array_places[a][i] = lengths[a] / SOME * i;
    }
    until_minor();
    go_on(change_arrays, check_arrays, MINORS);
    memset(arrays, 0, sizeof arrays);
}

/* By the system, which no page fault of ours sees; until then `kept` holds the object. */
static struct node *volatile kept;
static struct node **targets[2 * SOME];

static void *read_all(void *unused)
{
    int fds[2];
    MUST(pipe(fds) == 0);
    for (size_t i = 0; i < 2 * SOME; i++) {
        kept = make(i);
        MUST(write(fds[1], (void *)(uintptr_t)&kept, sizeof kept) == sizeof kept);
        MUST(read(fds[0], targets[i], sizeof kept) == sizeof kept);
        kept = NULL;
    }
    close(fds[0]);
    close(fds[1]);
    return NULL;
}

static void change_by_read(void)
{
    apart(read_all, NULL);
}

static void check_read(void)
{
    for (size_t i = 0; i < 2 * SOME; i++)
        MUST(is_number(*targets[i], i));
}

static void reads_into_old_objects(void **unused)
{
    arrays[0] = gc_alloc(SOME * 600 * sizeof(void *), 0);
    for (size_t i = 0; i < SOME; i++) {
        targets[i] = &old[i * (OLD / SOME)]->edge[2];
        targets[SOME + i] = &arrays[0][i * 600];
    }
    until_minor();
    go_on(change_by_read, check_read, MINORS);
    memset(arrays, 0, sizeof arrays);
    memset(targets, 0, sizeof targets);
}

/* ---- Resized, freed ---- */

/* Maps the next free page after it, if there is one near, so that it cannot grow where it
 * is. */
static void *block(uintptr_t end)
{
    void *page = MAP_FAILED;
    uintptr_t at = sh_round_up(end, SH_PAGE_SIZE);
    for (size_t n = 0; n < 2048 && page == MAP_FAILED; n++, at += SH_PAGE_SIZE)
        page = mmap(word(at), SH_PAGE_SIZE, PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return page;
}

static size_t huge_count;
static unsigned moves;

static void *grow_huge(void *unused)
{
    uintptr_t before = (uintptr_t)arrays[0];
    void *page = block(before + huge_count * sizeof(void *));
    huge_count *= 2;
    arrays[0] = gc_realloc(arrays[0], huge_count * sizeof(void *), true);
    MUST(arrays[0]);
    moves += (uintptr_t)arrays[0] != before;
    if (page != MAP_FAILED)
        munmap(page, SH_PAGE_SIZE);
    for (size_t i = 0; i < SOME; i++)
        arrays[0][huge_count / SOME * i] = make(i);
    return NULL;
}

static void change_huge(void)
{
    if (huge_count > 2 * MIB) {
        huge_count = MIB / 8;
        arrays[0] = gc_alloc(huge_count * sizeof(void *), 0);
        step();
    }
    apart(grow_huge, NULL);
}

static void check_huge(void)
{
    for (size_t i = 0; i < SOME; i++)
        MUST(is_number(arrays[0][huge_count / SOME * i], i));
}

static void a_huge_array_that_moves(void **unused)
{
    moves = 0;
    huge_count = 4 * MIB;
    go_on(change_huge, check_huge, 2 * MINORS);
    assert_true(moves > 0);
    memset(arrays, 0, sizeof arrays);
}

/* They get the cells that they just freed, of which some are old. */
static void *free_and_make(void *unused)
{
    for (size_t i = 0; i < 4 * SOME; i++)
        gc_free(holder[i]);
    for (size_t i = 0; i < 4 * SOME; i++) {
        struct node *node = make(i);
        node->edge[1] = make(HELD + i);
        holder[i] = node;
    }
    return NULL;
}

static void change_freed(void)
{
    apart(free_and_make, NULL);
}

static void check_freed(void)
{
    for (size_t i = 0; i < 4 * SOME; i++) {
        struct node *node = holder[i];
        MUST(is_number(node, i) && is_number(node->edge[1], HELD + i));
    }
}

static void cells_of_old_objects_are_used_again(void **unused)
{
    go_on(change_freed, check_freed, 2 * MINORS);
}

/* ---- Graphs ---- */

#define NUMBERS ((size_t)1 << 20)
#define LANES 4

/* By number, where each edge of a node leads; 0: nowhere. No root. */
static uint32_t (*shadow)[3];
static _Atomic uint32_t numbers;

struct lane {
    struct random random;
    struct node **slots; /* what the graph is held by; held by `arrays` */
    size_t count;
};

static struct lane lanes[LANES];
static _Atomic uintptr_t handed_over[64];

static struct node *make_in_graph(void)
{
    uint32_t number = sh_add_seq_cst(&numbers, 1u) + 1;
    return number < NUMBERS ? make(number) : NULL;
}

static struct node *any_in(struct lane *lane)
{
    return lane->slots[random_below(&lane->random, lane->count)];
}

static void lead(struct lane *lane, struct node *from, struct node *to)
{
    size_t e = random_below(&lane->random, 3);
    from->edge[e] = to;
    shadow[from->number][e] = to ? (uint32_t)to->number : 0;
}

/* Along edges, all of which have to lead to where the shadow says. */
static struct node *walk(struct lane *lane, struct node *node)
{
    for (size_t n = random_below(&lane->random, 12); node && n; n--) {
        size_t e = random_below(&lane->random, 3);
        struct node *next = node->edge[e];
        MUST(is_whole(node));
        MUST(
            next ? is_number(next, shadow[node->number][e]) : !shadow[node->number][e]);
        if (next)
            node = next;
    }
    return node;
}

/* To one that has no edge yet, and of which the giver keeps nothing. */
static void hand_over(struct lane *lane)
{
    struct node *node = make_in_graph();
    _Atomic uintptr_t *place = &handed_over[random_below(&lane->random, 64)];
    node = (struct node *)sh_exchange_seq_cst(place, (uintptr_t)node);
    if (node) {
        MUST(is_whole(node));
        lane->slots[random_below(&lane->random, lane->count)] = node;
    }
}

static SH_NOINLINE void mutate(struct lane *lane)
{
    struct node *from = walk(lane, any_in(lane)), *made = make_in_graph();
    size_t i = random_below(&lane->random, lane->count);
    if (!made)
        return;
    switch (random_below(&lane->random, 5)) {
    case 0: /* a new one leads to old ones */
        lead(lane, made, any_in(lane));
        lead(lane, made, from);
        lane->slots[i] = made;
        break;
    case 1: /* one deep in the graph leads to new ones */
        if (from)
            lead(lane, from, made);
        break;
    case 2: /* a node moves from a slot into another */
        if (from && lane->slots[i] != from) {
            lead(lane, from, lane->slots[i]);
            lane->slots[i] = NULL;
        }
        break;
    case 3:
        lane->slots[i] = from;
        break;
    default:
        hand_over(lane);
    }
}

static bool is_enough(unsigned from)
{
    return sh_load_seq_cst(&minors) - from >= 2 * MINORS;
}

/* Litter is what most memory goes to. */
static void *live(void *arg)
{
    struct lane *lane = arg;
    unsigned from = sh_load_seq_cst(&minors);
    for (unsigned n = 0; !is_enough(from) || n < 20; n++) {
        MUST(n < 100000);
        for (unsigned i = 0; i < 300; i++)
            mutate(lane);
        for (unsigned i = 0; i < 300; i++)
            litter();
    }
    for (size_t i = 0; i < lane->count; i++)
        walk(lane, lane->slots[i]);
    return NULL;
}

static void graphs_change(unsigned threads)
{
    pthread_t all[LANES];
    shadow = sh_os_map(NUMBERS * sizeof *shadow, SH_PAGE_SIZE);
    assert_non_null(shadow);
    sh_store_relaxed(&numbers, 0u);
    for (unsigned t = 0; t < threads; t++) {
        arrays[t] = gc_alloc(lengths[t] * sizeof(void *), 0);
        lanes[t] = (struct lane){{t + 1}, arrays[t], lengths[t]};
        all[t] = start(live, &lanes[t]);
    }
    for (unsigned t = 0; t < threads; t++)
        join(all[t]);
    memset(arrays, 0, sizeof arrays);
    memset(lanes, 0, sizeof lanes);
    memset((void *)(uintptr_t)handed_over, 0, sizeof handed_over);
    sh_os_unmap(shadow, NUMBERS * sizeof *shadow);
}

static void a_graph_changes(void **unused)
{
    graphs_change(1);
}

static void graphs_change_in_four_threads(void **unused)
{
    graphs_change(LANES);
}

/* ---- Finalisers, weak references ---- */

#define MORTALS ((size_t)4000)
#define MORTAL_BYTES ((size_t)80) /* litter is not of that size: their spans are full */

static uintptr_t mortals[MORTALS]; /* hidden */
static _Atomic size_t finalised, told_of;

static void count_finalised(void *object, void *context)
{
    MUST(is_whole(object) && is_whole(((struct node *)object)->edge[0]));
    sh_add_seq_cst(&finalised, (size_t)1);
}

GC_PUBLIC void gc_weakref_about_to_be_freed(void *p)
{
    MUST(is_whole(p) && is_whole(((struct node *)p)->edge[0]));
    sh_add_seq_cst(&told_of, (size_t)1);
}

static struct node *make_mortal(size_t i)
{
    struct node *node = make_sized(i, MORTAL_BYTES);
    node->edge[0] = make_sized(i, MORTAL_BYTES);
    mortals[i] = hide(node);
    return node;
}

/* The first half has finalisers, the others are weakly referenced. */
static void *make_mortals(void *hold)
{
    sh_store_relaxed(&finalised, (size_t)0);
    sh_store_relaxed(&told_of, (size_t)0);
    for (size_t i = 0; i < MORTALS; i++) {
        struct node *node = make_mortal(i);
        if (i < MORTALS / 2)
            MUST(gc_set_finaliser(node, count_finalised, NULL) == 0);
        else
            gc_weakref_mark(node);
        holder[i] = hold ? node : NULL;
    }
    return NULL;
}

static SH_NOINLINE size_t mortals_left(void)
{
    size_t left = 0;
    for (size_t i = 0; i < MORTALS; i++)
        left += gc_nbytes(reveal(mortals[i])) != 0;
    clear_stack();
    return left;
}

/* In the cells that a span of old objects had left, as many live on until the next full
 * collection; and a word may look like a pointer to one. */
#define STRAYS (MORTALS / 20)

static void all_were_told(void)
{
    assert_in_range(sh_load_seq_cst(&finalised), MORTALS / 2 - STRAYS, MORTALS / 2);
    assert_in_range(sh_load_seq_cst(&told_of), MORTALS / 2 - STRAYS, MORTALS / 2);
}

/* By the next collection; and after the next but one they are gone. */
static void new_dead_objects_are_told_of(void **unused)
{
    for (unsigned i = 0, twice = 0; twice < 2; i++) {
        assert_true(i < STEPS);
        apart(make_mortals, NULL);
        bool minor = step();
        all_were_told();
        minor &= step();
        assert_in_range(mortals_left(), 0, STRAYS);
        all_were_told();
        twice += minor;
    }
}

/* Not by minor collections. */
static void old_dead_objects_are_told_of_by_a_full_one(void **unused)
{
    for (unsigned i = 0, minor = 0; minor < 2; i++) {
        assert_true(i < STEPS);
        apart(make_mortals, holder);
        step();
        memset(holder, 0, MORTALS * sizeof *holder);
        if (step()) {
            minor++;
            assert_int_equal(sh_load_seq_cst(&finalised), 0);
            assert_int_equal(sh_load_seq_cst(&told_of), 0);
            assert_int_equal(mortals_left(), MORTALS);
        }
        gc_collect();
        assert_false(sh_load_seq_cst(&last_minor));
        all_were_told();
        gc_collect();
        assert_in_range(mortals_left(), 0, STRAYS);
    }
}

/* Into an old array, and into an old object. */
static void come_back(void *object, void *context)
{
    struct node *node = object;
    if (node->number % 2)
        holder[node->number] = node;
    else
        old[node->number]->edge[2] = node;
    node->edge[1] = make(node->number);
    sh_add_seq_cst(&finalised, (size_t)1);
}

static void *make_returning(void *unused)
{
    sh_store_relaxed(&finalised, (size_t)0);
    for (size_t i = 0; i < MORTALS; i++) {
        holder[i] = old[i]->edge[2] = NULL;
        MUST(gc_set_finaliser(make_mortal(i), come_back, NULL) == 0);
    }
    return NULL;
}

static size_t those_back(void)
{
    size_t back = 0;
    for (size_t i = 0; i < MORTALS; i++) {
        struct node *node = i % 2 ? holder[i] : old[i]->edge[2];
        back += node && is_number(node, i) && is_number(node->edge[0], i) &&
                is_number(node->edge[1], i);
    }
    return back;
}

static void what_a_finaliser_brings_back_stays(void **unused)
{
    for (unsigned i = 0, found = 0; found < 2; i++) {
        assert_true(i < STEPS);
        apart(make_returning, NULL);
        bool minor = step();
        size_t back = sh_load_seq_cst(&finalised);
        assert_in_range(back, MORTALS - STRAYS, MORTALS);
        for (int n = 0; n < 3; n++) {
            assert_int_equal(those_back(), back);
            minor &= step();
            assert_int_equal(sh_load_seq_cst(&finalised), back);
        }
        assert_int_equal(those_back(), back);
        found += minor;
    }
}

/* ---- Weak maps ---- */

static struct gc_weak_map *map;
static uintptr_t map_numbers[MORTALS];

/* The keys of the first half are old ones, those of the others die. */
static void *set_values(void *unused)
{
    for (size_t i = 0; i < MORTALS; i++) {
        struct node *key = i < MORTALS / 2 ? old[i] : make(i);
        struct node *value = make(map_numbers[i] = next_number++);
        value->edge[0] = key;
        value->edge[1] = make(next_number);
        MUST(gc_weak_map_set(map, key, value) == 0);
    }
    return NULL;
}

static void change_map(void)
{
    apart(set_values, NULL);
}

static void check_map(void)
{
    void *value;
    for (size_t i = 0; i < MORTALS / 2; i++) {
        MUST(gc_weak_map_get(map, old[i], &value));
        MUST(is_number(value, map_numbers[i]));
        MUST(((struct node *)value)->edge[0] == old[i]);
        MUST(is_number(((struct node *)value)->edge[1], map_numbers[i] + 1));
    }
    size_t count = gc_weak_map_count(map);
    MUST(count >= MORTALS / 2 && count < MORTALS / 2 + STRAYS);
}

static void values_of_old_keys_stay(void **unused)
{
    map = gc_weak_map_new(GC_WEAK_KEYS);
    assert_non_null(map);
    until_minor();
    go_on(change_map, check_map, MINORS);
    map = NULL;
}

/* ---- Forks ---- */

static void change_and_check(void *unused)
{
    go_on(change_small, check_small, MINORS);
    go_on(change_freed, check_freed, MINORS);
}

/* There the thread sanitizer lets nobody make threads. */
static bool runs_in_child(void (*function)(void *))
{
    if (SH_TSAN)
        skip();
    struct child child;
    child_run(&child, function, NULL);
    if (!child_returned(&child))
        print_error("the child: status %#x: %s\n", (unsigned)child.status, child.text);
    return child_returned(&child);
}

static void a_child_goes_on_and_so_does_its_parent(void **unused)
{
    for (int i = 0; i < 2; i++) {
        change_small(); /* what the child finds was not watched by it */
        assert_true(runs_in_child(change_and_check));
        step();
        check_small();
        change_and_check(NULL);
    }
}

/* ---- Full ones ---- */

static void a_full_one_comes_at_last(void **unused)
{
    for (int i = 0; i < 2; i++) {
        until_minor();
        for (unsigned n = 0; step(); n++)
            assert_true(n < STEPS);
    }
}

static void a_request_is_for_a_full_one(void **unused)
{
    for (int i = 0; i < 3; i++) {
        until_minor();
        unsigned before = sh_load_seq_cst(&fulls);
        gc_collect();
        assert_int_equal(sh_load_seq_cst(&fulls), before + 1);
        assert_false(sh_load_seq_cst(&last_minor));
    }
}

static void none_is_minor(unsigned in_a_row)
{
    for (unsigned i = 0; i < in_a_row; i++)
        MUST(!step());
}

/* In a child each time, for what was typed once leaves traces. */
static void runs_in_children(void (*function)(void *))
{
    for (int i = 0; i < (SH_CHECKS >= 3 ? 1 : 3); i++)
        assert_true(runs_in_child(function));
}

static void set_threshold(void *unused)
{
    until_minor();
    gc_set_threshold(2 * MIB);
    none_is_minor(5);
    gc_set_threshold(0);
    go_on(change_small, check_small, 1);
}

static void a_threshold_is_the_programs_own(void **unused)
{
    runs_in_children(set_threshold);
}

static void hide_from_marker(void *object, size_t n_bytes, struct gc_marker *marker)
{
    struct node *node = object;
    gc_mark_pointer(marker, reveal(node->check));
}

static const struct gc_marked_type hiding = {.mark = hide_from_marker};

static void *give_hidden(void *typed)
{
    ((struct node *)typed)->check = hide(make(1));
    return NULL;
}

static void check_hidden(struct node *typed)
{
    MUST(is_number(reveal(typed->check), 1));
}

/* Where pointers are found is for the type to say. The one after it was made may be minor:
 * it is new. */
static void have_typed(void *unused)
{
    until_minor();
    void **typed = gc_alloc(sizeof(struct node), GC_ALLOC_FLAG_TYPED);
    *typed = (void *)(uintptr_t)&hiding;
    holder[0] = typed;
    for (int i = 0; i < 4; i++) {
        apart(give_hidden, typed);
        MUST(!step() || i == 0);
        check_hidden((struct node *)typed);
    }
}

static void typed_objects_are_looked_at_each_time(void **unused)
{
    runs_in_children(have_typed);
}

static void *decode(uintptr_t word)
{
    return word >> 60 == 7 ? (void *)(word & ~((uintptr_t)7 << 60)) : NULL;
}

static void have_decoder(void *unused)
{
    until_minor();
    gc_set_word_decoder(decode);
    none_is_minor(3);
    gc_set_word_decoder(NULL);
    go_on(change_small, check_small, 1);
}

static void decoded_words_are_looked_at_each_time(void **unused)
{
    runs_in_children(have_decoder);
}

#define TAG ((uintptr_t)1 << 60)

/* They were no pointers before. */
static void *tag_all(void *unused)
{
    for (size_t i = 0; i < SOME; i++)
        holder[i] = word((uintptr_t)make(i) | TAG);
    return NULL;
}

static void change_tagged(void)
{
    apart(tag_all, NULL);
}

static void check_tagged(void)
{
    for (size_t i = 0; i < SOME; i++)
        MUST(is_number(word((uintptr_t)holder[i] & ~TAG), i));
}

static void have_tags(void *unused)
{
    until_minor();
    gc_set_pointer_tags(TAG);
    change_tagged();
    MUST(!step());
    check_tagged();
    go_on(change_tagged, check_tagged, MINORS);
}

static void tags_that_are_new_are_looked_for_everywhere(void **unused)
{
    runs_in_children(have_tags);
}

/* ---- Options ---- */

static void they_are_turned_off_and_on(void **unused)
{
    for (int i = 0; i < 2; i++) {
        until_minor();
        assert_true(gc_set_generations(false));
        assert_false(gc_set_generations(false));
        none_is_minor(2);
        assert_false(gc_set_generations(true));
        go_on(change_small, check_small, 1);
    }
}

static void run_with(void *conf)
{
    setenv("SPLITHEAP_CONF", conf, 1);
    execl("/proc/self/exe", "api_minor", conf, NULL);
    _exit(99);
}

static bool runs_with(const char *conf)
{
    struct child child;
    child_run(&child, run_with, (void *)(uintptr_t)conf);
    if (!child_returned(&child))
        print_error("%s: status %#x: %s\n", conf, (unsigned)child.status, child.text);
    return child_returned(&child);
}

static int prepare(void **unused)
{
    make_old();
    return gc_set_collection_listener(listen, NULL);
}

static int prepare_always(void **unused)
{
    gc_init(NULL, NULL);
    sh_options.generations = SH_GENERATIONS_ALWAYS;
    sh_options.pace_floor = MIB;
    return prepare(NULL);
}

/* What the program does that was run again. */
static int with(const char *conf)
{
    make_old();
    holder = (void **)old; /* a second heap as large */
    prepare(NULL);
    if (strcmp(conf, "generations:false") == 0)
        none_is_minor(10);
    else
        until_minor();
    return 0;
}

static void an_option_turns_them_off(void **unused)
{
    assert_true(runs_with("generations:false"));
}

/* In a heap of this size they pay. */
static void they_come_by_themselves(void **unused)
{
    assert_true(runs_with("generations:true"));
}

int main(int argc, char **argv)
{
    if (!sh_os_watch_prepare()) {
        print_message("[  SKIPPED ] this system cannot watch memory for writes\n");
        return 77;
    }
    if (argc > 1)
        return with(argv[1]);
    const struct CMUnitTest tests[] = {
        MINOR_TEST(stores_into_small_objects),
        MINOR_TEST(stores_into_large_arrays),
        MINOR_TEST(reads_into_old_objects),
        MINOR_TEST(a_huge_array_that_moves),
        MINOR_TEST(cells_of_old_objects_are_used_again),
        MINOR_TEST(a_graph_changes),
        MINOR_TEST(graphs_change_in_four_threads),
        MINOR_TEST(new_dead_objects_are_told_of),
        MINOR_TEST(old_dead_objects_are_told_of_by_a_full_one),
        MINOR_TEST(what_a_finaliser_brings_back_stays),
        MINOR_TEST(values_of_old_keys_stay),
        MINOR_TEST(a_child_goes_on_and_so_does_its_parent),
        MINOR_TEST(a_full_one_comes_at_last),
        MINOR_TEST(a_request_is_for_a_full_one),
        MINOR_TEST(a_threshold_is_the_programs_own),
        MINOR_TEST(typed_objects_are_looked_at_each_time),
        MINOR_TEST(decoded_words_are_looked_at_each_time),
        MINOR_TEST(tags_that_are_new_are_looked_for_everywhere),
        MINOR_TEST(they_are_turned_off_and_on),
        cmocka_unit_test(an_option_turns_them_off),
        cmocka_unit_test(they_come_by_themselves),
    };
    return run_on_clean_stack(tests, prepare_always, NULL);
}
