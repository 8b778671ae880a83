/* SPDX-License-Identifier: MIT */
/* heaps/reclaim.h: what idle threads keep is given back, by a clock of the test's. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <cmocka.h>

#include "heaps/area.h"
#include "heaps/heap.h"
#include "heaps/purge.h"
#include "heaps/reclaim.h"
#include "heaps/run.h"
#include "lib/options.h"
#include "tests/caches.h"
#include "tests/spans.h"

#define MS ((uint64_t)1000000)
#define DECAY ((uint64_t)1000)
#define SIZE ((size_t)512)
#define COUNT 20000
#define USERS_BYTES ((size_t)32 << 20)
#define OURS_BYTES ((size_t)256 << 20)

static uint64_t now = 1000000 * MS;

static uint64_t test_clock(void)
{
    return now;
}

static void *at[COUNT];
static uintptr_t ours; /* aligned to its size */

/* The heap has what it was given, and no more. */
size_t gc_get_max_new_split(void)
{
    return 0;
}

static size_t used_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.total_pages) -
           sh_load_relaxed(&sh_heap_counts.free_pages);
}

static bool is_resident(const void *p)
{
    unsigned char residence = 0;
    void *page = (void *)sh_round_down((uintptr_t)p, SH_PAGE_SIZE);
    return mincore(page, SH_PAGE_SIZE, &residence) == 0 && (residence & 1);
}

/* What the background thread would do at that time. */
static uint64_t reclaim_after(uint64_t ms)
{
    now += ms * MS;
    sh_critical_enter();
    uint64_t when = sh_reclaim_by_time();
    sh_critical_leave();
    return when;
}

static int begin(void **unused)
{
    sh_purge_clock = test_clock;
    sh_heap_init();
    sh_options.background = false;
    sh_options.decay_ms = (int)DECAY;
    ours = (uintptr_t)sh_os_map(OURS_BYTES, OURS_BYTES);
    sh_critical_enter();
    int error = sh_area_add(ours, ours + OURS_BYTES, false);
    sh_critical_leave();
    return error || gc_thread_register();
}

/* ---- A thread that waits, and does as it is told ---- */

static _Atomic uint32_t deed, deeds_done;
static struct sh_cache *worker_cache;
static pthread_t worker;

enum { WAIT, ALLOCATE, FREE_MOST, FREE_ALL, GO_ON, END };

#define KEPT 64 /* one of so many cells stays */

static void allocate(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        at[i] = sh_malloc(SIZE);
        MUST(at[i]);
        fill(at[i], SIZE, (unsigned)i);
    }
}

static void free_but_each(size_t kept)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (kept && i % kept == 0)
            continue;
        sh_free(at[i]);
        at[i] = NULL;
    }
}

/* More than a magazine holds. */
static void go_on(void)
{
    static void *more[1000];
    for (int i = 0; i < 1000; i++)
        MUST((more[i] = sh_malloc(SIZE)));
    for (int i = 0; i < 1000; i++)
        sh_free(more[i]);
}

static void do_deed(uint32_t what)
{
    if (what == ALLOCATE)
        allocate();
    else if (what == FREE_MOST)
        free_but_each(KEPT);
    else if (what == FREE_ALL)
        free_but_each(0);
    else if (what == GO_ON)
        go_on();
}

static void *obey(void *unused)
{
    take_cache();
    worker_cache = cache();
    for (uint32_t what = WAIT; what != END;) {
        set_flag(&deeds_done, sh_load_relaxed(&deeds_done) + 1);
        while ((what = sh_load_acquire(&deed)) == WAIT)
            sh_os_wait(&deed, WAIT, 10000000);
        sh_store_relaxed(&deed, WAIT);
        do_deed(what);
    }
    return NULL;
}

static void tell(uint32_t what)
{
    set_flag(&deed, what);
}

static void tell_and_wait(uint32_t what)
{
    uint32_t done = sh_load_acquire(&deeds_done);
    tell(what);
    await_flag(&deeds_done, done + 1);
}

static int with_worker(void **unused)
{
    dissolve_caches();
    sh_store_relaxed(&deeds_done, 0u);
    sh_store_relaxed(&deed, WAIT);
    worker = start(obey, NULL);
    await_flag(&deeds_done, 1);
    reclaim_after(1);
    return 0;
}

static int without_worker(void **unused)
{
    tell(END);
    join(worker);
    reclaim_after(DECAY);
    return 0;
}

/* ---- The inbox of a thread that is idle ---- */

