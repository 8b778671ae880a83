/* SPDX-License-Identifier: MIT */
/*
 * Purging. See heaps/purge.h.
 *
 * Dirty runs stand in a queue, the one that was inserted last at its end; what is
 * merged or cut is inserted anew. The oldest are purged first: what a program uses again
 * and again keeps to the end.
 *
 *      oldest                                          newest
 *      [ run ] <-> [ run ] <-> [ run ] <-> ... <-> [ run ]
 *         |  cut to what is too much
 *         v
 *      in flight: in no bucket, the system is called, no lock is held
 *         |
 *         v
 *      clean run
 *
 * How many pages may stay is counted, not written on the runs, so that merging and
 * cutting them need not care. Time goes by epochs, a twentieth of the decay each.
 * fresh[i] is by how much the dirty pages became more i epochs ago, beyond those that
 * might stay anyhow. Of these
 *
 *      fresh[i] * (1 - smoothstep(i / EPOCHS)),     smoothstep(x) = 3 x^2 - 2 x^3
 *
 * may stay: all at first, half after half the decay, none at its end, without a step. A
 * program that frees and allocates the same again in each epoch has few fresh pages and
 * keeps its dirty ones, but for about as much a decay as it has of them.
 *
 * Beside, what is in use and what is dirty are together at most an eighth and FLOOR
 * more than what was in use lately: so dirty runs into which nothing fits do not pile up
 * while others are taken. And, whatever the decay, they are no more than the program's
 * limit (heaps/limit.h), before an allocation that takes pages returns.
 *
 * Who purges: the background thread (heaps/background.h); without one, threads as they
 * take and give runs, a batch at a time; and for the limit always the latter, at once.
 *
 * A run in flight is nobody's. In the child of a fork it may be in the hands of a thread
 * that is no more: hence the list of them, from which the child takes them back.
 */
#include "heaps/purge.h"

#include <string.h>

#include "heaps/background.h"
#include "heaps/limit.h"
#include "heaps/run.h"
#include "lib/options.h"

enum {
    EPOCHS = 20,
    BATCH_RUNS = 16,
    BATCH_PAGES = (8 << 20) / (1 << SH_PAGE_SHIFT),
    TICK_PAGES = (2 << 20) / (1 << SH_PAGE_SHIFT), /* of a thread with other work */
    FLOOR_PAGES = (16 << 20) / (1 << SH_PAGE_SHIFT),
    FEW_PAGES = (1 << 20) / (1 << SH_PAGE_SHIFT), /* not worth a look each epoch */
};

/* All under the lock. */
static struct sh_span *oldest, *newest; /* by all_next, which spans in use have */
static struct sh_span *in_flight;       /* by next */
static struct {
    uint64_t began;       /* when the present epoch did */
    size_t fresh[EPOCHS]; /* by the age in epochs */
    size_t allowed;       /* how many may stay, when last looked */
    size_t excess;        /* how many more there were, not purged yet */
    size_t most;          /* pages in use, since last looked */
    size_t peak;          /* and before, less and less of them */
} decay;

static _Atomic uint64_t due;   /* when there is something to do next */
static _Atomic size_t ceiling; /* pages in use and dirty ones, together at most */

uint64_t (*sh_purge_clock)(void) = sh_os_now_coarse_ns;

static size_t dirty_pages(void)
{
    return sh_load_relaxed(&sh_heap_counts.dirty_pages);
}

static size_t pages_in_use(void)
{
    size_t total = sh_load_relaxed(&sh_heap_counts.total_pages);
    size_t free = sh_load_relaxed(&sh_heap_counts.free_pages);
    return total > free ? total - free : 0; /* read one after the other */
}

static uint64_t decay_ns(void)
{
    return (uint64_t)sh_options.decay_ms * 1000000;
}

static uint64_t epoch_ns(void)
{
    return sh_max(decay_ns() / EPOCHS, 1);
}

/* ---- The queue ---- */

static void enqueue_between(
    struct sh_span *before, struct sh_span *run, struct sh_span *behind)
{
    run->all_prev = before;
    run->all_next = behind;
    *(before ? &before->all_next : &oldest) = run;
    *(behind ? &behind->all_prev : &newest) = run;
}

