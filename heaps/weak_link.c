/* SPDX-License-Identifier: MIT */
/* Links and their queue. See heaps/weak_link.h. */
#include "heaps/weak_link.h"

#include <splitheap/gc.h>

#include <errno.h>

#include "heaps/callback.h"
#include "heaps/ephemeron.h"
#include "heaps/mark_team.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/tables.h"
#include "lib/bits.h"
#include "threads/registry.h"
#include "threads/thread.h"

struct sh_lock sh_weak_lock = SH_LOCK_INIT(SH_RANK_WEAK);
_Atomic size_t sh_weak_holders;
bool sh_weak_all_live;

/* Hidden; 0: empty. */
static uintptr_t queue_first, queue_last;
static _Atomic size_t waiting; /* in the queue; read without the lock */

/* ---- Slots ---- */

/* One for the cell at p, made where there is none; there is room for it. NULL: no memory. */
static struct sh_weak_slot *slot_for(const void *p, struct sh_cell cell)
{
    struct sh_weak_slot *slot = sh_weak_find(p);
    if (slot)
        return slot;
    bool hooked = sh_table_test(cell, &cell.span->weak_bits);
    if (!sh_table_set(cell, &cell.span->weak_bits))
        return NULL;
    slot = sh_weak_add(p);
    slot->key |= hooked ? SH_WEAK_HOOKED : 0;
    return slot;
}

/* Gives the slot back if it says nothing; of one that is hooked the bit says enough. */
static void tidy(const void *p)
{
    struct sh_weak_slot *slot = sh_weak_find(p);
    if (!slot || slot->first || slot->key & SH_WEAK_LINK)
        return;
    if (!(slot->key & SH_WEAK_HOOKED)) {
        struct sh_span *span = sh_page_map_lookup((uintptr_t)p);
        struct sh_cell cell = {span, sh_span_cell_of(span, (uintptr_t)p)};
        sh_table_clear(cell, &span->weak_bits);
    }
    sh_weak_remove(slot);
}

static void forget_link(struct sh_weak_link *link)
{
    struct sh_weak_slot *slot = sh_weak_find(link);
    if (!slot)
        return;
    slot->key &= ~(uintptr_t)SH_WEAK_LINK;
    tidy(link);
}

/* ---- Chains and the queue ---- */

static bool holds(const struct sh_weak_link *link)
{
    return link->kind == SH_WEAK_FINALIZE || link->kind == SH_WEAK_EPHEMERON;
}

static void take_out(struct sh_weak_link *link, uintptr_t *first, uintptr_t *last)
{
    struct sh_weak_link *next = sh_reveal(link->next), *prev = sh_reveal(link->prev);
    if (prev)
        prev->next = link->next;
    else
        *first = link->next;
    if (next)
        next->prev = link->prev;
    else if (last)
        *last = link->prev;
    link->next = link->prev = 0;
}

static void chain(struct sh_weak_link *link, struct sh_weak_slot *slot, void *target)
{
    struct sh_weak_link *next = sh_reveal(slot->first);
    link->next = slot->first;
    link->prev = 0;
    if (next)
        next->prev = sh_hide(link);
    slot->first = sh_hide(link);
    sh_store_relaxed(&link->target, sh_hide(target));
    if (holds(link))
        sh_add_relaxed(&sh_weak_holders, (size_t)1);
}

static void unchain(struct sh_weak_link *link)
{
    void *target = sh_reveal(sh_load_relaxed(&link->target));
    take_out(link, &sh_weak_find(target)->first, NULL);
    sh_store_relaxed(&link->target, (uintptr_t)0);
    if (holds(link))
        sh_sub_relaxed(&sh_weak_holders, (size_t)1);
    tidy(target);
}

static void enqueue(struct sh_weak_link *link)
{
    struct sh_weak_link *last = sh_reveal(queue_last);
    link->prev = queue_last;
    link->next = 0;
    link->queued = true;
    queue_last = sh_hide(link);
    if (last)
        last->next = queue_last;
    else
        queue_first = queue_last;
    sh_add_relaxed(&waiting, (size_t)1);
}

static void dequeue(struct sh_weak_link *link)
{
    take_out(link, &queue_first, &queue_last);
    link->queued = false;
    sh_sub_relaxed(&waiting, (size_t)1);
}

/* ---- A link ---- */

