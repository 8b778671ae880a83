/* SPDX-License-Identifier: MIT */
/* Minor collections. See heaps/minor.h. */
#include "heaps/minor.h"

#include "heaps/area.h"
#include "heaps/memcheck.h"
#include "heaps/minor_check.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/word.h"
#include "lib/check.h"
#include "lib/options.h"
#include "lib/os_watch.h"

bool sh_minor;

static bool guarded;             /* the last collection ended so, in this process, */
static bool after_full;          /* and was a full one */
static struct sh_word_code code; /* as that one read words */
static int round_of_watch;

/* ---- What was written ---- */

static uint64_t parts_between(
    const struct sh_span *span, uintptr_t start, uintptr_t end)
{
    size_t part = sh_minor_part(span);
    size_t first = (start - span->base) / part, last = (end - 1 - span->base) / part;
    return sh_low_bits64((unsigned)(last - first + 1)) << first;
}

static struct sh_span *next_span(uintptr_t *at, uintptr_t end)
{
    while (*at < end) {
        struct sh_span *span = sh_page_map_lookup(*at);
        *at = span ? sh_span_end(span) : *at + SH_PAGE_SIZE;
        if (span)
            return span;
    }
    return NULL;
}

static void note_written(uintptr_t start, uintptr_t end)
{
    struct sh_span *span;
    for (uintptr_t at = start; (span = next_span(&at, end));)
        span->open |= parts_between(
            span, sh_max(start, span->base), sh_min(end, sh_span_end(span)));
}

static bool find_written_in(int round, const struct sh_area *area)
{
    struct sh_os_pages found[64];
    uintptr_t at = area->start;
    while (at < area->end) {
        int count = sh_os_watch_written(round, &at, area->end, found, 64);
        if (count < 0)
            return false;
        for (int i = 0; i < count; i++)
            note_written(found[i].start, found[i].end);
    }
    return true;
}

static bool find_written_anywhere(void)
{
    int round = sh_os_watch_open();
    if (round < 0)
        return false;
    bool known = true;
    for (struct sh_area *area = sh_area_first(); area && known; area = area->next)
        known = !area->guarded || find_written_in(round, area);
    sh_os_close(round);
    return known;
}

static size_t bytes_written(void)
{
    size_t bytes = 0;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (span->kind == SH_KIND_SCAN)
            bytes += sh_popcount64(span->open) * sh_minor_part(span);
    return bytes;
}

static uint64_t all_parts(const struct sh_span *span)
{
    return parts_between(span, span->base, sh_span_end(span));
}

/* False: it is not known, and all counts as written. */
static bool find_written(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        span->open = all_parts(span) & ~span->guarded;
    if (find_written_anywhere())
        return true;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        span->open = all_parts(span);
    return false;
}

size_t sh_minor_find_written(void)
{
    find_written();
    if (SH_CHECKS >= 3)
        sh_minor_check_written();
    return bytes_written();
}

/* ---- Begin ---- */

/* Of what is guarded more than half; or it is not known. */
static bool is_written_everywhere(void)
{
    size_t all = 0, open = 0;
    if (!find_written())
        return true;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next) {
        all += sh_popcount64(span->guarded) * sh_minor_part(span);
        open += sh_popcount64(span->guarded & span->open) * sh_minor_part(span);
    }
    return open > all / 2;
}

static bool is_in_vain(void)
{
    return sh_options.generations != SH_GENERATIONS_ALWAYS && is_written_everywhere();
}

void sh_minor_begin(bool wanted)
{
    sh_minor = wanted && guarded && sh_os_watch_prepare() &&
               sh_word_code.tags == code.tags && !sh_word_code.decoder &&
               !(after_full && is_in_vain());
    after_full = !sh_minor;
    guarded = false;
}

/* ---- Guarding ---- */

/* Of less it is cheaper to scan them again than to have them protected. */
#define PARTS_LEAST 4

static uint64_t long_runs(uint64_t parts)
{
    uint64_t begins = parts;
    for (unsigned i = 1; i < PARTS_LEAST; i++)
        begins &= parts >> i;
    uint64_t runs = begins;
    for (unsigned i = 1; i < PARTS_LEAST; i++)
        runs |= begins << i;
    return runs;
}

