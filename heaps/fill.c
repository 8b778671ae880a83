/* SPDX-License-Identifier: MIT */
/* Filling. See heaps/fill.h. */
#include "heaps/fill.h"

#include <string.h>

#include "heaps/cache.h"
#include "heaps/memcheck.h"
#include "heaps/run.h"
#include "lib/options.h"

#define NEW_BYTE 0xa5
#define FREED_BYTE 0x5a
#define NOTHING (-1)

_Atomic bool sh_fill_on;

static _Atomic bool clears;
static _Atomic int new_byte = NOTHING;
static _Atomic int freed_byte = NOTHING;

static bool anything(void)
{
    return sh_memcheck_on() || sh_load_relaxed(&clears) ||
           sh_load_relaxed(&new_byte) != NOTHING ||
           sh_load_relaxed(&freed_byte) != NOTHING;
}

void sh_fill_init(void)
{
    int junk = sh_options.junk;
    sh_store_relaxed(&clears, sh_options.zero);
    if (junk == SH_JUNK_ALL || junk == SH_JUNK_ALLOC)
        sh_store_relaxed(&new_byte, NEW_BYTE);
    if (junk == SH_JUNK_ALL || junk == SH_JUNK_FREE)
        sh_store_relaxed(&freed_byte, FREED_BYTE);
    sh_store_relaxed(&sh_fill_on, anything());
}

/* The spans that are there by now: their frees are to come the slow way, too. */
static void slow_spans_down(void)
{
    sh_lock_acquire(&sh_heap_lock);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_owner(span))
            sh_or_seq_cst(&span->owner, SH_OWNER_SLOW);
    sh_lock_release(&sh_heap_lock);
}

void sh_fill_perturb(uint8_t byte)
{
    sh_store_relaxed(&new_byte, byte ? (uint8_t)~byte : NOTHING);
    sh_store_relaxed(&freed_byte, byte ? byte : NOTHING);
    sh_store_relaxed(&sh_fill_on, anything());
    sh_critical_enter();
    if (byte)
        slow_spans_down();
    if (sh_tls.self)
        sh_cache_select(sh_tls.self);
    sh_critical_leave();
}

bool sh_fill_clears(void)
{
    return sh_load_relaxed(&clears);
}

static void fill(void *start, size_t bytes, int byte)
{
    if (byte != NOTHING)
        memset(start, byte, bytes);
}

void sh_fill_new(void *start, size_t bytes)
{
    if (sh_load_relaxed(&clears))
        memset(start, 0, bytes);
    else
        fill(start, bytes, sh_load_relaxed(&new_byte));
}

void sh_fill_freed(void *start, size_t bytes)
{
    fill(start, bytes, sh_load_relaxed(&freed_byte));
}
