/* SPDX-License-Identifier: MIT */
/* Talking to valgrind's memcheck. See heaps/memcheck.h. */
#include "heaps/memcheck.h"

#if SH_MEMCHECK

#include <errno.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "heaps/page_map.h"
#include "heaps/run.h"
#include "lib/os.h"

#define BACK ((size_t)16)

struct header {
    size_t bytes, front;
};

bool sh_memcheck_found;

static _Atomic bool any_malloc;

/* Only memcheck answers: other tools, which measure, are to see the fast paths. */
void sh_memcheck_init(void)
{
    char word[8] = {0}, bits[8];
    sh_memcheck_found =
        RUNNING_ON_VALGRIND && VALGRIND_GET_VBITS(word, bits, sizeof word) == 1;
}

/* ---- Handing out ---- */

static size_t front_of(const struct sh_request *request)
{
    return sh_max(request->align, sizeof(struct header));
}

bool sh_memcheck_widen(const struct sh_request *request, struct sh_request *wider)
{
    *wider = *request;
    wider->zero = false;
    if (request->kind != SH_KIND_EXPLICIT)
        return true;
    sh_store_relaxed(&any_malloc, true);
    wider->bytes += front_of(request) + BACK;
    if (request->bytes <= PTRDIFF_MAX && request->align <= PTRDIFF_MAX / 2)
        return true;
    errno = ENOMEM;
    return false;
}

void *sh_memcheck_new(const struct sh_request *request, void *cell)
{
    size_t whole = sh_page_map_lookup((uintptr_t)cell)->cell_size;
    VALGRIND_MAKE_MEM_UNDEFINED(cell, whole);
    if (request->kind != SH_KIND_EXPLICIT)
        return request->zero ? memset(cell, 0, whole) : cell;
    size_t front = front_of(request);
    char *block = (char *)cell + front;
    *(struct header *)cell = (struct header){request->bytes, front};
    if (request->zero)
        memset(block, 0, request->bytes);
    VALGRIND_MAKE_MEM_NOACCESS(cell, whole);
    VALGRIND_MALLOCLIKE_BLOCK(block, request->bytes, 0, request->zero);
    return block;
}

void sh_memcheck_open(void *start, size_t bytes)
{
    VALGRIND_MAKE_MEM_UNDEFINED(start, bytes);
}

/* ---- Freeing ---- */

static struct header header_of(struct sh_cell cell)
{
    struct header *header = (struct header *)sh_span_cell(cell.span, cell.index);
    VALGRIND_DISABLE_ERROR_REPORTING;
    struct header copy = *header;
    VALGRIND_ENABLE_ERROR_REPORTING;
    VALGRIND_MAKE_MEM_DEFINED(&copy, sizeof copy);
    return copy;
}

void sh_memcheck_freed(void *p, struct sh_cell cell)
{
    if (cell.span->kind == SH_KIND_EXPLICIT)
        VALGRIND_FREELIKE_BLOCK(p, 0);
    else
        VALGRIND_MAKE_MEM_UNDEFINED(p, cell.span->cell_size);
}

void sh_memcheck_misused(void *p)
{
    VALGRIND_FREELIKE_BLOCK(p, 0);
}

bool sh_memcheck_begins(const void *p, struct sh_cell cell)
{
    return cell.span->kind == SH_KIND_EXPLICIT && cell.index < cell.span->cell_count &&
           (uintptr_t)p - sh_span_cell(cell.span, cell.index) == header_of(cell).front;
}

void *sh_memcheck_start(struct sh_cell cell)
{
    size_t front = cell.span->kind == SH_KIND_EXPLICIT ? header_of(cell).front : 0;
    return (void *)(sh_span_cell(cell.span, cell.index) + front);
}

size_t sh_memcheck_bytes(struct sh_cell cell)
{
    return header_of(cell).bytes;
}

/* ---- Collecting ---- */

/* It calls its own malloc unless told otherwise, and then nothing malloc'd is a root. */
static void complain(void)
{
    static const char text[] =
        "splitheap: under valgrind, whose malloc is in place of ours: what only "
        "malloc'd "
        "memory points to is collected; to keep it, run valgrind with "
        "--soname-synonyms=somalloc=nouserintercepts\n";
    static _Atomic bool done;
    if (!sh_exchange_seq_cst(&done, true))
        sh_os_write_stderr(text, sizeof text - 1);
}

void sh_memcheck_scan_begin(void)
{
    if (!sh_memcheck_on())
        return;
    if (!sh_load_relaxed(&any_malloc))
        complain();
    VALGRIND_DISABLE_ERROR_REPORTING;
}

void sh_memcheck_scan_end(void *results, size_t bytes)
{
    if (!sh_memcheck_on())
        return;
    VALGRIND_MAKE_MEM_DEFINED(results, bytes);
    for (struct sh_span *span = sh_span_first(); span; span = span->all_next)
        if (sh_span_collected(span))
            VALGRIND_MAKE_MEM_DEFINED((void *)span->marks, span->touched * 64);
    VALGRIND_ENABLE_ERROR_REPORTING;
}

#else

void sh_memcheck_init(void)
{
}

bool sh_memcheck_widen(const struct sh_request *request, struct sh_request *wider)
{
    *wider = *request;
    return true;
}

void *sh_memcheck_new(const struct sh_request *request, void *cell)
{
    (void)request;
    return cell;
}

void sh_memcheck_open(void *start, size_t bytes)
{
    (void)start;
    (void)bytes;
}

void sh_memcheck_freed(void *p, struct sh_cell cell)
{
    (void)p;
    (void)cell;
}

void sh_memcheck_misused(void *p)
{
    (void)p;
}

bool sh_memcheck_begins(const void *p, struct sh_cell cell)
{
    (void)p;
    (void)cell;
    return false;
}

void *sh_memcheck_start(struct sh_cell cell)
{
    return (void *)sh_span_cell(cell.span, cell.index);
}

size_t sh_memcheck_bytes(struct sh_cell cell)
{
    return cell.span->cell_size;
}

void sh_memcheck_scan_begin(void)
{
}

void sh_memcheck_scan_end(void *results, size_t bytes)
{
    (void)results;
    (void)bytes;
}

#endif
