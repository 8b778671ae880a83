/* SPDX-License-Identifier: MIT */
/*
 * The roots that a thread holds: its stack and registers, its thread-local storage, an
 * alternate signal stack that it is on.
 *
 * A thread publishes one address, sp, at and above which its stack is live. Which stack
 * that is, is found out here, by the collector:
 *
 *      sp lies            is scanned
 *      on its stack       [sp, base)
 *      on its alternate   [sp, its end), and the thread's stack as far as it is mapped,
 *      signal stack       for where it was left nobody knows
 *      elsewhere          the same, the end being that of the stack which the program
 *                         announced, or else of the mapping: a coroutine's stack. Not
 *                         where the heap scans the cell by itself; the word sp is a
 *                         root, so a collected stack lives while it is run on.
 *                         Of the thread's stack only what lies above left_sp, if the
 *                         program told that it leaves it.
 *
 * A stranger that was made by hand has no stack that is known; there is what it is on.
 *
 * The order matters: an alternate stack may be an array on the thread's own. Where a
 * stack is mapped is read from the kernel when first needed; a stack's size, where
 * pthread_create was ours, mostly spares that.
 *
 * A program may have all of that left out (sh_scan_set_stacks). What it announced as
 * stacks is then scanned as far as is known of those that nobody runs on.
 *
 * Not instrumented: stacks are full of what the address sanitizer forbids to read.
 *
 * Locks: the registry's is held, the world stopped; the collector's own roots are
 * scanned in the collector alone.
 */
#include <stdbool.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/os_thread.h"
#include "threads/registry.h"
#include "threads/stacks.h"
#include "threads/stop.h"
#include "threads/strangers.h"

struct scan {
    sh_range_fn *visit;
    void *context;
};

SH_NO_SANITIZE static void visit(const struct scan *scan, uintptr_t low, uintptr_t high)
{
    if (low < high)
        scan->visit(scan->context, (const void *)low, (const void *)high);
}

/* The initial stack ends where its mapping does: setenv may write above all frames. */
SH_NO_SANITIZE static void find_mapped(struct sh_thread *thread)
{
    struct sh_range mapping = sh_os_mapped_run(thread->stack_base - 1);
    if (!mapping.high)
        sh_fatal("no mapping of thread %u's stack in /proc", (unsigned)thread->tid);
    thread->stack_low = mapping.low;
    if (thread->initial)
        thread->stack_base = mapping.high;
    else if (thread->stack_size)
        thread->stack_low =
            sh_max(mapping.low, thread->stack_base - thread->stack_size);
}

/* What is asked for on the way spares most threads the look into the kernel. */
SH_NO_SANITIZE static bool is_on_stack(struct sh_thread *thread, uintptr_t sp)
{
    if (thread->stack_low && sp >= thread->stack_low && sp < thread->stack_base)
        return true;
    if (sp < thread->stack_base && thread->stack_base - sp <= thread->stack_size)
        return true;
    find_mapped(thread);
    return sp >= thread->stack_low && sp < thread->stack_base;
}

SH_NO_SANITIZE static void scan_whole_stack(
    struct sh_thread *thread, const struct scan *scan)
{
    uintptr_t left = sh_load_relaxed(&thread->left_sp);
    if (!thread->stack_base)
        return;
    if (!left || (thread->initial && !thread->stack_low) || !is_on_stack(thread, left))
        find_mapped(thread);
    bool told = left > thread->stack_low && left < thread->stack_base;
    visit(scan, told ? left : thread->stack_low, thread->stack_base);
}

SH_NO_SANITIZE static void scan_coroutine(const struct scan *scan, uintptr_t sp)
{
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    uintptr_t end = sh_stacks_enter(sp);
    if (!heap->holds || !heap->holds(sp))
        visit(scan, sp, end ? end : sh_os_mapping(sp).high);
}

SH_NO_SANITIZE static void scan_stacks(
    struct sh_thread *thread, uintptr_t sp, const struct scan *scan)
{
    sp = sh_round_down(sp, sizeof(void *));
    if (thread->alt_high) {
        visit(scan, sp, sh_round_down(thread->alt_high, sizeof(void *)));
        scan_whole_stack(thread, scan);
    } else if (thread->stack_base && is_on_stack(thread, sp)) {
        if (thread->initial && !thread->stack_low)
            find_mapped(thread);
        sh_store_relaxed(&thread->left_sp, 0); /* out of date */
        visit(scan, sp, thread->stack_base);
    } else {
        scan_coroutine(scan, sp);
        scan_whole_stack(thread, scan);
    }
}

SH_NO_SANITIZE static void scan_thread(
    struct sh_thread *thread, const struct scan *scan)
{
    uintptr_t sp = sh_load_relaxed(&thread->stopped_sp);
    visit(scan, (uintptr_t)&thread->stopped_sp, (uintptr_t)(&thread->stopped_sp + 1));
    scan_stacks(thread, sp, scan);
    if (sh_load_relaxed(&thread->state) == SH_THREAD_HELD)
        visit(scan, (uintptr_t)thread->spilled,
            (uintptr_t)(thread->spilled + SH_SPILLED_WORDS));
    if (thread->initial) {
        struct sh_range tls = sh_os_initial_tls(thread->handle);
        visit(scan, tls.low, tls.high);
    }
}

static _Atomic bool stacks_off;

bool sh_scan_set_stacks(bool on)
{
    return !sh_exchange_seq_cst(&stacks_off, !on);
}

void sh_scan_stopped_threads(sh_range_fn *visit_range, void *context)
{
    struct scan scan = {visit_range, context};
    sh_assert_held(&sh_registry_lock);
    if (sh_load_relaxed(&stacks_off))
        return;
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next) {
        if (t != sh_tls.self && sh_load_relaxed(&t->state) != SH_THREAD_GONE)
            scan_thread(t, &scan);
    }
    for (struct sh_stranger *s = sh_strangers_first(); s; s = sh_strangers_next(s)) {
        uint32_t state = sh_load_relaxed(&s->record.state);
        if (state == SH_THREAD_PARKED || state == SH_THREAD_HELD)
            scan_thread(&s->record, &scan);
    }
}

/* Its frame lies below the caller's, into which the registers were spilled. */
SH_NO_SANITIZE static SH_NOINLINE void scan_from_here(
    struct sh_thread *self, const struct scan *scan)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    struct sh_range alt = sh_os_alt_stack(NULL, sp);
    sh_store_relaxed(&self->stopped_sp, sp);
    self->alt_low = alt.low;
    self->alt_high = alt.high;
    scan_thread(self, scan);
}

SH_NO_SANITIZE static SH_NOINLINE void spill_and_scan(
    struct sh_thread *self, const struct scan *scan)
{
    __builtin_unwind_init();
    scan_from_here(self, scan);
    SH_BARRIER();
}

/* A thread that is not registered (any more) may collect, too. In a frame of its own: what
 * it does not fill of the record is what was left on the stack, pointers perhaps. */
SH_NO_SANITIZE static SH_NOINLINE void scan_stranger(const struct scan *scan)
{
    struct sh_thread stranger;
    sh_store_relaxed(&stranger.state, SH_THREAD_RUNNING);
    sh_thread_find_stack(&stranger);
    spill_and_scan(&stranger, scan);
}

SH_NO_SANITIZE void sh_scan_self(sh_range_fn *visit_range, void *context)
{
    struct scan scan = {visit_range, context};
    if (sh_load_relaxed(&stacks_off))
        return;
    if (sh_tls.self)
        spill_and_scan(sh_tls.self, &scan);
    else
        scan_stranger(&scan);
}