int sh_weak_link_attach(struct sh_weak_link *link, void *target)
{
    struct sh_cell cell, self;
    if (sh_cell_find(target, &cell) != SH_FOUND_LIVE)
        return EINVAL;
    if (sh_cell_find(link, &self) != SH_FOUND_LIVE || !sh_weak_reserve(2))
        return ENOMEM;
    struct sh_weak_slot *own = slot_for(link, self);
    struct sh_weak_slot *slot = own ? slot_for(target, cell) : NULL;
    if (!slot) {
        tidy(link);
        return ENOMEM;
    }
    own->key |= SH_WEAK_LINK;
    chain(link, slot, target);
    return 0;
}

void *sh_weak_new(size_t bytes)
{
    void *object = gc_alloc(bytes, 0);
    if (!object)
        errno = ENOMEM;
    return object;
}

void *sh_weak_link_begin(struct sh_weak_link *link, void *target, void *held)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    int error = sh_weak_link_attach(link, target);
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    SH_KEEP(target);
    SH_KEEP(held);
    if (!error)
        return link;
    gc_free(link);
    errno = error;
    return NULL;
}

/* Targets are cleared in a stopped world. Who has no record may not be stopped where it is
 * in a critical section: it takes the lock, and is as safe as its stack is. */
void sh_weak_read_begin(void)
{
    bool known = sh_tls.self || sh_thread_enter();
    sh_critical_enter();
    if (SH_UNLIKELY(!known))
        sh_lock_acquire(&sh_weak_lock);
}

void sh_weak_read_end(void)
{
    if (SH_UNLIKELY(!sh_tls.self))
        sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
}

void *sh_weak_link_get(struct sh_weak_link *link)
{
    sh_weak_read_begin();
    void *object = sh_reveal(sh_load_relaxed(&link->target));
    /* It, not what it was made from, is in a register when the thread may be stopped. */
    __asm__ volatile("" : "+r"(object)::"memory");
    sh_weak_read_end();
    return object;
}

bool sh_weak_link_cut(struct sh_weak_link *link)
{
    if (link->queued)
        dequeue(link);
    else if (sh_load_relaxed(&link->target))
        unchain(link);
    else
        return false;
    forget_link(link);
    return true;
}

bool sh_weak_link_cancel(struct sh_weak_link *link)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    bool cut = sh_weak_link_cut(link);
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    return cut;
}

bool sh_weak_link_clear(struct sh_weak_link *link, bool run)
{
    unchain(link);
    if (link->calls && run)
        enqueue(link);
    else
        forget_link(link);
    return link->queued;
}

/* ---- The program's hook ---- */

bool sh_weak_hook(void *p, struct sh_cell cell)
{
    sh_lock_acquire(&sh_weak_lock);
    struct sh_weak_slot *slot = sh_weak_find(p);
    bool done = slot || sh_table_set(cell, &cell.span->weak_bits);
    if (slot)
        slot->key |= SH_WEAK_HOOKED;
    sh_lock_release(&sh_weak_lock);
    return done;
}

bool sh_weak_is_hooked(const void *p)
{
    if (!sh_weak_count())
        return true;
    sh_lock_acquire(&sh_weak_lock);
    struct sh_weak_slot *slot = sh_weak_find(p);
    bool hooked = !slot || slot->key & SH_WEAK_HOOKED;
    sh_lock_release(&sh_weak_lock);
    return hooked;
}

void sh_weak_unhook(const void *p, struct sh_cell cell)
{
    sh_lock_acquire(&sh_weak_lock);
    struct sh_weak_slot *slot = sh_weak_find(p);
    if (slot)
        slot->key &= ~(uintptr_t)SH_WEAK_HOOKED;
    else
        sh_table_clear(cell, &cell.span->weak_bits);
    sh_lock_release(&sh_weak_lock);
}

/* ---- Freeing ---- */

/* The links to the cell that `which` wants, newest first. */
static void clear_chain(
    const void *p, bool (*which)(const struct sh_weak_link *), bool run)
{
    struct sh_weak_slot *slot = sh_weak_find(p);
    struct sh_weak_link *link = slot ? sh_reveal(slot->first) : NULL;
    while (link) {
        struct sh_weak_link *next = sh_reveal(link->next);
        if (which(link))
            sh_weak_link_clear(
                link, run && (link->kind == SH_WEAK_FINALIZE || sh_weak_all_live ||
                                 sh_weak_is_live(link)));
        link = next;
    }
}

static bool is_finalize(const struct sh_weak_link *link)
{
    return link->kind == SH_WEAK_FINALIZE;
}

static bool is_short(const struct sh_weak_link *link)
{
    return link->kind == SH_WEAK_SHORT;
}

static bool is_any(const struct sh_weak_link *link)
{
    (void)link;
    return true;
}

static void cut_if_link(void *p)
{
    struct sh_weak_slot *slot = sh_weak_find(p);
    if (slot && slot->key & SH_WEAK_LINK)
        sh_weak_link_cut(p);
}

