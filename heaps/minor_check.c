/* SPDX-License-Identifier: MIT */
/* Sums of what is guarded. See heaps/minor_check.h. */
#include "heaps/minor_check.h"

#include "heaps/minor.h"
#include "heaps/run.h"
#include "lib/check.h"
#include "lib/os_watch.h"

#if SH_CHECKS >= 3

static uintptr_t start_of(const struct sh_span *span, unsigned i)
{
    return span->base + i * sh_minor_part(span);
}

static uintptr_t end_of(const struct sh_span *span, unsigned i)
{
    return sh_min(start_of(span, i + 1), sh_span_end(span));
}

SH_NO_SANITIZE
static uint64_t sum_of(const struct sh_span *span, unsigned i)
{
    uint64_t sum = 0;
    for (uintptr_t at = start_of(span, i); at < end_of(span, i); at += sizeof at)
        sum = (sum ^ *(const volatile uintptr_t *)at) * 0x9e3779b97f4a7c15u;
    return sum;
}

/* The system may write while it is looked at. */
static bool is_written_by_now(const struct sh_span *span, unsigned i)
{
    struct sh_os_pages page;
    uintptr_t at = start_of(span, i);
    int round = sh_os_watch_open();
    int count =
        round < 0 ? -1 : sh_os_watch_written(round, &at, end_of(span, i), &page, 1);
    if (round >= 0)
        sh_os_close(round);
    return count != 0;
}

static void check(const struct sh_span *span)
{
    for (uint64_t parts = span->guarded & ~span->open; parts; parts &= parts - 1) {
        unsigned i = sh_ctz64(parts);
        if (sum_of(span, i) != span->sums[i] && !is_written_by_now(span, i))
            sh_fatal("the page at %p was written to, and it was not found",
                (void *)start_of(span, i));
    }
}

void sh_minor_check_written(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (span->kind == SH_KIND_SCAN && span->summed_pages == span->pages)
            check(span);
}

void sh_minor_check_guard(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next) {
        span->summed_pages = span->pages;
        for (uint64_t parts = span->guarded; parts; parts &= parts - 1)
            span->sums[sh_ctz64(parts)] = sum_of(span, sh_ctz64(parts));
    }
}

#else

void sh_minor_check_guard(void)
{
}

void sh_minor_check_written(void)
{
}

#endif
