/* SPDX-License-Identifier: MIT */
/* Scenarios of threads, processes, signals and modules. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/helper.h"
#include "tests/harness/object.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

extern char **environ;

/* ---- A thread that is given an object and gives others back ---- */

#define BACK 4

/* malloc'd: all that holds these objects while neither thread does. */
struct box {
    struct lane *lane;
    uint64_t chance;
    void *given;
    void *back[BACK];
    _Atomic uint32_t done;
};

static void use_box(struct box *box)
{
    struct worker worker = {.lane = box->lane, .random = {box->chance}};
    my_lane_is(box->lane);
    helper_register();
    worker.places[PLACE_STACK] = (struct place){NULL, 0};
    if (box->given) {
        struct entry *entry = object_entry(box->given);
        object_verify(entry);
        object_free(&worker, entry);
        box->given = NULL;
    }
    for (size_t i = 0; i < BACK; i++)
        box->back[i] = object_make(&worker, wish_any(&worker.random));
}

static void *live_joined(void *box)
{
    use_box(box);
    return NULL;
}

static void *live_detached(void *arg)
{
    struct box *box = arg;
    use_box(box);
    sh_store_release(&box->done, 1u); /* pairs with the wait below */
    own_wake(&box->done);
    return NULL;
}

static int live_c11(void *box)
{
    use_box(box);
    return 0;
}

static bool start_detached(struct worker *worker, struct box *box)
{
    pthread_t thread;
    if (!helper_start(&thread, live_detached, box, &worker->random))
        return false;
    pthread_detach(thread);
    while (!sh_load_acquire(&box->done))
        own_wait(&box->done, 0, 100);
    return true;
}

static bool start_joined(struct worker *worker, struct box *box)
{
    pthread_t thread;
    if (!helper_start(&thread, live_joined, box, &worker->random))
        return false;
    helper_join(thread);
    return true;
}

/* The thread sanitizer knows no thrd_create. */
static bool start_c11(struct box *box)
{
    thrd_t thread;
    if (SH_TSAN || thrd_create(&thread, live_c11, box) != thrd_success)
        return false;
    sh_add_relaxed(&threads_created, (uint64_t)1);
    thrd_join(thread, NULL);
    return true;
}

/* The objects go on into shared slots, or go. */
static void take_back(struct worker *worker, struct box *box)
{
    for (size_t i = 0; i < BACK; i++) {
        if (!box->back[i])
            continue;
        struct entry *entry = object_entry(box->back[i]);
        struct slot *slot = &shared_slots[random_below(&worker->random, SHARED_SLOTS)];
        object_verify(entry);
        bool mine = slot_try(slot);
        if (mine && !slot->object)
            slot->object = box->back[i];
        else
            object_free(worker, entry);
        if (mine)
            slot_leave(slot);
        box->back[i] = NULL;
    }
}

void run_thread(struct worker *worker)
{
    struct box *box = backend->calloc(1, sizeof *box);
    if (!box)
        return;
    box->lane = worker->lane;
    box->chance = random_next(&worker->random);
    box->given = object_make(worker, wish_any(&worker->random));
    size_t way = random_below(&worker->random, 4);
    bool started = way == 0   ? start_detached(worker, box)
                   : way == 1 ? start_c11(box)
                              : start_joined(worker, box);
    if (!started && box->given)
        object_free(worker, object_entry(box->given));
    take_back(worker, box);
    backend->free(box);
}

/* ---- Cancellation ---- */

#define DOOMED 6

struct doomed {
    struct lane *lane;
    uint64_t chance;
    struct worker worker;
    void *objects[DOOMED];
    _Atomic uint32_t ready;
    bool asynchronous;
};

static void clean_up(void *arg)
{
    struct doomed *doomed = arg;
    for (size_t i = 0; i < DOOMED; i++)
        if (doomed->objects[i]) {
            struct entry *entry = object_entry(doomed->objects[i]);
            object_verify(entry);
            object_free(&doomed->worker, entry);
            doomed->objects[i] = NULL;
        }
}

