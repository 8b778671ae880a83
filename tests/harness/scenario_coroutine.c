/* SPDX-License-Identifier: MIT */
/*
 * Coroutines: stacks that threads enter, work on, and leave, with objects that only what
 * lies on the stack holds, some of them deep in it. Any thread goes on with any of them.
 * Their stacks are mapped and announced, malloc'd, or collected; some tell of every
 * switch, others of none.
 *
 *      enter, on the thread's own stack  ->  live, on the coroutine's
 *      after swapcontext                 <-  leave
 *
 * A coroutine's record lies where the library cannot see it, and its context on the stack
 * that is left, so that nothing else holds what the stack does.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <splitheap/gc.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/helper.h"
#include "tests/harness/object.h"
#include "tests/harness/plant.h"
#include "tests/harness/report.h"
#include "tests/harness/scenario.h"
#include "tests/harness/settings.h"

#define COROUTINES 24
#define FRAME_SLOTS 4
#define DEPTH_MAX 6
#define GUARD ((size_t)4096)
#define STACK_BYTES ((size_t)(HELPER_SANITIZED ? 512 : 128) << 10)

enum stack_kind { STACK_MAPPED, STACK_MALLOCED, STACK_COLLECTED };

struct coroutine {
    _Atomic uint32_t busy; /* some thread has it, which writes the rest */
    bool made, over, closing;
    bool tells; /* every switch */
    enum stack_kind kind;
    char *low;
    struct gc_stack *announced;
    ucontext_t *context;      /* where it stands; on its stack */
    ucontext_t *back;         /* where who entered it stands */
    struct worker *worker;    /* who entered it */
    void *fiber, *back_fiber; /* the thread sanitizer's */
    unsigned number;
    ucontext_t start;
};

static struct coroutine *coroutines;

/* What holds the stacks in collected memory; volatile, since nothing reads it. */
static void *volatile collected_stacks[COROUTINES];

void coroutines_init(void)
{
    coroutines = own_map(COROUTINES * sizeof *coroutines);
    for (unsigned i = 0; i < COROUTINES; i++)
        coroutines[i].number = i;
}

/* ---- What the thread sanitizer has to be told ---- */

#if SH_TSAN
void *__tsan_create_fiber(unsigned flags);
void *__tsan_get_current_fiber(void);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);

static void fiber_make(struct coroutine *self)
{
    self->fiber = __tsan_create_fiber(0);
}

static void fiber_unmake(struct coroutine *self)
{
    __tsan_destroy_fiber(self->fiber);
}

static void fiber_enter(struct coroutine *self)
{
    self->back_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(self->fiber, 0);
}

static void fiber_leave(struct coroutine *self)
{
    __tsan_switch_to_fiber(self->back_fiber, 0);
}
#else
static void fiber_make(struct coroutine *self)
{
    (void)self;
}

static void fiber_unmake(struct coroutine *self)
{
    (void)self;
}

static void fiber_enter(struct coroutine *self)
{
    (void)self;
}

static void fiber_leave(struct coroutine *self)
{
    (void)self;
}
#endif

/* ---- Switching ---- */

/* Nothing leads to the stack any more, or it is not announced. */
static void lose_stack(struct coroutine *self)
{
    if (!self->announced || !plant_now(PLANT_LOST_COROUTINE))
        return;
    collected_stacks[self->number] = NULL;
    gc_stack_remove(self->announced);
    self->announced = NULL;
    self->tells = false;
}

static SH_NOINLINE void leave(struct coroutine *self)
{
    ucontext_t here;
    memset(&here.uc_stack, 0, sizeof here.uc_stack); /* which a sanitizer looks at */
    self->context = &here;
    if (self->tells)
        gc_stack_switch(self->announced, NULL);
    fiber_leave(self);
    swapcontext(&here, self->back);
}

static SH_NOINLINE void enter(struct coroutine *self, struct worker *worker)
{
    ucontext_t here;
    memset(&here.uc_stack, 0, sizeof here.uc_stack);
    self->back = &here;
    self->worker = worker;
    if (self->tells)
        gc_stack_switch(NULL, self->announced);
    fiber_enter(self);
    swapcontext(&here, self->context);
    lose_stack(self);
}

/* ---- Living ---- */

static void run_errand(struct worker *worker)
{
    static void (*const errands[])(struct worker *) = {
        run_burst, run_shared, run_signal, run_lock, run_blocking};
    size_t count = backend->collects ? sizeof errands / sizeof errands[0] : 3;
    errands[random_below(&worker->random, count)](worker);
}

static void use_slot(struct worker *worker, void **slot)
{
    if (!*slot && random_once_in(&worker->random, 6))
        *slot = graph_make(worker);
    else
        own_slot_use(worker, slot);
}

