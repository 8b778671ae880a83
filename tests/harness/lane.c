/* SPDX-License-Identifier: MIT */
/* Lanes. See lane.h. */
#include "tests/harness/lane.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/helper.h"
#include "tests/harness/hooks.h"
#include "tests/harness/object.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

#define AUDIT_EVERY 256

struct lane *lanes;
_Atomic bool over;
_Atomic uint64_t threads_created, operations_done;

static SH_TLS struct lane *my;

/* The main thread is looked up where no lane is set yet. */
struct lane *my_lane(void)
{
    return my ? my : &lanes[settings.threads];
}

void my_lane_is(struct lane *lane)
{
    my = lane;
}

uint32_t my_number(void)
{
    return lanes ? my_lane()->number : 0;
}

uint64_t my_operation(void)
{
    return lanes ? sh_load_relaxed(&my_lane()->operation) : 0;
}

const char *my_scenario(void)
{
    return lanes ? sh_load_relaxed(&my_lane()->scenario) : "start";
}

void lanes_init(void)
{
    struct lane *made = own_map((settings.threads + 1) * sizeof *made);
    for (unsigned i = 0; i <= settings.threads; i++) {
        made[i].number = i;
        sh_store_relaxed(&made[i].scenario, "start");
    }
    lanes = made;
    for (unsigned i = 0; i < settings.threads; i++)
        places_make(&lanes[i]);
    coroutines_init();
    weak_init();
    finalizes_init();
}

/* ---- One at a time ---- */

/* Whose turn it is, where --replay has them take turns; drawn from the seed. */
static _Atomic uint32_t turn;
static struct random turns;

static bool is_done(struct lane *lane)
{
    return settings.operations &&
           sh_load_relaxed(&lane->operation) >= settings.operations;
}

static bool is_over(void)
{
    return sh_load_relaxed(&over);
}

/* When the time is over nobody waits: whose turn it is may have ended already. */
static void await_turn(struct lane *lane)
{
    if (!settings.replay)
        return;
    for (uint32_t now; (now = sh_load_acquire(&turn)) != lane->number && !is_over();)
        own_wait(&turn, now, 100);
}

/* To a lane that goes on, if there is one. */
static void pass_turn(void)
{
    if (!settings.replay || is_over())
        return;
    uint32_t next = (uint32_t)random_below(&turns, settings.threads);
    for (unsigned i = 0; i < settings.threads && is_done(&lanes[next]); i++)
        next = (next + 1) % settings.threads;
    sh_store_release(&turn, next); /* pairs with await_turn */
    own_wake(&turn);
}

/* ---- A life ---- */

static void begin_life(struct worker *worker, void **stack)
{
    struct lane *lane = worker->lane;
    my_lane_is(lane);
    helper_register();
    helper_alternate_stack();
    for (int i = 0; i < KEPT_PLACES; i++)
        worker->places[i] = lane->kept[i];
    worker->places[PLACE_STACK] = (struct place){stack, STACK_SLOTS};
    worker->places[PLACE_LOCAL] = place_local();
    sh_store_seq_cst(&lane->thread, (pid_t)syscall(SYS_gettid));
}

static void end_life(struct worker *worker)
{
    struct lane *lane = worker->lane;
    sh_store_relaxed(&lane->scenario, "end of a thread");
    worker->random = random_of(settings.seed, lane->number, my_operation() + 1);
    places_finish(
        worker, &worker->places[PLACE_STACK], random_below(&worker->random, 2));
    places_finish(
        worker, &worker->places[PLACE_LOCAL], random_below(&worker->random, 2));
    sh_store_seq_cst(&lane->thread, 0);
}

/* What dies at once is most of what a program with minor collections makes; and it lies
 * where something was freed. */
static SH_NOINLINE void litter(struct random *random)
{
    size_t count = random_below(random, 64);
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 1 + random_below(random, 512);
        void *p = backend->gc_alloc(bytes, 0);
        if (p)
            memset(p, 0x5a, bytes);
    }
}

static void operate(struct worker *worker)
{
    struct lane *lane = worker->lane;
    uint64_t operation = sh_load_relaxed(&lane->operation) + 1;
    sh_store_relaxed(&lane->operation, operation);
    worker->random = random_of(settings.seed, lane->number, operation);
    if (settings.minor && backend->collects)
        litter(&worker->random);
    scenario_run_one(worker);
    if (operation % AUDIT_EVERY == 0)
        object_audit(lane);
    sh_add_relaxed(&operations_done, (uint64_t)1);
}

static bool goes_on(struct worker *worker)
{
    return !worker->last && !is_over() && !is_done(worker->lane);
}

static void *live(void *arg)
{
    void *stack[STACK_SLOTS] = {NULL};
    struct worker worker = {.lane = arg};
    begin_life(&worker, stack);
    for (bool first = true; first || goes_on(&worker); first = false) {
        await_turn(worker.lane);
        if (!is_over() && !is_done(worker.lane))
            operate(&worker);
        if (goes_on(&worker))
            pass_turn();
    }
    end_life(&worker);
    pass_turn();
    sh_store_release(&worker.lane->ended, 1u); /* pairs with tend */
    if (worker.end == END_EXIT)
        pthread_exit(NULL);
    if (worker.end == END_CANCEL) {
        pthread_cancel(pthread_self());
        pthread_testcancel();
    }
    return NULL;
}

/* ---- The main thread ---- */

static void start_life(struct lane *lane)
{
    struct random random = random_of(settings.seed, lane->number, ~lane->lives);
    sh_store_relaxed(&lane->ended, 0u);
    lane->running = helper_start(&lane->handle, live, lane, &random);
    lane->lives += lane->running;
}

