/* SPDX-License-Identifier: MIT */
/* Marking as a whole. See heaps/mark_team.h. */
#include "heaps/mark_team.h"

#include "heaps/area.h"
#include "heaps/event.h"
#include "heaps/heap.h"
#include "heaps/limit.h"
#include "heaps/mark_map.h"
#include "heaps/memcheck.h"
#include "heaps/minor.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/span_walk.h"
#include "heaps/sweep.h"
#include "heaps/word.h"
#include "lib/options.h"
#include "threads/gang.h"
#include "threads/static_roots.h"

/* Of heap in use, for each helper: less is done before it woke. */
#define HELPER_PAGES (((size_t)8 << 20) / SH_PAGE_SIZE)

static struct sh_marker markers[SH_GANG_MAX]; /* the first is the collector's */

/* Of a minor collection: what was written to of old objects, and what the same took in the
 * last one. */
#define HELPER_BYTES ((size_t)1 << 20)
#define HELPER_NS 200000

static uint64_t minor_marking_ns, minor_walking_ns;
static uint64_t marking_since;
static size_t written;
static unsigned taking_part;            /* markers that marked anything */
static struct sh_mark_segment *kept;    /* words that are roots, until there is a map */
static bool mapped;                     /* the mark map holds */
static bool typed;                      /* there are typed objects */
static _Atomic unsigned markers_wanted; /* 0: as many as processors */
static _Atomic bool markers_set;        /* by the program: the option is not asked */
static _Atomic bool explicit_off;       /* malloc'd memory is no root from now on, */
static bool explicit_left_out;          /* nor in this collection */

void sh_mark_init(void)
{
    /* Cells' addresses, but no roots. */
    sh_roots_exclude(markers, markers + SH_GANG_MAX);
    sh_roots_exclude(sh_mark_map_root, sh_mark_map_root + SH_ROOT_ENTRIES);
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
    return (unsigned)sh_min(most - 1, sh_limit_used() / HELPER_PAGES);
}

void sh_mark_prepare_helpers(void)
{
    unsigned helpers = helpers_worth();
    if (helpers)
        sh_gang_recruit(helpers);
}

/* ---- Roots ---- */

/* Words that are a root; a cell's, or any, which `area` is NULL for. */
struct root {
    uintptr_t start, end;
    const struct sh_area *area; /* that the cell lies in */
};

static bool lies_in(const struct root *root, const struct sh_area *area)
{
    if (root->area)
        return root->area == area;
    return area->start <= root->start && root->end <= area->end;
}

/*
 * The user's area that begins first of those that reach into the root from `at` on, or
 * NULL. Not one that the root itself lies in: that is a cell or a stack in a cell.
 */
static struct sh_area *first_user_area(const struct root *root, uintptr_t at)
{
    struct sh_area *best = NULL;
    for (struct sh_area *area = sh_area_users(); area; area = area->user_next)
        if (area->start < root->end && area->end > at && !lies_in(root, area) &&
            (!best || area->start < best->start))
            best = area;
    return best;
}

/*
 * A user's area may lie in a data segment, or in memory of another area: it is no root
 * for that. Calls for what is left; false: a call said so.
 */
static bool each_outside_areas(
    const struct root *root, bool (*visit)(uintptr_t, uintptr_t))
{
    uintptr_t at = root->start, end = root->end;
    struct sh_area *area;
    while ((area = first_user_area(root, at))) {
        if (area->start > at && !visit(at, area->start))
            return false;
        at = area->end;
        if (at >= end)
            return true;
    }
    return visit(at, end);
}

static bool is_collected(uintptr_t address)
{
    struct sh_span *span = sh_page_map_lookup(address);
    return span && span->state != SH_SPAN_FREE && sh_span_collected(span);
}