static void wait_for_the_end(struct doomed *doomed)
{
    volatile unsigned turns = 0;
    if (doomed->asynchronous)
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    sh_store_release(&doomed->ready, 1u);
    while (doomed->asynchronous)
        turns++;
    struct timespec while_asleep = {0, 1000000};
    for (;;)
        if (SH_TSAN) { /* whose nanosleep is not to be unwound */
            own_sleep_us(1000);
            pthread_testcancel();
        } else {
            nanosleep(&while_asleep, NULL);
        }
}

/* Its objects lie on its stack, and its cleanup handler finds them. */
static void *live_doomed(void *arg)
{
    struct doomed *doomed = arg;
    my_lane_is(doomed->lane);
    helper_register();
    pthread_cleanup_push(clean_up, doomed);
    for (size_t i = 0; i < DOOMED; i++)
        doomed->objects[i] =
            object_make(&doomed->worker, wish_any(&doomed->worker.random));
    wait_for_the_end(doomed);
    pthread_cleanup_pop(1);
    return NULL;
}

void run_cancel(struct worker *worker)
{
    struct doomed doomed = {.lane = worker->lane};
    doomed.worker = (struct worker){.lane = worker->lane};
    doomed.worker.random.state = random_next(&worker->random);
    doomed.asynchronous = !HELPER_SANITIZED && random_below(&worker->random, 2);
    pthread_t thread;
    if (!helper_start(&thread, live_doomed, &doomed, &worker->random))
        return;
    while (!sh_load_acquire(&doomed.ready))
        own_sleep_us(100);
    own_sleep_us((unsigned)random_below(&worker->random, 1000));
    pthread_cancel(thread);
    if (helper_join(thread) != PTHREAD_CANCELED)
        fail("thread", NULL, "a cancelled thread came to another end");
}

/* ---- The thread's own end ---- */

void run_end(struct worker *worker)
{
    worker->last = my_operation();
    worker->end = (enum end)random_below(&worker->random, ENDS);
    if (random_below(&worker->random, 2))
        helper_leave_specific(worker);
}

/* ---- Processes ---- */

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
    if (!HELPER_SANITIZED) /* a sanitizer's locks are not freed in a child */
        run_thread(worker);
    verify_all(worker);
    collect();
    verify_all(worker);
    _exit(0);
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

void run_exec(struct worker *worker)
{
    static char *const words[] = {(char *)"true", NULL};
    pid_t child;
    HELPER_EYES_SHUT_BEGIN();
    int error = posix_spawnp(&child, "true", NULL, NULL, words, environ);
    HELPER_EYES_SHUT_END();
    if (error == 0)
        expect_success(child, "a spawned program");
    else if (error != ENOENT && !settings_memory_is_short())
        fail("fork", NULL, "posix_spawn failed: error %d", error);
    (void)worker;
}

/* ---- Modules ---- */

/* Libraries that every GNU system has, and few programs have loaded. */
static const char *const modules[] = {"libresolv.so.2", "libthread_db.so.1",
    "libBrokenLocale.so.1", "libutil.so.1", "libanl.so.1", "libnss_files.so.2"};

void run_module(struct worker *worker)
{
    size_t i = random_below(&worker->random, sizeof modules / sizeof modules[0]);
    /* The thread sanitizer's allocator fails on what the loader frees for it. */
    void *module = SH_TSAN ? NULL : dlopen(modules[i], RTLD_NOW | RTLD_LOCAL);
    if (!module)
        return;
    own_slot_use(worker, &worker->places[PLACE_STACK].slots[0]);
    dlclose(module);
}

/* ---- Signals ---- */

/* While the handler runs, its frame on the alternate stack holds the object. */
static _Thread_local void *volatile *interrupted;

void helper_handler(int signal)
{
    (void)signal;
    int error = errno;
    void *volatile *slot = interrupted;
    if (slot) {
        void *volatile held = *slot;
        *slot = NULL;
        own_sleep_us(500);
        *slot = held;
    }
    errno = error;
}

void run_signal(struct worker *worker)
{
    struct place *place = &worker->places[PLACE_STACK];
    void **slot = &place->slots[random_below(&worker->random, place->count)];
    interrupted = slot;
    pthread_kill(pthread_self(), HELPER_SIGNAL);
    interrupted = NULL;
    if (*slot && !object_entry(*slot)->in_graph)
        object_verify(object_entry(*slot));
}
