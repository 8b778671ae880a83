/* SPDX-License-Identifier: MIT */
/* Callbacks of dead objects. See heaps/callback.h. */
#include "heaps/callback.h"

#include <errno.h>

#include <splitheap/gc.h>

#include "heaps/ephemeron.h"
#include "heaps/mark_team.h"
#include "heaps/run.h"
#include "heaps/tables.h"
#include "heaps/weak_link.h"
#include "lib/hide.h"
#include "lib/meta.h"
#include "threads/registry.h"

#define CHUNK_ENTRIES 1022
#define FETCHED_AHEAD 7 /* objects on their way while others are told of */

/* Objects, first in, first out; 0: it waits no longer. */
struct chunk {
    struct chunk *next;
    unsigned from, to; /* entries [from, to) are in the queue */
    uintptr_t entries[CHUNK_ENTRIES];
};

struct queue {
    struct chunk *first, *last;
    _Atomic size_t length;
};

struct sh_lock sh_callback_lock = SH_LOCK_INIT(SH_RANK_CALLBACK);
static struct queue told, finals;
static _Atomic bool withdrawn; /* some in the queues wait no longer */
static _Atomic size_t taken;   /* finalisers that were about to be run, so far */

/* ---- Queues ---- */

/* Under the lock. */
static void add_to_length(struct queue *queue, size_t more)
{
    sh_store_relaxed(&queue->length, sh_load_relaxed(&queue->length) + more);
}

static bool append_chunk(struct queue *queue)
{
    struct chunk *chunk = sh_meta_alloc(sizeof *chunk);
    if (!chunk)
        return false;
    chunk->next = NULL;
    chunk->from = chunk->to = 0;
    if (queue->last)
        queue->last->next = chunk;
    else
        queue->first = chunk;
    queue->last = chunk;
    return true;
}

static bool enqueue(struct queue *queue, uintptr_t object)
{
    if ((!queue->last || queue->last->to == CHUNK_ENTRIES) && !append_chunk(queue))
        return false;
    queue->last->entries[queue->last->to++] = object;
    add_to_length(queue, 1);
    return true;
}

static bool dequeue(struct queue *queue, uintptr_t *object)
{
    struct chunk *chunk = queue->first;
    if (!chunk)
        return false;
    *object = chunk->entries[chunk->from++];
    /* Its callback reads it when its turn comes. */
    if (chunk->from + FETCHED_AHEAD < chunk->to)
        __builtin_prefetch((void *)chunk->entries[chunk->from + FETCHED_AHEAD]);
    add_to_length(queue, (size_t)-1);
    if (chunk->from == chunk->to) {
        queue->first = chunk->next;
        if (!queue->first)
            queue->last = NULL;
        sh_meta_free(chunk, sizeof *chunk);
    }
    return true;
}

/* The object may be gone by now, and something else be there. */
static bool waits(uintptr_t object, struct sh_cell *cell)
{
    return sh_cell_find((const void *)object, cell) == SH_FOUND_LIVE &&
           sh_table_test(*cell, &cell->span->waiting_bits);
}

static void clean(struct queue *queue)
{
    struct sh_cell cell;
    for (struct chunk *chunk = queue->first; chunk; chunk = chunk->next)
        for (unsigned i = chunk->from; i < chunk->to; i++)
            if (!waits(chunk->entries[i], &cell))
                chunk->entries[i] = 0;
}

/* ---- Gathering ---- */

static bool marked_from; /* the gathering of now found some */
static size_t gathered;  /* bytes of their cells */

/* Whether the program's hook is to be told of the object; a link needs none. */
static bool is_hooked(struct sh_cell cell)
{
    return sh_table_test(cell, &cell.span->weak_bits) && sh_weak_tells(cell);
}

/* True: it was to be told of, and is so no longer. */
static bool take_hook(struct sh_cell cell)
{
    return sh_table_test(cell, &cell.span->weak_bits) && sh_weak_unhook(cell);
}

/* Who tells of it queues it for its finaliser, which so comes when it was told of. */
static bool queue_cell(struct sh_cell cell, bool hooked)
{
    return enqueue(hooked ? &told : &finals, sh_span_cell(cell.span, cell.index));
}

