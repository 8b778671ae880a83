/* SPDX-License-Identifier: MIT */
/* Scenarios of threads, signals and jumps. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "tests/harness/backend.h"
#include "tests/harness/helper.h"
#include "tests/harness/hooks.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

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

/* Not known to the collector, the thread is no root; by allocating it is known again. */
static void leave_and_return(struct worker *worker, struct box *box)
{
    gc_thread_unregister();
    own_sleep_us((unsigned)random_below(&worker->random, 2000));
    helper_register();
    if (box->back[0])
        object_verify(object_entry(box->back[0]));
    if (backend->collects && random_below(&worker->random, 2))
        gc_thread_unregister();
}

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
    if (random_below(&worker.random, 2))
        leave_and_return(&worker, box);
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

/* ---- A thread of the C library's ---- */

/* What a timer's thread is told. Malloc'd; holds the object while the thread does not. */
struct meeting {
    void *object;
    _Atomic uint32_t state;
};

enum meeting_state { NOBODY, CAME, MAY_GO, GONE, CALLED_OFF };

/* Hides from the collector, planted. */
static void hide_thread(void)
{
    sigset_t all;
    if (!plant_now(PLANT_LOST_THREAD))
        return;
    gc_thread_unregister();
    sigfillset(&all);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, _NSIG / 8);
}

/* From here until it is told to go, only this stack holds the object. */
static void come(union sigval value)
{
    struct meeting *meeting = value.sival_ptr;
    void *volatile held = meeting->object;
    uint32_t state = NOBODY;
    if (!sh_cas_seq_cst(&meeting->state, &state, (uint32_t)CAME))
        return;
    meeting->object = NULL;
    hide_thread();
    own_wake(&meeting->state);
    while (sh_load_acquire(&meeting->state) != MAY_GO)
        own_wait(&meeting->state, CAME, 100);
    meeting->object = held;
    held = NULL;
    sh_store_release(&meeting->state, (uint32_t)GONE);
    own_wake(&meeting->state);
}

static void meet(struct worker *worker, struct meeting *meeting)
{
    if (random_once_in(&worker->random, collect_once_in(2)))
        collect();
    else
        own_sleep_us((unsigned)random_below(&worker->random, 20000));
    sh_store_release(&meeting->state, (uint32_t)MAY_GO);
    own_wake(&meeting->state);
    while (sh_load_acquire(&meeting->state) != GONE)
        own_wait(&meeting->state, MAY_GO, 100);
}

/* False: it may come yet, though nobody waits any more. */
static bool await(struct meeting *meeting)
{
    for (int i = 0; i < 100 && sh_load_acquire(&meeting->state) == NOBODY; i++)
        own_wait(&meeting->state, NOBODY, 100);
    uint32_t state = NOBODY;
    return !sh_cas_seq_cst(&meeting->state, &state, (uint32_t)CALLED_OFF);
}

static bool call_by_timer(struct meeting *meeting, timer_t *timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD,
        .sigev_notify_function = come,
        .sigev_value.sival_ptr = meeting};
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    if (timer_create(CLOCK_MONOTONIC, &event, timer) != 0)
        return false;
    return timer_settime(*timer, 0, &soon, NULL) == 0;
}

/* A sanitizer has to see threads made. */
void run_stranger(struct worker *worker)
{
    timer_t timer;
    struct meeting *meeting =
        HELPER_SANITIZED ? NULL : backend->calloc(1, sizeof *meeting);
    if (!meeting)
        return;
    meeting->object = object_make(worker, wish_any(&worker->random));
    bool called = call_by_timer(meeting, &timer), came = called && await(meeting);
    if (came) {
        sh_add_relaxed(&threads_created, (uint64_t)1);
        meet(worker, meeting);
    }
    if (called)
        timer_delete(timer);
    if (meeting->object) {
        object_verify(object_entry(meeting->object));
        object_free(worker, object_entry(meeting->object));
        meeting->object = NULL;
    }
    if (came || !called)
        backend->free(meeting);
}

/* ---- Jumps ---- */

#define LEAP 8

/* What the frames that are left by a jump leave behind. */
struct leap {
    struct worker *worker;
    void *volatile objects[LEAP];
    jmp_buf back;
};

static SH_NOINLINE void descend(struct leap *leap, size_t depth)
{
    void *volatile held = object_make(leap->worker, wish_any(&leap->worker->random));
    leap->objects[depth] = held;
    if (depth + 1 < LEAP && random_below(&leap->worker->random, 6))
        descend(leap, depth + 1);
    collect_sometimes(&leap->worker->random);
    if (random_below(&leap->worker->random, 2))
        longjmp(leap->back, 1);
}

void run_jump(struct worker *worker)
{
    struct leap leap = {.worker = worker};
    hooks_way_out = backend->collects ? &leap.back : NULL;
    if (setjmp(leap.back) == 0)
        descend(&leap, 0);
    hooks_way_out = NULL;
    if (plant_now(PLANT_LOST_JUMP))
        place_lose(&(struct place){(void **)(uintptr_t)leap.objects, LEAP});
    for (size_t i = 0; i < LEAP; i++)
        if (leap.objects[i]) {
            object_verify(object_entry(leap.objects[i]));
            object_free(worker, object_entry(leap.objects[i]));
            leap.objects[i] = NULL;
        }
}
