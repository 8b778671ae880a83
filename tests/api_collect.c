/* SPDX-License-Identifier: MIT */
/*
 * Collecting: what holds an object and what does not; when allocation collects.
 *
 * Each holder is tried twice: a batch that it holds lives, and dies when it lets go.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

#define MIB ((size_t)1 << 20)

static struct batch batch;

/* A batch whose pointers lie in the slots, too. */
static void **slots_to_fill;

static void *fill_slots(void *unused)
{
    for (size_t i = 0; i < BATCH; i++) {
        void *p = gc_alloc(batch.size, batch.flags);
        MUST(p);
        slots_to_fill[i] = memset(p, 0x5a, batch.size);
        batch.hidden[i] = hide(p);
    }
    return NULL;
}

/* By another thread, whose stack is gone afterwards. */
static void hold_batch(void **slots, size_t size, unsigned flags)
{
    slots_to_fill = slots;
    batch = (struct batch){.size = size, .flags = flags};
    in_thread(fill_slots, NULL);
    clear_stack();
}

static void drop(void **slots)
{
    memset(slots, 0, BATCH * sizeof *slots);
    clear_stack();
}

static void assert_held(void)
{
    gc_collect();
    gc_collect();
    assert_int_equal(count_live(&batch), BATCH);
    for (size_t i = 0; i < BATCH; i++) {
        const unsigned char *p = reveal(batch.hidden[i]);
        assert_true(uniform(p, batch.size, 0x5a));
    }
    clear_stack();
}

static void assert_collected(void)
{
    gc_collect();
    assert_in_range(count_live(&batch), 0, SLACK);
}

static void check_holder(void **slots)
{
    hold_batch(slots, 40, 0);
    assert_held();
    drop(slots);
    assert_collected();
}

/* ---- Holders ---- */

static void nothing_holds_what_is_dropped(void **unused)
{
    static const size_t sizes[] = {1, 40, 1000, 32768, 33000, 300000};
    for (unsigned flags = 0; flags < 3; flags += 2) {
        for (size_t i = 0; i < 6; i++) {
            batch = (struct batch){.size = sizes[i], .flags = flags};
            in_thread(make_batch, &batch);
            clear_stack();
            assert_collected();
        }
    }
}

static SH_NOINLINE void make_here(void)
{
    make_batch(&batch);
}

/* The same in the thread that collects, whose frames and cache live on. */
static void what_ones_own_frames_drop_is_collected(void **unused)
{
    batch = (struct batch){.size = 40};
    make_here();
    clear_stack();
    gc_collect();
    /* Its current span is swept when that is next used. */
    assert_in_range(count_live(&batch), 0, SLACK);
}

static void static_data_holds(void **unused)
{
    static void *slots[BATCH];
    check_holder(slots);
}

static void malloced_memory_holds(void **unused)
{
    void **slots = sh_calloc(BATCH, sizeof *slots);
    check_holder(slots);
    hold_batch(slots, 40, 0);
    assert_held();
    sh_free(slots);
    assert_collected();
}

static void large_and_huge_malloced_memory_holds(void **unused)
{
    void **slots = sh_calloc(MIB, 1);
    check_holder(slots + 5000);
    sh_free(slots);
    slots = sh_calloc(40 * MIB, 1);
    check_holder(slots + 2000000);
    sh_free(slots);
}

static void an_object_holds(void **unused)
{
    void **slots = gc_alloc(BATCH * sizeof *slots, 0);
    check_holder(slots);
    SH_KEEP(slots);
    slots = gc_alloc(40 * MIB, 0);
    check_holder(slots + 3000000);
    SH_KEEP(slots);
}

static void a_leaf_does_not_hold(void **unused)
{
    void **slots = gc_alloc(BATCH * sizeof *slots, GC_ALLOC_FLAG_LEAF);
    hold_batch(slots, 40, 0);
    assert_collected();
    SH_KEEP(slots);
}

static void memory_that_is_not_the_heaps_does_not_hold(void **unused)
{
    void **slots = sh_os_map(2 * SH_PAGE_SIZE, SH_PAGE_SIZE);
    hold_batch(slots, 40, 0);
    assert_collected();
    sh_os_unmap(slots, 2 * SH_PAGE_SIZE);
}

