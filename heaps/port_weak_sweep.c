/* SPDX-License-Identifier: MIT */
/* The default gc_weakref_sweep; a program may define another. */
#include <splitheap/gc.h>

GC_PUBLIC void gc_weakref_sweep(void)
{
}
