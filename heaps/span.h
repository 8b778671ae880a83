/* SPDX-License-Identifier: MIT */
/*
 * The span descriptor, and what its bit tables say of a cell.
 *
 *   pages    [ cell 0 | cell 1 | ... | cell n-1 | rest ]      in an area
 *
 *   struct sh_span                                            in metadata memory
 *     header
 *     words  { alloc, remote } { alloc, remote } ...          64 cells a word
 *     marks  mark, mark, ...
 *     held   held, held, ...
 *
 *   alloc    the cell is handed out.                 written by the owner (see below)
 *   remote   freed by a thread that is not the owner, not yet taken back.  atomic OR
 *   mark     reached in the last collection          written by markers, world stopped
 *   held     handed out, or a round of its owner's magazine      the owner's slow paths
 *   final    has a finaliser · weak  weakly referenced         atomic OR and AND; rare
 *
 * A cell is live when `alloc & ~remote` has its bit: exact at any time, with no look
 * at any cache. There is always at least one bit more than cells; the bits past the
 * last cell are set in alloc, remote and held for good, so that no test needs a bound.
 *
 * The owner of a small span is a cache (heaps/cache.h): a thread's, or the shared one
 * under its lock. Large and huge objects have a span of their own with one cell, no
 * owner, and a reciprocal of 0, which sends fast paths away and makes every offset
 * lead to cell 0.
 *
 * Descriptors are type-stable (lib/meta.h): a stale pointer to one still points at one,
 * and `queued` and `inbox_next` keep their meaning from one life to the next.
 */
#ifndef SH_HEAPS_SPAN_H
#define SH_HEAPS_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heaps/size_class.h"
#include "lib/atomic.h"
#include "lib/bits.h"
#include "lib/compiler.h"
#include "lib/os.h"

enum sh_kind {
    SH_KIND_EXPLICIT, /* malloc: never collected, scanned as a root */
    SH_KIND_SCAN,     /* gc_alloc: cleared, scanned, collected */
    SH_KIND_LEAF,     /* gc_alloc with FLAG_LEAF: collected, never scanned */
    SH_KIND_COUNT
};

enum sh_span_state {
    SH_SPAN_FREE, /* a free run: see heaps/run.h */
    SH_SPAN_SMALL,
    SH_SPAN_LARGE, /* one object, in an area */
    SH_SPAN_HUGE,  /* one object, an area of its own */
};

/* Which of its owner's lists a small span is on. */
enum sh_span_list {
    SH_LIST_NONE, /* current in its bin, or in nobody's hands */
    SH_LIST_AVAILABLE,
    SH_LIST_FULL,
    SH_LIST_DEAD, /* about to be given back: no list's head, and nobody's to place */
    SH_LIST_COUNT
};

struct sh_word {
    _Atomic uint64_t alloc;
    _Atomic uint64_t remote;
};

struct sh_cache;
struct sh_area;

struct sh_span {
    /* Read by every free and by the marker; written at birth, `owner` at adoption. */
    uintptr_t base;      /* of cell 0 */
    uint64_t reciprocal; /* 0 where there is one cell */
    uint32_t cell_count;
    _Atomic uintptr_t owner; /* a struct sh_cache *, or'ed with SH_OWNER_SLOW */
    size_t cell_size;        /* bytes; of a free run 0 */
    uint64_t *marks;
    _Atomic(_Atomic uint64_t *) final_bits; /* NULL until first needed */
    _Atomic(_Atomic uint64_t *) weak_bits;
    uint8_t kind, state, class_index;
    uint16_t bin_offset; /* of its bin in its owner's cache, bytes */
    bool pinned; /* a user's area lies in the object: see heaps/area.h */
    bool zeroed; /* the pages read as zero (runs; large objects at birth) */

