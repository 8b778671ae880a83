/* SPDX-License-Identifier: MIT */
/*
 * Eight threads allocate, free across threads, end and are born, another collects, and
 * two fork all the while; each child uses its heap, and verifies what it inherited.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "tests/stress.h"

#define THREADS 8
#define SLOTS 512

struct object {
    size_t bytes;
    uint32_t seed;
    unsigned char rest[];
};

struct slot {
    _Atomic uint32_t busy;
    struct object *object;
};

static struct slot slots[SLOTS];
static _Atomic size_t deeds, forks, collections;

static void verify(const struct object *object)
{
    if (!object)
        return;
    MUST(gc_nbytes(object) >= object->bytes);
    MUST(filled(object->rest, object->bytes - sizeof *object, object->seed));
}

static struct object *make(struct random *random)
{
    size_t bytes = sizeof(struct object) +
                   random_below(random, random_below(random, 50) ? 500 : 100000);
    struct object *object =
        random_below(random, 2) ? sh_malloc(bytes) : gc_alloc(bytes, 0);
    MUST(object);
    object->bytes = bytes;
    object->seed = (uint32_t)random_next(random);
    fill(object->rest, bytes - sizeof *object, object->seed);
    return object;
}

static void use_slot(struct random *random)
{
    struct slot *slot = &slots[random_below(random, SLOTS)];
    if (sh_exchange_acquire(&slot->busy, 1u))
        return;
    verify(slot->object);
    if (slot->object)
        gc_free(slot->object);
    slot->object = random_below(random, 2) ? make(random) : NULL;
    sh_store_release(&slot->busy, 0u); /* pairs with the exchange above */
    sh_add_relaxed(&deeds, 1u);
}

static void *live(void *unused)
{
    struct random random = {.state = next_seed()};
    MUST(gc_thread_register() == 0);
    for (size_t i = 0; i < 3000 && !sh_load_relaxed(&over); i++)
        use_slot(&random);
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
        sleep_us(2000);
    }
    return NULL;
}

/* Slots that somebody was at are left alone. */
static void be_a_child(void)
{
    struct random random = {.state = next_seed()};
    for (size_t i = 0; i < SLOTS; i++)
        if (!sh_exchange_acquire(&slots[i].busy, 1u)) {
            verify(slots[i].object);
            sh_store_release(&slots[i].busy, 0u);
        }
    for (size_t i = 0; i < 300; i++)
        use_slot(&random);
    gc_collect();
    for (size_t i = 0; i < 300; i++)
        use_slot(&random);
#if SH_INTERPOSE /* a sanitizer's locks are not freed in a child */
    over = false;
    in_thread(live, NULL);
#endif
    gc_collect();
    _exit(0);
}

static void *beget_children(void *unused)
{
    MUST(gc_thread_register() == 0);
    while (!sh_load_relaxed(&over)) {
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0)
            be_a_child();
        int status;
        MUST(waitpid(pid, &status, 0) == pid);
        if (status != 0)
            fprintf(stderr, "a child ended with status %#x\n", (unsigned)status);
        MUST(status == 0);
        sh_add_relaxed(&forks, 1u);
    }
    return NULL;
}

static bool has_done_enough(void)
{
    return sh_load_relaxed(&forks) > 0 && sh_load_relaxed(&collections) > 0;
}

int main(void)
{
    uint64_t seconds = begin_stress();
    pthread_t threads[THREADS], collector = start(collect, NULL);
    pthread_t parents[2] = {start(beget_children, NULL), start(beget_children, NULL)};
    for (size_t i = 0; i < THREADS; i++)
        threads[i] = start(beget, NULL);
    run_until_over(seconds, has_done_enough);
    for (size_t i = 0; i < THREADS; i++)
        join(threads[i]);
    join(parents[0]);
    join(parents[1]);
    join(collector);
    for (size_t i = 0; i < SLOTS; i++)
        verify(slots[i].object);
    printf("%zu deeds, %zu forks, %zu collections\n", deeds, forks, collections);
    MUST(has_done_enough()); /* how many is the machine's affair */
    return 0;
}
