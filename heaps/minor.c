/* SPDX-License-Identifier: MIT */
/* Minor collections. See heaps/minor.h. */
#include "heaps/minor.h"

#include "heaps/area.h"
#include "heaps/memcheck.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/word.h"
#include "lib/os_watch.h"

bool sh_minor;

static bool guarded;             /* the last collection ended so, in this process */
static struct sh_word_code code; /* as that one read words */
static int round_of_watch;

/* ---- Begin ---- */

void sh_minor_begin(bool wanted)
{
    sh_minor = wanted && guarded && sh_os_watch_prepare() &&
               sh_word_code.tags == code.tags && !sh_word_code.decoder;
    guarded = false;
}

/* ---- What was written ---- */

static uint64_t parts_between(
    const struct sh_span *span, uintptr_t start, uintptr_t end)
{
    size_t part = sh_minor_part(span);
    size_t first = (start - span->base) / part, last = (end - 1 - span->base) / part;
    return sh_low_bits64((unsigned)(last - first + 1)) << first;
}

static uintptr_t end_of(const struct sh_span *span)
{
    return span->base + span->pages * SH_PAGE_SIZE;
}

static void note_written(uintptr_t start, uintptr_t end)
{
    while (start < end) {
        struct sh_span *span = sh_page_map_lookup(start);
        if (!span) {
            start += SH_PAGE_SIZE;
            continue;
        }
        uintptr_t until = sh_min(end, end_of(span));
        if (span->guarded)
            span->written |= parts_between(span, start, until);
        start = until;
    }
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
        known = !area->watched || find_written_in(round, area);
    sh_os_close(round);
    return known;
}

static size_t bytes_written(void)
{
    size_t bytes = 0;
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (span->kind == SH_KIND_SCAN)
            bytes += sh_popcount64(span->written) * sh_minor_part(span);
    return bytes;
}

static uint64_t all_parts(const struct sh_span *span)
{
    return parts_between(span, span->base, end_of(span));
}

size_t sh_minor_find_written(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        span->written = span->guarded ? 0 : all_parts(span);
    if (!find_written_anywhere())
        for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
            span->written = all_parts(span);
    return bytes_written();
}

/* ---- Guarding ---- */

static bool is_worth_it(const struct sh_span *span)
{
    return span->kind == SH_KIND_SCAN && span->settled;
}

/* Spans side by side are protected at once. */
struct stretch {
    uintptr_t start, end;
};

static void protect(struct stretch *stretch)
{
    if (stretch->start != stretch->end)
        sh_os_watch_protect(round_of_watch, stretch->start, stretch->end);
    stretch->start = stretch->end;
}

static void guard_in(struct sh_area *area)
{
    struct stretch stretch = {area->start, area->start};
    for (uintptr_t at = area->start; at < area->end;) {
        struct sh_span *span = sh_page_map_lookup(at);
        if (!span) {
            at += SH_PAGE_SIZE;
            continue;
        }
        span->guarded = is_worth_it(span);
        if (!span->guarded) {
            protect(&stretch);
            stretch.start = end_of(span);
        }
        stretch.end = at = end_of(span);
    }
    protect(&stretch);
}

static void leave_open(const struct sh_area *area)
{
    for (uintptr_t at = area->start; at < area->end;) {
        struct sh_span *span = sh_page_map_lookup(at);
        if (span)
            span->guarded = false;
        at = span ? end_of(span) : at + SH_PAGE_SIZE;
    }
}

bool sh_minor_guard(bool plain)
{
    if (!plain || sh_memcheck_on() || sh_word_code.decoder || !sh_os_watch_prepare())
        return false;
    round_of_watch = sh_os_watch_open();
    if (round_of_watch < 0)
        return false;
    for (struct sh_area *area = sh_area_first(); area; area = area->next) {
        if (!area->watched && !area->from_user)
            area->watched = sh_os_watch_add(area->start, area->end - area->start);
        if (area->watched)
            guard_in(area);
        else
            leave_open(area);
    }
    sh_os_close(round_of_watch);
    code = sh_word_code;
    guarded = true;
    return true;
}

/* ---- Moving, forking ---- */

void sh_minor_move(struct sh_span *span)
{
    if (span->area->watched)
        sh_os_watch_drop(span->area->start, span->area->end - span->area->start);
    span->area->watched = false;
    span->guarded = false;
}

void sh_minor_fork_child(void)
{
    guarded = false;
    sh_os_watch_fork_child();
    for (struct sh_area *area = sh_area_first(); area; area = area->next)
        area->watched = false;
}
