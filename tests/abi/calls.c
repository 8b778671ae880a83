/* SPDX-License-Identifier: MIT */
/*
 * A program compiled against the seed's declarations alone. It defines all that the seed
 * leaves to the port, calls all else, and says whose malloc it got.
 *
 *     calls ours|others
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/seed.h"

#define CHECK(what)                                                                    \
    do {                                                                               \
        if (!(what)) {                                                                 \
            fprintf(stderr, "calls.c:%d: %s\n", __LINE__, #what);                      \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

enum { OBJECTS = 500, MEMORY = 1 << 20 };

static char memory[2 * MEMORY];
static int collected, asked, freed, swept, finalised;
static void **roots;

/* ---- What the port defines ---- */

void gc_collect(void)
{
    collected++;
    gc_collect_start();
    gc_collect_root(roots, OBJECTS);
    gc_collect_end();
}

size_t gc_get_max_new_split(void)
{
    asked++;
    return (size_t)12345 << 12;
}

void gc_weakref_about_to_be_freed(void *ptr)
{
    CHECK(((uintptr_t *)ptr)[1] == 42);
    freed++;
}

void gc_weakref_sweep(void)
{
    swept++;
}

/* Not in the seed's header: there the dispatcher is its own. */
void gc_finalise(void *object);
void gc_finalise(void *object)
{
    CHECK(((uintptr_t *)object)[1] == 42);
    finalised++;
}

/* ---- What it calls ---- */

static void make(bool kept)
{
    for (int i = 0; i < OBJECTS; i++) {
        uintptr_t *object = gc_alloc(48, GC_ALLOC_FLAG_HAS_FINALISER);
        CHECK(object && (uintptr_t)object % 16 == 0 && gc_nbytes(object) >= 48);
        CHECK(object[0] == 0 && object[1] == 0 && object[5] == 0);
        object[0] = (uintptr_t)&make;
        object[1] = 42;
        gc_weakref_mark(object);
        roots[i] = kept ? object : NULL;
    }
}

static void clear_stack(void)
{
    volatile char frame[16 << 10];
    memset((void *)(uintptr_t)frame, 0, sizeof frame);
}

static void collecting(void)
{
    make(true);
    clear_stack();
    gc_collect();
    CHECK(collected == 1 && swept >= 1 && freed == 0 && finalised == 0);
    memset(roots, 0, OBJECTS * sizeof *roots);
    clear_stack();
    gc_collect();
    CHECK(collected == 2 && freed > OBJECTS * 9 / 10 && finalised == freed);
}

static void locking(void)
{
    CHECK(!gc_is_locked());
    gc_lock();
    gc_lock();
    CHECK(gc_is_locked() && !gc_alloc(16, 0));
    gc_unlock();
    CHECK(gc_is_locked());
    gc_unlock();
    CHECK(!gc_is_locked());
}

static void resizing(void)
{
    char *object = gc_alloc(100, 0);
    memset(object, 7, 100);
    CHECK(!gc_realloc(object, 100000, false));
    object = gc_realloc(object, 5000, true);
    CHECK(object && object[0] == 7 && object[99] == 7 && gc_nbytes(object) >= 5000);
    gc_free(object);
    CHECK(gc_nbytes(object) == 0);
    gc_free(NULL);
}

static void print_strn(void *data, const char *str, size_t len)
{
    (void)str;
    *(size_t *)data += len;
}

static void looking(void)
{
    gc_info_t info;
    memset(&info, 0xff, sizeof info);
    gc_info(&info);
    CHECK(info.total >= MEMORY && info.total == info.used + info.free);
    CHECK(info.max_free <= info.total / 16 && info.num_1block <= info.total / 16);
    CHECK(info.num_2block <= info.total / 16 && info.max_block <= info.total / 16);
    CHECK(info.max_new_split == (size_t)12345 << 12 && asked > 0);
    size_t printed = 0;
    mp_print_t print = {&printed, print_strn};
    gc_dump_info(&print);
    CHECK(printed > 20);
    gc_dump_alloc_table(&print);
    CHECK(printed > 1000);
}

static void whose_malloc(bool ours)
{
    void *object = malloc(100);
    CHECK(object && (gc_nbytes(object) != 0) == ours);
    free(object);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    gc_init(memory, memory + MEMORY);
    gc_add(memory + MEMORY, memory + 2 * MEMORY);
    roots = calloc(OBJECTS, sizeof *roots);
    CHECK(roots);
    collecting();
    locking();
    resizing();
    looking();
    gc_sweep_all();
    CHECK(freed == OBJECTS && finalised == OBJECTS);
    whose_malloc(strcmp(argv[1], "ours") == 0);
    return 0;
}
