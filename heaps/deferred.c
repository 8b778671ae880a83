/* SPDX-License-Identifier: MIT */
/* Frees put off by gc_lock. The owner only; takes SH_RANK_META. */
#include "heaps/deferred.h"

#include "heaps/heap.h"
#include "heaps/misuse.h"
#include "lib/meta.h"
#include "lib/print.h"

#define CHUNK_POINTERS 62

struct chunk {
    struct chunk *next;
    unsigned count;
    void *pointers[CHUNK_POINTERS];
};

static struct chunk *chunk_with_room(struct sh_thread *self)
{
    struct chunk *chunk = self->deferred;
    if (chunk && chunk->count < CHUNK_POINTERS)
        return chunk;
    sh_critical_enter();
    struct chunk *fresh = sh_meta_alloc(sizeof *fresh);
    sh_critical_leave();
    if (!fresh)
        return NULL;
    fresh->next = chunk;
    fresh->count = 0;
    self->deferred = fresh;
    return fresh;
}

bool sh_deferred_add(void *p)
{
    struct sh_thread *self = sh_tls.self;
    struct sh_cell cell;
    enum sh_found found = sh_cell_find(p, &cell);
    if (found != SH_FOUND_LIVE) {
        sh_misuse_pointer("gc_free", p, found);
        return true;
    }
    if (!self)
        return false;
    struct chunk *chunk = chunk_with_room(self);
    if (chunk)
        chunk->pointers[chunk->count++] = p;
    else if (!sh_span_collected(cell.span))
        sh_print(&sh_stderr_sink,
            "splitheap: gc_free(%p): inside gc_lock and no memory to put it off; "
            "it is never freed\n",
            p);
    return true;
}

static void drop_chunk(struct sh_thread *self)
{
    struct chunk *chunk = self->deferred;
    self->deferred = chunk->next;
    sh_critical_enter();
    sh_meta_free(chunk, sizeof *chunk);
    sh_critical_leave();
}

void sh_deferred_free(struct sh_thread *self)
{
    struct chunk *chunk;
    while ((chunk = self->deferred)) {
        /* Taken off first: freeing may call out, and back in. */
        void *p = chunk->count ? chunk->pointers[--chunk->count] : NULL;
        if (p)
            sh_heap_free(p, "gc_free");
        else
            drop_chunk(self);
    }
}