/* Without memory the object waits for the next collection. */
static void gather_cell(struct sh_cell cell)
{
    bool final = sh_table_test(cell, &cell.span->final_bits), hooked = is_hooked(cell);
    if (!final && !hooked)
        return;
    marked_from = true;
    gathered += cell.span->cell_size;
    if (sh_table_set(cell, &cell.span->waiting_bits) && !queue_cell(cell, hooked))
        sh_callback_withdraw(cell);
}

/* The cells of word w that may have a callback and were not reached. */
static uint64_t dead_word(struct sh_span *span, uint32_t w)
{
    uint64_t with =
        sh_table_word(&span->final_bits, w) | sh_table_word(&span->weak_bits, w);
    return with ? with & sh_span_word(span, w, SH_CELL_LIVE) & ~sh_span_marked(span, w)
                : 0;
}

static void gather_word(struct sh_span *span, uint32_t w)
{
    for (uint64_t dead = dead_word(span, w); dead; dead &= dead - 1)
        gather_cell((struct sh_cell){span, w * 64 + sh_ctz64(dead)});
}

/* What could not be queued has to live on. */
static void mark_left_over(struct sh_span *span, uint32_t w)
{
    for (uint64_t left = dead_word(span, w); left; left &= left - 1) {
        struct sh_cell cell = {span, w * 64 + sh_ctz64(left)};
        uintptr_t start = sh_span_cell(span, cell.index);
        if (sh_table_test(cell, &span->final_bits) || is_hooked(cell))
            sh_mark_root_now(&start, &start + 1);
    }
}

static bool has_tables(struct sh_span *span)
{
    return sh_span_collected(span) &&
           (sh_load_acquire(&span->final_bits) || sh_load_acquire(&span->weak_bits));
}

static void each_word(void (*visit)(struct sh_span *span, uint32_t w))
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        for (uint32_t w = 0; has_tables(span) && w < span->touched; w++)
            visit(span, w);
}

static void mark_queue(const struct queue *queue)
{
    for (struct chunk *chunk = queue->first; chunk; chunk = chunk->next)
        sh_mark_root_now(chunk->entries + chunk->from, chunk->entries + chunk->to);
}

static void gather_dead(void)
{
    marked_from = false;
    each_word(gather_word);
    sh_mark_for_waiting();
    mark_queue(&told);
    mark_queue(&finals);
    sh_mark_complete();
    each_word(mark_left_over);
    sh_mark_complete();
    if (marked_from)
        sh_ephemeron_trace();
}

