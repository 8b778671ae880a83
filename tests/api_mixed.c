/* SPDX-License-Identifier: MIT */
/*
 * Both faces at once, as it comes: threads allocate, free, resize, lock, collect and end,
 * and free each other's objects. Objects are handed over through slots that all share;
 * whoever takes one out looks whether all of it is as it was filled. Two that overlapped
 * would spoil each other.
 *
 * The seed is fixed; MIXED_SEED gives another. What the threads make of it is different
 * each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/heap.h"

#define SLOTS 2048
#define THREADS 5
#define DEEDS 120000
#define LIVES 4

static struct {
    _Atomic uint32_t busy;
    unsigned char *p;
    size_t size;
    unsigned seed;
    bool collected;
} slots[SLOTS];

static size_t some_size(struct random *random)
{
    switch (random_below(random, 40)) {
    case 0:
        return 1 + random_below(random, 100000);
    case 1:
    case 2:
        return 1 + random_below(random, 32768);
    case 3:
    case 4:
    case 5:
        return 1 + random_below(random, 4096);
    default:
        return 1 + random_below(random, 256);
    }
}

/* What fill wrote may look like pointers: at most it keeps some garbage. */
static void *make(struct random *random, size_t size, bool *collected)
{
    unsigned kind = (unsigned)random_below(random, 4);
    *collected = kind < 2;
    void *p = kind == 0   ? gc_alloc(size, 0)
              : kind == 1 ? gc_alloc(size, GC_ALLOC_FLAG_LEAF)
              : kind == 2 ? sh_calloc(1, size)
                          : sh_malloc(size);
    MUST(p);
    if (kind == 0 || kind == 2)
        MUST(all_zero(p, size));
    return p;
}

static void refill(size_t i, void *p, size_t size, struct random *random)
{
    slots[i].p = p;
    slots[i].size = size;
    slots[i].seed = (unsigned)random_next(random);
    fill(p, size, slots[i].seed);
}

static void check(size_t i)
{
    MUST(filled(slots[i].p, slots[i].size, slots[i].seed));
    MUST(gc_nbytes(slots[i].p) >= slots[i].size);
}

static void resize(size_t i, struct random *random)
{
    size_t size = some_size(random), old = slots[i].size;
    void *p = slots[i].collected ? gc_realloc(slots[i].p, size, true)
                                 : sh_realloc(slots[i].p, size);
    MUST(p && filled(p, sh_min(old, size), slots[i].seed));
    refill(i, p, size, random);
}

/* Either face frees what the other made. */
static void drop(size_t i, struct random *random)
{
    void *p = slots[i].p;
    slots[i].p = NULL;
    switch (random_below(random, 8)) {
    case 0: /* a collection may have it, or nobody */
        if (slots[i].collected)
            return;
        sh_free(p);
        return;
    case 1:
        gc_lock();
        gc_free(p);
        gc_unlock();
        return;
    case 2:
        gc_free(p);
        return;
    default:
        sh_free(p);
    }
}

static void use_slot(size_t i, struct random *random)
{
    if (sh_exchange_acquire(&slots[i].busy, 1u))
        return;
    if (!slots[i].p) {
        size_t size = some_size(random);
        refill(i, make(random, size, &slots[i].collected), size, random);
    } else {
        check(i);
        if (random_below(random, 10) == 0)
            resize(i, random);
        else
            drop(i, random);
    }
    sh_store_release(&slots[i].busy, 0u); /* pairs with the exchange above */
}

/* Now all over the slots, now some of them again and again: cells that stay warm. */
static void *live(void *seed)
{
    struct random random = {.state = (uint64_t)(uintptr_t)seed | 1};
    size_t deeds = DEEDS / LIVES;
    /* Where pthread_create is another's, a thread's first deed may be to take an object
     * out of a slot, and then its stack alone holds it. */
    MUST(gc_thread_register() == 0);
    while (deeds > 0) {
        size_t from = random_below(&random, SLOTS - 64),
               burst = random_below(&random, 400);
        bool near = random_below(&random, 2);
        for (; burst > 0 && deeds > 0; burst--, deeds--)
            use_slot(
                near ? from + random_below(&random, 64) : random_below(&random, SLOTS),
                &random);
        if (random_below(&random, 100) == 0)
            gc_collect();
    }
    return NULL;
}

static void *beget(void *seed)
{
    struct random random = {.state = (uint64_t)(uintptr_t)seed | 1};
    for (int i = 0; i < LIVES; i++)
        in_thread(live, (void *)(uintptr_t)random_next(&random));
    return NULL;
}

static void nothing_overlaps_and_nothing_is_lost(void **unused)
{
    const char *text = getenv("MIXED_SEED");
    struct random random = {.state = (text ? strtoull(text, NULL, 0) : 20260101) | 1};
    pthread_t threads[THREADS];
    /* The heap begins before them: its fast paths do not ask whether its tables are made,
     * which the thread sanitizer holds against them. */
    MUST(gc_thread_register() == 0);
    for (size_t i = 0; i < THREADS; i++)
        threads[i] = start(beget, (void *)(uintptr_t)random_next(&random));
    for (size_t i = 0; i < THREADS; i++)
        join(threads[i]);
    gc_collect();
    for (size_t i = 0; i < SLOTS; i++) {
        if (!slots[i].p)
            continue;
        check(i);
        sh_free(slots[i].p);
        slots[i].p = NULL;
    }
    gc_collect();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_overlaps_and_nothing_is_lost),
    };
    return run_on_clean_stack(tests, NULL, NULL);
}
