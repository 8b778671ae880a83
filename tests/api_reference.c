/* SPDX-License-Identifier: MIT */
/* References by <splitheap/weakref.h>; the hooks of gc.h are api_weakref's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <splitheap/weakref.h>

#include "heaps/weak_table.h"
#include "tests/heap.h"

struct object {
    const void *type;
    void *other;
    unsigned number;
};

/* Every callback, in order. */
static unsigned called[4 * BATCH];
static size_t call_count, told;
static void *seen_by_callback;

static void note(unsigned number)
{
    MUST(call_count < sizeof called / sizeof *called);
    called[call_count++] = number;
}

static void on_death(struct gc_weakref *ref, void *ctx)
{
    MUST(!gc_is_locked());
    seen_by_callback = gc_weakref_get(ref);
    note((unsigned)(uintptr_t)ctx);
}

static void on_finalize(unsigned count, void *const args[])
{
    MUST(!gc_is_locked());
    note(count ? (unsigned)(uintptr_t)args[0] : 0);
}

/* Only of what gc_weakref_mark was called for. */
GC_PUBLIC void gc_weakref_about_to_be_freed(void *p)
{
    MUST(gc_nbytes(p) != 0);
    told++;
}

static void finalise(void *object)
{
    note(((struct object *)object)->number);
}

static const struct gc_type finalised = {.finalise = finalise};

static struct gc_weakref *refs[BATCH];

/* Where the references of the test before lay something else may come to lie. */
static int reset(void **unused)
{
    gc_sweep_all();
    memset(refs, 0, sizeof refs);
    call_count = told = 0;
    seen_by_callback = NULL;
    return 0;
}

/* ---- One reference ---- */

static void *refer(void *flags)
{
    for (unsigned i = 0; i < BATCH; i++) {
        struct object *object = gc_alloc(64, (unsigned)(uintptr_t)flags);
        refs[i] = gc_weakref_new(object, on_death, word(i + 1));
        MUST(refs[i] && gc_weakref_get(refs[i]) == object);
    }
    return NULL;
}

static size_t count_cleared(void)
{
    size_t cleared = 0;
    for (unsigned i = 0; i < BATCH; i++)
        cleared += !gc_weakref_get(refs[i]);
    return cleared;
}

static void the_dead_are_told_of_once(void **unused)
{
    apart(refer, word(0));
    gc_collect();
    size_t cleared = count_cleared();
    assert_in_range(cleared, BATCH - SLACK, BATCH);
    assert_int_equal(call_count, cleared);
    assert_null(seen_by_callback);
    bool seen[BATCH + 1] = {false};
    for (size_t i = 0; i < call_count; i++) {
        assert_false(seen[called[i]]);
        seen[called[i]] = true;
        assert_null(gc_weakref_get(refs[called[i] - 1]));
    }
    gc_collect();
    assert_in_range(call_count, cleared, cleared + SLACK);
    /* The hook is for those that the program marked. */
    assert_int_equal(told, 0);
}

static void a_leaf_too(void **unused)
{
    apart(refer, word(GC_ALLOC_FLAG_LEAF));
    gc_collect();
    assert_in_range(call_count, BATCH - SLACK, BATCH);
}

/* A reference that leads nowhere, and one that was dropped, leave nothing in the table. */
static void what_is_over_costs_nothing(void **unused)
{
    apart(refer, word(0));
    assert_int_equal(sh_weak_count(), 2 * BATCH);
    gc_collect();
    assert_in_range(sh_weak_count(), 0, 2 * SLACK);
    memset(refs, 0, sizeof refs);
    apart(refer, word(0));
    memset(refs, 0, sizeof refs);
    clear_stack();
    call_count = 0;
    gc_collect();
    assert_in_range(sh_weak_count(), 0, 4 * SLACK);
    /* They died with their objects, or before. */
    assert_in_range(call_count, 0, 2 * SLACK);
}

static void *objects[BATCH];

static void *refer_and_drop(void *unused)
{
    for (size_t i = 0; i < BATCH; i++) {
        objects[i] = gc_alloc(32, 0);
        for (size_t j = 0; j < i % 3; j++)
            MUST(gc_weakref_new(objects[i], NULL, NULL));
    }
    return NULL;
}

static void those_that_were_dropped_leave_living_objects(void **unused)
{
    apart(refer_and_drop, NULL);
    assert_in_range(sh_weak_count(), BATCH, 2 * BATCH);
    gc_collect();
    assert_in_range(sh_weak_count(), 0, 2 * SLACK);
    memset(objects, 0, sizeof objects);
}