static void the_stack_holds(void **unused)
{
    void *slots[BATCH];
    check_holder(slots);
}

static SH_TLS void *of_main[BATCH];

static void thread_local_storage_holds(void **unused)
{
    check_holder(of_main);
}

static _Atomic uint32_t step;
static SH_TLS void *of_thread[BATCH];

static void *hold_in_thread(void *kind)
{
    void *on_stack[BATCH];
    void **slots = kind ? of_thread : on_stack;
    MUST(gc_thread_register() == 0);
    memset(on_stack, 0, sizeof on_stack);
    slots_to_fill = slots;
    fill_slots(NULL);
    clear_stack();
    set_flag(&step, 1);
    await_flag(&step, 2);
    memset(slots, 0, sizeof on_stack);
    SH_KEEP(slots);
    clear_stack();
    set_flag(&step, 3);
    await_flag(&step, 4);
    return NULL;
}

static void another_threads_stack_and_storage_hold(void **unused)
{
    for (uintptr_t kind = 0; kind < 2; kind++) {
        step = 0;
        batch = (struct batch){.size = 40};
        pthread_t thread = start(hold_in_thread, (void *)kind);
        await_flag(&step, 1);
        assert_held();
        set_flag(&step, 2);
        await_flag(&step, 3);
        assert_collected();
        set_flag(&step, 4);
        join(thread);
    }
}

static void *hold_and_end(void *unused)
{
    memset(of_thread, 0, sizeof of_thread);
    slots_to_fill = of_thread;
    fill_slots(NULL);
    return NULL;
}

static void an_ended_threads_storage_does_not_hold(void **unused)
{
    batch = (struct batch){.size = 40};
    in_thread(hold_and_end, NULL);
    assert_collected();
}

static pthread_key_t key;

static void *hold_by_key(void *unused)
{
    void **slots = gc_alloc(BATCH * sizeof *slots, 0);
    MUST(slots);
    slots_to_fill = slots;
    fill_slots(NULL);
    MUST(pthread_setspecific(key, slots) == 0);
    slots_to_fill = slots = NULL;
    clear_stack();
    set_flag(&step, 1);
    await_flag(&step, 2);
    MUST(pthread_setspecific(key, NULL) == 0);
    set_flag(&step, 3);
    await_flag(&step, 4);
    return NULL;
}

static void thread_specific_data_holds(void **unused)
{
    assert_int_equal(pthread_key_create(&key, NULL), 0);
    batch = (struct batch){.size = 40};
    step = 0;
    pthread_t thread = start(hold_by_key, NULL);
    await_flag(&step, 1);
    assert_held();
    set_flag(&step, 2);
    await_flag(&step, 3);
    set_flag(&step, 4);
    join(thread);
    assert_collected();
    pthread_key_delete(key);
}

#if defined(__x86_64__)
static SH_NOINLINE uintptr_t fill_object(void)
{
    slots_to_fill = gc_alloc(BATCH * sizeof *slots_to_fill, 0);
    MUST(slots_to_fill);
    fill_slots(NULL);
    uintptr_t hidden = hide(slots_to_fill);
    slots_to_fill = NULL;
    return hidden;
}

/* The only pointer lies in a register of a running thread. */
static void *hold_in_register(void *unused)
{
    uintptr_t hidden = fill_object();
    clear_stack();
    __asm__ volatile("mov %0, %%rbx\n\t"
                     "not %%rbx\n\t"
                     "movl $1, %1\n\t"
                     "1: pause\n\t"
                     "cmpl $2, %1\n\t"
                     "jne 1b\n\t"
                     "xor %%ebx, %%ebx\n\t"
                     "movl $3, %1\n\t"
                     "2: pause\n\t"
                     "cmpl $4, %1\n\t"
                     "jne 2b\n\t"
                     :
                     : "r"(hidden), "m"(step)
                     : "rbx", "memory", "cc");
    return NULL;
}

static void a_register_holds(void **unused)
{
#if SH_TSAN
    skip(); /* it puts signals off while no function of its own is called */
#endif
#ifndef __OPTIMIZE__
    skip(); /* the compiler keeps copies of everything on the stack */
#endif
    step = 0;
    batch = (struct batch){.size = 40};
    pthread_t thread = start(hold_in_register, NULL);
    await_flag(&step, 1);
    assert_held();
    step = 2;
    await_flag(&step, 3);
    assert_collected();
    step = 4;
    join(thread);
}
#else
static void a_register_holds(void **unused)
{
    skip();
}
#endif

