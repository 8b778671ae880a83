/* SPDX-License-Identifier: MIT */
/*
 * A C program that uses both faces: what its roots reach survives a collection, the
 * rest is freed, and malloc is splitheap's.
 */
#include <splitheap/gc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NODES = 1000,
    GARBAGE = 100000,
};

struct node {
    struct node *next;
    int value;
};

static struct node *from_data_segment;

static struct node *list(int first)
{
    struct node *head = NULL;
    for (int i = NODES - 1; i >= 0; i--) {
        struct node *node = gc_alloc(sizeof(*node), 0);
        if (node == NULL)
            return NULL;
        node->next = head;
        node->value = first + i;
        head = node;
    }
    return head;
}

static int list_is(const struct node *node, int first)
{
    int i = 0;
    for (; node != NULL; node = node->next, i++) {
        if (node->value != first + i)
            return 0;
    }
    return i == NODES;
}

static int failed(const char *what)
{
    fprintf(stderr, "uses.c: %s\n", what);
    return 1;
}

int main(void)
{
    struct node **from_malloc = malloc(sizeof(struct node *));
    if (from_malloc == NULL)
        return failed("malloc returned NULL");
    *from_malloc = list(1);
    if (gc_nbytes(from_malloc) < sizeof(struct node *))
        return failed("malloc is not splitheap's");
    from_data_segment = list(2);

    gc_info_t before, after;
    gc_set_auto_collect(false);
    for (int i = 0; i < GARBAGE; i++) {
        if (gc_alloc(64, 0) == NULL)
            return failed("gc_alloc returned NULL");
    }
    gc_info(&before);
    gc_collect();
    gc_info(&after);
    if (after.used + (size_t)GARBAGE * 64 * 9 / 10 > before.used)
        return failed("garbage was not freed");
    if (!list_is(from_data_segment, 2))
        return failed("what the data segment reaches did not survive");
    if (!list_is(*from_malloc, 1))
        return failed("what malloc'd memory reaches did not survive");

    volatile uintptr_t address = (uintptr_t)from_malloc;
    free(from_malloc);
    if (gc_nbytes((void *)address) != 0)
        return failed("free is not splitheap's");
    printf("uses.c: %zu bytes used, then %zu\n", before.used, after.used);
    return 0;
}