/* True: the lane has more to do. */
static bool tend(struct lane *lane)
{
    if (lane->running && sh_load_acquire(&lane->ended)) {
        pthread_join(lane->handle, NULL);
        lane->running = false;
    }
    if (!lane->running && !is_over() && !is_done(lane))
        start_life(lane);
    return lane->running || (!is_over() && !is_done(lane));
}

static bool tend_all(void)
{
    bool any = false;
    for (unsigned i = 0; i < settings.threads; i++)
        any |= tend(&lanes[i]);
    return any;
}

/*
 * Time by which threads are waited for. While the whole process stands (SIGSTOP, a machine
 * that sleeps, or has no time for it) no look is taken, and what is past a short while
 * between two of them does not count.
 */
#define LOOK_NS_MAX 100000000u

static uint64_t time_awake(uint64_t now)
{
    static uint64_t seen, awake = 1;
    if (seen)
        awake += sh_min(now - seen, LOOK_NS_MAX);
    seen = now;
    return awake;
}

/* A thread that does nothing for so long never will. */
static void look_for_hangs(uint64_t now)
{
    for (unsigned i = 0; i < settings.threads; i++) {
        struct lane *lane = &lanes[i];
        uint64_t operation = sh_load_relaxed(&lane->operation);
        if (operation != lane->seen_operation || !lane->seen_at || !lane->running ||
            settings.replay) {
            lane->seen_operation = operation;
            lane->seen_at = now;
        }
        if ((double)(now - lane->seen_at) > settings.patience * 1e9)
            fail("hang", NULL, "thread %u has been at operation %llu (%s) for %.0f s",
                i, (unsigned long long)operation, sh_load_relaxed(&lane->scenario),
                settings.patience);
    }
}

/* With turns, all stand when one does. */
static void look_for_standstill(uint64_t now)
{
    static uint64_t seen, at;
    uint64_t done = sh_load_relaxed(&operations_done);
    if (done != seen || !at || !settings.replay) {
        seen = done;
        at = now;
    }
    if ((double)(now - at) > settings.patience * 1e9)
        fail("hang", NULL, "nothing has moved for %.0f s", settings.patience);
}

static void show_progress(double seconds)
{
    static double shown;
    if (settings.progress <= 0 || seconds - shown < settings.progress)
        return;
    shown = seconds;
    report_progress(seconds);
}

void lanes_run(void)
{
    uint64_t began = own_now_ns();
    turns = random_of(settings.seed, ~(uint64_t)0, 0);
    while (tend_all()) {
        own_sleep_us(2000);
        uint64_t now = own_now_ns();
        double seconds = (double)(now - began) / 1e9;
        if (settings.seconds > 0 && seconds >= settings.seconds)
            sh_store_seq_cst(&over, true);
        uint64_t awake = time_awake(now);
        look_for_hangs(awake);
        look_for_standstill(awake);
        show_progress(seconds);
    }
    sh_store_seq_cst(&over, true);
}

/* ---- The end ---- */

/* How much may look as if it were held, though nothing holds it. */
#define STRAYS 256

static void *let_all_go(void *unused)
{
    struct lane *mine = my_lane();
    struct worker worker = {
        .lane = mine, .random = random_of(settings.seed, mine->number, 1)};
    hooks_close();
    finalisers_finish();
    for (unsigned i = 0; i < settings.threads; i++)
        for (int k = 0; k < KEPT_PLACES; k++)
            places_finish(&worker, &lanes[i].kept[k], k != KEPT_MALLOCED);
    shared_finish(&worker, true);
    coroutines_finish(&worker);
    return unused;
}

static size_t audit_all(void)
{
    size_t left = 0;
    for (unsigned i = 0; i <= settings.threads; i++) {
        my_lane_is(&lanes[i]);
        if (!backend->collects)
            object_free_dropped(&lanes[i]);
        left += ledger_audit(&lanes[i].dropped);
    }
    my_lane_is(&lanes[settings.threads]);
    return left;
}

/* Callbacks may let more go. */
static void *collect_all(void *left)
{
    for (int i = 0; i < 4; i++) {
        if (backend->collects) {
            gc_collect();
            gc_run_finalisers(SIZE_MAX);
        }
        *(size_t *)left = audit_all();
    }
    return NULL;
}

static void in_thread(void *(*routine)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, routine, arg) != 0)
        give_up("no thread for the end of the run");
    sh_add_relaxed(&threads_created, (uint64_t)1);
    pthread_join(thread, NULL);
}

static struct entry *first_left(void)
{
    for (unsigned i = 0; i <= settings.threads; i++)
        if (lanes[i].dropped.count)
            return ledger_entry(lanes[i].dropped.items[0].id);
    return NULL;
}

void lanes_finish(void)
{
    size_t left = 0;
    sh_store_relaxed(&lanes[settings.threads].scenario, "end of the run");
    in_thread(let_all_go, NULL);
    in_thread(collect_all, &left);
    if (left > STRAYS + settings.threads)
        fail("leak", first_left(),
            "%zu objects stay that nothing holds, of %llu dropped", left,
            (unsigned long long)sh_load_relaxed(&counts.dropped));
    if (backend->collects)
        gc_sweep_all();
    finalizes_finish();
    left = audit_all();
    if (left && backend->collects)
        fail("leak", first_left(), "%zu objects stay after gc_sweep_all", left);
    if (sh_load_relaxed(&counts.live_objects))
        fail("ledger", NULL, "%zu objects are held by nothing and were not let go",
            sh_load_relaxed(&counts.live_objects));
    for (unsigned i = 0; i < settings.threads; i++)
        places_remove(&lanes[i]);
}