/* ---- Roots that the program names ---- */

static void added_roots_hold(void **unused)
{
    void **slots = sh_os_map(2 * SH_PAGE_SIZE, SH_PAGE_SIZE);
    assert_int_equal(gc_add_roots(slots, slots + BATCH), 0);
    check_holder(slots);
    hold_batch(slots, 40, 0);
    assert_held();
    assert_int_equal(gc_remove_roots(slots, slots + BATCH), 0);
    assert_collected();
    sh_os_unmap(slots, 2 * SH_PAGE_SIZE);
}

static void bad_ranges_of_roots_are_refused(void **unused)
{
    char memory[64];
    assert_int_equal(gc_add_roots(memory + 1, memory), EINVAL);
    assert_int_equal(gc_remove_roots(memory, memory + 64), ENOENT);
    assert_int_equal(gc_add_roots(memory, memory + 64), 0);
    assert_int_equal(gc_remove_roots(memory, memory + 63), ENOENT);
    assert_int_equal(gc_remove_roots(memory + 1, memory + 64), ENOENT);
    assert_int_equal(gc_remove_roots(memory, memory + 64), 0);
    assert_int_equal(gc_remove_roots(memory, memory + 64), ENOENT);
    /* Twice added, twice to be removed; empty and odd ones do no harm. */
    assert_int_equal(gc_add_roots(memory, memory), 0);
    assert_int_equal(gc_add_roots(memory + 3, memory + 5), 0);
    assert_int_equal(gc_add_roots(memory + 3, memory + 5), 0);
    gc_collect();
    assert_int_equal(gc_remove_roots(memory + 3, memory + 5), 0);
    assert_int_equal(gc_remove_roots(memory + 3, memory + 5), 0);
    assert_int_equal(gc_remove_roots(memory, memory), 0);
    assert_int_equal(gc_remove_roots(memory, memory), ENOENT);
}

static void roots_of_one_collection_hold(void **unused)
{
    void **slots = sh_os_map(2 * SH_PAGE_SIZE, SH_PAGE_SIZE);
    hold_batch(slots, 40, 0);
    for (int i = 0; i < 3; i++) {
        gc_collect_start();
        gc_collect_root(NULL, 0);
        gc_collect_root(slots, BATCH / 2);
        gc_collect_root(slots + BATCH / 2, BATCH / 2);
        gc_collect_end();
        assert_int_equal(count_live(&batch), BATCH);
    }
    gc_collect_start();
    gc_collect_root(slots, BATCH / 2);
    gc_collect_end();
    assert_in_range(count_live(&batch), BATCH / 2, BATCH / 2 + SLACK);
    gc_collect_start();
    gc_collect_root(slots, 0);
    gc_collect_end();
    assert_in_range(count_live(&batch), 0, SLACK);
    sh_os_unmap(slots, 2 * SH_PAGE_SIZE);
}

static void data_segments_can_be_left_out(void **unused)
{
    static void *slots[BATCH];
    hold_batch(slots, 40, 0);
    assert_held();
    assert_true(gc_set_scan_data_segments(false));
    gc_collect();
    assert_false(gc_set_scan_data_segments(true));
    assert_in_range(count_live(&batch), 0, SLACK);
    drop(slots);
    hold_batch(slots, 40, 0);
    assert_held();
    drop(slots);
}

/* ---- Pointers ---- */

static void pointers_into_an_object_hold(void **unused)
{
    static char *slots[BATCH];
    static const size_t sizes[] = {40, 1000, 32768, 100000};
    for (size_t s = 0; s < 4; s++) {
        hold_batch((void **)slots, sizes[s], 0);
        for (size_t i = 0; i < BATCH; i++)
            slots[i] += i % 4 == 0 ? 1 : i % 4 == 1 ? sizes[s] / 2 : sizes[s] - 1;
        assert_held();
        drop((void **)slots);
        assert_collected();
    }
}

static char *volatile last_byte;

