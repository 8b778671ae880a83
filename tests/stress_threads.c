/* SPDX-License-Identifier: MIT */
/*
 * Sixteen threads allocate of both faces and all kinds and sizes, resize, free across
 * threads, drop, end and are born, while one thread collects in a loop and another
 * verifies what is live.
 *
 * Objects lie in slots, each under a lock of its own, half of them in static data and
 * half in malloc'd memory; every thread has some more on its stack and in thread-local
 * storage. An object says of itself how large it is and what it is filled with, and may
 * begin a chain of others; whoever meets it verifies it.
 */
#include "tests/stress.h"

#include <errno.h>

#define THREADS 16
#define SLOTS 2048
#define CHAIN 6

/* ---- Objects ---- */

enum { ALIVE = 0x616c6976, FREED = 0x66726565, FINALISED = 0x66696e61 };

struct object {
    const struct gc_type *type; /* of what has a finaliser */
    struct object *next;        /* of SCAN and EXPLICIT ones */
    size_t bytes;
    uint32_t state, seed;
    uint32_t kind;
    unsigned char rest[];
};

enum kind { SCAN, LEAF, FINAL, EXPLICIT, KINDS };

static _Atomic size_t made, verified, freed, dropped, finalised, weak, collections;

static void verify_one(struct object *object)
{
    MUST(object->state == ALIVE);
    MUST(gc_nbytes(object) >= object->bytes);
    MUST(filled(object->rest, object->bytes - sizeof *object, object->seed));
    sh_add_relaxed(&verified, 1u);
}

static void verify(struct object *object)
{
    for (unsigned length = 0; object; object = object->next, length++) {
        MUST(length <= CHAIN);
        verify_one(object);
    }
}

static void finalise(void *p)
{
    struct object *object = p;
    verify(object);
    object->state = FINALISED;
    sh_add_relaxed(&finalised, 1u);
}

/*
 * Once of each that was marked, be it freed, moved or collected. What it leads to may
 * have been finalised by now.
 */
GC_PUBLIC void gc_weakref_about_to_be_freed(void *p)
{
    struct object *object = p;
    if (object->state == ALIVE)
        verify_one(object);
    else
        MUST(object->state == FREED || object->state == FINALISED);
    sh_add_relaxed(&weak, 1u);
}

static const struct gc_type final_type = {.finalise = finalise};

static size_t choose_bytes(struct random *random)
{
    size_t dice = random_below(random, 1000), bytes = sizeof(struct object);
    if (dice < 700)
        return bytes + random_below(random, 200);
    if (dice < 950)
        return bytes + random_below(random, 3000);
    if (dice < 995)
        return bytes + random_below(random, 40000);
    if (dice < 999)
        return bytes + random_below(random, 400000);
    return bytes + random_below(random, 40) * (1 << 20);
}

static struct object *allocate(enum kind kind, size_t bytes)
{
    if (kind == EXPLICIT)
        return sh_malloc(bytes);
    if (kind == LEAF)
        return gc_alloc(bytes, GC_ALLOC_FLAG_LEAF);
    return gc_alloc(bytes, kind == FINAL ? GC_ALLOC_FLAG_HAS_FINALISER : 0);
}

static struct object *make(struct random *random)
{
    enum kind kind = (enum kind)random_below(random, KINDS);
    size_t bytes = choose_bytes(random);
    struct object *object = allocate(kind, bytes);
    if (!object)
        return NULL;
    if (kind != LEAF && kind != EXPLICIT)
        MUST(all_zero(object, sh_min(bytes, 4096)));
    object->next = NULL;
    object->bytes = bytes;
    object->seed = (uint32_t)random_next(random);
    object->state = ALIVE;
    fill(object->rest, bytes - sizeof *object, object->seed);
    object->kind = kind;
    object->type = kind == FINAL ? &final_type : NULL;
    sh_add_relaxed(&made, 1u);
    return object;
}

/* Collected objects, from one that is scanned: only that holds the others. */
static struct object *make_chain(struct random *random)
{
    struct object *first = make(random);
    size_t length = random_below(random, CHAIN);
    for (size_t i = 0; first && i < length; i++) {
        struct object *object = gc_alloc(sizeof *object + i, 0);
        if (!object)
            break;
        *object = (struct object){.bytes = sizeof *object + i, .state = ALIVE};
        fill(object->rest, i, 0);
        object->next = first;
        first = object;
    }
    return first;
}

/*
 * What the thread did to an object comes before its reuse: for the collector it is
 * stopping that says so, which the thread sanitizer cannot see outside critical
 * sections. So there is one before the last pointer goes.
 */
static void let_go(struct object *object)
{
    sh_critical_enter();
    sh_critical_leave();
    SH_KEEP(object);
}

static void free_object(struct random *random, struct object *object)
{
    struct object *next = object->next;
    object->state = FREED;
    if (random_below(random, 2))
        gc_free(object);
    else
        sh_free(object);
    let_go(next);
    sh_add_relaxed(&freed, 1u);
}

static void free_chain(struct random *random, struct object *object)
{
    while (object) {
        struct object *next = object->next;
        free_object(random, object);
        object = next;
    }
}

static bool has_malloced(struct object *object)
{
    while (object->next)
        object = object->next;
    return object->kind == EXPLICIT;
}

static struct object *resize(struct random *random, struct object *object)
{
    size_t bytes = choose_bytes(random), old = object->bytes;
    bool move = random_below(random, 2);
    struct object *moved = gc_realloc(object, bytes, move);
    if (!moved)
        return object;
    MUST(moved->state == ALIVE && moved->bytes == old);
    size_t kept = sh_min(bytes, old) - sizeof *moved;
    MUST(filled(moved->rest, kept, moved->seed));
    moved->bytes = bytes;
    fill(moved->rest, bytes - sizeof *moved, moved->seed);
    return moved;
}

