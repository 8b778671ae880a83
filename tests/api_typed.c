/* SPDX-License-Identifier: MIT */
/*
 * Typed objects: what their type's mark reports lives, and what else they hold does not.
 * The objects of these tests hide what they report, so that only their mark finds it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heaps/heap.h"
#include "tests/heap.h"

struct object {
    const struct gc_marked_type *type;
    uintptr_t hidden; /* reported */
    void *not_a_root; /* not reported */
};

static _Atomic uint32_t marked, finalised;
static _Atomic size_t bytes_expected;

static void mark(void *p, size_t n_bytes, struct gc_marker *marker)
{
    struct object *object = p;
    if (n_bytes == sh_load_relaxed(&bytes_expected))
        sh_add_relaxed(&marked, 1u);
    if (object->hidden)
        gc_mark_pointer(marker, reveal(object->hidden));
}

/* The last words of it, plainly. */
static void mark_end(void *p, size_t n_bytes, struct gc_marker *marker)
{
    mark(p, n_bytes, marker);
    gc_mark_words(marker, (void **)((char *)p + n_bytes - 64), 8);
}

static void finalise(void *p)
{
    struct object *object = p;
    MUST(gc_nbytes(reveal(object->hidden)) != 0);
    sh_add_relaxed(&finalised, 1u);
}

static const struct gc_marked_type hiding = {.mark = mark};
static const struct gc_marked_type ending = {.mark = mark_end};
static const struct gc_marked_type both = {.type = {finalise}, .mark = mark};
static const struct gc_marked_type silent = {.mark = NULL};

static struct batch held, dropped;
static void *roots[BATCH];
static const struct gc_marked_type *type;
static size_t size;
static unsigned flags;

/* Each a child that it reports, and one that it does not. */
static void *make(void *unused)
{
    for (size_t i = 0; i < BATCH; i++) {
        struct object *object = gc_alloc(size, GC_ALLOC_FLAG_TYPED | flags);
        MUST(object && all_zero(object, gc_nbytes(object)));
        void *child = gc_alloc(40, 0), *other = gc_alloc(40, 0);
        MUST(child && other);
        held.hidden[i] = object->hidden = hide(child);
        object->not_a_root = other;
        dropped.hidden[i] = hide(other);
        object->type = type;
        roots[i] = object;
    }
    return NULL;
}

static void collect_made(const struct gc_marked_type *of, size_t n_bytes)
{
    type = of;
    size = n_bytes;
    bool was = gc_set_auto_collect(false);
    in_thread(make, NULL);
    clear_stack();
    gc_collect();
    gc_collect();
    gc_set_auto_collect(was);
}

static void let_go(void)
{
    memset(roots, 0, sizeof roots);
    clear_stack();
    gc_collect();
    assert_in_range(count_live(&held), 0, SLACK);
    assert_in_range(count_live(&dropped), 0, SLACK);
}

static void what_the_type_reports_lives_and_nothing_else(void **unused)
{
    static const size_t sizes[] = {24, 32, 48, 1000, 32768};
    static const size_t usable[] = {32, 32, 48, 1024, 32768};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        sh_store_relaxed(&marked, 0u);
        sh_store_relaxed(&bytes_expected, usable[i]);
        collect_made(&hiding, sizes[i]);
        assert_int_equal(count_live(&held), BATCH);
        assert_in_range(count_live(&dropped), 0, SLACK);
        assert_true(sh_load_relaxed(&marked) >= 2 * BATCH);
        let_go();
    }
}

static void without_a_type_all_words_count(void **unused)
{
    sh_store_relaxed(&marked, 0u);
    sh_store_relaxed(&bytes_expected, 48u);
    collect_made(NULL, 48);
    assert_in_range(count_live(&held), 0, SLACK);
    assert_int_equal(count_live(&dropped), BATCH);
    let_go();
    collect_made(&silent, 48);
    assert_in_range(count_live(&held), 0, SLACK);
    assert_int_equal(count_live(&dropped), BATCH);
    let_go();
    assert_in_range(sh_load_relaxed(&marked), 0, 10 * SLACK);
}

static SH_NOINLINE void *make_one(size_t n_bytes, uintptr_t *last)
{
    struct object *object = gc_alloc(n_bytes, GC_ALLOC_FLAG_TYPED);
    MUST(object);
    size_t usable = gc_nbytes(object);
    void **end = (void **)((char *)object + usable);
    object->hidden = hide(gc_alloc(40, 0));
    end[-1] = gc_alloc(40, 0);
    end[-9] = gc_alloc(40, 0);
    last[0] = object->hidden;
    last[1] = hide(end[-1]);
    last[2] = hide(end[-9]);
    object->type = &ending;
    return object;
}

