/* SPDX-License-Identifier: MIT */
/*
 * splitheap/malloc.h - the malloc family that splitheap replaces, and its statistics.
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

/* ---- Statistics -------------------------------------------------------------- */

#if defined(__GNUC__)
#define SPLITHEAP_PUBLIC __attribute__((visibility("default")))
#else
#define SPLITHEAP_PUBLIC
#endif

/**
 * What the allocator holds and did. An object counts with all of its cell, as
 * malloc_usable_size says it; an object that the last collection did not reach does not
 * count. Free pages are dirty or retained.
 *
 *     mapped + given == active + dirty + retained + metadata
 *     allocated == small_bytes + large_bytes + huge_bytes
 *               == malloc_bytes + gc_bytes + leaf_bytes
 */
struct splitheap_stats {
    size_t allocated;      /**< bytes in live objects */
    size_t active;         /**< bytes of pages that hold objects, or did and are kept */
    size_t dirty;          /**< bytes of free pages kept for reuse */
    size_t retained;       /**< bytes of free pages that cost no memory */
    size_t metadata;       /**< bytes of the allocator's own tables */
    size_t mapped;         /**< bytes of addresses taken from the system */
    size_t given;          /**< bytes of memory given to gc_init and gc_add */
    size_t resident;       /**< bytes of memory in use, at most */
    size_t peak;           /**< bytes that mapped and given ever came to, at most */
    size_t small_bytes;    /**< live, in cells of a size class */
    size_t small_objects;  /**< how many of these */
    size_t large_bytes;    /**< live, of whole pages */
    size_t large_objects;  /**< how many of these */
    size_t huge_bytes;     /**< live, with a mapping of their own */
    size_t huge_objects;   /**< how many of these */
    size_t malloc_bytes;   /**< live, of malloc and its family */
    size_t malloc_objects; /**< how many of these */
    size_t gc_bytes;       /**< live, of gc_alloc */
    size_t gc_objects;     /**< how many of these */
    size_t leaf_bytes;     /**< live, of gc_alloc with FLAG_LEAF */
    size_t leaf_objects;   /**< how many of these */
    size_t areas;          /**< mappings that pages are cut from, or of huge objects */
    size_t spans;          /**< runs of pages in use */
    size_t free_runs;      /**< runs of free pages */
    size_t threads;        /**< threads that the allocator knows */
    size_t collections;    /**< so far */
    size_t purges;         /**< runs of free pages given back to the system so far */
    size_t purged;         /**< bytes of these */
};

/** One size class: what its spans have room for, and what they hold. */
struct splitheap_class {
    size_t cell_size; /**< bytes */
    size_t spans;     /**< of such cells */
    size_t cells;     /**< in these spans */
    size_t objects;   /**< live, in these cells */
};

/**
 * Fills in the statistics, as many bytes of the struct as the caller knows: pass
 * sizeof(struct splitheap_stats). Returns how many there are. Other threads go on
 * meanwhile; with none at work the numbers are exact. Takes time in proportion to the
 * heap, and keeps threads from taking pages meanwhile. Any thread; not in a signal
 * handler.
 */
SPLITHEAP_PUBLIC size_t splitheap_stats_get(
    struct splitheap_stats *stats, size_t bytes) SPLITHEAP_NOTHROW;

/**
 * Fills in the first `count` size classes, smallest first. Returns how many there are.
 */
SPLITHEAP_PUBLIC size_t splitheap_stats_classes(
    struct splitheap_class *classes, size_t count) SPLITHEAP_NOTHROW;

/** Takes `len` bytes of text, which are not terminated. */
typedef void splitheap_write(void *data, const char *text, size_t len);

#define SPLITHEAP_TEXT 0 /**< for people */
#define SPLITHEAP_JSON 1 /**< one object, by the names of struct splitheap_stats */

/**
 * Prints the statistics in pieces through `write`, which may allocate; NULL: to standard
 * error.
 */
SPLITHEAP_PUBLIC void splitheap_stats_print(
    splitheap_write *write, void *data, int form);

#undef SPLITHEAP_NOTHROW
#ifdef __cplusplus
}
#endif

#endif /* SPLITHEAP_MALLOC_H */
