/* SPDX-License-Identifier: MIT */
/*
 * What the tests of heaps/ and of the two faces share: hiding pointers from a collector
 * that believes every word, and looking at what it left.
 */
#ifndef SH_TESTS_HEAP_H
#define SH_TESTS_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <splitheap/gc.h>

#include "heaps/cache.h"
#include "heaps/malloc.h"
#include "heaps/purge.h"
#include "lib/compiler.h"
#include "tests/workers.h"

/* ---- Hiding ---- */

static inline uintptr_t hide(const void *p)
{
    return ~(uintptr_t)p;
}

static inline void *reveal(uintptr_t hidden)
{
    return (void *)~hidden;
}

/* Overwrites what calls before left below the caller's frame, and in registers. */
SH_NO_SANITIZE static SH_NOINLINE SH_UNUSED void clear_stack(void)
{
    volatile char frame[32 << 10];
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = 0;
    __builtin_unwind_init();
    SH_BARRIER();
}

/*
 * Of a test whose objects are found from stacks. In cmocka's own frame are words that it
 * never wrote, and of some a half: an int in what startup left is a pointer to anywhere in
 * 4 GiB, and kept an object of 40 MiB in a run of a hundred.
 */
#define run_on_clean_stack(tests, setup, teardown)                                     \
    (clear_stack(), cmocka_run_group_tests(tests, setup, teardown))

/* The caches of threads that ended are nobody's. */
static inline void dissolve_caches(void)
{
    sh_critical_enter();
    sh_cache_give_back(sh_cache_dissolve_idle());
    sh_critical_leave();
}

/* Of a size of its own, each time, and not where its span begins: the stack may hold stale
 * pointers to other cells. */
static SH_UNUSED void *unseen(unsigned flags)
{
    static size_t size = 400;
    size += 400;
    for (int i = 0; i < 3; i++)
        gc_alloc(size, 0);
    return gc_alloc(size, flags);
}

/* Runs it on a stack that is gone afterwards, with all that lay on it, its cache too. */
static inline void *in_thread(void *(*routine)(void *), void *arg)
{
    void *result = join(start(routine, arg));
    dissolve_caches();
    return result;
}

/* The same, and what calls left on this stack is overwritten too. */
static SH_UNUSED void *apart(void *(*routine)(void *), void *arg)
{
    void *result = in_thread(routine, arg);
    clear_stack();
    return result;
}

/* A number where a pointer is asked for. */
static SH_UNUSED void *word(uintptr_t value)
{
    return (void *)value;
}

/* A thread's cache from the start, not only once it needs one. */
static SH_UNUSED void take_cache(void)
{
    MUST(gc_thread_register() == 0);
    sh_critical_enter();
    MUST((sh_tls.self->cache = sh_cache_new()));
    sh_cache_select(sh_tls.self);
    sh_critical_leave();
}

/* ---- Time ---- */

static inline uint64_t standing_clock(void)
{
    return 0;
}

/* Nothing is purged because it is time for it. */
static SH_UNUSED void stop_time(void)
{
    sh_purge_clock = standing_clock;
}

/* ---- Objects by the batch, known to the test by hidden pointers only ---- */

#define BATCH 1000

struct batch {
    size_t size;
    unsigned flags;
    uintptr_t hidden[BATCH];
};

static SH_UNUSED void *make_batch(void *arg)
{
    struct batch *batch = arg;
    for (size_t i = 0; i < BATCH; i++) {
        void *p = gc_alloc(batch->size, batch->flags);
        MUST(p);
        batch->hidden[i] = hide(p);
    }
    return NULL;
}

/* How many are live; leaves no pointer behind. */
static SH_NOINLINE SH_UNUSED size_t count_live(const struct batch *batch)
{
    size_t live = 0;
    for (size_t i = 0; i < BATCH; i++)
        live += gc_nbytes(reveal(batch->hidden[i])) != 0;
    clear_stack();
    return live;
}

/* A word or two may look like a pointer to one of them. */
#define SLACK (BATCH / 100)

/* ---- Contents ---- */

/* All bytes are the one value. */
static inline bool uniform(const unsigned char *at, size_t bytes, unsigned char value)
{
    return bytes == 0 || (at[0] == value && memcmp(at, at + 1, bytes - 1) == 0);
}

static inline bool all_zero(const void *p, size_t bytes)
{
    return uniform(p, bytes, 0);
}

/*
 * Bytes that differ one by one at first, then stretch by stretch; of what is large only
 * the beginning of each stretch of 64 KiB.
 */
#define FILL_STEP ((size_t)256)
#define FILL_WHOLE ((size_t)64 << 10)

static inline size_t fill_next(size_t i)
{
    size_t next = i + FILL_STEP;
    return next < FILL_WHOLE ? next : sh_round_up(next, FILL_WHOLE);
}

static inline void fill(void *p, size_t bytes, unsigned seed)
{
    unsigned char *at = p;
    for (size_t i = 0; i < bytes && i < FILL_STEP; i++)
        at[i] = (unsigned char)(seed + i * 7);
    for (size_t i = FILL_STEP; i < bytes; i = fill_next(i))
        memset(at + i, (int)(seed + (i >> 8)) & 0xff, sh_min(FILL_STEP, bytes - i));
}

/* The first `bytes` of what was filled so, in a length at least that. */
static inline bool filled(const void *p, size_t bytes, unsigned seed)
{
    const unsigned char *at = p;
    for (size_t i = 0; i < bytes && i < FILL_STEP; i++)
        if (at[i] != (unsigned char)(seed + i * 7))
            return false;
    for (size_t i = FILL_STEP; i < bytes; i = fill_next(i))
        if (!uniform(
                at + i, sh_min(FILL_STEP, bytes - i), (unsigned char)(seed + (i >> 8))))
            return false;
    return true;
}

/* ---- Numbers ---- */

static inline size_t used_bytes(void)
{
    gc_info_t info;
    gc_info(&info);
    return info.used;
}

/* xorshift64*; a stress test prints where it began. */
struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545f4914f6cdd1du;
}

static inline size_t random_below(struct random *random, size_t bound)
{
    return (size_t)((random_next(random) >> 11) % bound);
}

#endif /* SH_TESTS_HEAP_H */