static void *make_large(void *last)
{
    static const size_t sizes[] = {40000, 300000, (size_t)40 << 20};
    for (size_t i = 0; i < 3; i++)
        roots[i] = make_one(sizes[i], (uintptr_t *)last + 3 * i);
    return NULL;
}

static void large_objects_are_marked_whole(void **unused)
{
    uintptr_t hidden[9];
    in_thread(make_large, hidden);
    clear_stack();
    gc_collect();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(gc_nbytes(reveal(hidden[3 * i])), 48);
        assert_int_equal(gc_nbytes(reveal(hidden[3 * i + 1])), 48);
        assert_int_equal(gc_nbytes(reveal(hidden[3 * i + 2])), 0);
    }
    memset(roots, 0, sizeof roots);
    clear_stack();
    gc_collect();
    assert_int_equal(gc_nbytes(reveal(hidden[0])), 0);
}

/* A type that nothing else holds. */
static void *make_with_types(void *unused)
{
    for (size_t i = 0; i < BATCH; i++) {
        struct gc_marked_type *own = gc_alloc(sizeof *own, 0);
        struct object *object = gc_alloc(sizeof *object, GC_ALLOC_FLAG_TYPED);
        MUST(own && object);
        *own = hiding;
        object->type = own;
        held.hidden[i] = hide(own);
        roots[i] = object;
    }
    return NULL;
}

static void an_object_holds_its_type(void **unused)
{
    in_thread(make_with_types, NULL);
    clear_stack();
    gc_collect();
    gc_collect();
    assert_int_equal(count_live(&held), BATCH);
    memset(roots, 0, sizeof roots);
    clear_stack();
    gc_collect();
    assert_in_range(count_live(&held), 0, SLACK);
}

static void finalisers_find_what_was_reported(void **unused)
{
    flags = GC_ALLOC_FLAG_HAS_FINALISER;
    collect_made(&both, sizeof(struct object));
    assert_int_equal(count_live(&held), BATCH);
    sh_store_relaxed(&finalised, 0u);
    memset(roots, 0, sizeof roots);
    clear_stack();
    gc_collect();
    assert_in_range(sh_load_relaxed(&finalised), BATCH - SLACK, BATCH);
    let_go();
    flags = 0;
}

static void resized_objects_keep_their_type(void **unused)
{
    static const size_t sizes[] = {100, 5000, 50000, 400000, 45000, 700, 24, 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        collect_made(&hiding, 32);
        for (size_t r = 0; r < 20; r++) {
            roots[r] = gc_realloc(roots[r], sizes[i], true);
            assert_non_null(roots[r]);
            struct object *object = roots[r];
            assert_ptr_equal(object->type, &hiding);
            if (sizes[i] < 32)
                continue;
            assert_true(object->hidden == held.hidden[r]);
            assert_true(all_zero(object + 1, gc_nbytes(object) - sizeof *object));
        }
        clear_stack();
        gc_collect();
        for (size_t r = 0; r < 20 && sizes[i] >= 32; r++)
            assert_true(gc_nbytes(reveal(held.hidden[r])) != 0);
        let_go();
    }
}

/* With TYPED a leaf is none. */
static void a_typed_leaf_is_typed(void **unused)
{
    flags = GC_ALLOC_FLAG_LEAF;
    collect_made(&hiding, 48);
    assert_int_equal(count_live(&held), BATCH);
    let_go();
    flags = 0;
}

/* ---- What is so when the library first writes to a page ---- */

static struct {
    char *page;
    const void *object;
    size_t bytes;  /* of the object, then */
    bool critical; /* its thread could not be stopped */
    unsigned times;
} watch;

static void look(int signal, siginfo_t *info, void *unused)
{
    if ((char *)info->si_addr < watch.page ||
        (char *)info->si_addr >= watch.page + 4096)
        abort();
    watch.bytes = gc_nbytes(watch.object);
    watch.critical = sh_tls.critical > 0;
    watch.times++;
    MUST(mprotect(watch.page, 4096, PROT_READ | PROT_WRITE) == 0);
}

/* CMocka has a handler of its own, from test to test. */
static void watch_page(void *page, const void *object)
{
    struct sigaction action = {.sa_sigaction = look, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSEGV, &action, NULL) == 0);
    watch.page = page;
    watch.object = object;
    watch.times = 0;
    MUST((uintptr_t)page % 4096 == 0 && mprotect(page, 4096, PROT_NONE) == 0);
}

static void unwatch(void)
{
    MUST(mprotect(watch.page, 4096, PROT_READ | PROT_WRITE) == 0);
}