static void memory_goes_with_the_same_collection(void **unused)
{
    apart(refer, word(0));
    static struct batch batch;
    for (unsigned i = 0; i < BATCH; i++)
        batch.hidden[i] = hide(gc_weakref_get(refs[i]));
    clear_stack();
    gc_collect();
    assert_in_range(count_live(&batch), 0, SLACK);
}

static void what_is_held_stays(void **unused)
{
    static struct object *held;
    held = gc_alloc(64, 0);
    struct gc_weakref *ref = gc_weakref_new(held, on_death, NULL);
    gc_collect();
    gc_collect();
    assert_ptr_equal(gc_weakref_get(ref), held);
    assert_int_equal(call_count, 0);
    gc_weakref_free(ref);
    held = NULL;
}

static void *several(void *unused)
{
    struct object *object = unseen(0);
    for (unsigned i = 0; i < 5; i++)
        refs[i] = gc_weakref_new(object, on_death, word(i + 1));
    refs[5] = gc_weakref_new_long(object, on_death, word(100));
    refs[6] = gc_weakref_new_long(object, on_death, word(101));
    refs[7] = gc_weakref_new(object, NULL, NULL);
    MUST(gc_finalize_new(object, on_finalize, 1, word(50)));
    MUST(gc_finalize_new(object, on_finalize, 1, word(51)));
    gc_weakref_free(refs[2]);
    refs[2] = NULL;
    return object;
}

static void *drop_several(void *unused)
{
    several(NULL);
    return NULL;
}

/* As the header says: finalizes, short, long; of each the newest first. */
static void callbacks_come_in_order(void **unused)
{
    static const unsigned order[] = {51, 50, 5, 4, 2, 1, 101, 100};
    apart(drop_several, NULL);
    gc_collect();
    assert_int_equal(call_count, 8);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(called[i], order[i]);
    assert_null(gc_weakref_get(refs[7]));
}

static void sweep_all_calls_all(void **unused)
{
    static struct object *held[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        held[i] = gc_alloc(64, 0);
        MUST(gc_weakref_new_long(held[i], on_death, held[i]));
        MUST(gc_finalize_new(held[i], on_finalize, 1, held[i]));
    }
    gc_sweep_all();
    assert_int_equal(call_count, 2 * BATCH);
    assert_int_equal(sh_weak_count(), 0);
    memset(held, 0, sizeof held);
}

/* ---- Long and short ---- */

static struct object *brought_back;

static void bring_back(void *object)
{
    note(1);
    MUST(!gc_weakref_get(refs[0]) && gc_weakref_get(refs[1]) == object);
    brought_back = object;
}

static const struct gc_type brings_back = {.finalise = bring_back};

static void *make_finalised(void *unused)
{
    struct object *object = unseen(GC_ALLOC_FLAG_HAS_FINALISER);
    object->type = &brings_back;
    refs[0] = gc_weakref_new(object, on_death, word(2));
    refs[1] = gc_weakref_new_long(object, on_death, word(3));
    return NULL;
}

static void *leads_to(void *ref)
{
    bool same = gc_weakref_get(ref) == brought_back && brought_back;
    brought_back = NULL;
    return word(same);
}

static void a_long_reference_leads_to_what_a_finaliser_brings_back(void **unused)
{
    apart(make_finalised, NULL);
    gc_collect();
    assert_int_equal(call_count, 2);
    assert_int_equal(called[0], 2);
    assert_int_equal(called[1], 1);
    gc_collect();
    assert_ptr_equal(apart(leads_to, refs[1]), word(true));
    assert_null(gc_weakref_get(refs[0]));
    gc_collect();
    assert_int_equal(call_count, 3);
    assert_int_equal(called[2], 3);
    assert_null(gc_weakref_get(refs[1]));
}

static void *make_long_only(void *unused)
{
    struct object *object = unseen(GC_ALLOC_FLAG_HAS_FINALISER);
    *object = (struct object){.type = &finalised, .number = 7};
    object->other = unseen(0);
    refs[0] = gc_weakref_new(object->other, on_death, word(8));
    return NULL;
}

/* What a finaliser is to find is not dead before. */
static void what_a_finaliser_reaches_is_cleared_by_short_references_only(void **unused)
{
    apart(make_long_only, NULL);
    gc_collect();
    gc_collect();
    assert_int_equal(call_count, 2);
    assert_int_equal(called[0], 8);
    assert_int_equal(called[1], 7);
}

/* ---- Freeing ---- */