static void what_others_freed_is_given_back(void **unused)
{
    tell_and_wait(ALLOCATE);
    size_t before = used_pages();
    reclaim_after(1);
    free_but_each(0);
    assert_non_null(sh_load_relaxed(&worker_cache->inbox));
    /* Not while it may have been there. */
    uint64_t when = reclaim_after(DECAY / 4 - 1);
    assert_true(when > now && when <= now + DECAY * MS);
    assert_true(used_pages() == before);
    assert_true(sh_reclaim_waits());
    reclaim_after(2);
    assert_null(sh_load_relaxed(&worker_cache->inbox));
    assert_true(used_pages() < before / 10);
    /* It finds all as it left it. */
    tell_and_wait(ALLOCATE);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(filled(at[i], SIZE, (unsigned)i));
    tell_and_wait(FREE_ALL);
}

static void who_is_active_is_left_alone(void **unused)
{
    for (int i = 0; i < 20; i++) {
        tell_and_wait(GO_ON);
        assert_true(reclaim_after(DECAY / 5) != SH_PURGE_NEVER);
        assert_int_equal(worker_cache->done, 0);
    }
    reclaim_after(DECAY / 2);
    assert_int_not_equal(worker_cache->done, 0);
}

/* Its thread is in the midst of something, for long. */
static void who_is_in_a_slow_path_is_left_alone(void **unused)
{
    tell_and_wait(ALLOCATE);
    size_t before = used_pages();
    free_but_each(0);
    reclaim_after(1);
    sh_store_relaxed(&worker_cache->busy, 1u);
    assert_true(reclaim_after(2 * DECAY) != SH_PURGE_NEVER);
    assert_int_equal(used_pages(), before);
    assert_non_null(sh_load_relaxed(&worker_cache->inbox));
    assert_int_equal(sh_load_relaxed(&worker_cache->visited), 0);
    sh_store_relaxed(&worker_cache->busy, 0u);
    reclaim_after(1);
    assert_true(used_pages() < before / 10);
}

/* A thread that wants in waits until the visitor has gone. */
static void a_visitor_is_waited_for(void **unused)
{
    tell_and_wait(ALLOCATE);
    uint32_t done = sh_load_acquire(&deeds_done);
    sh_cache_visit(worker_cache);
    tell(GO_ON);
    while (!sh_cache_is_wanted(worker_cache))
        sleep_us(1000);
    sleep_us(20000);
    assert_int_equal(sh_load_acquire(&deeds_done), done);
    assert_int_equal(sh_load_acquire(&worker_cache->busy), 0);
    sh_cache_end_visit(worker_cache);
    await_flag(&deeds_done, done + 1);
    tell_and_wait(FREE_ALL);
}

/* ---- Pages inside spans ---- */

static size_t resident_pages_of(const uintptr_t *pages, size_t count)
{
    size_t resident = 0;
    for (size_t i = 0; i < count; i++)
        resident += is_resident((const void *)pages[i]);
    return resident;
}

static void pages_without_a_live_cell_are_purged(void **unused)
{
    static uintptr_t pages[COUNT];
    tell_and_wait(ALLOCATE);
    for (size_t i = 0; i < COUNT; i++)
        pages[i] = (uintptr_t)at[i];
    tell_and_wait(FREE_MOST);
    struct sh_bin *bin = &worker_cache->bins[SH_KIND_EXPLICIT][class_of(SIZE)];
    struct sh_round *top = bin->top;
    assert_non_null((void *)top->cell);
    memset((void *)top->cell, 0x5b, SIZE);
    reclaim_after(1);
    reclaim_after(DECAY / 2);
    assert_int_equal(resident_pages_of(pages, COUNT), COUNT);
    reclaim_after(DECAY / 2);
    assert_true(resident_pages_of(pages, COUNT) < COUNT / 4);
    /* What is live, and what its magazine holds, is not touched. */
    for (size_t i = 0; i < COUNT; i += KEPT)
        assert_true(filled(at[i], SIZE, (unsigned)i));
    assert_ptr_equal(bin->top, top);
    assert_true(uniform((unsigned char *)top->cell, SIZE, 0x5b));
    /* Once is enough. */
    assert_true(reclaim_after(DECAY) == SH_PURGE_NEVER);
    assert_false(sh_reclaim_waits());
    tell_and_wait(FREE_ALL);
}

