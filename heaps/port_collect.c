/* SPDX-License-Identifier: MIT */
/* The default gc_collect, in an object of its own: a program may define another. */
#include <splitheap/gc.h>

GC_PUBLIC void gc_collect(void)
{
    gc_collect_start();
    gc_collect_end();
}
