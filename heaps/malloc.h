/* SPDX-License-Identifier: MIT */
/*
 * The malloc face under names of our own. malloc_names.c gives them the C library's
 * names; sanitizer builds, whose runtimes have a malloc of their own, leave that out,
 * and tests call these. Meanings, errno included, are the standard functions'.
 */
#ifndef SH_HEAPS_MALLOC_H
#define SH_HEAPS_MALLOC_H

#include <stddef.h>

#include "heaps/cache.h"
#include "lib/compiler.h"

void *sh_malloc_slow(size_t size);
void sh_free_slow(void *p, const char *call);

SH_INLINE void *sh_malloc(size_t size)
{
    if (SH_LIKELY(size <= SH_SMALL_MAX)) {
        void *p = sh_cache_take(SH_KIND_EXPLICIT, size);
        if (SH_LIKELY(p != NULL))
            return p;
    }
    return sh_malloc_slow(size);
}

SH_INLINE void sh_free(void *p)
{
    if (SH_UNLIKELY(!sh_cache_give(p)))
        sh_free_slow(p, "free");
}

void *sh_calloc(size_t count, size_t size);
void *sh_realloc(void *p, size_t size);
void *sh_reallocarray(void *p, size_t count, size_t size);
int sh_posix_memalign(void **out, size_t alignment, size_t size);
void *sh_aligned_alloc(size_t alignment, size_t size);
void *sh_memalign(size_t alignment, size_t size);
void *sh_valloc(size_t size);
void *sh_pvalloc(size_t size);
size_t sh_malloc_usable_size(void *p);
void sh_free_sized(void *p, size_t size);
void sh_free_aligned_sized(void *p, size_t alignment, size_t size);

#endif /* SH_HEAPS_MALLOC_H */
