/* SPDX-License-Identifier: MIT */
/*
 * The heap's memory: areas from the user at odd addresses, and those it maps itself.
 * The program says itself how much may be mapped; at first nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/page_map.h"
#include "heaps/run.h"
#include "tests/child.h"
#include "tests/heap.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static size_t max_new_split;

GC_PUBLIC size_t gc_get_max_new_split(void)
{
    return max_new_split;
}

/* The heap begins once in a process, so each test has one of its own. malloc is the C
 * library's here: the areas hold what the test puts there. */
static void in_child(void (*test)(void *))
{
    struct child child;
    child_run(&child, test, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

/* Starts the heap on `bytes` from an odd address; nothing else is there or comes. */
static char *begin(size_t bytes)
{
    static char memory[8 << 20];
    max_new_split = 0;
    char *start = memory + 4096 + 123;
    gc_init(start, start + bytes);
    return start;
}

static bool inside(const void *p, const char *start, size_t bytes)
{
    return (const char *)p >= start && (const char *)p < start + bytes;
}

/* ---- An area of 64 KiB ---- */

static void *held[65536];

/* Fills the heap with objects of the size; returns how many bytes of cells there are. */
static size_t fill_with(size_t size, const char *start, size_t bytes)
{
    size_t n = 0, cells = 0;
    void *p;
    while ((p = gc_alloc(size, 0))) {
        MUST(!start || inside(p, start, bytes));
        MUST(n < 65536);
        held[n++] = p;
        cells += gc_nbytes(p);
        memset(p, 0x11, size);
    }
    MUST(errno == ENOMEM);
    for (size_t i = 0; i < n; i++)
        MUST(uniform(held[i], size, 0x11));
    return cells;
}

static size_t fill_size;

static void fill_of_one_size(void *unused)
{
    size_t bytes = 64 * KIB;
    char *start = begin(bytes);
    size_t here = fill_with(fill_size, start, bytes);
    if (here < bytes * 9 / 10)
        fprintf(
            stderr, "%zu-byte cells fill %zu of %zu bytes\n", fill_size, here, bytes);
    MUST(here >= bytes * 9 / 10);
}

/* For each class of up to a page, that is; what is larger does not divide the area. */
static void nine_tenths_of_64_kib_hold_cells(void **unused)
{
    sh_size_class_init();
    for (unsigned c = 0; sh_size_classes[c].size <= 4096; c++) {
        fill_size = sh_size_classes[c].size;
        in_child(fill_of_one_size);
    }
}

static void fill_of_mixed_sizes(void *unused)
{
    size_t bytes = 64 * KIB, here = 0, n = 0, failures = 0;
    char *start = begin(bytes);
    struct random random = {.state = 5};
    while (failures < 100) {
        void *p = gc_alloc(random_below(&random, 300) + 1, n % 2 ? 2 : 0);
        failures += !p;
        if (!p)
            continue;
        MUST(inside(p, start, bytes));
        held[n++] = p;
        here += gc_nbytes(p);
    }
    /* What is left of the pages that each size took. */
    for (size_t size = 320; size >= 16; size -= 16)
        for (unsigned flags = 0; flags <= GC_ALLOC_FLAG_LEAF; flags += 2)
            for (void *p; (p = gc_alloc(size, flags)); held[n++] = p)
                here += gc_nbytes(p);
    if (here < bytes * 9 / 10)
        fprintf(stderr, "mixed sizes fill %zu of %zu bytes\n", here, bytes);
    MUST(here >= bytes * 9 / 10);
}

static void of_mixed_sizes_too(void **unused)
{
    in_child(fill_of_mixed_sizes);
}

static void fill_after_another_size(void *unused)
{
    size_t bytes = 64 * KIB;
    char *start = begin(bytes);
    for (size_t size = 16; size <= 4096; size *= 2) {
        size_t here = fill_with(size, start, bytes);
        if (here < bytes * 9 / 10)
            fprintf(
                stderr, "%zu-byte cells fill %zu of %zu bytes\n", size, here, bytes);
        MUST(here >= bytes * 9 / 10);
        for (size_t i = 0; i < here / size; i++)
            gc_free(held[i]);
    }
}

/* Nothing that was freed is kept back for its size where memory runs out. */
static void what_one_size_frees_another_gets(void **unused)
{
    in_child(fill_after_another_size);
}

/* ---- Full ---- */

static _Atomic unsigned finalised;

static void count(void *object)
{
    finalised++;
}

static void *make_garbage(void *unused)
{
    static const struct gc_type type = {.finalise = count};
    for (int i = 0; i < 20000; i++) {
        const struct gc_type **object = gc_alloc(100, GC_ALLOC_FLAG_HAS_FINALISER);
        MUST(object);
        *object = &type;
    }
    return NULL;
}

/* Two megabytes through 64 KiB. */
static void full_collects(void *unused)
{
    begin(64 * KIB);
    in_thread(make_garbage, NULL);
    MUST(finalised > 15000);
}

static void full_fails(void *unused)
{
    begin(64 * KIB);
    fill_with(64, NULL, 0);
    errno = 0;
    MUST(!gc_alloc(64, 0) && errno == ENOMEM);
    errno = 0;
    MUST(!gc_alloc(MIB, 0) && errno == ENOMEM);
    errno = 0;
    MUST(!gc_realloc(held[0], 5000, true) && errno == ENOMEM);
    MUST(gc_nbytes(held[0]) == 64);
    /* Its own is enough where something is given back. */
    for (size_t i = 0; i < 100; i++)
        gc_free(held[i]);
    for (size_t i = 0; i < 100; i++)
        MUST((held[i] = gc_alloc(64, 0)));
}

/* What another size was takes its place. */
static void another_size_gets_what_was_freed(void *unused)
{
    begin(64 * KIB);
    size_t cells = fill_with(64, NULL, 0);
    memset(held, 0, sizeof held);
    clear_stack();
    gc_collect();
    MUST(fill_with(512, NULL, 0) >= cells / 2);
}

enum { APART = 20, LAST_OF = 64 };

static size_t refill_apart(size_t n)
{
    size_t more = 0;
    for (size_t i = 0; i < n && (held[i] = gc_alloc(LAST_OF, 0)); i += APART)
        more++;
    return more;
}

/* Fewer in each span than make it worth to look at it while there are others. */
static void what_is_free_here_and_there_is_found(void *unused)
{
    begin(3 * MIB);
    size_t n = fill_with(LAST_OF, NULL, 0) / LAST_OF;
    for (size_t i = 0; i < n; i += APART)
        gc_free(held[i]);
    MUST(refill_apart(n) >= n / APART);
    for (size_t i = 0; i < n; i += APART)
        held[i] = NULL;
    gc_collect();
    MUST(refill_apart(n) >= n / APART - 10); /* the stack may hold a few */
}

static void locked_and_full_fails(void *unused)
{
    begin(64 * KIB);
    fill_with(64, NULL, 0);
    memset(held, 0, sizeof held);
    gc_set_auto_collect(false);
    /* Off, an allocation still collects rather than fail. */
    MUST(gc_alloc(64, 0));
}

static void a_full_heap_collects_then_fails(void **unused)
{
    in_child(full_collects);
    in_child(full_fails);
    in_child(another_size_gets_what_was_freed);
    in_child(what_is_free_here_and_there_is_found);
    in_child(locked_and_full_fails);
}

/* ---- More memory ---- */

static void add_more(void *unused)
{
    static char more[1 << 20];
    begin(64 * KIB);
    fill_with(64, NULL, 0);
    gc_info_t before, after;
    gc_info(&before);
    gc_add(more + 1, more + sizeof more);
    gc_info(&after);
    size_t pages = sh_round_down((uintptr_t)(more + sizeof more), 4096) -
                   sh_round_up((uintptr_t)(more + 1), 4096);
    MUST(after.total == before.total + pages);
    memset(held, 0, sizeof held);
    size_t cells = fill_with(64, NULL, 0);
    MUST(cells >= sizeof more * 9 / 10);
    MUST(inside(held[3000], more, sizeof more));
}

/* Called again, gc_init adds. */
static void init_again(void *unused)
{
    static char more[1 << 20];
    begin(64 * KIB);
    gc_init(NULL, NULL);
    gc_init(more, more + sizeof more);
    MUST(fill_with(64, NULL, 0) >= sizeof more * 9 / 10);
}

/* Many areas, in one slot of the page map even. */
static void add_many(void *unused)
{
    static SH_ALIGNED(4096) char more[2 << 20];
    begin(64 * KIB);
    for (size_t at = 0; at < sizeof more; at += 12288)
        gc_add(more + at, more + sh_min(at + 8192, sizeof more));
    size_t cells = 0, n = 0;
    for (void *p; (p = gc_alloc(1000, 0)); held[n++] = p) {
        MUST(((uintptr_t)p - (uintptr_t)more) % 12288 < 8192 ||
             !inside(p, more, sizeof more));
        cells += 1024;
    }
    MUST(cells >= sizeof more * 2 / 3 * 8 / 10);
}

static void more_is_added(void **unused)
{
    in_child(add_more);
    in_child(init_again);
    in_child(add_many);
}

/* ---- Areas that the heap maps ---- */

/* Each new area doubles the heap, or fits what was asked for. */
static void grow(void *unused)
{
    max_new_split = (size_t)1 << 40;
    size_t total = 0, grown = 0, n = 0;
    gc_info_t info;
    gc_set_auto_collect(false);
    while (grown < 4) {
        MUST((held[n++] = gc_alloc(MIB, 0)));
        gc_info_fast(&info);
        if (info.total == total)
            continue;
        MUST(total == 0 || info.total >= 2 * total);
        MUST(info.total <= 2 * total + 64 * KIB || total == 0);
        total = info.total;
        grown++;
    }
    MUST((held[n] = gc_alloc(30 * MIB, 0)));
}

static void grow_as_allowed(void *unused)
{
    gc_info_t before, after;
    begin(64 * KIB);
    gc_info_fast(&before);
    max_new_split = 3 * MIB;
    MUST(!gc_alloc(4 * MIB, 0));
    MUST((held[0] = gc_alloc(2 * MIB, 0)));
    gc_info_fast(&after);
    MUST(after.total == before.total + 3 * MIB);
}

static void huge_needs_leave(void *unused)
{
    max_new_split = 39 * MIB;
    MUST(!gc_alloc(40 * MIB, 0) && errno == ENOMEM);
    max_new_split = 40 * MIB;
    MUST(gc_alloc(40 * MIB, 0));
}

static void the_heap_grows_by_the_rule(void **unused)
{
    in_child(grow);
    in_child(grow_as_allowed);
    in_child(huge_needs_leave);
}

static bool mapped(const void *p)
{
    unsigned char residence;
    return mincore((void *)sh_round_down((uintptr_t)p, 4096), 4096, &residence) == 0;
}

static void give_huge_back(void *unused)
{
    max_new_split = (size_t)1 << 40;
    gc_info_t before, after;
    gc_free(gc_alloc(16, 0));
    gc_info_fast(&before);
    for (int i = 0; i < 10; i++) {
        char *p = gc_alloc(100 * MIB, 0);
        p[0] = p[100 * MIB - 1] = 1;
        gc_free(p);
        MUST(!mapped(p) && !mapped(p + 50 * MIB));
    }
    gc_info_fast(&after);
    MUST(after.total == before.total);
}

/* Not at once: idle ones are kept for a while, but not all for good. */
static void give_areas_back(void *unused)
{
    max_new_split = (size_t)1 << 40;
    setenv("SPLITHEAP_CONF", "decay_ms:20", 1);
    gc_info_t full, empty;
    gc_set_auto_collect(false);
    for (size_t i = 0; i < 400; i++) {
        held[i] = gc_alloc(MIB, 0);
        MUST(held[i]);
        memset(held[i], 1, MIB);
    }
    gc_info_fast(&full);
    MUST(full.total >= 400 * MIB);
    for (size_t i = 0; i < 400; i++)
        gc_free(held[i]);
    for (int i = 0; i < 1000; i++) {
        gc_free(gc_alloc(100000, 0));
        gc_info_fast(&empty);
        if (empty.total <= full.total / 2)
            break;
        sleep_us(10000);
    }
    if (empty.total > full.total / 2)
        fprintf(stderr, "%zu of %zu bytes are still there\n", empty.total, full.total);
    MUST(empty.total <= full.total / 2);
}

static void what_is_empty_is_given_back(void **unused)
{
    in_child(give_huge_back);
    in_child(give_areas_back);
}

/* The user's memory never is, and what lies around it is not touched. */
static void keep_users(void *unused)
{
    static unsigned char memory[3 << 20];
    memset(memory, 0x77, sizeof memory);
    max_new_split = 0;
    unsigned char *start = memory + 5000, *end = memory + sizeof memory - 5000;
    gc_init(start, end);
    for (int round = 0; round < 3; round++) {
        fill_with(200, NULL, 0);
        memset(held, 0, sizeof held);
        gc_sweep_all();
        MUST(mapped(memory) && mapped(memory + MIB) && mapped(end - 1));
    }
    MUST(uniform(memory, 5000, 0x77));
    MUST(uniform(end, 5000, 0x77));
}

static void the_users_memory_stays_the_users(void **unused)
{
    in_child(keep_users);
}

/* ---- Roots in it ---- */

struct box {
    void *object;
    uintptr_t hidden;
};

static void *fill_box(void *arg)
{
    struct box *box = arg;
    box->object = gc_alloc(32, 0);
    box->hidden = hide(box->object);
    return NULL;
}

/* In malloc'd memory, which is a root wherever it lies. */
static void hold_in_malloced(void *unused)
{
    size_t bytes = 256 * KIB;
    char *start = begin(bytes);
    struct box *box = sh_malloc(sizeof *box);
    MUST(inside(box, start, bytes));
    in_thread(fill_box, box);
    clear_stack();
    gc_collect();
    MUST(gc_nbytes(reveal(box->hidden)) == 32);
}

static void malloced_memory_in_it_is_a_root(void **unused)
{
    in_child(hold_in_malloced);
}

/* ---- In malloc'd memory ---- */

enum { BOXES = 200 };

/* The heap lies in one malloc'd object, of which it is all or a part. What it holds lives
 * and dies as elsewhere: the object is no root for that part. */
static struct malloced {
    size_t bytes, from, to;
    uintptr_t hidden;
} malloced;

static void *begin_in_malloced(void *unused)
{
    max_new_split = 64 * MIB;
    char *memory = sh_malloc(malloced.bytes);
    MUST(memory);
    gc_init(memory + malloced.from, memory + malloced.to);
    max_new_split = 0;
    malloced.hidden = hide(memory);
    return NULL;
}

static void *fill_box_there(void *box)
{
    const char *memory = reveal(malloced.hidden);
    fill_box(box);
    MUST(inside(((struct box *)box)->object, memory + malloced.from,
        malloced.to - malloced.from));
    return NULL;
}

/* Two rings, of every other object each. */
static void *link_rings(void *boxes_)
{
    struct box *boxes = boxes_;
    for (int i = 0; i < BOXES; i++)
        *(void **)boxes[i].object = boxes[(i + 2) % BOXES].object;
    for (int i = 1; i < BOXES; i++)
        boxes[i].object = NULL;
    return NULL;
}

static void live_in_malloced(size_t bytes, size_t from, size_t to)
{
    static struct box boxes[BOXES];
    malloced = (struct malloced){bytes, from, to, 0};
    in_thread(begin_in_malloced, NULL);
    for (int i = 0; i < BOXES; i++)
        in_thread(fill_box_there, &boxes[i]);
    in_thread(link_rings, boxes);
    clear_stack();
    gc_collect();
    for (int i = 0; i < BOXES; i++)
        MUST(gc_nbytes(reveal(boxes[i].hidden)) == (i % 2 ? 0 : 32));
    boxes[0].object = NULL;
    clear_stack();
    gc_collect();
    MUST(gc_nbytes(reveal(boxes[0].hidden)) == 0);
}

static void be_part_of_one(void *unused)
{
    live_in_malloced(MIB, 100 * KIB + 17, 900 * KIB);
}

static void be_all_of_one(void *unused)
{
    live_in_malloced(MIB, 0, MIB);
}

static void be_in_a_huge_one(void *unused)
{
    live_in_malloced(40 * MIB, MIB, 3 * MIB);
}

static void an_area_may_lie_in_a_malloced_object(void **unused)
{
    in_child(be_part_of_one);
    in_child(be_all_of_one);
    in_child(be_in_a_huge_one);
}

static void start_on_nothing(void *unused)
{
    max_new_split = (size_t)1 << 40;
    gc_init(NULL, NULL);
    MUST(gc_alloc(100, 0));
}

static void start_without_init(void *unused)
{
    max_new_split = (size_t)1 << 40;
    MUST(gc_alloc(100, 0));
}

static void both_ways_to_begin_on_mmap_work(void **unused)
{
    in_child(start_on_nothing);
    in_child(start_without_init);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nine_tenths_of_64_kib_hold_cells),
        cmocka_unit_test(of_mixed_sizes_too),
        cmocka_unit_test(what_one_size_frees_another_gets),
        cmocka_unit_test(a_full_heap_collects_then_fails),
        cmocka_unit_test(more_is_added),
        cmocka_unit_test(the_heap_grows_by_the_rule),
        cmocka_unit_test(what_is_empty_is_given_back),
        cmocka_unit_test(the_users_memory_stays_the_users),
        cmocka_unit_test(malloced_memory_in_it_is_a_root),
        cmocka_unit_test(an_area_may_lie_in_a_malloced_object),
        cmocka_unit_test(both_ways_to_begin_on_mmap_work),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
