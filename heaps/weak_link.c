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
#include "lib/check.h"
#include "threads/registry.h"
#include "threads/thread.h"

struct sh_lock sh_weak_lock = SH_LOCK_INIT(SH_RANK_WEAK);
_Atomic size_t sh_weak_holders;
bool sh_weak_all_live;

/* Hidden; 0: empty. */
static uintptr_t queue_first, queue_last;
static _Atomic size_t waiting; /* in the queue; read without the lock */

/* ---- Cells ---- */

struct sh_cell sh_weak_cell_at(const void *address)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)address);
    return (struct sh_cell){span, sh_span_cell_of(span, (uintptr_t)address)};
}

/* Links that lead nowhere any more, of one word at a time: those that go together most often
 * lie together. None is left when the lock is released. */
static struct {
    struct sh_span *span;
    uint32_t w;
    uint64_t cells;
} forgotten;

static void forget_now(void)
{
    if (forgotten.cells)
        sh_weak_clear_links(forgotten.span, forgotten.w, forgotten.cells);
    forgotten.cells = 0;
}

static void forget_link(const struct sh_weak_link *link)
{
    struct sh_cell cell = sh_weak_cell_at(link);
    if (forgotten.span != cell.span || forgotten.w != cell.index / 64) {
        forget_now();
        forgotten.span = cell.span;
        forgotten.w = cell.index / 64;
    }
    forgotten.cells |= sh_cell_bit(cell.index);
}

/* ---- Chains and the queue ---- */

static struct sh_weak_link *prev_of(const struct sh_weak_link *link)
{
    return link->prev > SH_WEAK_FLAGS ? sh_reveal(link->prev | SH_WEAK_FLAGS) : NULL;
}

static void set_prev(struct sh_weak_link *link, uintptr_t hidden)
{
    link->prev = (hidden & ~(uintptr_t)SH_WEAK_FLAGS) | (link->prev & SH_WEAK_FLAGS);
}

/* All under the lock. */
static void add_to(_Atomic size_t *count, size_t more)
{
    sh_store_relaxed(count, sh_load_relaxed(count) + more);
}

static bool holds(const struct sh_weak_link *link)
{
    enum sh_weak_kind kind = sh_weak_kind_of(link);
    return kind == SH_WEAK_FINALIZE || kind == SH_WEAK_EPHEMERON;
}

static void take_out(struct sh_weak_link *link, uintptr_t *first, uintptr_t *last)
{
    struct sh_weak_link *next = sh_reveal(link->next), *prev = prev_of(link);
    uintptr_t hidden = prev ? sh_hide(prev) : 0;
    if (prev)
        prev->next = link->next;
    else
        *first = link->next;
    if (next)
        set_prev(next, hidden);
    else if (last)
        *last = hidden;
    link->next = 0;
    set_prev(link, 0);
}

static void chain(struct sh_weak_link *link, uintptr_t *first, void *target)
{
    struct sh_weak_link *next = sh_reveal(*first);
    link->next = *first;
    set_prev(link, 0);
    if (next)
        set_prev(next, sh_hide(link));
    *first = sh_hide(link);
    sh_store_relaxed(&link->target, sh_hide(target));
    if (holds(link))
        add_to(&sh_weak_holders, 1);
}

/* Out of the chain that begins there, which may be empty then. */
static void unchain(struct sh_weak_link *link, uintptr_t *first)
{
    take_out(link, first, NULL);
    sh_store_relaxed(&link->target, (uintptr_t)0);
    if (holds(link))
        add_to(&sh_weak_holders, (size_t)-1);
}

static struct sh_cell target_of(const struct sh_weak_link *link)
{
    return sh_weak_cell_at(sh_reveal(sh_load_relaxed(&link->target)));
}

static void unchain_from(struct sh_weak_link *link, struct sh_cell target)
{
    uintptr_t *first = sh_weak_first(target);
    unchain(link, first);
    if (!*first)
        sh_weak_remove_first(target);
}

