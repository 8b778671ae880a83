/* SPDX-License-Identifier: MIT */
/*
 * Finalizes: links that live by their target (heaps/ephemeron.h). The face is
 * <splitheap/weakref.h>.
 */
#include <splitheap/weakref.h>

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "heaps/callback.h"
#include "heaps/run.h"
#include "heaps/weak_link.h"
#include "threads/thread.h"

struct gc_finalize {
    struct sh_weak_link link;
    uint64_t number; /* 1, 2, ...; the newest has the greatest */
    uintptr_t older; /* hidden; of those that are called at exit */
    _Atomic bool at_exit;
    unsigned count;
    gc_finalize_fn *callback;
    void *args[];
};

static _Atomic uint64_t numbers;
static _Atomic bool any_at_exit; /* there was one */

void sh_finalize_call(struct sh_weak_link *link)
{
    struct gc_finalize *finalize = (struct gc_finalize *)link;
    finalize->callback(finalize->count, finalize->args);
    SH_KEEP(finalize);
}

SH_PUBLIC struct gc_finalize *gc_finalize_new_array(
    void *obj, gc_finalize_fn *callback, unsigned count, void *const args[])
{
    if (!callback || count > GC_FINALIZE_ARGS_MAX) {
        errno = EINVAL;
        return NULL;
    }
    struct gc_finalize *finalize = sh_weak_new(sizeof *finalize + count * sizeof *args);
    if (!finalize)
        return NULL;
    sh_weak_link_init(&finalize->link, SH_WEAK_FINALIZE, true);
    finalize->number = sh_add_relaxed(&numbers, (uint64_t)1) + 1;
    finalize->callback = callback;
    finalize->count = count;
    if (count)
        memcpy(finalize->args, args, count * sizeof *args);
    return sh_weak_link_begin(&finalize->link, obj, NULL);
}

SH_PUBLIC struct gc_finalize *gc_finalize_new(
    void *obj, gc_finalize_fn *callback, unsigned count, ...)
{
    void *args[GC_FINALIZE_ARGS_MAX];
    va_list list;
    va_start(list, count);
    for (unsigned i = 0; i < count && i < GC_FINALIZE_ARGS_MAX; i++)
        args[i] = va_arg(list, void *);
    va_end(list);
    return gc_finalize_new_array(obj, callback, count, args);
}

SH_PUBLIC bool gc_finalize_alive(struct gc_finalize *finalize)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    bool alive =
        sh_weak_is_queued(&finalize->link) || sh_load_relaxed(&finalize->link.target);
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    return alive;
}

static void describe(struct gc_finalize *finalize, struct gc_finalize_info *info)
{
    if (info)
        *info = (struct gc_finalize_info){
            finalize->callback, finalize->count, finalize->args};
}

SH_PUBLIC void *gc_finalize_peek(
    struct gc_finalize *finalize, struct gc_finalize_info *info)
{
    void *object = sh_weak_link_get(&finalize->link);
    if (object)
        describe(finalize, info);
    return object;
}

SH_PUBLIC void *gc_finalize_detach(
    struct gc_finalize *finalize, struct gc_finalize_info *info)
{
    void *object = sh_weak_link_get(&finalize->link);
    if (!sh_weak_link_cancel(&finalize->link) || !object)
        return NULL;
    describe(finalize, info);
    return object;
}

SH_PUBLIC bool gc_finalize_call(struct gc_finalize *finalize)
{
    void *outer = sh_callback_hold(finalize, NULL);
    bool alive = sh_weak_link_cancel(&finalize->link);
    if (alive)
        sh_finalize_call(&finalize->link);
    sh_callback_let_go(outer);
    return alive;
}

/* ---- At exit ---- */

SH_PUBLIC bool gc_finalize_set_at_exit(struct gc_finalize *finalize, bool on)
{
    if (on)
        sh_store_relaxed(&any_at_exit, true);
    bool before = sh_load_relaxed(&finalize->at_exit);
    sh_store_relaxed(&finalize->at_exit, on);
    return before;
}

static struct gc_finalize *newer_of(
    struct gc_finalize **one, struct gc_finalize **other)
{
    struct gc_finalize **from =
        !*other || (*one && (*one)->number > (*other)->number) ? one : other;
    struct gc_finalize *newest = *from;
    *from = sh_reveal(newest->older);
    return newest;
}

/* Both sorted, the newest first. */
static struct gc_finalize *merge(struct gc_finalize *one, struct gc_finalize *other)
{
    uintptr_t first = 0, *last = &first;
    while (one || other) {
        struct gc_finalize *newest = newer_of(&one, &other);
        *last = sh_hide(newest);
        last = &newest->older;
    }
    *last = 0;
    return sh_reveal(first);
}

static bool is_for_exit(const struct sh_weak_link *link)
{
    return sh_weak_kind_of(link) == SH_WEAK_FINALIZE &&
           sh_load_relaxed(&((const struct gc_finalize *)link)->at_exit);
}

/* By merging: runs[i] is empty or has 2^i. */
struct runs {
    struct gc_finalize *runs[64];
};

static void add_if_at_exit(struct sh_weak_link *link, void *context)
{
    struct runs *all = context;
    struct gc_finalize *finalize = (struct gc_finalize *)link;
    if (!is_for_exit(link))
        return;
    unsigned i = 0;
    finalize->older = 0;
    for (; all->runs[i]; all->runs[i++] = NULL)
        finalize = merge(finalize, all->runs[i]);
    all->runs[i] = finalize;
}

static struct gc_finalize *sorted(void)
{
    struct runs all = {.runs = {NULL}};
    struct gc_finalize *finalizes = NULL;
    sh_weak_each_link(add_if_at_exit, &all);
    for (unsigned i = 0; i < 64; i++)
        finalizes = merge(finalizes, all.runs[i]);
    return finalizes;
}

static void queue_for_exit(void)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_heap_lock);
    sh_lock_acquire(&sh_weak_lock);
    struct gc_finalize *finalize = sorted();
    for (; finalize; finalize = sh_reveal(finalize->older))
        sh_weak_link_queue(&finalize->link);
    sh_lock_release(&sh_weak_lock);
    sh_lock_release(&sh_heap_lock);
    sh_critical_leave();
}

/* By the queue, which holds them while others run; what else waits there is dropped. Where
 * a callback called exit, it does not come back. */
void sh_finalize_at_exit(void)
{
    struct sh_callback_run run;
    if (sh_load_relaxed(&any_at_exit))
        queue_for_exit();
    sh_callback_none_running();
    if (sh_callback_begin(&run)) {
        sh_callback_run_links(&run, is_for_exit);
        sh_callback_end(&run);
    }
}