/* What the user gave stays as it is. Our memory is used up before, so the last test. */
static void users_areas_are_not_purged(void **unused)
{
    static uintptr_t pages[COUNT];
    while (sh_malloc((size_t)64 << 10)) {
    }
    assert_int_equal(give_area(USERS_BYTES), 0);
    tell_and_wait(ALLOCATE);
    for (size_t i = 0; i < COUNT; i++)
        pages[i] = (uintptr_t)at[i];
    assert_true(span_of(at[COUNT / 2])->area->from_user);
    tell_and_wait(FREE_MOST);
    reclaim_after(1);
    reclaim_after(DECAY);
    assert_int_equal(worker_cache->done, 2);
    assert_int_equal(resident_pages_of(pages, COUNT), COUNT);
    tell_and_wait(FREE_ALL);
}

/* What others free in a trimmed cache waits for a while again, so that who frees one by
 * one does not have the whole cache trimmed for each. */
static void what_is_freed_after_trimming_waits(void **unused)
{
    tell_and_wait(ALLOCATE);
    reclaim_after(1);
    assert_true(reclaim_after(DECAY) == SH_PURGE_NEVER);
    assert_int_equal(worker_cache->done, 2);
    for (int i = 0; i < 4; i++) {
        sh_free(at[i]);
        assert_true(reclaim_after(1) <= now + DECAY * MS);
        assert_non_null(sh_load_relaxed(&worker_cache->inbox));
        assert_int_equal(worker_cache->done, 0);
        reclaim_after(DECAY / 4);
        assert_null(sh_load_relaxed(&worker_cache->inbox));
        assert_int_equal(worker_cache->done, 1);
        assert_true(reclaim_after(DECAY) == SH_PURGE_NEVER);
        assert_int_equal(worker_cache->done, 2);
    }
    for (int i = 0; i < 4; i++)
        at[i] = NULL;
    tell_and_wait(FREE_ALL);
}

/* ---- Filters of system calls; they stay with the thread ---- */

static void filter_calls(const struct sock_filter *filter, size_t count)
{
    struct sock_fprog program = {(unsigned short)count, (struct sock_filter *)filter};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

/* The system has fences, and forbids them, perhaps only once it is asked for one. */
static void *trim_without_fence(void *any)
{
    const struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
            any ? MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
                : MEMBARRIER_CMD_PRIVATE_EXPEDITED,
            0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    filter_calls(filter, sizeof filter / sizeof filter[0]);
    errno = 0;
    sh_heap_trim();
    MUST(errno == 0);
    return NULL;
}

static void without_a_fence_nobody_is_visited(void **unused)
{
    for (int any = 0; any < 2; any++) {
        tell_and_wait(ALLOCATE);
        free_but_each(0);
        join(start(trim_without_fence, any ? &now : NULL));
        assert_non_null(sh_load_relaxed(&worker_cache->inbox));
        assert_int_equal(sh_load_relaxed(&worker_cache->visited), 0);
        tell_and_wait(GO_ON);
    }
}

/* ---- What happens while a visitor purges ---- */

/* Its madvise of our memory ends in a handler, which does this of the span, and is then
 * forbidden. */
static void (*meanwhile)(const struct sh_span *span);
static uint32_t purges;

static void on_purge(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    purges++;
    meanwhile(sh_page_map_lookup((uintptr_t)registers[REG_RDI]));
    registers[REG_RAX] = -EPERM;
}

static void *trim_slowly(void *unused)
{
    const struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(ours >> 32), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)(OURS_BYTES - 1)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)ours, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sigaction action = {.sa_sigaction = on_purge, .sa_flags = SA_SIGINFO};
    MUST(sigaction(SIGSYS, &action, NULL) == 0);
    filter_calls(filter, sizeof filter / sizeof filter[0]);
    sh_reclaim_idle();
    return NULL;
}

/* Has a cache with pages to be purged, visited before the worker's, which is older. */
static struct sh_cache *idle_cache;
static _Atomic uint32_t may_end, is_idle;

static void *be_idle(void *unused)
{
    take_cache();
    idle_cache = cache();
    allocate();
    free_but_each(KEPT);
    set_flag(&is_idle, 1);
    await_flag(&may_end, 1);
    free_but_each(0);
    return NULL;
}

static void trim_and(void (*what)(const struct sh_span *span))
{
    meanwhile = what;
    purges = 0;
    sh_store_relaxed(&may_end, 0u);
    sh_store_relaxed(&is_idle, 0u);
    pthread_t thread = start(be_idle, NULL);
    await_flag(&is_idle, 1);
    join(start(trim_slowly, NULL));
    set_flag(&may_end, 1);
    join(thread);
    assert_true(purges > 1);
}