static void enqueue(struct sh_weak_link *link)
{
    struct sh_weak_link *last = sh_reveal(queue_last);
    link->next = 0;
    link->prev |= SH_WEAK_QUEUED;
    set_prev(link, queue_last);
    queue_last = sh_hide(link);
    if (last)
        last->next = queue_last;
    else
        queue_first = queue_last;
    add_to(&waiting, 1);
}

static void dequeue(struct sh_weak_link *link)
{
    take_out(link, &queue_first, &queue_last);
    link->prev &= ~(uintptr_t)SH_WEAK_QUEUED;
    add_to(&waiting, (size_t)-1);
}

/* ---- A link ---- */

int sh_weak_link_attach(struct sh_weak_link *link, void *target)
{
    struct sh_cell cell, self = sh_weak_cell_at(link);
    if (sh_cell_find(target, &cell) != SH_FOUND_LIVE)
        return EINVAL;
    if (!sh_weak_set_link(self))
        return ENOMEM;
    uintptr_t *first = sh_weak_make_first(cell);
    if (!first) {
        sh_weak_clear_links(self.span, self.index / 64, sh_cell_bit(self.index));
        return ENOMEM;
    }
    chain(link, first, target);
    return 0;
}

/* In the order of rank; once in a life of the span. */
static SH_NOINLINE bool make_words(const void *address)
{
    struct sh_cell cell;
    bool done = true;
    sh_critical_enter();
    if (sh_cell_find(address, &cell) == SH_FOUND_LIVE) {
        sh_lock_acquire(&sh_callback_lock);
        sh_lock_acquire(&sh_weak_lock);
        done = sh_weak_make_words(cell.span);
        sh_lock_release(&sh_weak_lock);
        sh_lock_release(&sh_callback_lock);
    }
    sh_critical_leave();
    return done;
}

static bool prepare(const void *address)
{
    struct sh_span *span = sh_page_map_lookup((uintptr_t)address);
    return (span && sh_weak_words(span)) || make_words(address);
}

bool sh_weak_link_prepare(const struct sh_weak_link *link, const void *target)
{
    return prepare(link) && prepare(target);
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
    int error = sh_weak_link_prepare(link, target) ? 0 : ENOMEM;
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    if (!error)
        error = sh_weak_link_attach(link, target);
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

static bool cut(struct sh_weak_link *link)
{
    if (sh_weak_is_queued(link))
        dequeue(link);
    else if (sh_load_relaxed(&link->target))
        unchain_from(link, target_of(link));
    else
        return false;
    forget_link(link);
    return true;
}

bool sh_weak_link_cut(struct sh_weak_link *link)
{
    bool done = cut(link);
    forget_now();
    return done;
}

bool sh_weak_link_cancel(struct sh_weak_link *link)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    bool done = sh_weak_link_cut(link);
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    return done;
}

/* It was taken out of its chain. */
static void tell_or_forget(struct sh_weak_link *link, bool run)
{
    if (run)
        enqueue(link);
    else
        forget_link(link);
}

void sh_weak_link_queue(struct sh_weak_link *link)
{
    if (sh_weak_is_queued(link))
        dequeue(link);
    else
        unchain_from(link, target_of(link));
    enqueue(link);
}

/* ---- The program's hook ---- */

bool sh_weak_hook(struct sh_cell cell)
{
    if (!sh_weak_words(cell.span)) {
        if (!sh_table_set(cell, &cell.span->weak_bits))
            return false;
        if (SH_LIKELY(!sh_weak_words(cell.span)))
            return true;
    }
    sh_lock_acquire(&sh_weak_lock);
    bool done = sh_weak_set_hooked(cell);
    sh_lock_release(&sh_weak_lock);
    return done;
}

/* Others may clear the weak bit until the lock is taken. */
bool sh_weak_tells(struct sh_cell cell)
{
    if (SH_LIKELY(!sh_weak_words(cell.span)))
        return true;
    sh_lock_acquire(&sh_weak_lock);
    bool hooked = sh_table_test(cell, &cell.span->weak_bits) && sh_weak_is_hooked(cell);
    sh_lock_release(&sh_weak_lock);
    return hooked;
}

