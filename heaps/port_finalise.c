/* SPDX-License-Identifier: MIT */
/* The default finaliser dispatcher; a program may define another. */
#include <splitheap/gc.h>

GC_PUBLIC void gc_finalise(void *object)
{
    const struct gc_type *type = *(const struct gc_type *const *)object;
    if (type && type->finalise)
        type->finalise(object);
}