void sh_purge_enlist(struct sh_span *run)
{
    enqueue_between(newest, run, NULL);
    run->area->dirty_pages += run->pages;
    /* Pairs with the background thread's look before it sleeps. */
    sh_add_seq_cst(&sh_heap_counts.dirty_pages, run->pages);
}

static void dequeue(struct sh_span *run)
{
    *(run->all_prev ? &run->all_prev->all_next : &oldest) = run->all_next;
    *(run->all_next ? &run->all_next->all_prev : &newest) = run->all_prev;
}

void sh_purge_delist(struct sh_span *run)
{
    dequeue(run);
    run->area->dirty_pages -= run->pages;
    sh_sub_relaxed(&sh_heap_counts.dirty_pages, run->pages);
}

/* ---- The limit ---- */

static void set_ceiling(void)
{
    sh_store_relaxed(&ceiling, decay.peak + decay.peak / 8 + FLOOR_PAGES);
}

void sh_purge_note_use(void)
{
    size_t in_use = pages_in_use();
    if (in_use <= decay.most)
        return;
    decay.most = in_use;
    if (in_use > decay.peak) {
        decay.peak = in_use;
        set_ceiling();
    }
}

static size_t above_ceiling(void)
{
    size_t both = dirty_pages() + pages_in_use(), most = sh_load_relaxed(&ceiling);
    return both > most ? both - most : 0;
}

/* The program's limit, gc_set_max_heap, is for both, too. */
static size_t above_limit(void)
{
    size_t both = dirty_pages() + sh_limit_used(), most = sh_limit_most();
    return both > most ? both - most : 0;
}

/* ---- Time ---- */

static size_t still_allowed(size_t pages, size_t age)
{
    size_t whole = (size_t)EPOCHS * EPOCHS * EPOCHS;
    return pages * (whole - 3 * age * age * EPOCHS + 2 * age * age * age) / whole;
}

static void count_fresh(size_t epochs)
{
    size_t expected = decay.allowed + decay.excess, dirty = dirty_pages();
    size_t kept = epochs < EPOCHS ? EPOCHS - epochs : 0;
    memmove(decay.fresh + (EPOCHS - kept), decay.fresh, kept * sizeof *decay.fresh);
    memset(decay.fresh, 0, (EPOCHS - kept) * sizeof *decay.fresh);
    decay.fresh[0] = dirty > expected ? dirty - expected : 0;
}

static void allow(void)
{
    size_t dirty = dirty_pages();
    decay.allowed = 0;
    for (size_t age = 0; age < EPOCHS; age++)
        decay.allowed += still_allowed(decay.fresh[age], age);
    decay.excess = dirty > decay.allowed ? dirty - decay.allowed : 0;
}

/* A little at each look; not so much that of what was freed at once less were allowed
 * than by time. */
static void forget_peak(void)
{
    size_t in_use = pages_in_use();
    decay.peak -= (decay.peak - sh_min(in_use, decay.peak)) / EPOCHS;
    decay.peak = sh_max(decay.peak, decay.most);
    decay.most = in_use;
    set_ceiling();
}

static void advance(uint64_t now)
{
    uint64_t epoch = epoch_ns();
    if (now < decay.began + epoch)
        return;
    uint64_t epochs = (now - decay.began) / epoch;
    decay.began += epochs * epoch;
    count_fresh(epochs);
    allow();
    forget_peak();
}

/* ---- Purging ---- */

/* All of the oldest run, or as much of its end; the rest stays the oldest. */
static struct sh_span *take_oldest(size_t pages)
{
    struct sh_span *run = oldest;
    struct sh_span *end = run->pages > pages ? sh_run_cut(run, pages) : NULL;
    if (!end) {
        sh_run_remove(run);
        return run;
    }
    dequeue(run);
    enqueue_between(NULL, run, oldest);
    return end;
}

static void launch(struct sh_span *run)
{
    run->prev = NULL;
    run->next = in_flight;
    if (in_flight)
        in_flight->prev = run;
    in_flight = run;
}

static void land(struct sh_span *run)
{
    *(run->prev ? &run->prev->next : &in_flight) = run->next;
    if (run->next)
        run->next->prev = run->prev;
}

struct batch {
    struct sh_span *runs[BATCH_RUNS];
    unsigned count;
    size_t pages;
};