/* Outside of a collection a link counts as live. */
static bool forget_cell(void *p)
{
    struct sh_weak_slot *slot = sh_weak_find(p);
    bool hooked = !slot || slot->key & SH_WEAK_HOOKED;
    struct sh_weak_link *link;
    clear_chain(p, is_finalize, true);
    while ((slot = sh_weak_find(p)) && (link = sh_reveal(slot->first)))
        sh_weak_link_clear(link, true);
    cut_if_link(p);
    if ((slot = sh_weak_find(p)))
        sh_weak_remove(slot);
    return hooked;
}

bool sh_weak_freed(void *p, struct sh_cell cell)
{
    if (!sh_table_test(cell, &cell.span->weak_bits))
        return false;
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    bool hooked = sh_table_test(cell, &cell.span->weak_bits) && forget_cell(p);
    sh_table_clear(cell, &cell.span->weak_bits);
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    return hooked;
}

/* ---- In a collection ---- */

bool sh_weak_is_live(const void *cell)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)cell);
    return !sh_span_collected(span) ||
           sh_cell_marked(span, sh_span_cell_of(span, (uintptr_t)cell));
}

static void each_dead_of(struct sh_span *span, void (*visit)(void *cell))
{
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t dead = sh_table_word(&span->weak_bits, w) &
                        sh_span_word(span, w, SH_CELL_LIVE) & ~sh_span_marked(span, w);
        for (; dead; dead &= dead - 1)
            visit((void *)sh_span_cell(span, w * 64 + sh_ctz64(dead)));
    }
}

/* The dead cells whose weak bit is set. */
static void each_dead(void (*visit)(void *cell))
{
    sh_lock_acquire(&sh_weak_lock);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span) && sh_load_acquire(&span->weak_bits))
            each_dead_of(span, visit);
    sh_lock_release(&sh_weak_lock);
}

/* Unless no more than so many wait. */
static void mark_from_queue(size_t before)
{
    if (sh_load_relaxed(&waiting) == before)
        return;
    sh_weak_add_queued();
    sh_mark_complete();
    sh_ephemeron_trace();
}

static void clear_short(void *cell)
{
    clear_chain(cell, is_finalize, true);
    clear_chain(cell, is_short, true);
}

void sh_weak_clear_short(void)
{
    if (!sh_weak_count())
        return;
    size_t before = sh_load_relaxed(&waiting);
    each_dead(clear_short);
    mark_from_queue(before);
}

static void clear_rest(void *cell)
{
    clear_chain(cell, is_any, true);
    cut_if_link(cell);
}

/* A link that leads somewhere yet is to hear of it. */
static void clear_or_keep(void *cell)
{
    clear_chain(cell, is_any, true);
    if (sh_weak_find(cell))
        sh_mark_root_now(&cell, &cell + 1);
}

static void drop(void *cell)
{
    clear_chain(cell, is_any, false);
    cut_if_link(cell);
}

void sh_weak_clear_rest(bool run)
{
    size_t before = sh_load_relaxed(&waiting);
    if (!sh_weak_count())
        return;
    if (!sh_weak_all_live || !run) {
        each_dead(run ? clear_rest : drop);
        return;
    }
    each_dead(clear_or_keep);
    sh_mark_complete();
    mark_from_queue(before);
}

void sh_weak_add_queued(void)
{
    sh_lock_acquire(&sh_weak_lock);
    struct sh_weak_link *link = sh_reveal(queue_first);
    for (; link; link = sh_reveal(link->next)) {
        uintptr_t root = (uintptr_t)link;
        sh_mark_root_now(&root, &root + 1);
    }
    sh_lock_release(&sh_weak_lock);
}

/* ---- After one ---- */

static struct sh_weak_link *next_queued(void **outer)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    struct sh_weak_link *link = sh_reveal(queue_first);
    if (link) {
        dequeue(link);
        forget_link(link);
        *outer = sh_callback_hold(link, NULL);
    }
    sh_lock_release(&sh_weak_lock);
    __asm__ volatile("" : "+r"(link)::"memory"); /* here it is a root */
    sh_critical_leave();
    return link;
}

bool sh_weak_run_one(void)
{
    void *outer = NULL;
    struct sh_weak_link *link = sh_load_relaxed(&waiting) ? next_queued(&outer) : NULL;
    if (!link)
        return false;
    if (link->kind == SH_WEAK_FINALIZE)
        sh_finalize_call(link);
    else
        sh_weakref_call(link);
    sh_callback_let_go(outer);
    return true;
}
