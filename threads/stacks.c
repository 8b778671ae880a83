/* SPDX-License-Identifier: MIT */
/*
 * Announced stacks.
 *
 *        a stack            running                  left, told    left, not told
 *        high  ----------   frames                   frames        frames
 *                           sp of its thread -> ..   .. <- sp      ..
 *        low   ----------
 *        scanned            [its thread's sp, high)  [sp, high)    [low, high)
 *
 * Which stacks run is seen when the world stands, from where the threads stand; no store
 * of the program's can get that wrong. What gc_stack_switch stores only says how much of
 * a stack that nobody runs on is live. Coming onto a stack takes that back, so that who
 * leaves it without telling makes the scan longer, not wrong.
 *
 * A stack in a collected or malloc'd cell is scanned as that cell, if that is reached,
 * and not here.
 *
 * Locks: SH_RANK_ROOTS, for the list. `sp` is written by the threads that switch.
 */
#include "threads/stacks.h"

#include <errno.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/meta.h"
#include "threads/registry.h"
#include "threads/static_roots.h"

struct gc_stack {
    uintptr_t low, high;  /* both 0: not announced any more */
    _Atomic uintptr_t sp; /* 0: not known */
    bool entered;         /* the collector's: a thread is on it */
    struct gc_stack *next, *prev;
};

/* Records that were removed are used for stacks only, so that one which is used after its
 * end is known for what it is, for as long as no other stack has it. */
static struct gc_stack *first, *removed; /* lock */

/* ---- The list ---- */

static void link_stack(struct gc_stack *stack)
{
    stack->prev = NULL;
    stack->next = first;
    if (first)
        first->prev = stack;
    first = stack;
}

static void unlink_stack(struct gc_stack *stack)
{
    if (stack->prev)
        stack->prev->next = stack->next;
    else
        first = stack->next;
    if (stack->next)
        stack->next->prev = stack->prev;
}

static struct gc_stack *new_record(void)
{
    struct gc_stack *stack = removed;
    if (!stack)
        return sh_meta_alloc(sizeof *stack);
    removed = stack->next;
    return stack;
}

struct gc_stack *sh_stacks_add(void *start, void *end)
{
    uintptr_t low = sh_round_up((uintptr_t)start, sizeof(void *));
    uintptr_t high = sh_round_down((uintptr_t)end, sizeof(void *));
    if (!start || low >= high || low < (uintptr_t)start) {
        errno = EINVAL;
        return NULL;
    }
    sh_roots_enter();
    struct gc_stack *stack = new_record();
    if (stack) {
        *stack = (struct gc_stack){.low = low, .high = high};
        link_stack(stack);
    }
    sh_roots_leave();
    if (!stack)
        errno = ENOMEM;
    return stack;
}

void sh_stacks_remove(struct gc_stack *stack)
{
    sh_roots_enter();
    bool announced = stack->high != 0;
    if (announced) {
        unlink_stack(stack);
        stack->low = stack->high = 0;
        stack->next = removed;
        removed = stack;
    }
    sh_roots_leave();
    if (!announced)
        sh_misused("gc_stack_remove(%p): it was removed already", (void *)stack);
}

/* ---- Switching ---- */

/* Below who calls gc_stack_switch: what it calls to switch saves registers there. */
#define ROOM 1024

void sh_stacks_switch(struct gc_stack *from, struct gc_stack *to, uintptr_t here)
{
    struct sh_thread *self = sh_tls.self;
    if (from) {
        bool on_it = here - ROOM >= from->low && here < from->high;
        sh_store_relaxed(&from->sp, on_it ? here - ROOM : 0);
    } else if (self) {
        sh_store_relaxed(&self->left_sp, here - ROOM);
    }
    if (to)
        sh_store_relaxed(&to->sp, 0);
    else if (self)
        sh_store_relaxed(&self->left_sp, 0);
}

/* ---- Scanning ---- */

uintptr_t sh_stacks_enter(uintptr_t sp)
{
    uintptr_t end = 0;
    sh_roots_enter();
    for (struct gc_stack *stack = first; stack && !end; stack = stack->next) {
        if (sp < stack->low || sp >= stack->high)
            continue;
        stack->entered = true;
        sh_store_relaxed(&stack->sp, 0); /* out of date */
        end = stack->high;
    }
    sh_roots_leave();
    return end;
}

static bool is_a_cell(const struct gc_stack *stack)
{
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    return heap->holds && heap->holds(stack->low);
}

static void scan(struct gc_stack *stack, sh_range_fn *visit, void *context)
{
    uintptr_t sp = sh_round_down(sh_load_relaxed(&stack->sp), sizeof(void *));
    bool entered = stack->entered;
    stack->entered = false;
    if (!entered && !is_a_cell(stack))
        visit(context, (const void *)(sp ? sp : stack->low), (const void *)stack->high);
}

void sh_stacks_scan(sh_range_fn *visit, void *context)
{
    sh_assert_held(&sh_roots_lock);
    for (struct gc_stack *stack = first; stack; stack = stack->next)
        scan(stack, visit, context);
}
