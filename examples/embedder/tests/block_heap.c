/* SPDX-License-Identifier: MIT */
/*
 * A heap of 16-byte blocks, as the seed's: what the Lisp is linked with to see how much it
 * would hold there. Of the memory given, two bits a block are its allocation table, and
 * one each the tables of finalisers and of weak references. First fit; one thread.
 */
#include <splitheap/gc.h>

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, TABLE_BITS = 4 };
enum state { FREE, HEAD, TAIL };

static char *heap;
static size_t blocks, locked, used;
/* A byte a block, here; what they would take there is what counts. */
static unsigned char *states, *flags;
static uintptr_t *to_scan;
static size_t scan_count;
enum { MARKED = 1, FINAL = 2, WEAK = 4 };

static void set_up(size_t bytes)
{
    blocks = bytes * 8 / (BLOCK * 8 + TABLE_BITS);
    free(states);
    free(flags);
    free(to_scan);
    states = calloc(blocks, 1);
    flags = calloc(blocks, 1);
    to_scan = calloc(blocks, sizeof *to_scan);
}

void gc_init(void *start, void *end)
{
    heap = start;
    set_up((size_t)((char *)end - heap));
}

/* What follows what is there. */
void gc_add(void *start, void *end)
{
    (void)start;
    set_up((size_t)((char *)end - heap));
}

static size_t length(size_t head)
{
    size_t n = 1;
    while (head + n < blocks && states[head + n] == TAIL)
        n++;
    return n;
}

/* The head of the object that the word points into, or `blocks`. */
static size_t head_of(uintptr_t word)
{
    size_t block = (word - (uintptr_t)heap) / BLOCK;
    if (word < (uintptr_t)heap || block >= blocks || states[block] == FREE)
        return blocks;
    while (states[block] == TAIL)
        block--;
    return block;
}

static size_t live_head(uintptr_t word)
{
    size_t block = head_of(word);
    return block < blocks && (uintptr_t)heap + block * BLOCK == word ? block : blocks;
}

/* ---- Allocating ---- */

static size_t find_run(size_t n)
{
    for (size_t at = 0, run = 0; at < blocks; at++) {
        run = states[at] == FREE ? run + 1 : 0;
        if (run == n)
            return at + 1 - n;
    }
    return blocks;
}

void *gc_alloc(size_t n_bytes, unsigned int alloc_flags)
{
    size_t n = n_bytes / BLOCK + (n_bytes % BLOCK > 0);
    if (n == 0 || n > blocks || locked)
        return NULL;
    size_t at = find_run(n);
    if (at == blocks) {
        gc_collect();
        at = find_run(n);
    }
    if (at == blocks)
        return NULL;
    memset(states + at, TAIL, n);
    states[at] = HEAD;
    flags[at] = alloc_flags & GC_ALLOC_FLAG_HAS_FINALISER ? FINAL : 0;
    used += n;
    return memset(heap + at * BLOCK, 0, n * BLOCK);
}

static void free_block(size_t head)
{
    size_t n = length(head);
    memset(states + head, FREE, n);
    used -= n;
}

void gc_free(void *ptr)
{
    size_t head = live_head((uintptr_t)ptr);
    if (head < blocks)
        free_block(head);
}

size_t gc_nbytes(const void *ptr)
{
    size_t head = live_head((uintptr_t)ptr);
    return head < blocks ? length(head) * BLOCK : 0;
}

/* ---- Collecting ---- */

static void mark(uintptr_t word)
{
    size_t head = head_of(word);
    if (head == blocks || flags[head] & MARKED)
        return;
    flags[head] |= MARKED;
    to_scan[scan_count++] = head;
}

static void mark_all(void)
{
    while (scan_count > 0) {
        size_t head = to_scan[--scan_count];
        const uintptr_t *word = (const void *)(heap + head * BLOCK);
        for (size_t i = 0; i < length(head) * BLOCK / sizeof *word; i++)
            mark(word[i]);
    }
}

void gc_collect_start(void)
{
    for (size_t i = 0; i < blocks; i++)
        flags[i] &= (unsigned char)~MARKED;
}

void gc_collect_root(void **ptrs, size_t len)
{
    for (size_t i = 0; i < len; i++)
        mark((uintptr_t)ptrs[i]);
    mark_all();
}

static void call_back(void)
{
    for (size_t i = 0; i < blocks; i++) {
        if (states[i] != HEAD || flags[i] & MARKED || !(flags[i] & (FINAL | WEAK)))
            continue;
        unsigned was = flags[i];
        flags[i] &= (unsigned char)~(FINAL | WEAK);
        mark((uintptr_t)heap + i * BLOCK);
        mark_all();
        if (was & WEAK)
            gc_weakref_about_to_be_freed(heap + i * BLOCK);
        if (was & FINAL)
            gc_finalise(heap + i * BLOCK);
    }
    gc_weakref_sweep();
}

void gc_collect_end(void)
{
    call_back();
    for (size_t i = 0; i < blocks; i++)
        if (states[i] == HEAD && !(flags[i] & MARKED))
            free_block(i);
}

void gc_sweep_all(void)
{
    memset(states, FREE, blocks);
    used = 0;
}

void gc_weakref_mark(void *ptr)
{
    size_t head = live_head((uintptr_t)ptr);
    if (head < blocks)
        flags[head] |= WEAK;
}

/* ---- The rest ---- */

void gc_lock(void)
{
    locked++;
}

void gc_unlock(void)
{
    locked--;
}

bool gc_is_locked(void)
{
    return locked > 0;
}

void gc_info(gc_info_t *info)
{
    *info = (gc_info_t){.total = blocks * BLOCK, .used = used * BLOCK};
    info->free = info->total - info->used;
}

void gc_dump_info(const gc_print_t *print)
{
    (void)print;
}

void gc_dump_alloc_table(const gc_print_t *print)
{
    (void)print;
}

bool gc_set_auto_collect(bool on)
{
    return on;
}

size_t gc_set_threshold(size_t n_bytes)
{
    return n_bytes;
}

bool gc_set_scan_data_segments(bool on)
{
    return on;
}

bool gc_set_scan_stacks(bool on)
{
    return on;
}

bool gc_set_scan_malloc(bool on)
{
    return on;
}