bool sh_weak_unhook(struct sh_cell cell)
{
    sh_assert_held(&sh_callback_lock);
    if (SH_LIKELY(!sh_weak_words(cell.span)))
        return sh_table_clear(cell, &cell.span->weak_bits);
    sh_lock_acquire(&sh_weak_lock);
    bool hooked = sh_weak_clear_hooked(cell);
    sh_lock_release(&sh_weak_lock);
    return hooked;
}

/* ---- Freeing ---- */

/* Sets of kinds. */
#define KIND(kind) (1u << (kind))
#define FIRST_KINDS (KIND(SH_WEAK_FINALIZE) | KIND(SH_WEAK_SHORT))
#define ALL_KINDS (FIRST_KINDS | KIND(SH_WEAK_LONG) | KIND(SH_WEAK_EPHEMERON))

/* Whether a link that is cleared calls back, if it has a callback. */
typedef bool hears_fn(const struct sh_weak_link *link);

static void clear_kinds(uintptr_t *first, unsigned kinds, hears_fn *hears)
{
    struct sh_weak_link *link = sh_reveal(*first);
    while (link) {
        struct sh_weak_link *next = sh_reveal(link->next);
        if (kinds & KIND(sh_weak_kind_of(link))) {
            unchain(link, first);
            tell_or_forget(link, sh_weak_calls(link) && hears(link));
        }
        link = next;
    }
}

/* Links of those kinds that the chain has, in the order in which they call back. It may be
 * empty then. */
static void clear_chain(uintptr_t *first, unsigned kinds, hears_fn *hears)
{
    clear_kinds(first, kinds & KIND(SH_WEAK_FINALIZE), hears);
    clear_kinds(first, kinds & KIND(SH_WEAK_SHORT), hears);
    clear_kinds(first, kinds & ~FIRST_KINDS, hears);
}

static struct sh_weak_link *link_at(struct sh_span *span, uint32_t cell)
{
    return (struct sh_weak_link *)sh_span_cell(span, cell);
}

/* Outside of a collection a link counts as live. */
static bool always_hears(const struct sh_weak_link *link)
{
    (void)link;
    return true;
}

static void forget_cell(struct sh_cell cell)
{
    uintptr_t *first = sh_weak_first(cell);
    if (first) {
        clear_chain(first, ALL_KINDS, always_hears);
        sh_weak_remove_first(cell);
    }
    if (sh_weak_is_link(cell))
        cut(link_at(cell.span, cell.index));
    forget_now();
}

bool sh_weak_leads(struct sh_cell cell)
{
    if (SH_LIKELY(!sh_table_test(cell, &cell.span->weak_bits)))
        return false;
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    bool leads = sh_weak_is_link(cell);
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    return leads;
}

bool sh_weak_freed(struct sh_cell cell)
{
    if (!sh_table_test(cell, &cell.span->weak_bits))
        return false;
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    bool hooked = false;
    if (sh_table_test(cell, &cell.span->weak_bits)) {
        forget_cell(cell);
        hooked = sh_weak_clear_hooked(cell);
    }
    sh_lock_release(&sh_weak_lock);
    sh_critical_leave();
    return hooked;
}

/* Most often there is nothing left to forget: what dies is cleared, and so is what is freed. */
void sh_weak_drop(struct sh_span *span)
{
    if (!sh_weak_words(span))
        return;
    sh_lock_acquire(&sh_weak_lock);
    for (uint32_t w = 0; w < sh_span_words(span); w++) {
        struct sh_weak_word *word = &sh_weak_words(span)[w];
        for (uint64_t cells; (cells = word->chained | word->links);)
            forget_cell((struct sh_cell){span, w * 64 + sh_ctz64(cells)});
    }
    sh_weak_delete_words(span);
    sh_lock_release(&sh_weak_lock);
}

/* ---- In a collection ---- */

