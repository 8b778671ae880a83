/* SPDX-License-Identifier: MIT */
/*
 * The C library's names for the malloc face, its internal __libc_ ones included, which
 * some programs call. Preloaded or linked before the C library these win everywhere.
 */
#include <stddef.h>

#include "heaps/mallinfo.h"
#include "heaps/malloc.h"

/* Declared here, not in a C library's header, whose attributes would let the compiler
 * assume what malloc does. */
#define DECLARE(result, name, ...)                                                     \
    SH_PUBLIC result name(__VA_ARGS__);                                                \
    SH_PUBLIC result name(__VA_ARGS__)

DECLARE(void *, malloc, size_t size)
{
    return sh_malloc(size);
}

DECLARE(void, free, void *p)
{
    sh_free(p);
}

DECLARE(void, cfree, void *p)
{
    sh_free(p);
}

DECLARE(void *, calloc, size_t count, size_t size)
{
    return sh_calloc(count, size);
}

DECLARE(void *, realloc, void *p, size_t size)
{
    return sh_realloc(p, size);
}

DECLARE(void *, reallocarray, void *p, size_t count, size_t size)
{
    return sh_reallocarray(p, count, size);
}

DECLARE(int, posix_memalign, void **out, size_t alignment, size_t size)
{
    return sh_posix_memalign(out, alignment, size);
}

DECLARE(void *, aligned_alloc, size_t alignment, size_t size)
{
    return sh_aligned_alloc(alignment, size);
}

DECLARE(void *, memalign, size_t alignment, size_t size)
{
    return sh_memalign(alignment, size);
}

DECLARE(void *, valloc, size_t size)
{
    return sh_valloc(size);
}

DECLARE(void *, pvalloc, size_t size)
{
    return sh_pvalloc(size);
}

DECLARE(size_t, malloc_usable_size, void *p)
{
    return sh_malloc_usable_size(p);
}

DECLARE(void, free_sized, void *p, size_t size)
{
    sh_free_sized(p, size);
}

DECLARE(void, free_aligned_sized, void *p, size_t alignment, size_t size)
{
    sh_free_aligned_sized(p, alignment, size);
}

DECLARE(void *, __libc_malloc, size_t size)
{
    return sh_malloc(size);
}

DECLARE(void, __libc_free, void *p)
{
    sh_free(p);
}

DECLARE(void *, __libc_calloc, size_t count, size_t size)
{
    return sh_calloc(count, size);
}

DECLARE(void *, __libc_realloc, void *p, size_t size)
{
    return sh_realloc(p, size);
}

DECLARE(void *, __libc_memalign, size_t alignment, size_t size)
{
    return sh_memalign(alignment, size);
}

DECLARE(void *, __libc_valloc, size_t size)
{
    return sh_valloc(size);
}

DECLARE(void *, __libc_pvalloc, size_t size)
{
    return sh_pvalloc(size);
}

/* ---- Numbers and settings ---- */

DECLARE(struct sh_mallinfo, mallinfo, void)
{
    return sh_mallinfo();
}

DECLARE(struct sh_mallinfo2, mallinfo2, void)
{
    return sh_mallinfo2();
}

DECLARE(int, malloc_info, int options, FILE *stream)
{
    return sh_malloc_info(options, stream);
}

DECLARE(void, malloc_stats, void)
{
    sh_malloc_stats();
}

DECLARE(int, malloc_trim, size_t pad)
{
    return sh_malloc_trim(pad);
}

DECLARE(int, mallopt, int parameter, int value)
{
    return sh_mallopt(parameter, value);
}

DECLARE(struct sh_mallinfo, __libc_mallinfo, void)
{
    return sh_mallinfo();
}

DECLARE(int, __libc_mallopt, int parameter, int value)
{
    return sh_mallopt(parameter, value);
}
