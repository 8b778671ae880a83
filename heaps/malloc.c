/* SPDX-License-Identifier: MIT */
/* The malloc face. See heaps/malloc.h. */
#include "heaps/malloc.h"

#include <errno.h>
#include <string.h>

#include "heaps/heap.h"
#include "heaps/misuse.h"
#include "heaps/remote.h"

/* From the current span of a thread that is on its own cache; it locks nothing. */
static void *reload(size_t size)
{
    struct sh_cache *cache = sh_my_cache;
    if (size > SH_SMALL_MAX || cache == &sh_empty_cache)
        return NULL;
    sh_critical_enter();
    sh_cache_enter(cache);
    void *p = sh_cache_reload(cache, SH_KIND_EXPLICIT, sh_size_class_of(size));
    sh_cache_leave(cache);
    sh_critical_leave();
    return p;
}

SH_NOINLINE void *sh_malloc_slow(size_t size)
{
    void *p = reload(size);
    if (SH_LIKELY(p != NULL))
        return p;
    struct sh_request request = {.bytes = size, .kind = SH_KIND_EXPLICIT};
    return sh_heap_alloc(&request);
}

SH_NOINLINE void sh_free_slow(void *p, const char *call)
{
    if (p && !sh_remote_give(p))
        sh_heap_free(p, call);
}

/* False: the product does not fit, and errno says so. */
static bool product(size_t count, size_t size, size_t *bytes)
{
    if (!__builtin_mul_overflow(count, size, bytes))
        return true;
    errno = ENOMEM;
    return false;
}

void *sh_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!product(count, size, &bytes))
        return NULL;
    if (SH_LIKELY(bytes <= SH_SMALL_MAX)) {
        void *p = sh_cache_take(SH_KIND_EXPLICIT, bytes);
        if (SH_LIKELY(p != NULL))
            return memset(p, 0, bytes);
    }
    struct sh_request request = {
        .bytes = bytes, .kind = SH_KIND_EXPLICIT, .zero = true};
    return sh_heap_alloc(&request);
}

void *sh_realloc(void *p, size_t size)
{
    if (!p)
        return sh_malloc(size);
    if (size == 0) {
        sh_free(p);
        return NULL;
    }
    return sh_heap_resize(p, size, true, "realloc");
}

void *sh_reallocarray(void *p, size_t count, size_t size)
{
    size_t bytes;
    return product(count, size, &bytes) ? sh_realloc(p, bytes) : NULL;
}

void *sh_memalign(size_t alignment, size_t size)
{
    if (!sh_is_pow2(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    size_t bytes = (sh_max(size, 1) + alignment - 1) & ~(alignment - 1);
    if (SH_LIKELY(size <= SH_SMALL_MAX && bytes <= SH_SMALL_MAX &&
                  alignment <= SH_PAGE_SIZE)) {
        unsigned c = sh_size_class_of(bytes);
        if (SH_LIKELY((sh_size_classes[c].size & (alignment - 1)) == 0)) {
            void *p = sh_bin_take(&sh_my_cache->bins[SH_KIND_EXPLICIT][c]);
            if (SH_LIKELY(p != NULL))
                return p;
        }
    }
    struct sh_request request = {
        .bytes = size, .align = alignment, .kind = SH_KIND_EXPLICIT};
    return sh_heap_alloc(&request);
}

void *sh_aligned_alloc(size_t alignment, size_t size)
{
    return sh_memalign(alignment, size);
}

int sh_posix_memalign(void **out, size_t alignment, size_t size)
{
    if (!sh_is_pow2(alignment) || alignment % sizeof(void *))
        return EINVAL;
    int saved = errno;
    void *p = sh_memalign(alignment, size);
    errno = saved;
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

void *sh_valloc(size_t size)
{
    return sh_memalign(SH_PAGE_SIZE, size);
}

void *sh_pvalloc(size_t size)
{
    if (size > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return sh_memalign(SH_PAGE_SIZE, sh_round_up(sh_max(size, 1), SH_PAGE_SIZE));
}

size_t sh_malloc_usable_size(void *p)
{
    return p ? sh_heap_usable(p, "malloc_usable_size") : 0;
}

/* False: there is no such cell, and it was said. */
static bool has_size(const char *call, void *p, size_t size)
{
    size_t usable = sh_heap_usable(p, call);
    if (usable && size > usable)
        sh_misuse_size(call, p, size, usable);
    return usable && size <= usable;
}

void sh_free_sized(void *p, size_t size)
{
    if (p && has_size("free_sized", p, size))
        sh_free(p);
}

void sh_free_aligned_sized(void *p, size_t alignment, size_t size)
{
    if (!p || !has_size("free_aligned_sized", p, size))
        return;
    if (sh_is_pow2(alignment) && (uintptr_t)p % alignment == 0)
        sh_free(p);
    else
        sh_misuse_alignment("free_aligned_sized", p, alignment);
}
