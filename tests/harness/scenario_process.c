/* SPDX-License-Identifier: MIT */
/* Scenarios of processes: fork, posix_spawn, vfork; what children do, and how they end. */
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "lib/compiler.h"
#include "tests/harness/backend.h"
#include "tests/harness/content.h"
#include "tests/harness/fault.h"
#include "tests/harness/helper.h"
#include "tests/harness/hooks.h"
#include "tests/harness/object.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

extern char **environ;

/* ---- A child that goes on ---- */

static void keep_place(struct place *place)
{
    for (size_t i = 0; i < place->count; i++)
        ledger_fork_child_keep(place->slots[i]);
}

/* What is held here: by this thread, by lanes' memory and by static data. */
static void keep_what_is_held(struct worker *worker)
{
    ledger_fork_child_begin();
    for (int i = 0; i < PLACES; i++)
        keep_place(&worker->places[i]);
    for (unsigned i = 0; i <= settings.threads; i++)
        for (int k = 0; k < KEPT_PLACES; k++)
            keep_place(&lanes[i].kept[k]);
    for (size_t i = 0; i < SHARED_SLOTS; i++)
        ledger_fork_child_keep(shared_slots[i].object);
    ledger_fork_child_end();
}

static void verify_all(struct worker *worker)
{
    for (int k = 0; k < PLACES; k++)
        for (size_t i = 0; i < worker->places[k].count; i++)
            slot_verify(worker->places[k].slots[i]);
    for (size_t i = 0; i < SHARED_SLOTS; i++)
        if (slot_try(&shared_slots[i])) {
            slot_verify(shared_slots[i].object);
            slot_leave(&shared_slots[i]);
        }
}

/* ---- Where roots are left out ---- */

#define LEFT_OUT 64
#define BYTES_OF(i) (64 + 24 * (i))

static SH_NOINLINE void make_objects(void **slots, uintptr_t *hidden)
{
    for (size_t i = 0; i < LEFT_OUT; i++) {
        if (!(slots[i] = backend->gc_alloc(BYTES_OF(i), 0)))
            _exit(0); /* no memory: where there may be none */
        hidden[i] = hide(slots[i]);
        content_fill(slots[i], 0, BYTES_OF(i), i + 1);
    }
}

static void check_objects(void **slots, const uintptr_t *hidden, const char *where)
{
    size_t at;
    for (size_t i = 0; i < LEFT_OUT; i++)
        if (slots[i] != reveal(hidden[i]) ||
            backend->gc_nbytes(slots[i]) < BYTES_OF(i) ||
            !content_is(slots[i], 0, BYTES_OF(i), BYTES_OF(i), i + 1, &at))
            fail("roots", NULL, "what %s holds is lost, where others are left out",
                where);
}

static void check_gone(const uintptr_t *hidden, const char *where)
{
    size_t there = 0;
    for (size_t i = 0; i < LEFT_OUT; i++)
        there += backend->gc_nbytes(reveal(hidden[i])) != 0;
    if (there > LEFT_OUT / 2)
        fail("roots", NULL, "%zu of %d objects stay that %s alone holds, left out",
            there, LEFT_OUT, where);
}

static bool set_scanning(bool stacks, bool malloced)
{
    bool stacks_before = gc_set_scan_stacks(stacks);
    bool malloced_before = gc_set_scan_malloc(malloced);
    return stacks_before && malloced_before;
}

static SH_NOINLINE void use_stack(uintptr_t *hidden)
{
    void *volatile slots[LEFT_OUT];
    make_objects((void **)(uintptr_t)slots, hidden);
}

/*
 * In a child, whose only thread knows what it holds; after all that the ledger knows was
 * verified. What it makes is held by roots that were added, and by one that is left out.
 */
