/* SPDX-License-Identifier: MIT */
/* lib/meta.h: pieces are zeroed, apart, reused by size alone and left as they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>

#include <cmocka.h>

#include "lib/atomic.h"
#include "lib/bits.h"
#include "lib/meta.h"
#include "lib/os.h"
#include "tests/child.h"

#define KIB ((size_t)1024)

static bool is_all(const void *piece, unsigned char byte, size_t bytes)
{
    const unsigned char *p = piece;
    for (size_t i = 0; i < bytes; i++) {
        if (p[i] != byte)
            return false;
    }
    return true;
}

/* Sizes that no other test asks for give fresh memory. */
static void fresh_is_zeroed_and_aligned(void **unused)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 64 * KIB, 64 * KIB + 1,
        128 * KIB, 129 * KIB, 3000 * KIB};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *piece = sh_meta_alloc(sizes[i]);
        assert_non_null(piece);
        assert_int_equal((uintptr_t)piece % 64, 0);
        size_t bytes = sh_round_up(sh_max(sizes[i], 1), 64);
        assert_true(is_all(piece, 0, bytes));
        memset(piece, 0xee, bytes);
    }
}

/* Every piece keeps its own stamp while all the others get theirs. */
static void pieces_lie_apart(void **unused)
{
    enum { COUNT = 3000 };
    static unsigned char *pieces[COUNT];
    static size_t sizes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = i % 100 == 99 ? 150 * KIB : 1 + i * 37 % 5000;
        pieces[i] = sh_meta_alloc(sizes[i]);
        assert_non_null(pieces[i]);
        memset(pieces[i], (int)(i % 251), sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        assert_true(is_all(pieces[i], (unsigned char)(i % 251), sizes[i]));
    for (size_t i = 0; i < COUNT; i++)
        sh_meta_free(pieces[i], sizes[i]);
}

/* Not one byte of a freed piece changes, nor of a reused one. */
static void check_kept(size_t bytes)
{
    unsigned char *piece = sh_meta_alloc(bytes), *other = sh_meta_alloc(bytes);
    assert_non_null(piece);
    assert_non_null(other);
    memset(piece, 0xa5, bytes);
    memset(other, 0x5a, bytes);
    sh_meta_free(piece, bytes);
    sh_meta_free(other, bytes);
    assert_true(is_all(piece, 0xa5, bytes));
    assert_true(is_all(other, 0x5a, bytes));

    size_t before = sh_meta_bytes();
    unsigned char *first = sh_meta_alloc(bytes), *second = sh_meta_alloc(bytes);
    assert_true(
        (first == piece && second == other) || (first == other && second == piece));
    assert_int_equal(sh_meta_bytes(), before);
    assert_true(is_all(piece, 0xa5, bytes));
    assert_true(is_all(other, 0x5a, bytes));
    sh_meta_free(first, bytes);
    sh_meta_free(second, bytes);
}

static void reuse_keeps_contents(void **unused)
{
    check_kept(128);
    check_kept(704);
    check_kept(64 * KIB);
    check_kept(64 * KIB + 64);
    check_kept(128 * KIB + 64);
    check_kept(2048 * KIB);
}

/* 20 sizes that no other test uses, small and large in turn. */
static void reuse_is_by_exact_size(void **unused)
{
    void *pieces[20];
    size_t sizes[20];
    for (size_t i = 0; i < 20; i++) {
        sizes[i] = (i % 2 ? 200 * KIB : 20 * KIB) + i * 64;
        pieces[i] = sh_meta_alloc(sizes[i]);
        assert_non_null(pieces[i]);
    }
    for (size_t i = 0; i < 20; i++)
        sh_meta_free(pieces[i], sizes[i]);
    for (size_t i = 0; i < 20; i++) {
        size_t k = i * 7 % 20;
        assert_ptr_equal(sh_meta_alloc(sizes[k]), pieces[k]);
    }
}

/* Sizes that round up to the same multiple of 64 share a list. */
static void sizes_are_rounded(void **unused)
{
    void *piece = sh_meta_alloc(7 * KIB + 1);
    sh_meta_free(piece, 7 * KIB + 1);
    assert_ptr_equal(sh_meta_alloc(7 * KIB + 64), piece);
    sh_meta_free(piece, 7 * KIB + 33);
    assert_ptr_equal(sh_meta_alloc(7 * KIB + 2), piece);
}

static void bytes_are_counted(void **unused)
{
    size_t before = sh_meta_bytes();
    void *big = sh_meta_alloc(5 * KIB * KIB);
    assert_in_range(sh_meta_bytes() - before, 5 * KIB * KIB, 6 * KIB * KIB);
    sh_meta_free(big, 5 * KIB * KIB);
    assert_true(sh_meta_bytes() >= before + 5 * KIB * KIB);

    /* Many small ones cost about their size and a node each. */
    before = sh_meta_bytes();
    for (int i = 0; i < 40000; i++)
        assert_non_null(sh_meta_alloc(320));
    assert_in_range(sh_meta_bytes() - before, 40000 * 320 - KIB * KIB,
        40000 * (320 + 24) + 2 * KIB * KIB);
}

static void too_much(void **unused)
{
    errno = E2BIG;
    size_t before = sh_meta_bytes();
    assert_null(sh_meta_alloc(SIZE_MAX));
    assert_null(sh_meta_alloc(SIZE_MAX - 63));
    assert_null(sh_meta_alloc((size_t)1 << 47));
    assert_int_equal(sh_meta_bytes(), before);
    assert_int_equal(errno, E2BIG);
}

/* With no address space left: NULL, frees that still work, and no more memory taken. */
static void run_out(void *unused)
{
    static void *pieces[4096];
    size_t count = 0;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_AS, &none);
    while (count < 4096 && (pieces[count] = sh_meta_alloc(4 * KIB)))
        count++;
    size_t taken = sh_meta_bytes();
    bool ok = count < 4096 && !sh_meta_alloc(300 * KIB);
    for (size_t i = 0; i < count; i++)
        sh_meta_free(pieces[i], 4 * KIB);
    for (size_t i = 0; i < count; i++)
        ok = ok && sh_meta_alloc(4 * KIB);
    ok = ok && !sh_meta_alloc(4 * KIB) && sh_meta_bytes() == taken;
    _exit(ok ? CHILD_RETURNED : 1);
}