bool sh_weak_is_live(const void *address)
{
    struct sh_cell cell = sh_weak_cell_at(address);
    return !sh_span_collected(cell.span) || sh_cell_marked(cell.span, cell.index);
}

/* Of a finalize it does not matter whether anything leads to it. */
static bool hears_if_live(const struct sh_weak_link *link)
{
    return sh_weak_kind_of(link) == SH_WEAK_FINALIZE || sh_weak_all_live ||
           sh_weak_is_live(link);
}

static bool never_hears(const struct sh_weak_link *link)
{
    (void)link;
    return false;
}

/* The chains of those cells of word w; that to each is on its way while others are worked
 * on. */
static void clear_chains(
    struct sh_span *span, uint32_t w, uint64_t cells, unsigned kinds, hears_fn *hears)
{
    struct sh_weak_word *word = &sh_weak_words(span)[w];
    uintptr_t *first = word->first;
    if (!(cells & word->chained))
        return;
    for (uint64_t left = word->chained; left; left &= left - 1, first++)
        if (left & -left & cells)
            __builtin_prefetch(sh_reveal(*first));
    first = word->first;
    for (uint64_t left = word->chained; left; left &= left - 1, first++)
        if (left & -left & cells)
            clear_chain(first, kinds, hears);
    sh_weak_remove_empty(span, w);
}

/* Links that are dead themselves. */
static void cut_links(struct sh_span *span, uint32_t w, uint64_t cells)
{
    uint64_t left = cells & sh_weak_words(span)[w].links;
    for (; left; left &= left - 1)
        cut(link_at(span, w * 64 + sh_ctz64(left)));
}

typedef void visit_fn(struct sh_span *span, uint32_t w, uint64_t dead);

static void each_dead_of(struct sh_span *span, visit_fn *visit)
{
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t weak = sh_table_word(&span->weak_bits, w);
        if (!weak)
            continue;
        weak &= sh_span_word(span, w, SH_CELL_LIVE) & ~sh_span_marked(span, w);
        if (weak)
            visit(span, w, weak);
    }
}

/* Words with dead cells that links lead to, or that are links. */
static void each_dead(visit_fn *visit)
{
    sh_lock_acquire(&sh_weak_lock);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span) && sh_weak_words(span))
            each_dead_of(span, visit);
    forget_now();
    sh_lock_release(&sh_weak_lock);
}

/* Threads without a record go on: of what is queued now, any may have come since it was
 * marked from. */
static void mark_from_queue(void)
{
    if (!sh_load_relaxed(&waiting))
        return;
    sh_weak_add_queued();
    sh_mark_complete();
    sh_ephemeron_trace();
}

static void clear_short(struct sh_span *span, uint32_t w, uint64_t dead)
{
    clear_chains(span, w, dead, FIRST_KINDS, hears_if_live);
}

void sh_weak_clear_short(void)
{
    if (!sh_weak_count())
        return;
    each_dead(clear_short);
    mark_from_queue();
}

static void clear_rest(struct sh_span *span, uint32_t w, uint64_t dead)
{
    clear_chains(span, w, dead, ALL_KINDS, hears_if_live);
    cut_links(span, w, dead);
}

/* A link that leads somewhere yet is to hear of it. */
static void clear_or_keep(struct sh_span *span, uint32_t w, uint64_t dead)
{
    clear_chains(span, w, dead, ALL_KINDS, hears_if_live);
    forget_now();
    uint64_t left = dead & sh_weak_words(span)[w].links;
    for (; left; left &= left - 1) {
        uintptr_t link = sh_span_cell(span, w * 64 + sh_ctz64(left));
        sh_mark_root_now(&link, &link + 1);
    }
}

static void drop(struct sh_span *span, uint32_t w, uint64_t dead)
{
    clear_chains(span, w, dead, ALL_KINDS, never_hears);
    cut_links(span, w, dead);
}