/* Neither a collection nor the child of a fork by another thread finds the old type. */
static void an_old_type_goes_before_the_object_is_live(void **unused)
{
    static const size_t sizes[] = {4096, 4096, 40000};
    bool was = gc_set_auto_collect(false);
    for (unsigned i = 0; i < 3; i++) {
        roots[1] = gc_alloc(sizes[i], GC_ALLOC_FLAG_TYPED);
        struct object *object = gc_alloc(sizes[i], GC_ALLOC_FLAG_TYPED), *next;
        roots[2] = gc_alloc(sizes[i], GC_ALLOC_FLAG_TYPED);
        object->type = &hiding;
        gc_free(object);
        if (i == 1)
            sh_heap_trim(); /* out of the magazine */
        watch_page(object, object);
        for (unsigned tries = 0; tries < 1000; tries++)
            if ((next = gc_alloc(sizes[i], GC_ALLOC_FLAG_TYPED)) == object)
                break;
        assert_ptr_equal(next, object);
        assert_int_equal(watch.times, 1);
        assert_int_equal(watch.bytes, 0);
        assert_true(watch.critical);
        assert_null(next->type);
    }
    memset(roots, 0, sizeof roots);
    memset(&watch, 0, sizeof watch);
    gc_set_auto_collect(was);
}

/* Behind it is a run that is not clear. */
static struct object *make_with_room(void)
{
    char *room = gc_alloc(1 << 20, GC_ALLOC_FLAG_LEAF);
    memset(room, 0x5a, 1 << 20);
    gc_free(room);
    struct object *object = gc_alloc(40000, GC_ALLOC_FLAG_TYPED);
    object->type = &ending;
    return object;
}

static void what_an_object_grows_by_is_clear_before_it_belongs_to_it(void **unused)
{
    size_t before = 40960, after = 300 * 1024;
    struct object *object = NULL;
    bool was = gc_set_auto_collect(false);
    for (int tries = 0; !object && tries < 20; tries++) {
        roots[tries] = make_with_room();
        watch_page((char *)roots[tries] + before, roots[tries]);
        object = gc_realloc(roots[tries], after, false);
        if (!object)
            unwatch();
    }
    assert_non_null(object);
    assert_int_equal(watch.times, 1);
    assert_int_equal(watch.bytes, before);
    assert_true(watch.critical);
    assert_int_equal(gc_nbytes(object), after);
    assert_true(all_zero((char *)object + before, after - before));
    memset(roots, 0, sizeof roots);
    memset(&watch, 0, sizeof watch);
    gc_set_auto_collect(was);
}

/* Its last words, wherever they are; reported ones at its beginning; and nothing else. */
static void *hang_on(void *arg)
{
    struct object *object = roots[0];
    void **end = (void **)((char *)object + gc_nbytes(object));
    uintptr_t *hidden = arg;
    for (unsigned i = 0; i < 3; i++)
        MUST((hidden[i] = hide(gc_alloc(40, 0))));
    object->hidden = hidden[0];
    end[-1] = reveal(hidden[1]);
    end[-9] = reveal(hidden[2]);
    return NULL;
}

static void what_was_resized_where_it_is_is_marked_whole(void **unused)
{
    static const size_t sizes[] = {300000, 41000, 90000, 81000, 900000, 40000};
    uintptr_t hidden[3];
    unsigned resized = 0;
    roots[0] = make_with_room();
    for (unsigned i = 0; i < 6; i++) {
        if (!gc_realloc(roots[0], sizes[i], false))
            continue;
        resized++;
        apart(hang_on, hidden);
        for (unsigned round = 0; round < 2; round++) {
            gc_collect();
            assert_int_equal(gc_nbytes(reveal(hidden[0])), 48);
            assert_int_equal(gc_nbytes(reveal(hidden[1])), 48);
            assert_int_equal(gc_nbytes(reveal(hidden[2])), 0);
        }
    }
    assert_true(resized >= 3);
    memset(roots, 0, sizeof roots);
}

/* ---- Several markers ---- */

enum { NODES = 300000, EDGES = 3 };

struct node {
    const struct gc_marked_type *type;
    uintptr_t edges[EDGES];
    struct node *unreported;
    uint64_t number;
};

static void mark_node(void *p, size_t n_bytes, struct gc_marker *marker)
{
    const struct node *node = p;
    for (size_t e = 0; e < EDGES; e++)
        if (node->edges[e])
            gc_mark_pointer(marker, reveal(node->edges[e]));
}

static const struct gc_marked_type node_type = {.mark = mark_node};
static uintptr_t *nodes; /* hidden */

static struct node *node(size_t i)
{
    return reveal(nodes[i]);
}

/* The even ones are a tree, the odd ones hang on them by what is not reported, and each
 * hundredth has another edge. Stale words may lead to where a span begins: not to the root. */
