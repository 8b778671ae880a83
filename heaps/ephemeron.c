/* SPDX-License-Identifier: MIT */
/* Ephemerons. See heaps/ephemeron.h. */
#include "heaps/ephemeron.h"

#include <splitheap/gc.h>
#include <splitheap/weakref.h>

#include "heaps/mark_team.h"
#include "heaps/run.h"
#include "heaps/tables.h"
#include "lib/bits.h"

size_t sh_ephemeron_looks;

/* ---- Tracing ---- */

static void mark_word(const void *p)
{
    sh_mark_root_now(&p, &p + 1);
}

/* The link's target is marked. */
static void mark_by(struct sh_weak_link *link)
{
    sh_ephemeron_looks++;
    enum sh_weak_kind kind = sh_weak_kind_of(link);
    if (kind == SH_WEAK_FINALIZE)
        mark_word(link);
    else if (kind == SH_WEAK_EPHEMERON && sh_weak_is_live(link))
        mark_word(sh_ephemeron_value((struct gc_ephemeron *)link));
}

/* The cell is a link, and marked. */
static void ask_link(struct sh_weak_link *link)
{
    void *target = sh_reveal(sh_load_relaxed(&link->target));
    if (target && sh_weak_is_live(target))
        mark_by(link);
}

/* Marks what lives by the cell, which is marked. */
static void ask(struct sh_cell cell)
{
    sh_ephemeron_looks++;
    uintptr_t *first = sh_weak_first(cell);
    struct sh_weak_link *link = first ? sh_reveal(*first) : NULL;
    for (; link; link = sh_reveal(link->next))
        mark_by(link);
    if (sh_weak_is_link(cell))
        ask_link((struct sh_weak_link *)sh_span_cell(cell.span, cell.index));
}

static void ask_word(struct sh_span *span, uint32_t w)
{
    uint64_t cells =
        sh_table_word(&span->weak_bits, w) & sh_span_word(span, w, SH_CELL_LIVE);
    if (sh_span_collected(span))
        cells &= sh_span_marked(span, w);
    for (; cells; cells &= cells - 1)
        ask((struct sh_cell){span, w * 64 + sh_ctz64(cells)});
}

static void ask_all(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        for (uint32_t w = 0; sh_load_acquire(&span->weak_bits) && w < span->touched;
             w++)
            ask_word(span, w);
}

static void follow(void)
{
    void *cell;
    bool more = true;
    while (more) {
        sh_mark_watch_follow();
        for (more = false; sh_mark_watch_next(&cell); more = true)
            ask(sh_weak_cell_at(cell));
    }
}

void sh_ephemeron_trace(void)
{
    bool again = sh_load_relaxed(&sh_weak_holders) != 0;
    while (again) {
        sh_lock_acquire(&sh_weak_lock);
        sh_mark_watch_begin();
        ask_all();
        follow();
        again = sh_mark_watch_end();
        sh_lock_release(&sh_weak_lock);
        sh_mark_complete();
    }
}

/* ---- The face ---- */

SH_PUBLIC struct gc_ephemeron *gc_ephemeron_new(void *key, void *value)
{
    struct gc_ephemeron *ephemeron = sh_weak_new(sizeof *ephemeron);
    if (!ephemeron)
        return NULL;
    sh_weak_link_init(&ephemeron->link, SH_WEAK_EPHEMERON, false);
    ephemeron->value = sh_hide(value);
    return sh_weak_link_begin(&ephemeron->link, key, value);
}

/* Both come out of one critical section: a collection is before, or after. */
SH_PUBLIC void *gc_ephemeron_get(struct gc_ephemeron *ephemeron, void **value)
{
    sh_weak_read_begin();
    void *key = sh_reveal(sh_load_relaxed(&ephemeron->link.target));
    void *held = key ? sh_ephemeron_value(ephemeron) : NULL;
    __asm__ volatile("" : "+r"(key), "+r"(held)::"memory"); /* here they are roots */
    sh_weak_read_end();
    if (value)
        *value = held;
    return key;
}

SH_PUBLIC void gc_ephemeron_free(struct gc_ephemeron *ephemeron)
{
    if (!ephemeron)
        return;
    sh_weak_link_cancel(&ephemeron->link);
    gc_free(ephemeron);
}
