/* SPDX-License-Identifier: MIT */
/* Messages for misused pointers. Takes no lock. */
#include "heaps/misuse.h"

#include "heaps/page_map.h"
#include "lib/check.h"

static void misuse_interior(const char *call, const void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    uint32_t cell = sh_span_cell_of(span, (uintptr_t)p);
    uintptr_t start = sh_span_cell(span, cell);
    sh_misused(
        "%s(%p): interior pointer: it points %zu bytes into the %zu-byte cell at "
        "%p; pass the pointer that the allocation returned",
        call, p, (size_t)((uintptr_t)p - start), span->cell_size, (void *)start);
}

static void misuse_dead(const char *call, const void *p)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
    uint32_t cell = sh_span_cell_of(span, (uintptr_t)p);
    if (cell / 64 >= span->touched)
        sh_misused("%s(%p): never allocated: the %zu-byte cell there was not handed "
                   "out yet; pass a pointer that an allocation returned",
            call, p, span->cell_size);
    else
        sh_misused("%s(%p): double free: the %zu-byte cell there is free already; it "
                   "was freed or collected before, look for its other owner",
            call, p, span->cell_size);
}

void sh_misuse_pointer(const char *call, const void *p, enum sh_found found)
{
    if (found == SH_FOUND_INTERIOR)
        misuse_interior(call, p);
    else if (found == SH_FOUND_DEAD)
        misuse_dead(call, p);
    else if (sh_page_map_lookup((uintptr_t)p))
        sh_misused("%s(%p): not allocated: the page there is the heap's but free; what "
                   "was there was freed before, or it never was an object",
            call, p);
    else
        sh_misused("%s(%p): foreign pointer: no memory of this heap is there; pass "
                   "only what its functions returned",
            call, p);
}

_Atomic uintptr_t sh_misuse_untold;

void sh_misuse_race(const void *p)
{
    uintptr_t none = 0;
    sh_cas_seq_cst(&sh_misuse_untold, &none, (uintptr_t)p);
}

void sh_misuse_tell_race(void)
{
    const void *p = (const void *)sh_exchange_seq_cst(&sh_misuse_untold, (uintptr_t)0);
    if (!p)
        return;
    sh_misused("free(%p): double free: two threads freed the cell there at the same "
               "time; look for its other owner",
        p);
}

void sh_misuse_pinned(const char *call, const void *p)
{
    sh_misused(
        "%s(%p): the heap was given this memory by gc_init or gc_add; it has to stay "
        "until the program ends",
        call, p);
}

void sh_misuse_link(const char *call, const void *p)
{
    sh_misused(
        "%s(%p): a reference, finalize or ephemeron, which cannot be resized; free "
        "it, and make another",
        call, p);
}

void sh_misuse_size(const char *call, const void *p, size_t given, size_t usable)
{
    sh_misused(
        "%s(%p): wrong size: %zu bytes given, but the cell has %zu; pass the size "
        "that was asked for",
        call, p, given, usable);
}

void sh_misuse_alignment(const char *call, const void *p, size_t given)
{
    sh_misused("%s(%p): wrong alignment: %zu given, which the pointer does not have; "
               "pass the alignment that was asked for",
        call, p, given);
}
