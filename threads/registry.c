/* SPDX-License-Identifier: MIT */
/*
 * The list of registered threads.
 *
 * A thread comes in by sh_thread_enter and goes out by sh_thread_leave, both in its own
 * person:
 *
 *      phase       OPEN --> REGISTERING --> OPEN ................. --> ENDED
 *      self        NULL      NULL        |  record ------|  NULL
 *      in list                           |---------------|
 *                                     started          ending
 *
 * sh_world_stop keeps the registry's lock until the world resumes. So a thread that is
 * just born waits for it before it touches the heap, and `started`, linking and setting
 * sh_tls.self are one step to a collector; `ending`, unlinking and clearing self
 * likewise. A thread that leaves may be one that the collector wants to stop, so it
 * must not wait for the lock as a running thread: it waits as gc_blocking_begin makes
 * one, and once it has the lock no stop is under way.
 *
 * While a thread registers, what that calls (pthread_setspecific, the loader) may
 * allocate and come back here: it gets NULL, and the heap serves it from its shared
 * cache. Records come from metadata memory, which is never unmapped.
 *
 * Locks: SH_RANK_REGISTRY. Any thread.
 */
#include "threads/registry.h"

#include <errno.h>
#include <string.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/meta.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "threads/fork.h"
#include "threads/gc_mutex.h"
#include "threads/life.h"
#include "threads/stop.h"
#include "threads/strangers.h"

struct sh_lock sh_registry_lock = SH_LOCK_INIT(SH_RANK_REGISTRY);

static struct sh_thread *first; /* under the lock */
static _Atomic size_t count;    /* written under the lock */
static _Atomic bool ever_many;
static const struct sh_thread_hooks no_hooks;
static _Atomic(const struct sh_thread_hooks *) hooks;

/* The release pairs with the acquire in sh_registry_hooks. */
void sh_registry_set_hooks(const struct sh_thread_hooks *new_hooks)
{
    sh_store_release(&hooks, new_hooks);
}

const struct sh_thread_hooks *sh_registry_hooks(void)
{
    const struct sh_thread_hooks *set = sh_load_acquire(&hooks);
    return set ? set : &no_hooks;
}

struct sh_thread *sh_registry_first(void)
{
    return first;
}

size_t sh_registry_count(void)
{
    return sh_load_relaxed(&count);
}

bool sh_registry_ever_many(void)
{
    return sh_load_relaxed(&ever_many);
}

/* ---- The list, under the lock ---- */

static void link_record(struct sh_thread *thread)
{
    thread->prev = NULL;
    thread->next = first;
    if (first)
        first->prev = thread;
    if (first)
        sh_store_relaxed(&ever_many, true);
    first = thread;
    sh_store_relaxed(&count, sh_load_relaxed(&count) + 1);
}

static void unlink_record(struct sh_thread *thread)
{
    if (thread->prev)
        thread->prev->next = thread->next;
    else
        first = thread->next;
    if (thread->next)
        thread->next->prev = thread->prev;
    sh_store_relaxed(&count, sh_load_relaxed(&count) - 1);
}

/* ---- Coming ---- */

void sh_thread_find_stack(struct sh_thread *self)
{
    self->handle = pthread_self();
    self->tid = sh_os_thread_id();
    self->initial = sh_os_on_initial_stack();
    self->stack_base = sh_os_stack_base();
    self->stack_low = self->stack_size = 0;
    self->alt_low = self->alt_high = 0;
    sh_store_relaxed(&self->left_sp, 0);
    self->tls = &sh_tls;
}

SH_NO_SANITIZE void sh_thread_forget_stack(struct sh_thread *record)
{
    record->stack_base = record->stack_low = record->stack_size = 0;
    record->initial = false;
    sh_store_relaxed(&record->left_sp, 0);
}

static struct sh_thread *new_record(void)
{
    struct sh_thread *self = sh_meta_alloc(sizeof *self);
    if (!self)
        return NULL;
    sh_thread_find_stack(self);
    sh_store_relaxed(&self->state, SH_THREAD_RUNNING);
    sh_store_relaxed(&self->stopped_sp, 0);
    self->lock_depth = 0;
    self->collecting = false;
    self->cache = self->deferred = self->held = NULL;
    return self;
}