static void *make_huge(void *hidden)
{
    char *p = gc_alloc(40 * MIB, 0);
    *(uintptr_t *)hidden = hide(p);
    last_byte = p + 40 * MIB - 1;
    return NULL;
}

static SH_NOINLINE size_t hidden_bytes(uintptr_t hidden)
{
    return gc_nbytes(reveal(hidden));
}

/* A huge one by its last byte. */
static void a_pointer_to_the_end_of_a_huge_object_holds(void **unused)
{
    uintptr_t hidden;
    in_thread(make_huge, &hidden);
    clear_stack();
    gc_collect();
    assert_int_equal(hidden_bytes(hidden), 40 * MIB);
    last_byte = NULL;
    clear_stack();
    gc_collect();
    assert_int_equal(hidden_bytes(hidden), 0);
}

struct node {
    struct node *next, *other;
    uintptr_t number;
};

static struct node *volatile ring;

static void *make_ring(void *unused)
{
    batch.size = sizeof(struct node);
    make_batch(&batch);
    for (size_t i = 0; i < BATCH; i++) {
        struct node *node = reveal(batch.hidden[i]);
        node->next = reveal(batch.hidden[(i + 1) % BATCH]);
        node->other = reveal(batch.hidden[i * 7 % BATCH]);
        node->number = i;
    }
    ring = reveal(batch.hidden[BATCH / 2]);
    return NULL;
}

static SH_NOINLINE void check_ring(void)
{
    struct node *node = ring;
    for (size_t i = 0; i < BATCH; i++, node = node->next)
        assert_int_equal(node->number, (BATCH / 2 + i) % BATCH);
    assert_ptr_equal(node, ring);
}

static void a_ring_lives_and_dies_as_one(void **unused)
{
    in_thread(make_ring, NULL);
    clear_stack();
    gc_collect();
    assert_int_equal(count_live(&batch), BATCH);
    check_ring();
    /* One stray word may hold all of it: so several are tried. */
    unsigned dead = 0;
    for (int i = 0; i < 20; i++) {
        in_thread(make_ring, NULL);
        ring = NULL;
        clear_stack();
        gc_collect();
        dead += count_live(&batch) == 0;
    }
    assert_in_range(dead, 15, 20);
}

#define MANY 1000000

static void *make_list(void *unused)
{
    struct node *first = NULL;
    for (uintptr_t i = 0; i < MANY; i++) {
        struct node *node = gc_alloc(sizeof *node, 0);
        MUST(node);
        node->next = first;
        node->number = i;
        first = node;
    }
    gc_collect();
    gc_collect();
    uintptr_t left = MANY;
    for (struct node *node = first; node; node = node->next)
        MUST(node->number == --left);
    MUST(left == 0);
    return NULL;
}

/* On a stack that would hold a few frames a node at most. */
static void a_list_of_a_million_needs_no_recursion(void **unused)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, 256 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attr, make_list, NULL), 0);
    join(thread);
    pthread_attr_destroy(&attr);
}

/* ---- Many threads ---- */

static _Atomic bool over;

static void *verify_own(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    void *own[64];
    for (unsigned i = 0; i < 64; i++) {
        own[i] = gc_alloc(i * 50 + 1, 0);
        fill(own[i], i * 50 + 1, seed + i);
    }
    for (size_t round = 0; !sh_load_relaxed(&over); round++) {
        unsigned i = (unsigned)(round % 64);
        MUST(filled(own[i], i * 50 + 1, seed + i));
        own[i] = gc_alloc(i * 50 + 1, 0);
        fill(own[i], i * 50 + 1, seed + i);
    }
    return NULL;
}

static void threads_keep_what_they_hold(void **unused)
{
    pthread_t threads[8];
    over = false;
    for (uintptr_t i = 0; i < 8; i++)
        threads[i] = start(verify_own, (void *)i);
    for (int i = 0; i < 30; i++)
        gc_collect();
    over = true;
    for (int i = 0; i < 8; i++)
        join(threads[i]);
}

static void *collect_often(void *unused)
{
    for (int i = 0; i < 20; i++)
        gc_collect();
    return NULL;
}

static void several_collect_at_once(void **unused)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start(collect_often, NULL);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
}

/* ---- When ---- */

