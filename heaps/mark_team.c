/* SPDX-License-Identifier: MIT */
/* Marking as a whole. See heaps/mark_team.h. */
#include "heaps/mark_team.h"

#include "heaps/area.h"
#include "heaps/event.h"
#include "heaps/heap.h"
#include "heaps/mark_map.h"
#include "heaps/memcheck.h"
#include "heaps/run.h"
#include "heaps/sweep.h"
#include "lib/options.h"
#include "threads/gang.h"
#include "threads/static_roots.h"

/* Of heap in use, for each helper: less is done before it woke. */
#define HELPER_PAGES (((size_t)8 << 20) / SH_PAGE_SIZE)

static struct {
    SH_ALIGNED(SH_CACHE_LINE) struct sh_marker marker;
} markers[SH_GANG_MAX];

static unsigned taking_part;            /* markers that marked anything */
static bool mapped;                     /* the mark map holds */
static _Atomic unsigned markers_wanted; /* 0: as many as processors */
static _Atomic bool markers_set;        /* by the program: the option is not asked */

void sh_mark_init(void)
{
    /* Cells' addresses, but no roots. */
    sh_roots_exclude(markers, markers + SH_GANG_MAX);
}

static unsigned most_markers(void)
{
    return sh_load_relaxed(&markers_set) ? sh_load_relaxed(&markers_wanted)
                                         : (unsigned)sh_options.markers;
}

unsigned sh_mark_set_markers(unsigned wanted)
{
    unsigned before = most_markers();
    sh_store_relaxed(&markers_wanted, (unsigned)sh_min(wanted, SH_GANG_MAX));
    sh_store_relaxed(&markers_set, true);
    return before;
}

/* ---- Helpers ---- */

static unsigned helpers_worth(void)
{
    /* Its switch for error reports is each thread's own. */
    unsigned most = sh_memcheck_on() ? 1 : most_markers();
    if (!most)
        most = (unsigned)sh_min(sh_os_processors(), SH_GANG_MAX);
    size_t used = sh_load_relaxed(&sh_heap_counts.total_pages) -
                  sh_load_relaxed(&sh_heap_counts.free_pages);
    return (unsigned)sh_min(most - 1, used / HELPER_PAGES);
}

void sh_mark_prepare_helpers(void)
{
    unsigned helpers = helpers_worth();
    if (helpers)
        sh_gang_recruit(helpers);
}

/* ---- Roots ---- */

static bool contains(const struct sh_area *area, uintptr_t start, uintptr_t end)
{
    return area->start <= start && end <= area->end;
}

/*
 * The user's area that begins first of those that reach into [at, end), or NULL. Not one
 * that the whole root, from `start`, lies in: that is a cell or a stack in a cell.
 */
static struct sh_area *first_user_area(uintptr_t start, uintptr_t at, uintptr_t end)
{
    struct sh_area *best = NULL;
    for (struct sh_area *area = sh_area_users(); area; area = area->user_next)
        if (area->start < end && area->end > at && !contains(area, start, end) &&
            (!best || area->start < best->start))
            best = area;
    return best;
}

/*
 * A user's area may lie in a data segment, or in memory of another area: it is no root
 * for that. Calls for what is left of [start, end); false: a call said so.
 */
static bool each_outside_areas(
    uintptr_t start, uintptr_t end, bool (*visit)(uintptr_t, uintptr_t))
{
    uintptr_t at = start;
    struct sh_area *area;
    while ((area = first_user_area(start, at, end))) {
        if (area->start > at && !visit(at, area->start))
            return false;
        at = area->end;
        if (at >= end)
            return true;
    }
    return visit(at, end);
}

static bool mark_range_now(uintptr_t start, uintptr_t end)
{
    struct sh_marker *marker = &markers[0].marker;
    if (mapped)
        sh_mark_range(marker, (const void *)start, (const void *)end);
    else
        sh_mark_range_slowly(marker, (const void *)start, (const void *)end);
    return true;
}

void sh_mark_root_now(const void *start, const void *end)
{
    each_outside_areas((uintptr_t)start, (uintptr_t)end, mark_range_now);
}

