/* SPDX-License-Identifier: MIT */
/*
 * Several markers on one heap mark what one marks: graphs of every shape, held against a
 * walk by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <splitheap/gc.h>

#include "heaps/heap.h"
#include "tests/spans.h"
#include "tests/stress.h"
#include "threads/gang.h"
#include "threads/registry.h"

enum { CELLS = 60000, EDGES = 3, SLOTS = EDGES + 1 };

static struct sh_span *spans[CELLS];
static void **cells[CELLS];
static uint32_t cell_count, stack[CELLS];
static bool reached[CELLS];
static const void *root;

static size_t index_of(const void *cell)
{
    size_t low = 0, high = cell_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)cells[middle] <= (uintptr_t)cell)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* Cells of 32 bytes, a span for as many as it holds. */
static int make_cells(void **unused)
{
    if (give_area((size_t)32 << 20))
        return -1;
    MUST(sh_thread_enter());
    sh_critical_enter();
    while (cell_count < CELLS) {
        struct sh_span *span = small_span(SH_KIND_SCAN, SLOTS * sizeof(void *));
        for (uint32_t i = 0; i < span->cell_count && cell_count < CELLS; i++)
            cells[cell_count++] = hand_cell_out(span, i);
    }
    qsort(cells, CELLS, sizeof *cells, by_address);
    for (uint32_t i = 0; i < CELLS; i++)
        spans[i] = sh_page_map_lookup((uintptr_t)cells[i]);
    sh_critical_leave();
    return 0;
}

/* ---- Shapes ---- */

static struct random chance = {1};

static void link_random(uint32_t i)
{
    for (unsigned e = 0; e < EDGES; e++)
        if (random_below(&chance, 4))
            cells[i][e] = cells[random_below(&chance, CELLS)];
}

static void link_list(uint32_t i)
{
    cells[i][0] = i + 7 < CELLS ? cells[i + 7] : NULL;
}

static void link_tree(uint32_t i)
{
    cells[i][0] = 2 * i + 1 < CELLS ? cells[2 * i + 1] : NULL;
    cells[i][2] = 2 * i + 2 < CELLS ? (char *)cells[2 * i + 2] + 9 : NULL;
}

static void link_combs(uint32_t i)
{
    cells[i][0] = i % 1000 ? cells[i - 1] : NULL;
    cells[i][1] = cells[i / 1000 * 1000];
    if (i % 1000 == 0)
        cells[i][2] = cells[(i + 1999) % CELLS];
}

/* ---- Marking ---- */

static void walk(uint32_t from)
{
    uint32_t depth = 0;
    memset(reached, 0, sizeof reached);
    reached[from] = true;
    stack[depth++] = from;
    while (depth) {
        void **cell = cells[stack[--depth]];
        for (unsigned e = 0; e < EDGES; e++) {
            size_t to = cell[e] ? index_of(cell[e]) : 0;
            if (cell[e] && !reached[to]) {
                reached[to] = true;
                stack[depth++] = (uint32_t)to;
            }
        }
    }
}

static void add_root(void)
{
    sh_mark_root_now(&root, &root + 1);
}

static void mark_and_compare(uint32_t from)
{
    walk(from);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span))
            clear_marks(span);
    root = cells[from];
    mark_all(add_root);
    for (uint32_t i = 0; i < CELLS; i++)
        MUST(sh_cell_marked(spans[i], sh_span_cell_of(spans[i], (uintptr_t)cells[i])) ==
             reached[i]);
}

static void compare_shape(void (*link)(uint32_t))
{
    for (unsigned markers = 1; markers <= 5; markers += 2) {
        gc_set_markers(markers);
        sh_gang_recruit(markers - 1);
        sh_critical_enter();
        for (unsigned round = 0; round < 6; round++) {
            for (uint32_t i = 0; i < CELLS; i++) {
                memset(cells[i], 0, EDGES * sizeof(void *));
                link(i);
            }
            mark_and_compare((uint32_t)random_below(&chance, CELLS / 8));
        }
        sh_critical_leave();
    }
}

static void random_graphs(void **unused)
{
    compare_shape(link_random);
}

static void lists(void **unused)
{
    compare_shape(link_list);
}

static void trees(void **unused)
{
    compare_shape(link_tree);
}

static void combs(void **unused)
{
    compare_shape(link_combs);
}

/* Pieces of one object, and many large ones. */
static void large_objects(void **unused)
{
    for (unsigned markers = 1; markers <= 3; markers++) {
        gc_set_markers(markers);
        sh_gang_recruit(markers - 1);
        sh_critical_enter();
        struct sh_span *table = large_span(SH_KIND_SCAN, CELLS * 8 / SH_PAGE_SIZE + 1);
        struct sh_span *first = large_span(SH_KIND_SCAN, 20);
        for (uint32_t i = 0; i < CELLS; i++) {
            memset(cells[i], 0, EDGES * sizeof(void *));
            ((void **)table->base)[i] = cells[i];
            clear_marks(spans[i]);
        }
        ((void **)first->base)[20 * SH_PAGE_SIZE / 8 - 1] = (void *)(table->base + 5);
        root = (void *)first->base;
        mark_all(add_root);
        for (uint32_t i = 0; i < CELLS; i++)
            MUST(is_marked(spans[i], sh_span_cell_of(spans[i], (uintptr_t)cells[i])));
        sh_run_give(table);
        sh_run_give(first);
        sh_critical_leave();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs),
        cmocka_unit_test(lists),
        cmocka_unit_test(trees),
        cmocka_unit_test(combs),
        cmocka_unit_test(large_objects),
    };
    return cmocka_run_group_tests(tests, make_cells, NULL);
}