static size_t total_bytes(void)
{
    gc_info_t info;
    gc_info_fast(&info);
    return info.total;
}

static void *make_garbage(void *bytes)
{
    for (size_t made = 0; made < (size_t)bytes; made += 1000)
        MUST(gc_alloc(1000, 0));
    return NULL;
}

static void *make_large_garbage(void *bytes)
{
    for (size_t made = 0; made < (size_t)bytes; made += MIB)
        MUST(gc_alloc(MIB, GC_ALLOC_FLAG_LEAF));
    return NULL;
}

static void garbage_is_collected_unasked(void **unused)
{
    in_thread(make_garbage, (void *)(400 * MIB));
    assert_true(total_bytes() < 200 * MIB);
    in_thread(make_large_garbage, (void *)(2000 * MIB));
    assert_true(total_bytes() < 400 * MIB);
}

static void collecting_unasked_can_be_turned_off(void **unused)
{
    batch = (struct batch){.size = 40};
    assert_true(gc_set_auto_collect(false));
    assert_false(gc_set_auto_collect(false));
    in_thread(make_batch, &batch);
    clear_stack();
    in_thread(make_large_garbage, (void *)(100 * MIB));
    assert_int_equal(count_live(&batch), BATCH);
    assert_false(gc_set_auto_collect(true));
    assert_true(gc_set_auto_collect(true));
    in_thread(make_large_garbage, (void *)(500 * MIB));
    assert_in_range(count_live(&batch), 0, SLACK);
}

static void a_threshold_collects_sooner(void **unused)
{
    gc_collect();
    assert_int_equal(gc_set_threshold(2 * MIB), 0);
    batch = (struct batch){.size = 40};
    in_thread(make_batch, &batch);
    clear_stack();
    in_thread(make_garbage, (void *)(3 * MIB));
    assert_in_range(count_live(&batch), 0, BATCH / 4);
    gc_collect();
    assert_int_equal(gc_set_threshold(0), 2 * MIB);
    in_thread(make_batch, &batch);
    clear_stack();
    in_thread(make_garbage, (void *)(3 * MIB));
    assert_int_equal(count_live(&batch), BATCH);
}

static void what_is_collected_is_used_again(void **unused)
{
    size_t before = 0;
    for (int round = 0; round < 30; round++) {
        batch = (struct batch){.size = 3000};
        in_thread(make_batch, &batch);
        clear_stack();
        gc_collect();
        if (round == 4)
            before = total_bytes();
    }
    assert_true(total_bytes() <= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_holds_what_is_dropped),
        cmocka_unit_test(what_ones_own_frames_drop_is_collected),
        cmocka_unit_test(static_data_holds),
        cmocka_unit_test(malloced_memory_holds),
        cmocka_unit_test(large_and_huge_malloced_memory_holds),
        cmocka_unit_test(an_object_holds),
        cmocka_unit_test(a_leaf_does_not_hold),
        cmocka_unit_test(memory_that_is_not_the_heaps_does_not_hold),
        cmocka_unit_test(the_stack_holds),
        cmocka_unit_test(thread_local_storage_holds),
        cmocka_unit_test(another_threads_stack_and_storage_hold),
        cmocka_unit_test(an_ended_threads_storage_does_not_hold),
        cmocka_unit_test(thread_specific_data_holds),
        cmocka_unit_test(a_register_holds),
        cmocka_unit_test(added_roots_hold),
        cmocka_unit_test(bad_ranges_of_roots_are_refused),
        cmocka_unit_test(roots_of_one_collection_hold),
        cmocka_unit_test(data_segments_can_be_left_out),
        cmocka_unit_test(pointers_into_an_object_hold),
        cmocka_unit_test(a_pointer_to_the_end_of_a_huge_object_holds),
        cmocka_unit_test(a_ring_lives_and_dies_as_one),
        cmocka_unit_test(a_list_of_a_million_needs_no_recursion),
        cmocka_unit_test(threads_keep_what_they_hold),
        cmocka_unit_test(several_collect_at_once),
        cmocka_unit_test(garbage_is_collected_unasked),
        cmocka_unit_test(collecting_unasked_can_be_turned_off),
        cmocka_unit_test(a_threshold_collects_sooner),
        cmocka_unit_test(what_is_collected_is_used_again),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
