/* SPDX-License-Identifier: MIT */
/*
 * What is tested: the library, or the C library's malloc, on which the harness itself is
 * tested. With that nothing is collected: the ledger frees what was dropped.
 */
#ifndef SH_HARNESS_BACKEND_H
#define SH_HARNESS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

struct backend {
    const char *name;
    bool collects;

    /* gc.h */
    void *(*gc_alloc)(size_t bytes, unsigned flags);
    void (*gc_free)(void *p);
    size_t (*gc_nbytes)(const void *p);
    void *(*gc_realloc)(void *p, size_t bytes, bool allow_move);

    /* The malloc family. */
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *p, size_t size);
    void *(*reallocarray)(void *p, size_t count, size_t size);
    int (*posix_memalign)(void **out, size_t alignment, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    size_t (*malloc_usable_size)(void *p);
    void (*free)(void *p);
    void (*free_sized)(void *p, size_t size);
    void (*free_aligned_sized)(void *p, size_t alignment, size_t size);
};

extern const struct backend *backend;

/* Chooses by settings.plain_malloc; before any thread starts. */
void backend_choose(void);

#endif /* SH_HARNESS_BACKEND_H */
