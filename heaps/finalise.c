/* SPDX-License-Identifier: MIT */
/* Running finalisers. See heaps/finalise.h. */
#include "heaps/finalise.h"

#include <errno.h>

#include <splitheap/gc.h>

#include "heaps/callback.h"
#include "heaps/collect.h"
#include "heaps/finaliser_thread.h"
#include "heaps/heap.h"
#include "heaps/weak_link.h"
#include "lib/compiler.h"
#include "lib/hide.h"
#include "lib/options.h"
#include "lib/os.h"
#include "threads/gc_mutex.h"
#include "threads/thread.h"

static _Atomic int mode;
static _Atomic bool mode_set; /* by the program: the option is not asked */

/* Under the callbacks' lock. */
static gc_finaliser_notifier_fn *notifier;
static void *notifier_context;

#define NO_EVENT (-1)
static _Atomic int event = NO_EVENT; /* the descriptor, once it was asked for */

/* ---- Who is to know ---- */

/* Not for what it causes itself: below the frame that called it, unless that was left by
 * longjmp, or an exception, and the program has come back to where it calls from. Hidden:
 * a stack may lie in a collected cell. */
static SH_TLS uintptr_t notifying;

static SH_NOINLINE void call_notifier(void)
{
    void *frame = __builtin_frame_address(0);
    if ((uintptr_t)frame < (uintptr_t)sh_reveal(notifying))
        return;
    sh_critical_enter();
    sh_lock_acquire(&sh_callback_lock);
    gc_finaliser_notifier_fn *function = notifier;
    void *context = notifier_context;
    sh_lock_release(&sh_callback_lock);
    sh_critical_leave();
    if (!function)
        return;
    notifying = sh_hide(frame);
    function(context);
    notifying = 0;
}

/* Who makes something wait counts it first and raises the event after; who found nothing
 * that waits lowers it first and looks once more after. */
static void raise_event(void)
{
    int now = sh_load_seq_cst(&event);
    if (now != NO_EVENT)
        sh_os_event_raise(now);
}

static void lower_event(void)
{
    int now = sh_load_seq_cst(&event);
    if (now == NO_EVENT)
        return;
    sh_os_event_lower(now);
    sh_fence_seq_cst();
    if (sh_callback_waiting() > 0)
        sh_os_event_raise(now);
}

/* ---- Running ---- */

static enum gc_finaliser_mode mode_now(void)
{
    return (enum gc_finaliser_mode)(
        sh_load_relaxed(&mode_set) ? sh_load_relaxed(&mode) : sh_options.finalise);
}

/* True: weak references were told of. A collection is swept after even if none were. */
static bool tell(const struct sh_callback_run *run, bool collected)
{
    bool any = sh_callback_tell(run);
    if (any || collected)
        gc_weakref_sweep();
    return any;
}

/* Callbacks may collect: what that finds is told of before the next finaliser runs. What
 * is yet to be told of has its finaliser after that. */
static size_t finalise(const struct sh_callback_run *run, size_t most)
{
    size_t ran = 0;
    while (ran < most) {
        bool one = sh_callback_finalise(run);
        ran += one;
        if (!tell(run, false) && !one)
            break;
    }
    return ran;
}

static void announce(void)
{
    enum gc_finaliser_mode now = mode_now();
    if (now == GC_FINALISE_AT_ONCE || sh_callback_waiting() == 0)
        return;
    raise_event();
    if (now == GC_FINALISE_IN_THREAD)
        sh_finaliser_thread_wake();
    else
        call_notifier();
}

/* After a collection inside a callback who runs that sees to the rest. */
void sh_finalise_collected(void)
{
    struct sh_callback_run run;
    if (sh_callback_begin(&run)) {
        tell(&run, true);
        if (mode_now() == GC_FINALISE_AT_ONCE)
            finalise(&run, SIZE_MAX);
        sh_callback_end(&run);
    }
    announce();
}

bool sh_finalise_all(void)
{
    struct sh_callback_run run;
    if (!sh_callback_begin(&run))
        return false;
    bool told = tell(&run, true);
    bool any = finalise(&run, SIZE_MAX) > 0 || told;
    sh_callback_end(&run);
    lower_event();
    return any;
}

bool sh_finalise_thread_wanted(void)
{
    return mode_now() == GC_FINALISE_IN_THREAD && sh_callback_waiting() > 0;
}

void sh_finalise_for_thread(void)
{
    struct sh_callback_run run;
    if (!sh_callback_begin(&run))
        return;
    while (sh_finalise_thread_wanted() && !sh_finaliser_thread_is_held())
        finalise(&run, 1);
    sh_callback_end(&run);
    if (sh_callback_waiting() == 0)
        lower_event();
}

SH_PUBLIC size_t gc_run_finalisers(size_t max)
{
    sh_heap_init();
    struct sh_callback_run run;
    if (sh_gc_mutex_is_locked() || !sh_callback_begin(&run))
        return 0;
    size_t ran = finalise(&run, max);
    sh_callback_end(&run);
    if (sh_callback_waiting() == 0)
        lower_event();
    return ran;
}

/* ---- What the program sets ---- */

SH_PUBLIC int gc_set_finaliser(void *object, gc_finaliser_fn *finaliser, void *context)
{
    sh_heap_init();
    sh_critical_enter();
    int error =
        sh_callback_set_finaliser(object, (struct sh_finaliser){finaliser, context});
    sh_critical_leave();
    SH_KEEP(object);
    SH_KEEP(context);
    return error;
}

SH_PUBLIC int gc_set_finaliser_mode(enum gc_finaliser_mode wanted)
{
    if ((unsigned)wanted > GC_FINALISE_IN_THREAD)
        return EINVAL;
    sh_heap_init();
    sh_store_relaxed(&mode, (int)wanted);
    sh_store_relaxed(&mode_set, true);
    if (wanted != GC_FINALISE_AT_ONCE && sh_callback_waiting() > 0)
        raise_event();
    if (sh_finalise_thread_wanted() && !sh_gc_mutex_is_locked())
        sh_finaliser_thread_wake();
    return 0;
}

SH_PUBLIC int gc_set_finaliser_notifier(
    gc_finaliser_notifier_fn *function, void *context)
{
    sh_heap_init();
    sh_critical_enter();
    sh_lock_acquire(&sh_callback_lock);
    notifier = function;
    notifier_context = context;
    sh_lock_release(&sh_callback_lock);
    sh_critical_leave();
    return 0;
}

/* Of two that come at once, one's is closed again. */
SH_PUBLIC int gc_finaliser_fd(void)
{
    sh_heap_init();
    int now = sh_load_seq_cst(&event), made;
    if (now != NO_EVENT)
        return now;
    int error = sh_os_event_make(&made);
    if (error) {
        errno = error;
        return -1;
    }
    if (!sh_cas_seq_cst(&event, &now, made)) {
        sh_os_close(made);
        return now;
    }
    if (sh_callback_waiting() > 0)
        raise_event();
    return made;
}

/* The descriptor is the parent's, too: what is read there would be missed here. */
void sh_finalise_fork_child(void)
{
    sh_store_relaxed(&event, NO_EVENT);
    sh_finaliser_thread_fork_child();
}

__attribute__((destructor)) static void at_exit(void)
{
    sh_finalize_at_exit();
    if (sh_options.finalise_at_exit)
        sh_collect_finalise_all();
}
