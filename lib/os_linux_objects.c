/* SPDX-License-Identifier: MIT */
/*
 * The loaded objects' writable segments, of lib/os_thread.h on Linux with glibc.
 *
 * dl_iterate_phdr holds the loader's write lock while it calls back. glibc adds an
 * object to its list, and unmaps it and takes it out, under that lock (elf/dl-object.c,
 * _dl_close_worker in elf/dl-close.c), so whatever is listed in a callback is mapped.
 * The write lock is not the one that is held while constructors run.
 *
 * When `begin` stops the world it does so under the lock: no stopped thread holds it,
 * nor is half-way through a change of the list; and none can unmap an object before
 * the world resumes, though the walk ends and the lock is free long before. A thread
 * that the collector does not know can; it has no business in dlclose.
 *
 * In the child of a fork the lock may be held by a thread that is no more, for ever:
 * glibc sets its other locks free there, not this one. So, where there were other
 * threads, the child reads the list that debuggers read, after the world was stopped
 * and without a lock. Its forward links are good between any two of the loader's
 * instructions; but while r_state says that a change is under way, one that a stopped
 * thread makes or one that the fork cut off, an object may be listed and unmapped
 * already, and the kernel is asked.
 *
 * Locks: the loader's. Any thread.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os_thread.h"

#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/os.h"

/* Weak: not kept in a fully static program, which has one object and no dlopen. */
extern struct r_debug _r_debug __attribute__((weak));

static bool lock_lost;

/* Raised by each walk under the loader's lock. */
static _Atomic size_t static_tls;

/* More than any program's; less than what lies between a thread and its neighbours. */
#define STATIC_TLS_MAX ((size_t)1 << 20)

void sh_os_loader_lock_lost(void)
{
    lock_lost = &_r_debug && _r_debug.r_map;
}

size_t sh_os_static_tls(void)
{
    return sh_load_relaxed(&static_tls);
}

/* ---- An object ---- */

struct walk {
    bool (*begin)(void *context);
    void (*segment)(void *context, uintptr_t start, uintptr_t end);
    void *context;
    bool begun;
};

struct object {
    uintptr_t base;
    const ElfW(Phdr) * headers;
    size_t count;
};

/* [start, end) of a segment less the part that relocation left read-only. */
static void visit_segment(const struct walk *walk, const struct object *object,
    uintptr_t start, uintptr_t end)
{
    for (size_t i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type != PT_GNU_RELRO)
            continue;
        uintptr_t low = object->base + header->p_vaddr;
        uintptr_t high = sh_round_down(low + header->p_memsz, SH_PAGE_SIZE);
        if (low < start || high > end || low >= high)
            continue;
        if (start < low)
            walk->segment(walk->context, start, low);
        start = high;
    }
    if (start < end)
        walk->segment(walk->context, start, end);
}

static void visit_object(const struct walk *walk, const struct object *object)
{
    for (size_t i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_W))
            continue;
        uintptr_t start = object->base + header->p_vaddr;
        visit_segment(walk, object, start, start + header->p_memsz);
    }
}

/* ---- Under the loader's lock ---- */

/* Of static TLS alone: blocks of objects that came later lie anywhere. */
static void note_static_tls(const struct dl_phdr_info *info, size_t size)
{
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof(void *))
        return;
    uintptr_t pointer = (uintptr_t)pthread_self();
    uintptr_t block = (uintptr_t)info->dlpi_tls_data;
    if (block == 0 || block >= pointer || pointer - block > STATIC_TLS_MAX)
        return;
    if (pointer - block > sh_load_relaxed(&static_tls))
        sh_store_relaxed(&static_tls, pointer - block);
}

static int visit_info(struct dl_phdr_info *info, size_t size, void *context)
{
    struct walk *walk = context;
    if (!walk->begun && !walk->begin(walk->context))
        return 1;
    walk->begun = true;
    note_static_tls(info, size);
    visit_object(
        walk, &(struct object){info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum});
    return 0;
}

/* ---- Without ---- */

static bool is_mapped(uintptr_t start)
{
    return sh_os_mapping(start).high != 0;
}

/* The first is the program, whose headers lie where the kernel said. */
static bool find_headers(const struct link_map *map, struct object *object)
{
    object->base = map->l_addr;
    if (!map->l_prev) {
        object->headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
        object->count = getauxval(AT_PHNUM);
        return true;
    }
    if (_r_debug.r_state != RT_CONSISTENT && !is_mapped(map->l_addr))
        return false;
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)map->l_addr;
    /* Half-way loaded or closed at the fork: none of its code runs in this process. */
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    object->headers = (const ElfW(Phdr) *)(map->l_addr + header->e_phoff);
    object->count = header->e_phnum;
    return true;
}

static void walk_without_lock(const struct walk *walk)
{
    if (!walk->begin(walk->context))
        return;
    struct object object;
    for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next)
        if (find_headers(map, &object))
            visit_object(walk, &object);
}

void sh_os_each_segment(bool (*begin)(void *context),
    void (*segment)(void *context, uintptr_t start, uintptr_t end), void *context)
{
    struct walk walk = {.begin = begin, .segment = segment, .context = context};
    if (lock_lost)
        walk_without_lock(&walk);
    else
        dl_iterate_phdr(visit_info, &walk);
}
