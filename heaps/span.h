/* SPDX-License-Identifier: MIT */
/*
 * The span descriptor, and what its tables say of a cell.
 *
 *   pages    [ cell 0 | cell 1 | ... | cell n-1 | rest ]      in an area
 *
 *   struct sh_span                                            in metadata memory
 *     header
 *     states   a byte a cell
 *     marks    a byte a cell, elsewhere; only of collected kinds
 *
 *   state    who has the cell: enum sh_cell_state         written by the owner; by anyone
 *                                                         from LIVE to HELD or REMOTE; by
 *                                                         who holds it
 *   mark     reached in the last collection: enum sh_mark  written with the world stopped
 *   final    has a finaliser · weak  weakly referenced ·
 *   waiting  dead, and to be told of or finalised         atomic OR and AND; rare
 *
 *            refill           malloc            free by another thread
 *      FREE ---------> HELD <---------> LIVE ------------------------> REMOTE
 *        ^              | |     free                                   ^  |
 *        |       unload | | unload, of a cell of another's span        |  |
 *        |<-------------' `--------------------------------------------'  |
 *        `----------------------------------------------------------------' taken back
 *
 * A cell is live when its state says so: exact at any time, with no look at any cache. A
 * byte is stored by one thread at a time without reading its neighbours, so that no
 * store, however late, changes what another thread or the collector did to another
 * cell. There is always at least one byte more than cells; those past the last cell say
 * NONE for good, so that no test needs a bound.
 *
 * A mark is a byte, too: several markers set marks of neighbours with plain stores, and
 * two that find the same cell at once both scan it, which does no harm.
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
#include <string.h>

#include "heaps/size_class.h"
#include "lib/atomic.h"
#include "lib/bits.h"
#include "lib/compiler.h"
#include "lib/os.h"

enum sh_kind {
    SH_KIND_EXPLICIT, /* malloc: never collected, scanned as a root */
    SH_KIND_SCAN,     /* gc_alloc: cleared, scanned, collected */
    SH_KIND_LEAF,     /* gc_alloc with FLAG_LEAF: collected, never scanned */
    SH_KIND_TYPED,    /* with FLAG_TYPED: as SCAN, but its type says what it holds */
    SH_KIND_COUNT
};

/* Cells of the kind are cleared when they are handed out. */
SH_INLINE bool sh_kind_is_cleared(unsigned kind)
{
    return kind == SH_KIND_SCAN || kind == SH_KIND_TYPED;
}

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

enum sh_cell_state {
    SH_CELL_FREE,   /* in its span */
    SH_CELL_HELD,   /* free, in somebody's magazine */
    SH_CELL_LIVE,   /* handed out */
    SH_CELL_REMOTE, /* freed by another thread, not yet taken back */
    SH_CELL_NONE,   /* no cell */
};

/* Not 0: marked. */
enum sh_mark {
    SH_MARK_REACHED = 1,  /* in this collection, or in one since the last full one */
    SH_MARK_NOT_LIVE = 2, /* it was not live when the collection began */
    SH_MARK_WAITING = 4,  /* only from what waits to be finalised or told of */
};

typedef _Atomic uint8_t sh_cell_byte;

struct sh_cache;
struct sh_area;
struct sh_finalisers;
struct sh_weak_word;

struct sh_span {
    /* Written by the owner, in its slow paths. */
    uint32_t used;               /* cells that are not FREE */
    uint32_t wake;               /* `used` at which the span changes its list */
    uint64_t pass;               /* words with free cells still to visit */
    uint32_t touched;            /* words ever taken from: [0, touched) */
    uint32_t epoch;              /* of the last collection that was swept */
    struct sh_span *next, *prev; /* owner's list; or bucket, of a free run */
    uint8_t list;
    uint8_t bucket; /* of a free run */

    /* The collector's: see heaps/minor.h. A bit for each part. */
    uint64_t guarded; /* those that are */
    uint64_t open;    /* while marking, those that are not, or were written to */

    /* Written by threads that free remotely. */
    SH_ALIGNED(SH_CACHE_LINE)
    _Atomic uint64_t remote_words; /* words with REMOTE cells */
    _Atomic uint32_t queued; /* linked in an inbox, or about to be; cleared only by
                              * who unlinked it */
    struct sh_span *inbox_next;

    /* Rare: see heaps/callback.h. */
    _Atomic(_Atomic uint64_t *) waiting_bits;
    struct sh_finalisers *finalisers;          /* under the callbacks' lock */
    _Atomic(struct sh_weak_word *) weak_words; /* heaps/weak_table.h */

    /* Under the heap's lock. */
    SH_ALIGNED(SH_CACHE_LINE) struct sh_span *all_next, *all_prev; /* every span */
    struct sh_area *area;
    size_t pages;
    size_t room; /* cells that its table has room for; set by sh_span_new */

    _Atomic(_Atomic uint64_t *) final_bits; /* NULL until first needed */
    _Atomic(_Atomic uint64_t *) weak_bits;
    uint8_t class_index;
    bool pinned; /* a user's area lies in the object: see heaps/area.h */
    bool zeroed; /* the pages read as zero (runs; large objects at birth) */

