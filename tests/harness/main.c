/* SPDX-License-Identifier: MIT */
/*
 * splitheap-stress: random scenarios on splitheap, with every object accounted for.
 *
 *      settings    the command line          report     failures, progress, summary
 *      lane        threads, life by life     scenario   what an operation may be
 *      object      make, verify, let go      place      where pointers are kept
 *      ledger      what is known of objects  shadow     whose an address is
 *      content     what they are filled with hooks      finalisers, weak references
 *      backend     what is tested            plant      bugs on purpose
 *      fault, storm   what is made to go wrong around it
 */
#include <stdlib.h>

#include <splitheap/gc.h>

#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/helper.h"
#include "tests/harness/lane.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"
#include "tests/harness/shadow.h"
#include "tests/harness/stats.h"

/*
 * What the collector keeps lies where the leak checker does not look, pointers on fake
 * stacks where the collector does not. Alternate signal stacks are the scenarios' own.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1:"
           "use_sigaltstack=0";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1:"
           "die_after_fork=0";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "halt_on_error=1:print_stacktrace=1";
}

static void prepare(void)
{
    backend_choose();
    ledger_init();
    shadow_init();
    lanes_init();
    report_init();
    helpers_init();
    storms_prepare();
    if (backend->collects)
        gc_init(NULL, NULL);
    stats_listen();
    roots_prepare();
    if (settings.heap_limit)
        gc_set_max_heap(settings.heap_limit);
}

int main(int argc, char **argv)
{
    settings_parse(argc, argv);
    prepare();
    uint64_t began = own_now_ns();
    say(2, "splitheap-stress: seed %llu\n", (unsigned long long)settings.seed);
    faults_on();
    storms_start();
    lanes_run();
    report_expect_end("the end of the run", settings.patience);
    storms_stop();
    faults_off();
    double seconds = (double)(own_now_ns() - began) / 1e9;
    lanes_finish();
    report_summary(seconds);
    return 0;
}
