/* SPDX-License-Identifier: MIT */
/* The oracle of checks=3. See heaps/mark_check.h. */
#include "heaps/mark_check.h"

#include "heaps/mark.h"
#include "heaps/minor.h"
#include "heaps/page_map.h"
#include "heaps/run.h"
#include "heaps/weak_link.h"
#include "heaps/word.h"
#include "lib/check.h"
#include "lib/hide.h"

static uintptr_t looked_at; /* the cell; hidden */

SH_NO_SANITIZE
static void check_pointer(uintptr_t address)
{
    struct sh_span *span = sh_page_map_lookup(address);
    if (!span || span->state == SH_SPAN_FREE || !sh_span_collected(span))
        return;
    uint32_t to = sh_span_cell_of(span, address);
    if (sh_cell_state(span, to) == SH_CELL_LIVE && !sh_cell_marked(span, to))
        sh_fatal("the object at %p is marked, and holds %p, which is not",
            sh_reveal(looked_at), (void *)address);
}

SH_NO_SANITIZE
void sh_mark_check_words(uintptr_t start, uintptr_t end)
{
    for (uintptr_t at = start; at < end; at += sizeof at) {
        uintptr_t pointers[SH_WORD_READINGS];
        unsigned count = sh_word_read(*(const volatile uintptr_t *)at, pointers);
        while (count)
            check_pointer(pointers[--count]);
    }
}

/* Of an old cell only what a minor collection has to look at. What it leaves out is as it was
 * (heaps/minor.c looks), and may hold what was stale then: addresses of cells that were free, and
 * have a new object by now. */
static void check_parts(const struct sh_span *span, uintptr_t start, uintptr_t end)
{
    for (uintptr_t at = start, until; at < end; at = until) {
        until = sh_min(
            end, at + sh_minor_part(span) - (at - span->base) % sh_minor_part(span));
        if (!sh_minor_leaves_out(span, at))
            sh_mark_check_words(at, until);
    }
}

static void check_cell(const struct sh_span *span, uint32_t i)
{
    static struct sh_marker checker = {.how = SH_MARK_CHECKING};
    uintptr_t cell = sh_span_cell(span, i);
    looked_at = sh_hide((void *)cell);
    if ((uintptr_t)__builtin_frame_address(0) - cell < span->cell_size)
        return; /* the collector's own stack */
    if (span->kind == SH_KIND_TYPED)
        sh_mark_object(&checker, cell, span->cell_size);
    else
        check_parts(span, cell, cell + span->cell_size);
}

static void check_span(struct sh_span *span)
{
    if (span->state == SH_SPAN_SMALL && span->list != SH_LIST_DEAD)
        sh_span_valid(span);
    sh_weak_valid(span);
    if (span->kind != SH_KIND_SCAN && span->kind != SH_KIND_TYPED)
        return;
    for (uint32_t w = 0; w < span->touched; w++) {
        uint64_t cells = sh_span_word(span, w, SH_CELL_LIVE) & sh_span_marked(span, w);
        for (; cells; cells &= cells - 1)
            check_cell(span, w * 64 + sh_ctz64(cells));
    }
}

void sh_mark_check(void)
{
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        check_span(span);
}