static void leave_out_roots(void)
{
    uintptr_t *hidden[2] = {
        own_map(sizeof **hidden * LEFT_OUT), own_map(sizeof **hidden * LEFT_OUT)};
    void **added = own_map(sizeof *added * LEFT_OUT), **malloced;
    hooks_off();
    malloced = backend->malloc(sizeof *malloced * LEFT_OUT);
    if (!malloced || gc_add_roots(added, added + LEFT_OUT) != 0)
        return;
    make_objects(added, hidden[0]);
    use_stack(hidden[1]);
    if (!set_scanning(false, true))
        fail("roots", NULL, "stacks or malloc'd memory were no roots");
    collect();
    check_objects(added, hidden[0], "an added range");
    check_gone(hidden[1], "the stack");
    make_objects(malloced, hidden[1]);
    collect();
    check_objects(malloced, hidden[1], "malloc'd memory");
    gc_set_scan_malloc(false);
    collect();
    check_objects(added, hidden[0], "an added range");
    check_gone(hidden[1], "malloc'd memory");
    if (gc_set_scan_stacks(true) || gc_set_scan_malloc(true))
        fail("roots", NULL, "stacks or malloc'd memory were roots");
}

/* ---- Its end ---- */

/* Garbage, and what malloc'd memory comes and goes, for as long as the process lives. */
static void *use_heap_for_ever(void *unused)
{
    for (size_t i = 1; backend->collects || i < 100000; i++) {
        backend->free(backend->malloc(i % 1000));
        backend->gc_alloc(1 + i % 300, 0);
    }
    return unused;
}

/*
 * With threads at work. Not by exit or quick_exit: a thread of the parent's may have been
 * in dlclose, and glibc leaves its lock of the exit functions as it was.
 */
static _Noreturn void end_child(struct random *random)
{
    if (HELPER_SANITIZED) /* a sanitizer's locks are not freed in a child */
        _exit(0);
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (helper_start(&thread, use_heap_for_ever, NULL, random))
            pthread_detach(thread);
    }
    _exit(0);
}

static _Noreturn void be_a_child(struct worker *worker, pid_t parent)
{
    report_fork_child(parent);
    storms_fork_child();
    keep_what_is_held(worker);
    worker->lane->dropped.count = 0; /* the parent's to cross out */
    verify_all(worker);
    for (unsigned i = 0; i < 40; i++)
        run_own(worker);
    collect();
    for (unsigned i = 0; i < 40; i++)
        run_shared(worker);
    if (!HELPER_SANITIZED)
        run_thread(worker);
    verify_all(worker);
    collect();
    verify_all(worker);
    if (backend->collects)
        leave_out_roots();
    end_child(&worker->random);
}

static void expect_success(pid_t child, const char *what)
{
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        ;
    if (ended != child)
        fail("fork", NULL, "waiting for %s failed: errno %d", what, errno);
    if (status != 0)
        fail("fork", NULL, "%s ended with status %#x", what, (unsigned)status);
}

void run_fork(struct worker *worker)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0)
        be_a_child(worker, parent);
    if (child > 0)
        expect_success(child, "a child");
    else if (!settings_memory_is_short())
        fail("fork", NULL, "fork failed: errno %d", errno);
}

/* ---- Another program ---- */

static const char program[] = "/bin/true";
static char *const words[] = {(char *)"true", NULL};

static void run_spawn(void)
{
    pid_t child;
    HELPER_EYES_SHUT_BEGIN();
    int error = posix_spawn(&child, program, NULL, NULL, words, environ);
    HELPER_EYES_SHUT_END();
    if (error == 0)
        expect_success(child, "a spawned program");
    else if (!settings_memory_is_short())
        fail("fork", NULL, "posix_spawn failed: error %d", error);
}

/* The child has our memory, and this thread waits until it has its own, or ends. */
static void run_vfork(bool execute)
{
    pid_t child = vfork();
    if (child == 0) {
        if (execute)
            execve(program, words, environ);
        else
            own_sleep_us(500);
        _exit(execute);
    }
    if (child > 0)
        expect_success(child, "a child of vfork");
    else if (!settings_memory_is_short())
        fail("fork", NULL, "vfork failed: errno %d", errno);
}

void run_exec(struct worker *worker)
{
    size_t way = access(program, X_OK) == 0 ? random_below(&worker->random, 3) : 2;
    if (way == 0)
        run_spawn();
    else
        run_vfork(way == 1);
}