static void pick(struct batch *batch, size_t pages)
{
    pages = sh_min(pages, BATCH_PAGES);
    while (oldest && batch->count < BATCH_RUNS && batch->pages < pages) {
        struct sh_span *run = take_oldest(pages - batch->pages);
        launch(run);
        batch->runs[batch->count++] = run;
        batch->pages += run->pages;
    }
    decay.excess -= sh_min(decay.excess, batch->pages);
}

static void insert_clean(struct sh_span *run)
{
    struct sh_area *area = run->area;
    sh_add_relaxed(&sh_heap_counts.purges, 1);
    sh_add_relaxed(&sh_heap_counts.purged_pages, run->pages);
    land(run);
    run->zeroed = true;
    sh_run_insert_merged(run);
    sh_area_freed(area);
}

static void unmap_idle(void)
{
    struct sh_area *idle;
    do {
        sh_lock_acquire(&sh_heap_lock);
        idle = sh_area_take_idle();
        sh_lock_release(&sh_heap_lock);
        if (idle)
            sh_area_unmap(idle);
    } while (idle);
}

/* Begins under the lock and ends without. */
static size_t purge_batch(size_t pages)
{
    struct batch batch = {.count = 0, .pages = 0};
    pick(&batch, pages);
    sh_lock_release(&sh_heap_lock);
    if (batch.count == 0)
        return 0;
    for (unsigned i = 0; i < batch.count; i++)
        sh_os_purge((void *)batch.runs[i]->base, batch.runs[i]->pages * SH_PAGE_SIZE);
    sh_lock_acquire(&sh_heap_lock);
    for (unsigned i = 0; i < batch.count; i++)
        insert_clean(batch.runs[i]);
    sh_lock_release(&sh_heap_lock);
    unmap_idle();
    return batch.pages;
}

bool sh_purge_dirty(void)
{
    bool any = false;
    /* Not what becomes dirty meanwhile. */
    for (size_t left = dirty_pages(), done; left > 0; left -= sh_min(left, done)) {
        sh_lock_acquire(&sh_heap_lock);
        done = purge_batch(left);
        if (done == 0)
            break;
        any = true;
    }
    return any;
}

/* ---- When ---- */

/* A little more at once, so that the next few are not too much again. */
static void purge_above(size_t (*above)(void), size_t more)
{
    size_t done;
    do {
        sh_lock_acquire(&sh_heap_lock);
        size_t excess = above();
        done = purge_batch(excess ? excess + more : 0);
    } while (done != 0);
}

/* At most so much of what it is time for; 0: nothing was purged. */
static size_t purge_by_time(uint64_t now, size_t most)
{
    sh_lock_acquire(&sh_heap_lock);
    advance(now);
    size_t pages = sh_min(decay.excess, most);
    bool rest = decay.excess > pages;
    sh_store_relaxed(&due, rest ? now : decay.began + epoch_ns());
    return purge_batch(pages);
}

void sh_purge_tick(void)
{
    if (dirty_pages() == 0)
        return;
    if (above_limit())
        purge_above(above_limit, sh_min(sh_limit_most() / 64, FLOOR_PAGES / 4));
    if (sh_options.decay_ms < 0)
        return;
    if (sh_options.decay_ms == 0) {
        sh_purge_dirty();
        return;
    }
    if (above_ceiling())
        purge_above(above_ceiling, FLOOR_PAGES / 4);
    uint64_t now = sh_purge_clock();
    if (now >= sh_load_relaxed(&due) && !sh_background_runs())
        purge_by_time(now, TICK_PAGES);
}

uint64_t sh_purge_by_time(void)
{
    if (dirty_pages() == 0 || sh_options.decay_ms < 0)
        return SH_PURGE_NEVER;
    uint64_t now = sh_purge_clock();
    while (purge_by_time(now, BATCH_PAGES) != 0) {
    }
    size_t left = dirty_pages();
    if (left == 0)
        return SH_PURGE_NEVER;
    return left < FEW_PAGES ? now + decay_ns() / 4 : sh_load_relaxed(&due);
}

/* ---- Fork ---- */

void sh_purge_fork_child(void)
{
    while (in_flight) {
        struct sh_span *run = in_flight;
        land(run);
        sh_run_insert_merged(run);
    }
}