/* Each cell that any of it belongs to is old. */
SH_NO_SANITIZE
static bool is_old(struct sh_span *span, uintptr_t from, uintptr_t to)
{
    uint32_t first = sh_span_cell_of(span, from), last = sh_span_cell_of(span, to - 1);
    if (last >= span->cell_count)
        return false;
    for (uint32_t w = first / 64; w <= last / 64; w++) {
        uint64_t old = sh_bytes_equal(&span->marks[w * 64], SH_MARK_REACHED);
        old &= sh_span_word(span, w, SH_CELL_LIVE);
        if (sh_word_between(w, first, last) & ~old)
            return false;
    }
    return true;
}

static uint64_t old_parts(struct sh_span *span)
{
    size_t part = sh_minor_part(span);
    uint64_t parts = 0;
    for (unsigned i = 0; i < (span->pages * SH_PAGE_SIZE + part - 1) / part; i++) {
        uintptr_t from = span->base + i * part;
        uintptr_t to = sh_min(from + part, sh_span_end(span));
        parts |= (uint64_t)is_old(span, from, to) << i;
    }
    return long_runs(parts);
}

void sh_minor_choose(struct sh_span *span, size_t old)
{
    if (span->kind != SH_KIND_SCAN)
        span->guarded = 0;
    else if (span->settled)
        span->guarded = all_parts(span);
    else
        span->guarded = old > span->cell_count / 2 ? old_parts(span) : 0;
}

/* What lies side by side is protected at once. */
struct stretch {
    uintptr_t start, end;
};

static void protect(const struct stretch *stretch)
{
    if (stretch->start != stretch->end)
        sh_os_watch_protect(round_of_watch, stretch->start, stretch->end);
}

static void extend(struct stretch *stretch, uintptr_t start, uintptr_t end)
{
    if (stretch->end != start) {
        protect(stretch);
        stretch->start = start;
    }
    stretch->end = end;
}

static void guard_span(struct stretch *stretch, const struct sh_span *span)
{
    size_t part = sh_minor_part(span);
    uint64_t parts = span->guarded;
    while (parts) {
        unsigned first, count = sh_take_run64(&parts, &first);
        uintptr_t from = span->base + first * part;
        extend(stretch, from, sh_min(from + count * part, sh_span_end(span)));
    }
}

static void guard_in(const struct sh_area *area)
{
    struct stretch stretch = {0, 0};
    struct sh_span *span;
    for (uintptr_t at = area->start; (span = next_span(&at, area->end));)
        guard_span(&stretch, span);
    protect(&stretch);
}

/* There may be none, as in what malloc has. */
static bool has_guarded(const struct sh_area *area)
{
    struct sh_span *span;
    for (uintptr_t at = area->start; (span = next_span(&at, area->end));)
        if (span->guarded)
            return true;
    return false;
}

static bool is_watched(struct sh_area *area)
{
    if (!area->watched && !area->from_user)
        area->watched = sh_os_watch_add(area->start, area->end - area->start);
    return area->watched;
}

static void leave_open(const struct sh_area *area)
{
    struct sh_span *span;
    for (uintptr_t at = area->start; (span = next_span(&at, area->end));)
        span->guarded = 0;
}

bool sh_minor_guard(bool plain)
{
    if (!plain || sh_memcheck_on() || !sh_os_watch_prepare())
        return false;
    round_of_watch = sh_os_watch_open();
    if (round_of_watch < 0)
        return false;
    for (struct sh_area *area = sh_area_first(); area; area = area->next) {
        area->guarded = has_guarded(area);
        if (!area->guarded)
            continue;
        area->guarded = is_watched(area);
        if (area->guarded)
            guard_in(area);
        else
            leave_open(area);
    }
    sh_os_close(round_of_watch);
    if (SH_CHECKS >= 3)
        sh_minor_check_guard();
    code = sh_word_code;
    guarded = true;
    return true;
}

/* ---- Moving, forking ---- */

void sh_minor_move(struct sh_span *span)
{
    if (span->area->watched)
        sh_os_watch_drop(span->area->start, span->area->end - span->area->start);
    span->area->watched = span->area->guarded = false;
    span->guarded = 0;
}

void sh_minor_fork_child(void)
{
    guarded = false;
    sh_os_watch_fork_child();
    for (struct sh_area *area = sh_area_first(); area; area = area->next)
        area->watched = false;
}
