/* SPDX-License-Identifier: MIT */
/* Work that markers share. See heaps/mark_pool.h. */
#include "heaps/mark_pool.h"

#include "lib/bits.h"
#include "lib/lock.h"
#include "lib/meta.h"
#include "lib/os.h"

enum {
    RANGES = 160,     /* in a chunk */
    SPANS = 32,       /* taken at once */
    PIECE = 32 << 10, /* bytes, the same */
    SPINS = 500,      /* looks for work before it sleeps */
};

struct ranges {
    struct ranges *next;
    size_t count;
    struct sh_mark_range ranges[RANGES];
};

_Atomic uint32_t sh_mark_wanted;

static struct sh_lock lock = SH_LOCK_INIT(SH_RANK_MARK);

/* Under the lock. */
static struct sh_mark_segment *segments;
static struct ranges *ranges;
static struct sh_span *spans;
static unsigned members, idle;

static _Atomic bool done;
static _Atomic uint32_t news;     /* counts puts, and that all is done */
static _Atomic uint32_t sleepers; /* on `news` */

/* ---- Segments ---- */

bool sh_mark_segment_push(struct sh_mark_segment **top)
{
    struct sh_mark_segment *segment = sh_meta_alloc(sizeof *segment);
    if (!segment)
        return false;
    segment->next = *top;
    segment->count = 0;
    *top = segment;
    return true;
}

void sh_mark_segment_pop(struct sh_mark_segment **top)
{
    struct sh_mark_segment *segment = *top;
    *top = segment->next;
    sh_meta_free(segment, sizeof *segment);
}

/* ---- Putting ---- */

static void tell(void)
{
    sh_add_seq_cst(&news, 1u);
    if (sh_load_seq_cst(&sleepers))
        sh_os_wake(&news, INT32_MAX);
}

void sh_mark_pool_open(void)
{
    sh_lock_acquire(&lock);
    members = 1;
    idle = 0;
    sh_store_relaxed(&done, false);
    sh_store_relaxed(&sh_mark_wanted, 0u);
    sh_lock_release(&lock);
}

void sh_mark_pool_add_spans(struct sh_span *first)
{
    sh_lock_acquire(&lock);
    spans = first;
    sh_lock_release(&lock);
}

bool sh_mark_pool_join(void)
{
    sh_lock_acquire(&lock);
    bool joined = !sh_load_relaxed(&done);
    if (joined)
        members++;
    sh_lock_release(&lock);
    return joined;
}

void sh_mark_pool_put(struct sh_mark_segment *segment)
{
    sh_lock_acquire(&lock);
    segment->next = segments;
    segments = segment;
    sh_lock_release(&lock);
    tell();
}

static bool room_for_range(void)
{
    if (ranges && ranges->count < RANGES)
        return true;
    struct ranges *more = sh_meta_alloc(sizeof *more);
    if (!more)
        return false;
    more->next = ranges;
    more->count = 0;
    ranges = more;
    return true;
}

bool sh_mark_pool_add_range(uintptr_t start, uintptr_t end)
{
    sh_lock_acquire(&lock);
    bool room = room_for_range();
    if (room)
        ranges->ranges[ranges->count++] = (struct sh_mark_range){start, end};
    sh_lock_release(&lock);
    if (room)
        tell();
    return room;
}

/* ---- Taking ---- */

static void take_piece(struct sh_mark_work *work)
{
    struct sh_mark_range *range = &ranges->ranges[ranges->count - 1];
    work->range = *range;
    work->range.end = sh_min(range->end, range->start + PIECE);
    range->start = work->range.end;
    if (range->start < range->end || --ranges->count)
        return;
    struct ranges *empty = ranges;
    ranges = empty->next;
    sh_meta_free(empty, sizeof *empty);
}

static void take_spans(struct sh_mark_work *work)
{
    work->span = spans;
    for (; spans && work->spans < SPANS; work->spans++)
        spans = spans->all_next;
}

static bool take_some(struct sh_mark_work *work)
{
    *work = (struct sh_mark_work){.segment = segments};
    if (segments)
        segments = segments->next;
    else if (ranges)
        take_piece(work);
    else if (spans)
        take_spans(work);
    else
        return false;
    return true;
}

/* Until something was put since. */
static void wait_for(uint32_t seen)
{
    for (unsigned i = 0; i < SPINS; i++) {
        if (sh_load_relaxed(&news) != seen)
            return;
        sh_cpu_pause();
    }
    sh_add_seq_cst(&sleepers, 1u);
    while (sh_load_seq_cst(&news) == seen)
        sh_os_wait(&news, seen, 0);
    sh_sub_seq_cst(&sleepers, 1u);
}

static void count_idle(unsigned now)
{
    idle = now;
    sh_store_relaxed(&sh_mark_wanted, now);
}

bool sh_mark_pool_take(struct sh_mark_work *work)
{
    sh_lock_acquire(&lock);
    bool took = take_some(work);
    if (!took) {
        count_idle(idle + 1);
        if (idle == members) {
            sh_store_relaxed(&done, true);
            sh_store_relaxed(&sh_mark_wanted, 0u);
        }
        while (!sh_load_relaxed(&done) && !took) {
            uint32_t seen = sh_load_relaxed(&news);
            sh_lock_release(&lock);
            wait_for(seen);
            sh_lock_acquire(&lock);
            took = !sh_load_relaxed(&done) && take_some(work);
        }
        if (took)
            count_idle(idle - 1);
    }
    sh_lock_release(&lock);
    if (!took)
        tell();
    return took;
}