static void freeing_clears_at_once_and_calls_later(void **unused)
{
    struct object *object = gc_alloc(64, 0), *large = gc_alloc(90000, 0);
    refs[0] = gc_weakref_new(object, on_death, word(1));
    refs[1] = gc_weakref_new_long(large, on_death, word(2));
    struct gc_finalize *finalize = gc_finalize_new(object, on_finalize, 1, word(3));
    gc_free(object);
    gc_free(large);
    assert_null(gc_weakref_get(refs[0]));
    assert_null(gc_weakref_get(refs[1]));
    assert_true(gc_finalize_alive(finalize));
    assert_int_equal(call_count, 0);
    gc_collect();
    assert_int_equal(call_count, 3);
    assert_int_equal(called[0], 3);
    assert_int_equal(called[1], 1);
    assert_int_equal(called[2], 2);
    assert_false(gc_finalize_alive(finalize));
    assert_int_equal(told, 0);
}

static void *free_it(void *p)
{
    gc_free(p);
    return NULL;
}

static void freeing_elsewhere_too(void **unused)
{
    struct object *object = gc_alloc(64, 0);
    refs[0] = gc_weakref_new(object, on_death, word(1));
    in_thread(free_it, object);
    assert_null(gc_weakref_get(refs[0]));
}

static void malloced_memory_is_cleared_when_freed(void **unused)
{
    char *p = sh_malloc(100);
    refs[0] = gc_weakref_new(p, on_death, word(1));
    gc_collect();
    gc_collect();
    assert_ptr_equal(gc_weakref_get(refs[0]), p);
    sh_free(p);
    assert_null(gc_weakref_get(refs[0]));
    gc_collect();
    assert_int_equal(call_count, 1);
}

static void moving_ends_and_staying_does_not(void **unused)
{
    char *p = gc_alloc(64, 0);
    refs[0] = gc_weakref_new(p, NULL, NULL);
    p = gc_realloc(p, 60, true);
    assert_ptr_equal(gc_weakref_get(refs[0]), p);
    p = gc_realloc(p, 1000, true);
    assert_null(gc_weakref_get(refs[0]));
    /* Huge ones would be moved by the system. */
    char *huge = gc_alloc((size_t)40 << 20, GC_ALLOC_FLAG_LEAF);
    assert_non_null(huge);
    refs[1] = gc_weakref_new(huge, NULL, NULL);
    char *q = gc_realloc(huge, (size_t)400 << 20, true);
    assert_non_null(q);
    assert_ptr_equal(gc_weakref_get(refs[1]), q == huge ? q : NULL);
    gc_free(q);
    assert_null(gc_weakref_get(refs[1]));
    gc_free(p);
}

static void *free_all_refs(void *unused)
{
    for (unsigned i = 0; i < BATCH; i++) {
        gc_weakref_free(refs[i]);
        refs[i] = NULL;
    }
    return NULL;
}

static void a_freed_reference_calls_nothing(void **unused)
{
    apart(refer, word(0));
    apart(free_all_refs, NULL);
    assert_int_equal(sh_weak_count(), 0);
    gc_collect();
    assert_int_equal(call_count, 0);
    gc_weakref_free(NULL);
}

static void gc_free_of_a_reference_is_the_same(void **unused)
{
    apart(refer, word(0));
    for (unsigned i = 0; i < BATCH; i++)
        gc_free(refs[i]);
    assert_int_equal(sh_weak_count(), 0);
    gc_collect();
    assert_int_equal(call_count, 0);
}

static void a_queued_callback_can_be_cancelled(void **unused)
{
    for (unsigned i = 0; i < BATCH; i++) {
        void *p = gc_alloc(64, 0);
        refs[i] = gc_weakref_new(p, on_death, word(i));
        gc_free(p);
    }
    for (unsigned i = 0; i < BATCH; i++)
        if (i % 3 == 0)
            gc_weakref_free(refs[i]);
        else if (i % 3 == 1)
            gc_free(refs[i]);
    memset(refs, 0, sizeof refs);
    gc_collect();
    assert_int_equal(call_count, BATCH / 3);
    for (unsigned i = 0; i < call_count; i++)
        assert_int_equal(called[i], 3 * i + 2);
}

static void free_itself(struct gc_weakref *ref, void *ctx)
{
    unsigned i = (unsigned)(uintptr_t)ctx;
    MUST(ref == refs[i]);
    note(i);
    gc_weakref_free(ref);
    refs[i] = NULL;
    /* And another that waits. */
    if (i + 1 < BATCH && i % 2 == 0) {
        gc_weakref_free(refs[i + 1]);
        refs[i + 1] = NULL;
    }
    if (i == 10)
        gc_collect();
}