static void no_memory(void **unused)
{
    struct child child;
    child_run(&child, run_out, NULL);
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
}

/* ---- Threads ---- */

#define THREADS 4
#define ROUNDS 20000
#define LIVE 32

/* Checks that nobody else has a piece that this thread has. */
static void *churn(void *arg)
{
    uintptr_t self = (uintptr_t)arg;
    uintptr_t *live[LIVE] = {0};
    size_t sizes[LIVE] = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned k = i * 7 % LIVE;
        if (live[k]) {
            if (*live[k] != self)
                return "a piece was handed out twice";
            sh_meta_free(live[k], sizes[k]);
        }
        sizes[k] = 64 * (1 + i * i % 5) + (i % 64 == 0 ? 100 * KIB : 0);
        live[k] = sh_meta_alloc(sizes[k]);
        if (!live[k])
            return "no memory";
        *live[k] = self;
    }
    return NULL;
}

static void threads_share_it(void **unused)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) {
        void *complaint;
        pthread_join(threads[i], &complaint);
        assert_null(complaint);
    }
}

/* ---- Roots ---- */

extern char __data_start, _end; /* of the program and, linked into it, of the library */

SH_NO_SANITIZE static bool is_anywhere_in_data(uintptr_t hidden)
{
    uintptr_t at = sh_round_up((uintptr_t)&__data_start, sizeof at);
    const uintptr_t *end = (const uintptr_t *)&_end;
    for (const uintptr_t *word = (const uintptr_t *)at; word < end; word++)
        if (~*word == hidden)
            return true;
    return false;
}

/* What begins there may be an object, which would be kept for as long as the chunk lasts. */
static void the_end_of_a_chunk_is_no_root(void **unused)
{
    for (int i = 0; i < 100; i++) {
        char *piece = sh_meta_alloc(64 * KIB);
        assert_non_null(piece);
        assert_false(is_anywhere_in_data(~((uintptr_t)piece + 64 * KIB)));
    }
}

/* ---- Fork ---- */

static _Atomic int rounds;
static _Atomic bool stop;

static void *use_it(void *unused)
{
    while (!sh_load_relaxed(&stop)) {
        sh_meta_free(sh_meta_alloc(192), 192);
        sh_add_relaxed(&rounds, 1);
    }
    return NULL;
}

static void wait_for_round(int round)
{
    while (sh_load_relaxed(&rounds) < round)
        sh_os_yield();
}

/* Between the hooks no other thread is at work on the lists. */
static void prepare_shuts_out_and_parent_lets_in(void **unused)
{
    pthread_t thread;
    pthread_create(&thread, NULL, use_it, NULL);
    wait_for_round(1);
    for (int i = 0; i < 10; i++) {
        sh_meta_fork_prepare();
        sh_os_yield();
        int before = sh_load_relaxed(&rounds);
        uint64_t end = sh_os_now_ns() + 2000000;
        while (sh_os_now_ns() < end)
            sh_os_yield();
        /* One round may have been past the lock already. */
        assert_in_range(sh_load_relaxed(&rounds), before, before + 1);
        sh_meta_fork_parent();
        wait_for_round(before + 10);
    }
    sh_store_relaxed(&stop, true);
    pthread_join(thread, NULL);
}

/* What the child of a fork does, where the forking thread has called prepare. */
static void prepare_and_continue_as_child(void *unused)
{
    sh_meta_fork_prepare();
    sh_meta_fork_child();
    for (int i = 0; i < 100; i++)
        sh_meta_free(sh_meta_alloc(192), 192);
}

static void child_goes_on(void **unused)
{
    struct child child;
    child_run(&child, prepare_and_continue_as_child, NULL);
    assert_string_equal(child.text, "");
    assert_true(child_returned(&child));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_is_zeroed_and_aligned),
        cmocka_unit_test(pieces_lie_apart),
        cmocka_unit_test(reuse_keeps_contents),
        cmocka_unit_test(reuse_is_by_exact_size),
        cmocka_unit_test(sizes_are_rounded),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(too_much),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(threads_share_it),
        cmocka_unit_test(prepare_shuts_out_and_parent_lets_in),
        cmocka_unit_test(the_end_of_a_chunk_is_no_root),
        cmocka_unit_test(child_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
