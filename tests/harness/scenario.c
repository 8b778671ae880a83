/* SPDX-License-Identifier: MIT */
/* The table of scenarios. See scenario.h. */
#include "tests/harness/scenario.h"

#include "tests/harness/plant.h"
#include "tests/harness/settings.h"

const struct scenario scenarios[] = {
    {"own", "make, verify, resize, free and drop in the thread's own places", 4000,
        false, run_own},
    {"shared", "the same in slots of all threads: frees across threads", 3000, false,
        run_shared},
    {"graph", "objects that hold objects: make, verify, cut, drop", 800, false,
        run_graph},
    {"burst", "many of one size, freed in another order", 40, false, run_burst},
    {"edges", "sizes 0 and too large, NULL, pointers that are no object's", 1, false,
        run_edges},
    {"collect", "gc_collect", 3, false, run_collect},
    {"phases", "gc_collect_start, roots of the program's own, gc_collect_end", 2, true,
        run_phases},
    {"lock", "gc_lock, nested; frees that are put off", 60, true, run_lock},
    {"info", "gc_info and statistics, which must agree with themselves", 10, true,
        run_info},
    {"dump", "the heap as text", 1, true, run_dump},
    {"area", "gc_add of memory of the program's", 2, true, run_area},
    {"pacing", "automatic collections off and on, thresholds", 10, true, run_pacing},
    {"blocking", "gc_blocking_begin and _end around a wait", 30, true, run_blocking},
    {"coroutine", "a stack that any thread goes on with, and that alone holds objects",
        60, false, run_coroutine},
    {"weak", "references that give their object or NULL, and call back once", 100, true,
        run_weak},
    {"ephemeron", "values that are there while their keys live", 40, true,
        run_ephemeron},
    {"map", "weak maps, which others change meanwhile and go over", 40, true, run_map},
    {"finalise", "finalisers on demand, in the library's thread, at once", 20, true,
        run_finalise},
    {"finalize", "callbacks that come once, or are called off", 40, true, run_finalize},
    {"root", "root slots and callbacks, tagged and boxed words", 40, true, run_root},
    {"thread", "a thread that is given an object and gives others back", 20, false,
        run_thread},
    {"cancel", "a thread that is cancelled while it has objects", 6, false, run_cancel},
    {"end", "the thread ends, and the lane's next goes on", 15, false, run_end},
    {"fork", "a child that verifies, allocates, collects and makes a thread", 1, false,
        run_fork},
    {"exec", "posix_spawn, vfork and execve, vfork and _exit", 2, false, run_exec},
    {"module", "dlopen and dlclose of a library whose data holds objects", 4, false,
        run_module},
    {"signal", "a handler interrupts the thread, on an alternate stack", 20, false,
        run_signal},
    {"stranger", "a thread of the C library's own, which alone holds an object", 4,
        false, run_stranger},
    {"jump", "setjmp and longjmp, out of frames, collections and finalisers", 10, false,
        run_jump},
};

const unsigned scenario_count = sizeof scenarios / sizeof scenarios[0];

_Static_assert(
    sizeof scenarios / sizeof scenarios[0] <= SCENARIOS_MAX, "all have room");

_Atomic uint64_t scenario_runs[SCENARIOS_MAX];

static unsigned choose(struct random *random)
{
    size_t sum = 0;
    for (unsigned i = 0; i < scenario_count; i++)
        sum += settings.weights[i];
    size_t dice = random_below(random, sum);
    for (unsigned i = 0; i < scenario_count; i++) {
        if (dice < settings.weights[i])
            return i;
        dice -= settings.weights[i];
    }
    return 0;
}

void scenario_run_one(struct worker *worker)
{
    unsigned i = choose(&worker->random);
    sh_store_relaxed(&worker->lane->scenario, scenarios[i].name);
    if (plant_now(PLANT_HANG))
        for (;;)
            own_sleep_us(1000000);
    if (plant_now(PLANT_CRASH))
        *(volatile char *)(uintptr_t)(worker->lane->number + 8) = 0;
    scenarios[i].run(worker);
    sh_add_relaxed(&scenario_runs[i], (uint64_t)1);
}