static void a_callback_may_free_references_and_collect(void **unused)
{
    for (unsigned i = 0; i < BATCH; i++) {
        void *p = gc_alloc(64, 0);
        refs[i] = gc_weakref_new(p, free_itself, word(i));
        gc_free(p);
    }
    gc_collect();
    assert_int_equal(call_count, BATCH / 2);
    assert_int_equal(sh_weak_count(), 0);
}

static jmp_buf out;

static void leave_by_longjmp(struct gc_weakref *ref, void *ctx)
{
    note(1);
    longjmp(out, 1);
}

static void a_callback_may_be_left(void **unused)
{
    void *p = gc_alloc(64, 0), *q = gc_alloc(64, 0);
    refs[0] = gc_weakref_new(p, leave_by_longjmp, NULL);
    refs[1] = gc_weakref_new(q, on_death, word(2));
    gc_free(p);
    gc_free(q);
    if (!setjmp(out)) {
        gc_collect();
        fail();
    }
    for (int i = 0; i < 40 && call_count < 2; i++)
        gc_collect();
    assert_int_equal(call_count, 2);
    assert_int_equal(called[1], 2);
}

/* ---- Beside the hooks ---- */

static void *refer_and_mark(void *flags)
{
    for (unsigned i = 0; i < BATCH; i++) {
        void *p = gc_alloc(64, 0);
        if (i % 2)
            gc_weakref_mark(p);
        refs[i] = (uintptr_t)flags ? gc_weakref_new_long(p, on_death, word(i))
                                   : gc_weakref_new(p, on_death, word(i));
        if (i % 2 == 0)
            gc_weakref_mark(p);
    }
    return NULL;
}

static void the_hook_and_references_both_hear(void **unused)
{
    apart(refer_and_mark, word(0));
    gc_collect();
    assert_in_range(told, BATCH - SLACK, BATCH);
    assert_int_equal(told, call_count);
    gc_collect();
    assert_in_range(told, BATCH - SLACK, BATCH);
    for (unsigned i = 0; i < BATCH; i++)
        gc_weakref_free(refs[i]);
}

/* The hook finds the object whole; a long reference leads to it until it is gone. */
static void a_long_reference_outlives_the_hook(void **unused)
{
    apart(refer_and_mark, word(1));
    gc_collect();
    assert_in_range(told, BATCH - SLACK, BATCH);
    assert_in_range(call_count, 0, SLACK);
    clear_stack();
    gc_collect();
    assert_in_range(call_count, BATCH - SLACK, BATCH);
    assert_in_range(told, BATCH - SLACK, BATCH);
}

static void a_mark_outlives_its_references(void **unused)
{
    void *p = gc_alloc(64, 0);
    refs[0] = gc_weakref_new(p, NULL, NULL);
    gc_weakref_mark(p);
    gc_weakref_free(refs[0]);
    assert_int_equal(sh_weak_count(), 0);
    refs[0] = gc_weakref_new(p, NULL, NULL);
    gc_free(p);
    assert_int_equal(told, 1);
    assert_null(gc_weakref_get(refs[0]));
}

/* ---- Misuse, and limits ---- */

static void assert_refused(void *p)
{
    errno = 0;
    assert_null(gc_weakref_new(p, on_death, NULL));
    assert_int_equal(errno, EINVAL);
}

static void only_live_objects_can_be_referred_to(void **unused)
{
    static char data[64];
    char *p = gc_alloc(64, 0), *q = gc_alloc(64, 0);
    assert_refused(NULL);
    assert_refused(data);
    assert_refused(p + 16);
    assert_refused(p + 1);
    assert_refused(word(UINTPTR_MAX));
    gc_free(q);
    assert_refused(q);
    assert_int_equal(sh_weak_count(), 0);
    gc_lock();
    errno = 0;
    assert_null(gc_weakref_new(p, on_death, NULL));
    assert_int_equal(errno, ENOMEM);
    gc_unlock();
    gc_free(p);
}

static void a_reference_can_be_referred_to(void **unused)
{
    static struct gc_weakref *first, *second;
    void *p = gc_alloc(64, 0);
    first = gc_weakref_new(p, on_death, word(1));
    second = gc_weakref_new(first, on_death, word(2));
    gc_free(p);
    gc_collect();
    assert_int_equal(call_count, 1);
    assert_ptr_equal(gc_weakref_get(second), first);
    gc_weakref_free(first);
    first = NULL;
    assert_null(gc_weakref_get(second));
    gc_collect();
    assert_int_equal(call_count, 2);
}

static void inside_gc_lock_freeing_cancels_at_once(void **unused)
{
    void *p = gc_alloc(64, 0);
    refs[0] = gc_weakref_new(p, on_death, word(1));
    gc_lock();
    gc_weakref_free(refs[0]);
    assert_int_equal(sh_weak_count(), 0);
    gc_unlock();
    gc_free(p);
    gc_collect();
    assert_int_equal(call_count, 0);
}