static void *make_graph(void *unused)
{
    struct random chance = {7};
    for (size_t i = 0; i < 3; i++)
        MUST(gc_alloc(sizeof(struct node), GC_ALLOC_FLAG_TYPED));
    for (size_t i = 0; i < NODES; i++) {
        struct node *made = gc_alloc(sizeof *made, GC_ALLOC_FLAG_TYPED);
        MUST(made);
        made->type = &node_type;
        made->number = i;
        nodes[i] = hide(made);
    }
    for (size_t i = 2; i < NODES; i += 2) {
        struct node *parent = node(i / 4 * 2);
        parent->edges[i / 2 % 2] = hide(node(i));
        node(i)->unreported = node(i + 1);
        if (i % 100 == 0)
            node(i)->edges[2] = hide(node(random_below(&chance, NODES / 2) * 2));
    }
    roots[0] = node(0);
    return NULL;
}

static size_t nodes_left(size_t first)
{
    size_t left = 0;
    for (size_t i = first; i < NODES; i += 2)
        left += gc_nbytes(node(i)) != 0 && node(i)->number == i;
    clear_stack();
    return left;
}

static void several_markers_mark_what_one_marks(void **unused)
{
    size_t bytes = NODES * sizeof *nodes;
    nodes = sh_malloc(bytes);
    for (unsigned markers = 1; markers <= 3; markers++) {
        gc_set_markers(markers);
        bool was = gc_set_auto_collect(false);
        in_thread(make_graph, NULL);
        clear_stack();
        gc_collect();
        gc_collect();
        assert_int_equal(nodes_left(0), NODES / 2);
        assert_in_range(nodes_left(1), 0, 100);
        roots[0] = NULL;
        clear_stack();
        gc_collect();
        assert_in_range(nodes_left(0), 0, 100);
        gc_set_auto_collect(was);
    }
    sh_free(nodes);
    gc_set_markers(1);
}

/* ---- While threads make and free them ---- */

enum { WORKERS = 3, CARED_FOR = 64 };
static _Atomic uint32_t stopped;

struct cell {
    const struct gc_marked_type *type;
    uintptr_t *count; /* where `type` says that it is */
    struct cell *next;
    uintptr_t rest[5];
};

/* What was freed has a count that is not one. */
static void mark_cell(void *p, size_t n_bytes, struct gc_marker *marker)
{
    struct cell *cell = p;
    if (cell->count)
        MUST(*cell->count == 77);
    gc_mark_pointer(marker, cell->count);
    gc_mark_pointer(marker, cell->next);
}

static const struct gc_marked_type cell_type = {.mark = mark_cell};

static void *make_and_free(void *arg)
{
    struct random chance = {(uintptr_t)arg + 1};
    struct cell *mine[CARED_FOR] = {NULL};
    while (!sh_load_relaxed(&stopped)) {
        size_t i = random_below(&chance, CARED_FOR);
        if (mine[i]) {
            MUST(!mine[i]->count || *mine[i]->count == 77);
            mine[i]->next = NULL;
            gc_free(mine[i]);
        }
        mine[i] = gc_alloc(16 * (3 + random_below(&chance, 3)), GC_ALLOC_FLAG_TYPED);
        MUST(mine[i]);
        mine[i]->type = &cell_type;
        uintptr_t *count = gc_alloc(16, GC_ALLOC_FLAG_LEAF);
        MUST(count);
        *count = 77;
        mine[i]->count = count;
        mine[i]->next = gc_alloc(48, GC_ALLOC_FLAG_TYPED);
    }
    return NULL;
}

static void threads_may_make_and_free_them_meanwhile(void **unused)
{
    pthread_t threads[WORKERS];
    sh_store_relaxed(&stopped, 0u);
    for (uintptr_t i = 0; i < WORKERS; i++)
        threads[i] = start(make_and_free, (void *)i);
    for (int i = 0; i < 100; i++) {
        gc_collect();
        sleep_us(500);
    }
    sh_store_relaxed(&stopped, 1u);
    for (size_t i = 0; i < WORKERS; i++)
        join(threads[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_type_reports_lives_and_nothing_else),
        cmocka_unit_test(without_a_type_all_words_count),
        cmocka_unit_test(large_objects_are_marked_whole),
        cmocka_unit_test(an_object_holds_its_type),
        cmocka_unit_test(finalisers_find_what_was_reported),
        cmocka_unit_test(resized_objects_keep_their_type),
        cmocka_unit_test(a_typed_leaf_is_typed),
        cmocka_unit_test(an_old_type_goes_before_the_object_is_live),
        cmocka_unit_test(what_an_object_grows_by_is_clear_before_it_belongs_to_it),
        cmocka_unit_test(what_was_resized_where_it_is_is_marked_whole),
        cmocka_unit_test(several_markers_mark_what_one_marks),
        cmocka_unit_test(threads_may_make_and_free_them_meanwhile),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