static bool keep_word(uintptr_t word)
{
    uintptr_t pointers[SH_WORD_READINGS];
    unsigned count = sh_word_read(word, pointers);
    while (count)
        if (is_collected(pointers[--count]))
            return sh_mark_push(&kept, word);
    return true;
}

/* Until the map is there nothing is marked: what a word leads to may be freed yet, by
 * threads that are not stopped. */
SH_NO_SANITIZE
static bool keep_words(uintptr_t start, uintptr_t end)
{
    for (uintptr_t at = sh_round_up(start, sizeof at); at + sizeof at <= end;
         at += sizeof at)
        if (!keep_word(*(const volatile uintptr_t *)at))
            return false;
    return true;
}

static void mark_kept(void)
{
    for (; kept; sh_mark_segment_pop(&kept))
        sh_mark_range(&markers[0], kept->items, kept->items + kept->count);
}

static bool mark_range_now(uintptr_t start, uintptr_t end)
{
    struct sh_marker *marker = &markers[0];
    if (mapped)
        sh_mark_range(marker, (const void *)start, (const void *)end);
    else if (!keep_words(start, end))
        sh_mark_range_slowly(marker, (const void *)start, (const void *)end);
    return true;
}

struct gc_marker *sh_mark_first(void)
{
    return (struct gc_marker *)&markers[0];
}

void sh_mark_root_now(const void *start, const void *end)
{
    struct root root = {(uintptr_t)start, (uintptr_t)end, NULL};
    each_outside_areas(&root, mark_range_now);
}

bool sh_mark_add_root(const void *start, const void *end)
{
    struct root root = {(uintptr_t)start, (uintptr_t)end, NULL};
    return each_outside_areas(&root, sh_mark_pool_add_range);
}

bool sh_mark_set_scan_explicit(bool on)
{
    return !sh_exchange_seq_cst(&explicit_off, !on);
}

bool sh_mark_scans_explicit(void)
{
    return !explicit_left_out;
}

void sh_mark_add_spans(void)
{
    if (sh_minor)
        written = sh_minor_find_written();
    if (!explicit_left_out || sh_minor)
        sh_mark_pool_add_spans(sh_span_first());
}

/* By any marker. Large objects are scanned in pieces; in pinned ones users' areas lie. */
static void mark_explicit_cell(
    struct sh_marker *marker, const struct sh_span *span, uintptr_t start)
{
    struct root root = {start, start + span->cell_size, span->area};
    bool added = span->pinned ? each_outside_areas(&root, sh_mark_pool_add_range)
                              : span->state != SH_SPAN_SMALL &&
                                    sh_mark_pool_add_range(root.start, root.end);
    if (!added)
        sh_mark_range(marker, (const void *)root.start, (const void *)root.end);
}