void sh_weak_clear_rest(bool run)
{
    if (!sh_weak_count())
        return;
    if (!sh_weak_all_live || !run) {
        each_dead(run ? clear_rest : drop);
        return;
    }
    each_dead(clear_or_keep);
    sh_mark_complete();
    mark_from_queue();
}

static void each_link_of(struct sh_span *span,
    void (*visit)(struct sh_weak_link *link, void *context), void *context)
{
    struct sh_weak_word *words = sh_weak_words(span);
    for (uint32_t w = 0; words && w < sh_span_words(span); w++)
        for (uint64_t left = words[w].links; left; left &= left - 1)
            visit(link_at(span, w * 64 + sh_ctz64(left)), context);
}

void sh_weak_each_link(
    void (*visit)(struct sh_weak_link *link, void *context), void *context)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        each_link_of(span, visit, context);
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

static void check_chain(struct sh_cell cell)
{
    struct sh_weak_link *prev = NULL, *link = sh_reveal(*sh_weak_first(cell));
    SH_CHECK1(link);
    for (; link; prev = link, link = sh_reveal(link->next)) {
        struct sh_cell target = target_of(link);
        SH_CHECK1(target.span == cell.span && target.index == cell.index);
        SH_CHECK1(prev_of(link) == prev && !sh_weak_is_queued(link));
        SH_CHECK1(sh_weak_is_link(sh_weak_cell_at(link)));
    }
}

static void check_record(struct sh_span *span, uint32_t w)
{
    const struct sh_weak_word *word = &sh_weak_words(span)[w];
    uint64_t all = word->chained | word->links,
             live = sh_span_word(span, w, SH_CELL_LIVE);
    SH_CHECK1(!(all & ~sh_table_word(&span->weak_bits, w)) && !(word->hooked & ~all));
    SH_CHECK1(sh_popcount64(word->chained) <= word->room);
    if (sh_span_collected(span))
        live &= sh_span_marked(span, w);
    SH_CHECK1(!(all & ~live));
    for (uint64_t left = word->chained; left; left &= left - 1)
        check_chain((struct sh_cell){span, w * 64 + sh_ctz64(left)});
}

void sh_weak_valid(struct sh_span *span)
{
    sh_lock_acquire(&sh_weak_lock);
    for (uint32_t w = 0; sh_weak_words(span) && w < sh_span_words(span); w++)
        check_record(span, w);
    sh_lock_release(&sh_weak_lock);
}

/* ---- After one ---- */

/* Off the queue, with what is before it. */
static struct sh_weak_link *take_queued(sh_weak_filter *wanted)
{
    struct sh_weak_link *link;
    bool found = false;
    while (!found && (link = sh_reveal(queue_first))) {
        found = !wanted || wanted(link);
        dequeue(link);
        forget_link(link);
    }
    forget_now();
    return link;
}

/* A reference may be freed from then on: what is to be called is in `call`; NULL of a
 * finalize. */
static struct sh_weak_link *next_queued(
    sh_weak_filter *wanted, struct sh_weak_call *call, void **outer)
{
    sh_critical_enter();
    sh_lock_acquire(&sh_weak_lock);
    struct sh_weak_link *link = take_queued(wanted);
    if (link && sh_weak_kind_of(link) != SH_WEAK_FINALIZE)
        *call = sh_weakref_callback(link);
    if (link)
        *outer = sh_callback_hold(link, call->ctx);
    sh_lock_release(&sh_weak_lock);
    __asm__ volatile("" : "+r"(link)::"memory"); /* here it is a root */
    sh_critical_leave();
    return link;
}

bool sh_weak_run_one(sh_weak_filter *wanted)
{
    void *outer = NULL;
    struct sh_weak_call call = {NULL, NULL};
    struct sh_weak_link *link =
        sh_load_relaxed(&waiting) ? next_queued(wanted, &call, &outer) : NULL;
    if (!link)
        return false;
    if (call.function)
        call.function((struct gc_weakref *)link, call.ctx);
    else
        sh_finalize_call(link);
    sh_callback_let_go(outer);
    return true;
}