    /* Read by every free and by the marker; written at birth, `owner` at adoption. In a
     * line of their own: other threads' frees read them while the owner writes states. */
    SH_ALIGNED(SH_CACHE_LINE) uintptr_t base; /* of cell 0 */
    uint64_t reciprocal;                      /* 0 where there is one cell */
    _Atomic uintptr_t owner; /* a struct sh_cache *, or'ed with SH_OWNER_FLAGS */
    uint32_t cell_count;
    uint16_t bin_offset; /* of its bin in its owner's cache, bytes */
    uint8_t kind, state;
    _Atomic uint8_t *marks; /* enum sh_mark; only of collected kinds */
    size_t cell_size;       /* bytes; of a free run 0 */
    uint32_t live;          /* LIVE cells when the collection began; the collector's, */
    bool settled;           /* and this: see heaps/minor.h */
#if SH_CHECKS >= 3
    uint64_t sums[64];   /* of the parts that are guarded, */
    size_t summed_pages; /* when it had so many pages */
#endif

    SH_ALIGNED(SH_CACHE_LINE) sh_cell_byte states[];
};

/* In `owner`: every free goes the slow way, for the span has tables, or dead cells that wait
 * to be swept, or cells are filled (heaps/fill.h); and: it has tables, so that it stays so. */
#define SH_OWNER_SLOW ((uintptr_t)1)
#define SH_OWNER_TABLES ((uintptr_t)2)
#define SH_OWNER_FLAGS (SH_OWNER_SLOW | SH_OWNER_TABLES)
#define SH_WAKE_NEVER UINT32_MAX

SH_INLINE struct sh_cache *sh_span_owner(struct sh_span *span)
{
    return (struct sh_cache *)(sh_load_relaxed(&span->owner) & ~SH_OWNER_FLAGS);
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

SH_INLINE uint8_t sh_cell_state(const struct sh_span *span, uint32_t cell)
{
    return sh_load_relaxed(&span->states[cell]);
}

SH_INLINE void sh_cell_set(
    struct sh_span *span, uint32_t cell, enum sh_cell_state state)
{
    sh_store_relaxed(&span->states[cell], (uint8_t)state);
}

/* The cells of word w in that state, a bit each. */
SH_INLINE uint64_t sh_span_word(
    const struct sh_span *span, uint32_t w, enum sh_cell_state state)
{
    return sh_bytes_equal(&span->states[w * 64], (uint8_t)state);
}

SH_INLINE bool sh_cell_marked(const struct sh_span *span, uint32_t cell)
{
    return sh_load_relaxed(&span->marks[cell]) != 0;
}

/* The marked cells of word w. */
SH_INLINE uint64_t sh_span_marked(const struct sh_span *span, uint32_t w)
{
    return ~sh_bytes_equal(&span->marks[w * 64], 0);
}

/* Those cells of word w become FREE. Nobody else writes their states meanwhile. */
SH_INLINE void sh_span_free_word(struct sh_span *span, uint32_t w, uint64_t cells)
{
    if (cells == ~(uint64_t)0) {
        memset((void *)(uintptr_t)&span->states[w * 64], SH_CELL_FREE, 64);
        return;
    }
    for (; cells; cells &= cells - 1)
        sh_cell_set(span, w * 64 + sh_ctz64(cells), SH_CELL_FREE);
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

SH_INLINE uintptr_t sh_span_end(const struct sh_span *span)
{
    return span->base + span->pages * SH_PAGE_SIZE;
}

/* Of word w, the bits of the cells from `first` to `last`, that included; it has some. */
SH_INLINE uint64_t sh_word_between(uint32_t w, uint32_t first, uint32_t last)
{
    uint64_t bits = ~(uint64_t)0;
    if (w == first / 64)
        bits &= ~sh_low_bits64(first % 64);
    if (w == last / 64)
        bits &= sh_low_bits64(last % 64 + 1);
    return bits;
}

SH_INLINE uint64_t sh_cell_bit(uint32_t cell)
{
    return (uint64_t)1 << (cell % 64);
}

SH_INLINE bool sh_span_collected(const struct sh_span *span)
{
    return span->kind != SH_KIND_EXPLICIT;
}

/* A descriptor whose tables have room for `cells`, one for marks if it is of a collected
 * kind, its fields unset; NULL: no memory. Any lock below SH_RANK_META may be held. */
struct sh_span *sh_span_new(size_t cells, uint8_t kind);
void sh_span_delete(struct sh_span *span);

/* Sets every field of the life that begins, but room; the tables say that no cell is live.
 * `cells` is at most room; a collected kind takes a descriptor new for one. */
void sh_span_setup(
    struct sh_span *span, uintptr_t base, size_t cell_size, size_t cells, uint8_t kind);

/* Final, weak and waiting tables that there are, of all spans. */
extern _Atomic size_t sh_span_tables;

/* Checks all that can be said of a small span; the caller may read it. */
void sh_span_valid(struct sh_span *span);

#endif /* SH_HEAPS_SPAN_H */
