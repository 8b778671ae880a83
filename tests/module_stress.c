/* SPDX-License-Identifier: MIT */
/* What stress_dlopen loads and unloads: data, thread-locals, and code that allocates. */
#include <stddef.h>

#define SLOTS 64

static void *slots[SLOTS];
static __thread void *local;
static char large[300000]; /* a segment that is not always the same */

__attribute__((visibility("default"))) void module_keep(size_t i, void *p)
{
    slots[i % SLOTS] = p;
    local = p;
    large[i] = 1;
}

__attribute__((visibility("default"))) void *module_kept(size_t i)
{
    return slots[i % SLOTS];
}
