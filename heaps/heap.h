/* SPDX-License-Identifier: MIT */
/*
 * The heap below its two faces (gc.c, malloc.c): allocating, freeing and resizing cells
 * of any kind and size. Any thread, registered or not; not in a critical section.
 */
#ifndef SH_HEAPS_HEAP_H
#define SH_HEAPS_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/span.h"

/* From here on an object has a mapping of its own. */
#define SH_HUGE_MIN ((size_t)32 << 20)

/* Makes the tables ready and tells the registry of the heap. Idempotent. */
void sh_heap_init(void);

/* What is asked of the heap. */
struct sh_request {
    size_t bytes;
    size_t align; /* a power of two; up to SH_GRANULE means none */
    enum sh_kind kind;
    bool zero; /* the usable bytes read as zero */
};

/* NULL with errno ENOMEM. May collect. */
void *sh_heap_alloc(const struct sh_request *request);

/* A live cell, or why there is none. */
enum sh_found { SH_FOUND_LIVE, SH_FOUND_NOWHERE, SH_FOUND_INTERIOR, SH_FOUND_DEAD };

struct sh_cell {
    struct sh_span *span;
    uint32_t index;
};

/* What starts at p. */
enum sh_found sh_cell_find(const void *p, struct sh_cell *cell);

/* Frees the cell at p, not NULL; `call` names the caller's function in the message if
 * it cannot: that is misuse. Keeps errno. */
void sh_heap_free(void *p, const char *call);

/* Usable bytes of the live cell at p; else it is misuse in the name of `call`, and 0. */
size_t sh_heap_usable(const void *p, const char *call);

/* Resizes the cell at p, not NULL, to n > 0 bytes; its kind and bits stay. NULL: it
 * cannot (errno ENOMEM where memory was the reason, EINVAL where p was misused); the cell stays
 * as it was. */
void *sh_heap_resize(void *p, size_t n, bool allow_move, const char *call);

/* Gives back all memory that can be: pages freed before, and what is empty among the
 * spans of the calling thread and of nobody's. True: there was some. */
bool sh_heap_trim(void);

/* Sets the final bit of the live cell at p; false: no memory for the table. */
bool sh_object_set_final(void *p);

/* The most bytes that may be mapped now: gc_get_max_new_split, asked again where less than
 * `needed` is what was remembered. No critical section. */
size_t sh_heap_may_map(size_t needed);

/* Maps a further area with room for `pages`, unless the heap grew since `seen` areas
 * were counted. False: the limit or the system refused. No critical section: calls
 * gc_get_max_new_split. */
bool sh_heap_grow(size_t pages, uint32_t seen);

#endif /* SH_HEAPS_HEAP_H */