static void let_go_all(struct worker *worker, void **slots)
{
    for (size_t i = 0; i < FRAME_SLOTS; i++)
        slot_verify(slots[i]);
    places_finish(
        worker, &(struct place){slots, FRAME_SLOTS}, random_below(&worker->random, 2));
}

/* A frame that holds objects, until it is come back to and comes to its end. Between two
 * steps the worker may be another. */
static SH_NOINLINE void live(struct coroutine *self, unsigned depth)
{
    void *slots[FRAME_SLOTS] = {NULL};
    for (bool up = false; !self->closing && !up;) {
        struct random *random = &self->worker->random;
        switch (random_below(random, 8)) {
        case 0:
            if (depth < DEPTH_MAX)
                live(self, depth + 1);
            break;
        case 1:
            up = depth > 0;
            break;
        case 2:
        case 3:
            leave(self);
            break;
        case 4:
            run_errand(self->worker);
            break;
        default:
            use_slot(self->worker, &slots[random_below(random, FRAME_SLOTS)]);
            break;
        }
    }
    let_go_all(self->worker, slots);
}

static void begin(unsigned high, unsigned low)
{
    struct coroutine *self = (struct coroutine *)((uintptr_t)high << 32 | low);
    live(self, 0);
    self->over = true;
    leave(self);
}

/* ---- Making and unmaking ---- */

static char *map_stack(void)
{
    char *low = own_map(GUARD + STACK_BYTES);
    syscall(SYS_mprotect, low, GUARD, PROT_NONE);
    return low + GUARD;
}

static char *make_stack(struct coroutine *self)
{
    if (self->kind == STACK_MAPPED)
        return map_stack();
    if (self->kind == STACK_MALLOCED)
        return backend->malloc(STACK_BYTES);
    return collected_stacks[self->number] = backend->gc_alloc(STACK_BYTES, 0);
}

/* Frames that nobody comes back to leave their mark where a sanitizer keeps its own. */
void __asan_unpoison_memory_region(const volatile void *p, size_t bytes)
    __attribute__((weak));

static void free_stack(struct coroutine *self, bool drop)
{
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(self->low, STACK_BYTES);
    if (self->kind == STACK_MAPPED)
        own_unmap(self->low - GUARD, GUARD + STACK_BYTES);
    else if (self->kind == STACK_MALLOCED)
        backend->free(self->low);
    else if (!drop || !backend->collects)
        backend->gc_free(self->low);
    collected_stacks[self->number] = NULL;
}

/* Mapped stacks are nothing to the collector until they are announced. */
static bool announce(struct coroutine *self)
{
    self->announced = NULL;
    if (!backend->collects)
        return true;
    self->announced = gc_stack_add(self->low, self->low + STACK_BYTES);
    if (!self->announced && !settings_memory_is_short())
        fail("stack", NULL, "gc_stack_add failed");
    return self->announced || self->kind != STACK_MAPPED;
}

static void make(struct coroutine *self, struct random *random)
{
    uintptr_t address = (uintptr_t)self;
    self->kind = (enum stack_kind)random_below(random, 3);
    self->low = make_stack(self);
    if (!self->low)
        return;
    if (!announce(self)) {
        free_stack(self, false);
        return;
    }
    self->tells = self->announced && random_below(random, 2);
    self->over = self->closing = false;
    getcontext(&self->start);
    self->start.uc_stack = (stack_t){.ss_sp = self->low, .ss_size = STACK_BYTES};
    self->start.uc_link = NULL;
    makecontext(&self->start, (void (*)(void))begin, 2, (unsigned)(address >> 32),
        (unsigned)address);
    self->context = &self->start;
    fiber_make(self);
    self->made = true;
}

static void unmake(struct coroutine *self, struct random *random)
{
    if (self->announced)
        gc_stack_remove(self->announced);
    free_stack(self, random_below(random, 2));
    fiber_unmake(self);
    self->made = false;
}

/* ---- The scenario ---- */

static void go_on(struct coroutine *self, struct worker *worker)
{
    enter(self, worker);
    if (self->over)
        unmake(self, &worker->random);
}

void run_coroutine(struct worker *worker)
{
    struct random *random = &worker->random;
    struct coroutine *self = &coroutines[random_below(random, COROUTINES)];
    if (sh_exchange_acquire(&self->busy, 1u))
        return;
    if (!self->made)
        make(self, random);
    if (self->made) {
        self->closing = random_once_in(random, 24);
        go_on(self, worker);
    }
    sh_store_release(&self->busy, 0u); /* pairs with the exchange above */
}

void coroutines_finish(struct worker *worker)
{
    for (unsigned i = 0; i < COROUTINES; i++) {
        struct coroutine *self = &coroutines[i];
        self->closing = true;
        if (self->made)
            go_on(self, worker);
        if (self->made)
            fail("stack", NULL, "a coroutine that was to end did not");
    }
}