/* ---- Fork ---- */

static void a_child_has_all_references(void **unused)
{
    void *p = gc_alloc(64, 0);
    refs[0] = gc_weakref_new(p, on_death, word(1));
    refs[1] = gc_weakref_new(p, on_death, word(2));
    gc_free(p);
    void *object = several(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        gc_free(object);
        gc_collect();
        void *q = gc_alloc(64, 0);
        struct gc_weakref *ref = gc_weakref_new(q, NULL, NULL);
        bool good = call_count == 10 && gc_weakref_get(ref) == q;
        gc_free(q);
        _exit(good && !gc_weakref_get(ref) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(call_count, 0);
    gc_collect();
    assert_int_equal(call_count, 2);
    assert_ptr_equal(gc_weakref_get(refs[7]), object);
    gc_free(object);
}

/* ---- Threads ---- */

enum { SLOTS = 64, ROUNDS = 3000, THREADS = 4 };

/* Under the lock the references; what they lead to is only weakly held. */
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gc_weakref *slots[SLOTS];
static _Atomic size_t hits, misses, deaths;

static void count_death(struct gc_weakref *ref, void *ctx)
{
    MUST(!gc_weakref_get(ref));
    deaths++;
}

static struct gc_weakref *swap(size_t i, struct gc_weakref *ref)
{
    pthread_mutex_lock(&slots_lock);
    struct gc_weakref *old = slots[i];
    if (ref)
        slots[i] = ref;
    pthread_mutex_unlock(&slots_lock);
    return old;
}

/* Whoever gets an object finds it whole, however long it keeps it. */
static void use(struct gc_weakref *ref)
{
    uintptr_t *object = ref ? gc_weakref_get(ref) : NULL;
    if (!object) {
        misses++;
        return;
    }
    hits++;
    for (int i = 0; i < 6; i++) {
        MUST(object[i] == (uintptr_t)object + (uintptr_t)i);
        gc_alloc(48, 0);
    }
}

static void *stress(void *seed)
{
    struct random random = {(uintptr_t)seed};
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t i = random_below(&random, SLOTS);
        use(swap(i, NULL));
        if (random_below(&random, 4) == 0) {
            uintptr_t *object = gc_alloc(6 * sizeof *object, 0);
            for (uintptr_t w = 0; w < 6; w++)
                object[w] = (uintptr_t)object + w;
            struct gc_weakref *ref = gc_weakref_new(object, count_death, NULL);
            MUST(ref);
            swap(i, ref);
        }
        if (round % 500 == 0)
            gc_collect();
    }
    return NULL;
}

static void getting_is_safe_against_collections(void **unused)
{
    pthread_t threads[THREADS];
    size_t threshold = gc_set_threshold(64 << 10);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start(stress, word(i + 1));
    for (unsigned i = 0; i < THREADS; i++)
        join(threads[i]);
    gc_set_threshold(threshold);
    assert_true(hits > 0 && misses > 0 && deaths > 0);
    memset(slots, 0, sizeof slots);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_dead_are_told_of_once),
        TEST(a_leaf_too),
        TEST(what_is_over_costs_nothing),
        TEST(those_that_were_dropped_leave_living_objects),
        TEST(memory_goes_with_the_same_collection),
        TEST(what_is_held_stays),
        TEST(callbacks_come_in_order),
        TEST(sweep_all_calls_all),
        TEST(a_long_reference_leads_to_what_a_finaliser_brings_back),
        TEST(what_a_finaliser_reaches_is_cleared_by_short_references_only),
        TEST(freeing_clears_at_once_and_calls_later),
        TEST(freeing_elsewhere_too),
        TEST(malloced_memory_is_cleared_when_freed),
        TEST(moving_ends_and_staying_does_not),
        TEST(a_freed_reference_calls_nothing),
        TEST(gc_free_of_a_reference_is_the_same),
        TEST(a_queued_callback_can_be_cancelled),
        TEST(a_callback_may_free_references_and_collect),
        TEST(a_callback_may_be_left),
        TEST(the_hook_and_references_both_hear),
        TEST(a_long_reference_outlives_the_hook),
        TEST(a_mark_outlives_its_references),
        TEST(only_live_objects_can_be_referred_to),
        TEST(a_reference_can_be_referred_to),
        TEST(inside_gc_lock_freeing_cancels_at_once),
        TEST(a_child_has_all_references),
        TEST(getting_is_safe_against_collections),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
