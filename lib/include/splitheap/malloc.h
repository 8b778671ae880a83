/* SPDX-License-Identifier: MIT */
/*
 * splitheap/malloc.h - the malloc family that splitheap replaces.
 *
 * malloc, calloc, realloc, free, aligned_alloc and posix_memalign are declared by
 * <stdlib.h> and keep their standard meaning; this header declares those that not
 * every C library's headers have. All keep errno in free and set ENOMEM on failure;
 * sizes above PTRDIFF_MAX are refused. malloc(0) returns a distinct pointer. Memory
 * from any of them may be given to free, gc_free, realloc or gc_realloc.
 */
#ifndef SPLITHEAP_MALLOC_H
#define SPLITHEAP_MALLOC_H

#include <stddef.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#define SPLITHEAP_NOTHROW noexcept(true)
#elif defined(__GNUC__)
#define SPLITHEAP_NOTHROW __attribute__((nothrow))
#else
#define SPLITHEAP_NOTHROW
#endif

/** The usable bytes of the allocation at `ptr`, all of which may be used; 0 of NULL. */
size_t malloc_usable_size(void *ptr) SPLITHEAP_NOTHROW;

/** C23: free, with the size that was asked for, which is checked. */
void free_sized(void *ptr, size_t size) SPLITHEAP_NOTHROW;

/** C23: free of aligned_alloc'd memory; alignment and size are checked. */
void free_aligned_sized(void *ptr, size_t alignment, size_t size) SPLITHEAP_NOTHROW;

/** The old name of free. */
void cfree(void *ptr) SPLITHEAP_NOTHROW;

/** Aligned allocation; `alignment` is a power of two. */
void *memalign(size_t alignment, size_t size) SPLITHEAP_NOTHROW;
void *valloc(size_t size) SPLITHEAP_NOTHROW;
void *pvalloc(size_t size) SPLITHEAP_NOTHROW;

#undef SPLITHEAP_NOTHROW
#ifdef __cplusplus
}
#endif

#endif /* SPLITHEAP_MALLOC_H */