/* ---- Slots ---- */

struct slot {
    _Atomic uint32_t busy;
    struct object *object;
};

static struct slot static_slots[SLOTS / 2];
static struct slot *malloced_slots;

static struct slot *slot_at(size_t i)
{
    return i < SLOTS / 2 ? &static_slots[i] : &malloced_slots[i - SLOTS / 2];
}

static bool try_slot(struct slot *slot)
{
    return !sh_exchange_acquire(&slot->busy, 1u);
}

static void leave_slot(struct slot *slot)
{
    /* Pairs with try_slot. */
    sh_store_release(&slot->busy, 0u);
}

static void use_full(struct random *random, struct slot *slot)
{
    struct object *object = slot->object;
    verify(object);
    switch (random_below(random, 8)) {
    case 0:
    case 1:
        slot->object = NULL;
        free_chain(random, object);
        break;
    case 2:
        if (has_malloced(object))
            break;
        let_go(object);
        slot->object = NULL;
        sh_add_relaxed(&dropped, 1u);
        break;
    case 3:
        slot->object = resize(random, object);
        break;
    case 4:
        gc_weakref_mark(object);
        break;
    default:
        break;
    }
}

static void use_slot(struct random *random, struct slot *slot)
{
    if (!try_slot(slot))
        return;
    if (slot->object)
        use_full(random, slot);
    else
        slot->object = make_chain(random);
    leave_slot(slot);
}

/* ---- The threads ---- */

static SH_TLS struct object *of_thread[4];

static void use_own(struct random *random, struct object **own, size_t count)
{
    size_t i = random_below(random, count);
    if (!own[i]) {
        own[i] = make_chain(random);
        return;
    }
    verify(own[i]);
    free_chain(random, own[i]);
    own[i] = NULL;
}

static void use_lock(struct random *random)
{
    gc_lock();
    MUST(gc_is_locked() && !gc_alloc(16, 0));
    for (size_t n = random_below(random, 20); n > 0; n--)
        use_slot(random, slot_at(random_below(random, SLOTS)));
    gc_unlock();
}

static void *live(void *unused)
{
    struct random random = {.state = next_seed()};
    struct object *own[4] = {NULL, NULL, NULL, NULL};
    /* Where pthread_create is not ours, it holds pointers before it allocates. */
    MUST(gc_thread_register() == 0);
    size_t deeds = 500 + random_below(&random, 5000);
    for (size_t i = 0; i < deeds && !sh_load_relaxed(&over); i++) {
        size_t dice = random_below(&random, 1000);
        if (dice < 900)
            use_slot(&random, slot_at(random_below(&random, SLOTS)));
        else if (dice < 950)
            use_own(&random, own, 4);
        else if (dice < 990)
            use_own(&random, of_thread, 4);
        else if (dice < 992)
            use_lock(&random);
        else if (dice < 994) {
            gc_blocking_begin();
            sched_yield();
            gc_blocking_end();
        }
    }
    for (size_t i = 0; i < 4; i++) {
        verify(own[i]);
        verify(of_thread[i]);
        free_chain(&random, own[i]);
        free_chain(&random, of_thread[i]);
        of_thread[i] = NULL;
    }
    if (random_below(&random, 2))
        pthread_exit(NULL);
    return NULL;
}

static void *beget(void *unused)
{
    have_threads(live);
    return NULL;
}

static void *collect(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        gc_collect();
        sh_add_relaxed(&collections, 1u);
        if (sh_load_relaxed(&collections) % 16 == 0)
            used_bytes();
    }
    return NULL;
}

static void *check(void *unused)
{
    MUST(gc_thread_register() == 0);
    for (size_t i = 0; !sh_load_relaxed(&over); i = (i + 1) % SLOTS) {
        struct slot *slot = slot_at(i);
        if (!try_slot(slot))
            continue;
        verify(slot->object);
        leave_slot(slot);
    }
    return NULL;
}

/* ---- The run ---- */

static void free_all_slots(void)
{
    struct random random = {.state = 1};
    for (size_t i = 0; i < SLOTS; i++) {
        verify(slot_at(i)->object);
        free_chain(&random, slot_at(i)->object);
        slot_at(i)->object = NULL;
    }
}

static bool has_done_enough(void)
{
    return sh_load_relaxed(&collections) > 1 && sh_load_relaxed(&finalised) > 0 &&
           sh_load_relaxed(&dropped) > 0 &&
           sh_load_relaxed(&verified) > sh_load_relaxed(&made);
}

int main(void)
{
    uint64_t seconds = begin_stress();
    malloced_slots = sh_calloc(SLOTS / 2, sizeof *malloced_slots);
    pthread_t threads[THREADS], collector = start(collect, NULL);
    pthread_t checker = start(check, NULL);
    for (size_t i = 0; i < THREADS; i++)
        threads[i] = start(beget, NULL);
    run_until_over(seconds, has_done_enough);
    for (size_t i = 0; i < THREADS; i++)
        join(threads[i]);
    join(collector);
    join(checker);
    free_all_slots();
    gc_collect();
    printf("%zu made, %zu verified, %zu freed, %zu dropped, %zu finalised, %zu weak, "
           "%zu collections; %zu bytes left\n",
        made, verified, freed, dropped, finalised, weak, collections, used_bytes());
    MUST(has_done_enough());
    return 0;
}
