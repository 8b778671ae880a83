/* SPDX-License-Identifier: MIT */
/* Callbacks of dead objects. See heaps/callback.h. */
#include "heaps/callback.h"

#include <splitheap/gc.h>

#include "heaps/ephemeron.h"
#include "heaps/mark_team.h"
#include "heaps/run.h"
#include "heaps/tables.h"
#include "heaps/weak_link.h"
#include "lib/meta.h"
#include "threads/thread.h"

#define CHUNK_ENTRIES 1022

/* An entry is the object's address, a multiple of 16, and beside it why it waits: as a
 * pointer into the object it holds it. 0: freed meanwhile. */
#define FINAL ((uintptr_t)1)
#define WEAK ((uintptr_t)2)
#define REASONS (FINAL | WEAK)

/* A first-in-first-out queue of chunks. */
struct chunk {
    struct chunk *next;
    unsigned from, to; /* entries [from, to) wait */
    uintptr_t entries[CHUNK_ENTRIES];
};

struct sh_lock sh_callback_lock = SH_LOCK_INIT(SH_RANK_CALLBACK);
static struct chunk *first, *last;
static _Atomic size_t waiting; /* entries queued */

/*
 * The frame in which this thread is running callbacks, or 0: what they cause to be queued
 * is run after them, not inside them. A callback may leave by an exception or longjmp, of
 * which nobody tells us: then a frame that does not lie below says so, or that there was
 * no end of asking.
 */
#define REFUSALS 16
static SH_TLS uintptr_t running;
static SH_TLS unsigned refused;

static bool append_chunk(void)
{
    struct chunk *chunk = sh_meta_alloc(sizeof *chunk);
    if (!chunk)
        return false;
    chunk->next = NULL;
    chunk->from = chunk->to = 0;
    if (last)
        last->next = chunk;
    else
        first = chunk;
    last = chunk;
    return true;
}

static bool enqueue(uintptr_t entry)
{
    if ((!last || last->to == CHUNK_ENTRIES) && !append_chunk())
        return false;
    last->entries[last->to++] = entry;
    sh_add_relaxed(&waiting, (size_t)1);
    return true;
}

void sh_callback_forget(const void *object)
{
    if (!sh_load_relaxed(&waiting))
        return;
    sh_lock_acquire(&sh_callback_lock);
    for (struct chunk *chunk = first; chunk; chunk = chunk->next)
        for (unsigned i = chunk->from; i < chunk->to; i++)
            if ((chunk->entries[i] & ~REASONS) == (uintptr_t)object)
                chunk->entries[i] = 0;
    sh_lock_release(&sh_callback_lock);
}

static bool dequeue(uintptr_t *entry)
{
    if (!first)
        return false;
    *entry = first->entries[first->from++];
    sh_sub_relaxed(&waiting, (size_t)1);
    if (first->from == first->to) {
        struct chunk *done = first;
        first = done->next;
        if (!first)
            last = NULL;
        sh_meta_free(done, sizeof *done);
    }
    return true;
}

/* ---- Gathering ---- */

static bool marked_from; /* the gathering of now found some */

/* Why a cell with a final or weak bit waits, if at all: a link needs no hook. */
static uintptr_t reasons_of(struct sh_cell cell)
{
    uintptr_t reasons = sh_table_test(cell, &cell.span->final_bits) ? FINAL : 0;
    if (sh_table_test(cell, &cell.span->weak_bits) &&
        sh_weak_is_hooked((void *)sh_span_cell(cell.span, cell.index)))
        reasons |= WEAK;
    return reasons;
}

static void gather_cell(struct sh_cell cell)
{
    uintptr_t start = sh_span_cell(cell.span, cell.index), reasons = reasons_of(cell);
    marked_from |= reasons != 0;
    /* Without memory for the entry the object waits for the next collection. */
    if (!reasons || !enqueue(start | reasons))
        return;
    sh_table_clear(cell, &cell.span->final_bits);
    if (reasons & WEAK)
        sh_weak_unhook((void *)start, cell);
}

static void gather_word(struct sh_span *span, uint32_t w)
{
    uint64_t final = sh_table_word(&span->final_bits, w);
    uint64_t weak = sh_table_word(&span->weak_bits, w);
    uint64_t dead =
        (final | weak) & sh_span_word(span, w, SH_CELL_LIVE) & ~sh_span_marked(span, w);
    for (; dead; dead &= dead - 1)
        gather_cell((struct sh_cell){span, w * 64 + sh_ctz64(dead)});
}

/* What could not be queued keeps its bits and has to live on. */
static void mark_left_over(struct sh_span *span, uint32_t w)
{
    uint64_t left =
        sh_table_word(&span->final_bits, w) | sh_table_word(&span->weak_bits, w);
    left &= sh_span_word(span, w, SH_CELL_LIVE) & ~sh_span_marked(span, w);
    for (; left; left &= left - 1) {
        struct sh_cell cell = {span, w * 64 + sh_ctz64(left)};
        uintptr_t start = sh_span_cell(span, cell.index);
        if (reasons_of(cell))
            sh_mark_root_now(&start, &start + 1);
    }
}

static bool has_tables(struct sh_span *span)
{
    return sh_span_collected(span) &&
           (sh_load_acquire(&span->final_bits) || sh_load_acquire(&span->weak_bits));
}

static void gather_dead(void)
{
    struct sh_span *span;
    marked_from = false;
    for (span = sh_span_first(); span; span = span->all_next)
        for (uint32_t w = 0; has_tables(span) && w < span->touched; w++)
            gather_word(span, w);
    sh_callback_add_queued();
    sh_mark_complete();
    for (span = sh_span_first(); span; span = span->all_next)
        for (uint32_t w = 0; has_tables(span) && w < span->touched; w++)
            mark_left_over(span, w);
    sh_mark_complete();
    if (marked_from)
        sh_ephemeron_trace();
}

void sh_callback_gather(void)
{
    if (!sh_load_relaxed(&sh_span_tables))
        return;
    sh_ephemeron_trace();
    sh_weak_clear_short();
    gather_dead();
    sh_weak_clear_rest(true);
}

void sh_callback_add_queued(void)
{
    sh_weak_add_queued();
    for (struct chunk *chunk = first; chunk; chunk = chunk->next)
        sh_mark_root_now(chunk->entries + chunk->from, chunk->entries + chunk->to);
}

/* ---- Running ---- */

static bool next_entry(uintptr_t *entry)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_callback_lock);
    bool there = dequeue(entry);
    sh_lock_release(&sh_callback_lock);
    sh_critical_leave();
    return there;
}

static void run_entry(uintptr_t entry)
{
    void *object = (void *)(entry & ~REASONS);
    if (!object)
        return; /* freed meanwhile */
    if (entry & WEAK)
        gc_weakref_about_to_be_freed(object);
    /* Until the program has set the type there is nothing to finalise. */
    if ((entry & FINAL) && *(void **)object)
        gc_finalise(object);
}

static bool run_next(void)
{
    uintptr_t entry = 0;
    bool there = next_entry(&entry);
    if (there)
        run_entry(entry);
    return there;
}

void sh_callback_none_running(void)
{
    running = 0;
}

bool sh_callback_run(void)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    bool any = false;
    if (running && frame < running && refused++ < REFUSALS)
        return false;
    running = frame;
    refused = 0;
    while (sh_weak_run_one() || run_next())
        any = true;
    gc_weakref_sweep();
    running = 0;
    return any;
}
