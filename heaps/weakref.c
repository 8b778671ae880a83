/* SPDX-License-Identifier: MIT */
/* References: links with a callback. The face is <splitheap/weakref.h>. */
#include <splitheap/weakref.h>

#include "heaps/weak_link.h"

struct gc_weakref {
    struct sh_weak_link link;
    gc_weakref_fn *callback; /* from here on only where there is a callback, or ctx */
    void *ctx;
};

struct sh_weak_call sh_weakref_callback(const struct sh_weak_link *link)
{
    const struct gc_weakref *ref = (const struct gc_weakref *)link;
    return (struct sh_weak_call){ref->callback, ref->ctx};
}

static struct gc_weakref *new_ref(
    void *obj, gc_weakref_fn *callback, void *ctx, enum sh_weak_kind kind)
{
    bool whole = callback || ctx;
    struct gc_weakref *ref = sh_weak_new(whole ? sizeof *ref : sizeof ref->link);
    if (!ref)
        return NULL;
    sh_weak_link_init(&ref->link, kind, callback != NULL);
    if (whole) {
        ref->callback = callback;
        ref->ctx = ctx;
    }
    return sh_weak_link_begin(&ref->link, obj, ctx);
}

SH_PUBLIC struct gc_weakref *gc_weakref_new(
    void *obj, gc_weakref_fn *callback, void *ctx)
{
    return new_ref(obj, callback, ctx, SH_WEAK_SHORT);
}

SH_PUBLIC struct gc_weakref *gc_weakref_new_long(
    void *obj, gc_weakref_fn *callback, void *ctx)
{
    return new_ref(obj, callback, ctx, SH_WEAK_LONG);
}

SH_PUBLIC void *gc_weakref_get(struct gc_weakref *ref)
{
    return sh_weak_link_get(&ref->link);
}

/* Cancelled first: inside gc_lock the cell goes later. */
SH_PUBLIC void gc_weakref_free(struct gc_weakref *ref)
{
    if (!ref)
        return;
    sh_weak_link_cancel(&ref->link);
    gc_free(ref);
}