    /* Written by the owner, in its slow paths. */
    SH_ALIGNED(SH_CACHE_LINE) uint64_t *held;
    uint32_t used;               /* held cells */
    uint32_t wake;               /* `used` at which the span changes its list */
    uint64_t pass;               /* words with free cells still to visit */
    uint32_t touched;            /* words ever taken from: [0, touched) */
    uint32_t epoch;              /* of the last collection that was swept */
    struct sh_span *next, *prev; /* owner's list; or bucket, of a free run */
    uint8_t list;
    uint8_t bucket; /* of a free run */

    /* Written by threads that free remotely. */
    SH_ALIGNED(SH_CACHE_LINE)
    _Atomic uint64_t remote_words; /* words with remote bits */
    _Atomic uint32_t queued; /* linked in an inbox, or about to be; cleared only by
                              * who unlinked it */
    struct sh_span *inbox_next;

    /* Under the heap's lock. */
    SH_ALIGNED(SH_CACHE_LINE) struct sh_span *all_next, *all_prev; /* every span */
    struct sh_area *area;
    size_t pages;
    size_t room; /* cells that its table has room for; set by sh_span_new */

    SH_ALIGNED(SH_CACHE_LINE) struct sh_word words[];
};

/* In `owner`: every free goes the slow way, for the span has final or weak bits, or dead
 * cells that wait to be swept, or cells are filled (heaps/fill.h). */
#define SH_OWNER_SLOW ((uintptr_t)1)
#define SH_WAKE_NEVER UINT32_MAX

SH_INLINE struct sh_cache *sh_span_owner(struct sh_span *span)
{
    return (struct sh_cache *)(sh_load_relaxed(&span->owner) & ~SH_OWNER_SLOW);
}

/* Words that have a cell; the table has room for one bit more. */
SH_INLINE uint32_t sh_span_words(const struct sh_span *span)
{
    return (span->cell_count + 63) / 64;
}

SH_INLINE size_t sh_span_table_words(size_t cells)
{
    return cells / 64 + 1;
}

/* The bits of word w past the last cell. */
SH_INLINE uint64_t sh_span_tail(const struct sh_span *span, uint32_t w)
{
    return w < span->cell_count / 64 ? 0 : ~sh_low_bits64(span->cell_count % 64);
}

SH_INLINE uint64_t sh_word_live(struct sh_word *word)
{
    return sh_load_relaxed(&word->alloc) & ~sh_load_relaxed(&word->remote);
}

/* The number of the cell that holds `address`, an address within the span. */
SH_INLINE uint32_t sh_span_cell_of(const struct sh_span *span, uintptr_t address)
{
    bool exact;
    return sh_divide(address - span->base, span->reciprocal, &exact);
}

SH_INLINE uintptr_t sh_span_cell(const struct sh_span *span, uint32_t cell)
{
    return span->base + (uintptr_t)cell * span->cell_size;
}

SH_INLINE uint64_t sh_cell_bit(uint32_t cell)
{
    return (uint64_t)1 << (cell % 64);
}

/* The word of a cell: words[cell / 64], in two instructions. */
SH_INLINE struct sh_word *sh_span_word_of(struct sh_span *span, uint32_t cell)
{
    _Static_assert(sizeof(struct sh_word) == 16, "64 cells are 16 bytes of table");
    return (
        struct sh_word *)(void *)((char *)span->words + ((cell >> 2) & ~(uint32_t)15));
}

SH_INLINE bool sh_span_collected(const struct sh_span *span)
{
    return span->kind != SH_KIND_EXPLICIT;
}

/* A descriptor whose table has room for `cells`, its fields unset; NULL: no memory.
 * Any lock below SH_RANK_META may be held. */
struct sh_span *sh_span_new(size_t cells);
void sh_span_delete(struct sh_span *span);

/* Sets every field of the life that begins, but room; the tables say that no cell is live.
 * `cells` is at most room. */
void sh_span_setup(
    struct sh_span *span, uintptr_t base, size_t cell_size, size_t cells);

/* Checks all that can be said of a small span; the caller may read it. */
void sh_span_valid(struct sh_span *span);

#endif /* SH_HEAPS_SPAN_H */