size_t sh_callback_gathered(void)
{
    return gathered;
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

static void mark_held(void)
{
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        for (struct sh_held *held = t->held; held; held = held->outer)
            sh_mark_root_now(&held->object, &held->context + 1);
}

void sh_callback_add_roots(void)
{
    gathered = 0;
    mark_held();
    sh_weak_add_queued();
    sh_finaliser_add_roots();
    if (sh_load_relaxed(&withdrawn)) {
        sh_store_relaxed(&withdrawn, false);
        clean(&told);
        clean(&finals);
    }
    mark_queue(&told);
    mark_queue(&finals);
}

/* Threads go on meanwhile: what has its bit is live, or is found not to be later. */
static void queue_final_word(struct sh_span *span, uint32_t w)
{
    uint64_t with =
        sh_table_word(&span->final_bits, w) & ~sh_table_word(&span->waiting_bits, w);
    for (; with; with &= with - 1) {
        struct sh_cell cell = {.span = span, .index = w * 64 + sh_ctz64(with)};
        if (sh_table_set(cell, &span->waiting_bits) &&
            !enqueue(&finals, sh_span_cell(span, cell.index)))
            sh_callback_withdraw(cell);
    }
}

void sh_callback_queue_all(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        for (uint32_t w = 0; has_tables(span) && w < sh_span_words(span); w++)
            queue_final_word(span, w);
}

static void drop_word(struct sh_span *span, uint32_t w)
{
    sh_table_clear_word(&span->final_bits, w, UINT64_MAX);
    if (span->finalisers)
        sh_finaliser_drop(span);
}

void sh_callback_drop_all(void)
{
    each_word(drop_word);
}

/* ---- Of one object ---- */

void sh_callback_withdraw(struct sh_cell cell)
{
    if (sh_table_clear(cell, &cell.span->waiting_bits))
        sh_store_relaxed(&withdrawn, true);
}

static void take_finaliser(struct sh_cell cell)
{
    sh_table_clear(cell, &cell.span->final_bits);
    sh_finaliser_take(cell);
}

void sh_callback_forget(struct sh_cell cell)
{
    if (!has_tables(cell.span))
        return;
    sh_lock_acquire(&sh_callback_lock);
    take_finaliser(cell);
    sh_callback_withdraw(cell);
    sh_lock_release(&sh_callback_lock);
}

static int give_finaliser(struct sh_cell cell, struct sh_finaliser finaliser)
{
    if (!sh_finaliser_set(cell, finaliser))
        return ENOMEM;
    if (sh_table_set(cell, &cell.span->final_bits))
        return 0;
    sh_finaliser_take(cell);
    return ENOMEM;
}

int sh_callback_set_finaliser(const void *p, struct sh_finaliser finaliser)
{
    struct sh_cell cell;
    int error = 0;
    if (sh_cell_find(p, &cell) != SH_FOUND_LIVE || !sh_span_collected(cell.span))
        return EINVAL;
    sh_lock_acquire(&sh_callback_lock);
    if (finaliser.call)
        error = give_finaliser(cell, finaliser);
    else
        take_finaliser(cell);
    if (!error)
        sh_callback_withdraw(cell);
    sh_lock_release(&sh_callback_lock);
    return error;
}

bool sh_callback_move_finaliser(struct sh_cell cell, const void *q)
{
    struct sh_cell to;
    if (!sh_table_test(cell, &cell.span->final_bits))
        return true;
    if (sh_cell_find(q, &to) != SH_FOUND_LIVE)
        return false;
    sh_lock_acquire(&sh_callback_lock);
    struct sh_finaliser finaliser = sh_finaliser_of(cell);
    bool done = finaliser.call ? give_finaliser(to, finaliser) == 0
                               : sh_table_set(to, &to.span->final_bits);
    if (done) {
        take_finaliser(cell);
        sh_callback_withdraw(cell);
    }
    sh_lock_release(&sh_callback_lock);
    return done;
}

/* ---- Running ---- */

/*
 * The runs that this thread is in, each with its frame, which lies below that of the one
 * before. What a callback causes to be queued is left to the run that called it, which
 * takes it after: so callbacks do not pile up on the stack.
 *
 * But a run may have been left by an exception or longjmp, of which nobody tells us. That
 * shows where a frame does not lie below its own. Otherwise it is taken for left once it
 * refused 16 others, and no callback came back to it meanwhile; inside another run 256,
 * then 4096, and the last 32768, whose place the next one takes. So callbacks that ask on
 * and on are in few runs, too.
 */
#define RUNS 4
#define REFUSALS_BITS 4
static SH_TLS uintptr_t run_frames[RUNS]; /* hidden: a stack may lie in a cell */
static SH_TLS uint16_t run_refused[RUNS];
static SH_TLS unsigned run_count;

static bool refuses(unsigned run)
{
    if (run_refused[run - 1] >> sh_min(REFUSALS_BITS * run, 15u))
        return false;
    run_refused[run - 1]++;
    return true;
}

/* From a callback, or it begins: it is the innermost. */
static void came_back(const struct sh_callback_run *run)
{
    run_count = run->number;
    run_frames[run_count - 1] = sh_hide((void *)run->frame);
    run_refused[run_count - 1] = 0;
}

SH_NOINLINE bool sh_callback_begin(struct sh_callback_run *run)
{
    run->frame = (uintptr_t)__builtin_frame_address(0);
    while (run_count && (uintptr_t)sh_reveal(run_frames[run_count - 1]) <= run->frame)
        run_count--;
    if (run_count && refuses(run_count))
        return false;
    run->number = run_count < RUNS ? run_count + 1 : RUNS;
    came_back(run);
    return true;
}

void sh_callback_end(const struct sh_callback_run *run)
{
    run_count = run->number - 1;
}

void sh_callback_none_running(void)
{
    sh_callback_let_go(NULL);
    run_count = 0;
}

/* One whose frame does not lie above was left, and is no outer one. */
void *sh_callback_hold(const void *object, const void *context)
{
    struct sh_thread *self = sh_tls.self;
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    struct sh_held *outer = self ? self->held : NULL;
    while (outer && outer->frame <= frame)
        outer = outer->outer;
    sh_callback_let_go(outer);
    sh_critical_enter();
    struct sh_held *held = self && !outer ? &self->outermost : NULL;
    if (outer)
        held = sh_meta_alloc(sizeof *held);
    if (held) {
        *held = (struct sh_held){outer, frame, (uintptr_t)object, (uintptr_t)context};
        self->held = held;
    }
    sh_critical_leave();
    return outer;
}

void sh_callback_let_go(void *outer)
{
    struct sh_thread *self = sh_tls.self;
    sh_critical_enter();
    while (self && self->held && self->held != outer) {
        struct sh_held *held = self->held;
        self->held = held->outer;
        if (held != &self->outermost)
            sh_meta_free(held, sizeof *held);
    }
    sh_critical_leave();
}

/* What is to be done for an object that waited; NULL: nothing. */
struct job {
    void *object;
    bool weak, final;
    bool final_follows; /* it is queued for it once it was told of */
    struct sh_finaliser finaliser;
    void *outer; /* for sh_callback_let_go */
};

static void take_weak(uintptr_t object, struct job *job)
{
    struct sh_cell cell;
    if (!waits(object, &cell))
        return;
    job->final_follows = sh_table_test(cell, &cell.span->final_bits);
    job->weak = take_hook(cell);
    if (!job->final_follows)
        sh_table_clear(cell, &cell.span->waiting_bits);
    if (job->weak || job->final_follows)
        job->object = (void *)object;
}

/* Unless it was freed meanwhile, or finalised: then it waits no longer. Without memory the
 * next collection finds it. */
static void queue_final(uintptr_t object)
{
    struct sh_cell cell;
    sh_critical_enter();
    sh_lock_acquire(&sh_callback_lock);
    if (waits(object, &cell) && sh_table_test(cell, &cell.span->final_bits))
        enqueue(&finals, object);
    sh_lock_release(&sh_callback_lock);
    sh_critical_leave();
}

static void take_final(uintptr_t object, struct job *job)
{
    struct sh_cell cell;
    if (!waits(object, &cell) || !sh_table_clear(cell, &cell.span->final_bits))
        return;
    sh_table_clear(cell, &cell.span->waiting_bits);
    sh_add_relaxed(&taken, (size_t)1);
    job->object = (void *)object;
    job->final = true;
    job->weak = take_hook(cell); /* nobody told so far */
    job->finaliser = sh_finaliser_take(cell);
}

/* False: the queue is empty. */
static bool next_job(
    struct queue *queue, void (*take)(uintptr_t, struct job *), struct job *job)
{
    uintptr_t object = 0;
    *job = (struct job){.object = NULL};
    if (!sh_load_relaxed(&queue->length))
        return false;
    sh_critical_enter();
    sh_lock_acquire(&sh_callback_lock);
    bool there = dequeue(queue, &object);
    if (object)
        take(object, job);
    if (there)
        job->outer = sh_callback_hold(job->object, job->finaliser.context);
    sh_lock_release(&sh_callback_lock);
    sh_critical_leave();
    return there;
}

static void call_back(const struct job *job)
{
    if (job->weak)
        gc_weakref_about_to_be_freed(job->object);
    if (job->finaliser.call)
        job->finaliser.call(job->object, job->finaliser.context);
    /* Until the program has set the type there is nothing to finalise. */
    else if (job->final && *(void **)job->object)
        gc_finalise(job->object);
}

static void run_job(const struct job *job, const struct sh_callback_run *run)
{
    if (job->object)
        call_back(job);
    came_back(run);
    if (job->final_follows)
        queue_final((uintptr_t)job->object);
    sh_callback_let_go(job->outer);
}

bool sh_callback_run_links(const struct sh_callback_run *run, sh_weak_filter *wanted)
{
    bool any = false;
    while (sh_weak_run_one(wanted)) {
        came_back(run);
        any = true;
    }
    return any;
}

bool sh_callback_tell(const struct sh_callback_run *run)
{
    struct job job;
    bool any = sh_callback_run_links(run, NULL);
    while (next_job(&told, take_weak, &job)) {
        any |= job.object != NULL;
        run_job(&job, run);
        any |= sh_callback_run_links(run, NULL);
    }
    return any;
}

bool sh_callback_finalise(const struct sh_callback_run *run)
{
    struct job job;
    bool ran = false;
    while (!ran && next_job(&finals, take_final, &job)) {
        ran = job.object != NULL;
        run_job(&job, run);
    }
    return ran;
}

size_t sh_callback_waiting(void)
{
    return sh_load_relaxed(&finals.length);
}

size_t sh_callback_taken(void)
{
    return sh_load_relaxed(&taken);
}
