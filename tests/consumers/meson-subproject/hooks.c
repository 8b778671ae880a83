/* SPDX-License-Identifier: MIT */
/* A program that defines hooks of its own; splitheap must call these, not its own. */
#include <splitheap/gc.h>
#include <stdio.h>

enum {
    OBJECTS = 1000,
    NEW_SPLIT = 48 * 1024 * 1024,
};

static int freed;
static int swept;

size_t gc_get_max_new_split(void)
{
    return NEW_SPLIT;
}

void gc_weakref_about_to_be_freed(void *ptr)
{
    if (*(int *)ptr == 42)
        freed++;
}

void gc_weakref_sweep(void)
{
    swept++;
}

static int failed(const char *what)
{
    fprintf(stderr, "hooks.c: %s\n", what);
    return 1;
}

int main(void)
{
    gc_info_t info;
    gc_info_fast(&info);
    if (info.max_new_split != NEW_SPLIT)
        return failed("its gc_get_max_new_split was not called");

    for (int i = 0; i < OBJECTS; i++) {
        int *object = gc_alloc(sizeof(int), GC_ALLOC_FLAG_LEAF);
        if (object == NULL)
            return failed("gc_alloc returned NULL");
        *object = 42;
        gc_weakref_mark(object);
    }
    gc_collect();
    /* A stale word in a register or on the stack may keep a few. */
    if (freed < OBJECTS * 9 / 10)
        return failed("its gc_weakref_about_to_be_freed was not called");
    if (swept == 0)
        return failed("its gc_weakref_sweep was not called");
    printf("hooks.c: %d of %d objects, swept %d times\n", freed, OBJECTS, swept);
    return 0;
}
