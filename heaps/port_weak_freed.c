/* SPDX-License-Identifier: MIT */
/* The default gc_weakref_about_to_be_freed; a program may define another. */
#include <splitheap/gc.h>

GC_PUBLIC void gc_weakref_about_to_be_freed(void *ptr)
{
    (void)ptr;
}
