/* SPDX-License-Identifier: MIT */
/* The default of what a typed object holds; a program may define another. */
#include <splitheap/gc.h>

GC_PUBLIC void gc_mark_object(void *object, size_t n_bytes, struct gc_marker *marker)
{
    const struct gc_marked_type *type = *(const struct gc_marked_type *const *)object;
    if (type->mark)
        type->mark(object, n_bytes, marker);
    else
        gc_mark_words(marker, object, n_bytes / sizeof(void *));
}
