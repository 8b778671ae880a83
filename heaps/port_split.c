/* SPDX-License-Identifier: MIT */
/* The default gc_get_max_new_split; a program may define another. */
#include <splitheap/gc.h>

#include "lib/os.h"

GC_PUBLIC size_t gc_get_max_new_split(void)
{
    /* The rest is for metadata memory, thread stacks, page tables, and the program's own
     * mappings. */
    size_t available = sh_os_memory_lately();
    size_t kept = available / 16 + ((size_t)1 << 20);
    return available > kept ? available - kept : 0;
}