/* Threads that come or go and wait for the lock: who stops the world again and again
 * lets them have it first, a while. */
static _Atomic uint32_t waiting;
enum { POLITE_YIELDS = 1000 };

static void lock_registry(void)
{
    sh_add_relaxed(&waiting, 1u);
    sh_lock_acquire(&sh_registry_lock);
    sh_sub_relaxed(&waiting, 1u);
}

void sh_registry_lock_politely(void)
{
    for (unsigned i = 0; i < POLITE_YIELDS && sh_load_relaxed(&waiting); i++)
        sh_os_yield();
    sh_lock_acquire(&sh_registry_lock);
}

static bool admit(struct sh_thread *self)
{
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    lock_registry();
    bool admitted = !heap->started || heap->started(self) == 0;
    if (admitted) {
        link_record(self);
        sh_tls.self = self;
    }
    sh_lock_release(&sh_registry_lock);
    return admitted;
}

static struct sh_thread *register_self(void)
{
    sh_fork_begin();
    if (sh_life_begin() != 0)
        return NULL;
    sh_stop_let_in();
    sh_critical_enter();
    struct sh_thread *self = new_record();
    if (self && !admit(self)) {
        sh_meta_free(self, sizeof *self);
        self = NULL;
    }
    sh_critical_leave();
    return self;
}

struct sh_thread *sh_thread_enter(void)
{
    if (SH_LIKELY(sh_tls.self != NULL))
        return sh_tls.self;
    if (sh_tls.phase != SH_PHASE_OPEN)
        return NULL;
    SH_CHECK1(sh_tls.critical == 0);
    int error = errno;
    sh_tls.phase = SH_PHASE_REGISTERING;
    struct sh_thread *self = register_self();
    sh_tls.phase = SH_PHASE_OPEN;
    if (self)
        sh_tls.left = false;
    errno = error;
    return self;
}

/* ---- Going ---- */

/* Returns under the lock, in a critical section, with no stop under way. */
static SH_NOINLINE void lock_as_blocking(struct sh_thread *self)
{
    sh_blocking_begin(__builtin_frame_address(0));
    sh_critical_enter();
    lock_registry();
    SH_CHECK1(sh_load_relaxed(&self->state) == SH_THREAD_BLOCKING);
    sh_store_relaxed(&self->state, SH_THREAD_RUNNING);
}

static void leave(struct sh_thread *self)
{
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    if (heap->leaving)
        heap->leaving(self);
    sh_gc_mutex_abandon();
    lock_as_blocking(self);
    if (heap->ending)
        heap->ending(self);
    unlink_record(self);
    sh_tls.self = NULL;
    sh_lock_release(&sh_registry_lock);
    if (heap->ended)
        heap->ended(self);
    sh_meta_free(self, sizeof *self);
    sh_critical_leave();
}

void sh_thread_leave(bool ended)
{
    int error = errno;
    struct sh_thread *self = sh_tls.self;
    if (self && self->collecting)
        sh_gc_mutex_abandon();
    SH_CHECK1(sh_tls.critical == 0);
    if (self) {
        if (sh_load_relaxed(&self->state) == SH_THREAD_BLOCKING)
            sh_blocking_end();
        leave(self);
    }
    sh_tls.left = true;
    if (ended)
        sh_tls.phase = SH_PHASE_ENDED;
    if (ended && self)
        sh_strangers_leaving();
    const struct sh_thread_hooks *heap = sh_registry_hooks();
    if (self && heap->none_left && sh_registry_count() == 0)
        heap->none_left();
    errno = error;
}

/* ---- Fork ---- */

/* The lock is free, or the forking thread's that collects: nobody else is there. */
struct sh_thread *sh_registry_keep_self(void)
{
    struct sh_thread *self = sh_tls.self;
    if (self)
        unlink_record(self);
    struct sh_thread *gone = first;
    first = NULL;
    sh_store_relaxed(&waiting, 0u);
    sh_store_relaxed(&count, 0);
    sh_store_relaxed(&ever_many, false);
    if (self) {
        link_record(self);
        self->tid = sh_os_thread_id();
    }
    return gone;
}

void sh_registry_discard(struct sh_thread *gone)
{
    while (gone) {
        struct sh_thread *next = gone->next;
        sh_meta_free(gone, sizeof *gone);
        gone = next;
    }
}