/* Told so at the first purge, the worker has gone on when the next span's turn comes. */
static void let_worker_go_on(const struct sh_span *span)
{
    static const struct sh_span *first;
    static uint32_t before;
    if (purges == 1) {
        first = span;
        before = sh_load_acquire(&deeds_done);
        tell(GO_ON);
        while (!sh_cache_is_wanted(worker_cache))
            sleep_us(1000);
    } else if (span != first) {
        await_flag(&deeds_done, before + 1);
    }
}

static void who_waits_is_let_in_between_spans(void **unused)
{
    trim_and(let_worker_go_on);
}

static _Atomic uint32_t other_rounds, begun, enough;

static void *visit_all(void *unused)
{
    await_flag(&begun, 1);
    while (!sh_load_acquire(&enough)) {
        sh_reclaim_idle();
        sh_add_seq_cst(&other_rounds, 1u);
        sleep_us(100);
    }
    return NULL;
}

/* Another begins a round, and the thread that is visited does not stay idle. */
static void let_all_go_on(const struct sh_span *span)
{
    uint32_t before = sh_load_acquire(&other_rounds);
    set_flag(&begun, 1);
    while (purges % 64 == 1 && sh_load_acquire(&other_rounds) - before < 2)
        sleep_us(100);
    sh_add_relaxed(&idle_cache->entered, 1u);
    MUST(purges < 2 * COUNT / KEPT);
}

static void a_round_ends(void **unused)
{
    pthread_t other = start(visit_all, NULL);
    trim_and(let_all_go_on);
    sh_store_release(&enough, 1u);
    join(other);
}

/* malloc_trim does not wait for anybody to be idle. */
static void trimming_visits_all(void **unused)
{
    tell_and_wait(ALLOCATE);
    size_t before = used_pages();
    free_but_each(0);
    sh_heap_trim();
    assert_true(used_pages() < before / 10);
}

/* ---- Caches that threads left ---- */

static void *allocate_and_end(void *unused)
{
    allocate();
    return NULL;
}

static void what_ended_threads_left_is_given_back(void **unused)
{
    dissolve_caches();
    size_t before = used_pages();
    join(start(allocate_and_end, NULL));
    size_t between = used_pages();
    free_but_each(0);
    reclaim_after(DECAY / 4 - 1);
    assert_true(used_pages() >= between);
    assert_true(sh_reclaim_waits());
    reclaim_after(2);
    assert_true(used_pages() < before + (between - before) / 10);
    assert_false(sh_cache_any_idle());
}

/* Nor is it lost what is freed after that. */
static void the_shared_inbox_is_looked_at(void **unused)
{
    join(start(allocate_and_end, NULL));
    size_t before = used_pages();
    reclaim_after(DECAY);
    assert_false(sh_cache_any_idle());
    free_but_each(0);
    assert_non_null(sh_load_relaxed(&sh_shared_cache.inbox));
    assert_true(sh_reclaim_waits());
    reclaim_after(1);
    assert_null(sh_load_relaxed(&sh_shared_cache.inbox));
    assert_true(used_pages() < before / 10);
}

/* Where there is no background thread, by who frees. */
static void threads_that_come_by_do_it(void **unused)
{
    join(start(allocate_and_end, NULL));
    reclaim_after(DECAY);
    size_t before = used_pages();
    for (size_t i = 0; i < COUNT; i++) {
        now += MS;
        sh_free(at[i]);
    }
    assert_true(used_pages() < before / 5);
}

#define WORKER_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, with_worker, without_worker)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORKER_TEST(what_others_freed_is_given_back),
        WORKER_TEST(who_is_active_is_left_alone),
        WORKER_TEST(who_is_in_a_slow_path_is_left_alone),
        WORKER_TEST(a_visitor_is_waited_for),
        WORKER_TEST(pages_without_a_live_cell_are_purged),
        WORKER_TEST(what_is_freed_after_trimming_waits),
        WORKER_TEST(without_a_fence_nobody_is_visited),
        WORKER_TEST(who_waits_is_let_in_between_spans),
        WORKER_TEST(a_round_ends),
        WORKER_TEST(trimming_visits_all),
        cmocka_unit_test(what_ended_threads_left_is_given_back),
        cmocka_unit_test(the_shared_inbox_is_looked_at),
        cmocka_unit_test(threads_that_come_by_do_it),
        WORKER_TEST(users_areas_are_not_purged),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