bool sh_mark_add_root(const void *start, const void *end)
{
    return each_outside_areas((uintptr_t)start, (uintptr_t)end, sh_mark_pool_add_range);
}

void sh_mark_add_explicit(void)
{
    sh_mark_pool_add_spans(sh_span_first());
}

/* By any marker. In large objects there may be users' areas; they are scanned in pieces. */
static void mark_explicit_cell(struct sh_marker *marker, uintptr_t start, uintptr_t end)
{
    if (end - start > SH_SMALL_MAX &&
        each_outside_areas(start, end, sh_mark_pool_add_range))
        return;
    sh_mark_range(marker, (const void *)start, (const void *)end);
}

static void mark_live_cells(struct sh_marker *marker, struct sh_span *span)
{
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t live = sh_span_word(span, w, SH_CELL_LIVE);
        sh_event_roots(sh_popcount64(live) * span->cell_size);
        for (; live; live &= live - 1) {
            uintptr_t start = sh_span_cell(span, w * 64 + sh_ctz64(live));
            mark_explicit_cell(marker, start, start + span->cell_size);
        }
    }
}

/* ---- Marking ---- */

static void work_on(struct sh_marker *marker, const struct sh_mark_work *work)
{
    if (work->segment)
        sh_mark_adopt(marker, work->segment);
    sh_mark_range(
        marker, (const void *)work->range.start, (const void *)work->range.end);
    struct sh_span *span = work->span;
    for (size_t i = 0; i < work->spans; i++, span = span->all_next)
        if (span->kind == SH_KIND_EXPLICIT)
            mark_live_cells(marker, span);
}

static void mark_on(struct sh_marker *marker)
{
    struct sh_mark_work work;
    do
        sh_mark_drain(marker);
    while (sh_mark_pool_take(&work) ? (work_on(marker, &work), true) : false);
}

static void help(void *unused, unsigned member)
{
    struct sh_marker *marker = &markers[member].marker, *first = &markers[0].marker;
    (void)unused;
    if (!sh_mark_pool_join())
        return;
    sh_marker_init(marker, first->low, first->low + first->extent);
    mark_on(marker);
}

/* True: some did not find room for all that they found. */
static bool finish_markers(void)
{
    bool overflowed = false;
    for (unsigned i = 0; i < SH_GANG_MAX; i++) {
        struct sh_marker *marker = &markers[i].marker;
        if (marker->segment)
            taking_part = (unsigned)sh_max(taking_part, i + 1);
        overflowed |= marker->overflowed;
        marker->overflowed = false;
        sh_marker_finish(marker);
    }
    return overflowed;
}

static void mark_reached(void)
{
    unsigned helpers = (unsigned)sh_min(sh_gang_helpers(), helpers_worth());
    sh_mark_pool_open();
    if (helpers)
        sh_gang_open(help, NULL, helpers);
    mark_on(&markers[0].marker);
    if (helpers)
        sh_gang_close();
}

void sh_mark_complete(void)
{
    mark_reached();
    while (SH_UNLIKELY(finish_markers())) {
        for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
            sh_mark_rescan(&markers[0].marker, span);
        mark_reached();
    }
}

/* ---- Begin and end ---- */

void sh_mark_begin(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span))
            sh_span_prepare(span);
    sh_marker_init(&markers[0].marker, 0, 0);
    taking_part = 1;
    mapped = false;
}

void sh_mark_map(void)
{
    uintptr_t low = 0, high = 0;
    for (struct sh_area *area = sh_area_first(); area; area = area->next) {
        if (high == 0 || area->start < low)
            low = area->start;
        high = sh_max(high, area->end);
        sh_mark_map_cover(area->start, area->end);
    }
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        sh_mark_map_enter(span);
    sh_marker_bound(&markers[0].marker, low, high);
    mapped = true;
}

unsigned sh_mark_end(void)
{
    for (struct sh_area *area = sh_area_first(); area; area = area->next)
        sh_mark_map_clear(area->start, area->end);
    mapped = false;
    return taking_part;
}
