/* SPDX-License-Identifier: MIT */
/* hello_gc - roots, a collection and a finaliser, in one short program. */
#include <splitheap/gc.h>
#include <stdio.h>

struct note {
    const struct gc_type *type; /* the first word: whose finaliser runs */
    struct note *next;
    int number;
};

static struct note *kept; /* lies in the data segment, so it is a root */
static int gone;

static void note_finalise(void *object)
{
    struct note *note = object;
    gone += note->number % 2 == 0;
}

static const struct gc_type note_type = {note_finalise};

int main(void)
{
    for (int i = 0; i < 1000; i++) {
        struct note *note = gc_alloc(sizeof(*note), GC_ALLOC_FLAG_HAS_FINALISER);
        if (note == NULL)
            return 1;
        *note = (struct note){.type = &note_type, .next = kept, .number = i};
        if (i % 2 == 1)
            kept = note; /* every second note stays; nothing reaches the others */
    }

    gc_collect();

    int alive = 0;
    for (const struct note *note = kept; note != NULL; note = note->next)
        alive++;
    printf("%d notes are kept, %d were collected\n", alive, gone);
    return alive == 500 ? 0 : 1;
}