static void mark_live_cells(struct sh_marker *marker, struct sh_span *span)
{
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t live = sh_span_word(span, w, SH_CELL_LIVE);
        sh_event_roots(sh_popcount64(live) * span->cell_size);
        for (; live; live &= live - 1) {
            mark_explicit_cell(
                marker, span, sh_span_cell(span, w * 64 + sh_ctz64(live)));
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
        if (span->kind == SH_KIND_EXPLICIT) {
            if (!explicit_left_out)
                mark_live_cells(marker, span);
        } else if (sh_minor && span->kind == SH_KIND_SCAN && span->open) {
            sh_mark_scan_old(marker, span);
        }
}

static void mark_on(struct sh_marker *marker)
{
    struct sh_mark_work work;
    sh_mark_drain(marker);
    while (sh_mark_pool_take(&work)) {
        work_on(marker, &work);
        sh_mark_drain(marker);
    }
}

static void help(void *unused, unsigned member)
{
    struct sh_marker *marker = &markers[member], *first = &markers[0];
    (void)unused;
    if (!sh_mark_pool_join())
        return;
    sh_marker_init(marker, first->low, first->low + first->extent);
    marker->how = first->how;
    marker->mark = first->mark;
    mark_on(marker);
}

/* True: some did not find room for all that they found. */
static bool finish_markers(void)
{
    bool overflowed = false;
    for (unsigned i = 0; i < SH_GANG_MAX; i++) {
        struct sh_marker *marker = &markers[i];
        if (marker->segment)
            taking_part = (unsigned)sh_max(taking_part, i + 1);
        overflowed |= marker->overflowed;
        marker->overflowed = false;
        sh_marker_finish(marker);
    }
    return overflowed;
}

/* `minor_ns`: what this took in the last minor collection. */
static unsigned helpers(uint64_t minor_ns)
{
    if (sh_minor && minor_ns < HELPER_NS && written < HELPER_BYTES)
        return 0;
    return (unsigned)sh_min(sh_gang_helpers(), helpers_worth());
}

unsigned sh_mark_helpers(void)
{
    return helpers(minor_walking_ns);
}

static void mark_reached(void)
{
    unsigned helping = helpers(minor_marking_ns);
    sh_mark_pool_open();
    if (helping)
        sh_gang_open(help, NULL, helping);
    mark_on(&markers[0]);
    if (helping)
        sh_gang_close();
}

void sh_mark_for_waiting(void)
{
    markers[0].mark = SH_MARK_WAITING;
}

void sh_mark_complete(void)
{
    mark_reached();
    while (SH_UNLIKELY(finish_markers())) {
        for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
            sh_mark_rescan(&markers[0], span);
        mark_reached();
    }
}

/* ---- Watching ---- */

void sh_mark_watch_begin(void)
{
    markers[0].watching = true;
}

void sh_mark_watch_follow(void)
{
    sh_mark_pool_open();
    mark_on(&markers[0]);
}

bool sh_mark_watch_next(void **cell)
{
    struct sh_mark_segment *noted = markers[0].noted;
    if (!noted)
        return false;
    *cell = (void *)(uintptr_t)noted->items[--noted->count];
    if (!noted->count)
        sh_mark_segment_pop(&markers[0].noted);
    return true;
}

bool sh_mark_watch_end(void)
{
    bool lost = markers[0].lost || markers[0].overflowed;
    markers[0].watching = markers[0].lost = false;
    return lost;
}

/* ---- Begin and end ---- */

static void prepare(void *unused, unsigned member, struct sh_span *span)
{
    (void)unused;
    (void)member;
    if (sh_span_collected(span))
        sh_span_prepare(span);
}

void sh_mark_begin(bool minor)
{
    sh_word_begin();
    sh_minor_begin(minor);
    uint64_t since = sh_os_now_ns();
    sh_span_walk(prepare, NULL, sh_mark_helpers());
    if (sh_minor)
        minor_walking_ns = sh_os_now_ns() - since;
    written = 0;
    explicit_left_out = sh_load_relaxed(&explicit_off);
    sh_marker_init(&markers[0], 0, 0);
    taking_part = 1;
    mapped = false;
}

void sh_mark_map(void)
{
    uintptr_t low = 0, high = 0;
    typed = false;
    for (struct sh_area *area = sh_area_first(); area; area = area->next) {
        if (high == 0 || area->start < low)
            low = area->start;
        high = sh_max(high, area->end);
        sh_mark_map_cover(area->start, area->end);
    }
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next) {
        sh_mark_map_enter(span);
        typed |= span->kind == SH_KIND_TYPED;
    }
    sh_marker_bound(&markers[0], low, high);
    markers[0].how = sh_mark_choose(typed);
    mapped = true;
    marking_since = sh_os_now_ns();
    mark_kept();
}

bool sh_mark_is_plain(void)
{
    return markers[0].how != SH_MARK_DECODED && !typed;
}

unsigned sh_mark_end(void)
{
    if (sh_minor)
        minor_marking_ns = sh_os_now_ns() - marking_since;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        sh_mark_map_leave(span);
    mapped = false;
    return taking_part;
}
