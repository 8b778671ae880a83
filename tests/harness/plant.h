/* SPDX-License-Identifier: MIT */
/* Bugs that are planted on purpose, to see them found. */
#ifndef SH_HARNESS_PLANT_H
#define SH_HARNESS_PLANT_H

#include <stdbool.h>
#include <stddef.h>

/*
 *      name, what it does, whether plain malloc can have it
 */
#define PLANTS(_)                                                                      \
    _(NONE, "none", "no bug", true)                                                    \
    _(DOUBLE_FREE, "double-free", "an object is freed twice", true)                    \
    _(EARLY_SWEEP, "early-sweep", "an object that is held is freed", true)             \
    _(LOST_ROOT, "lost-root", "what holds an object is not looked at", false)          \
    _(LOST_COROUTINE, "lost-coroutine", "a coroutine's stack is not announced", false) \
    _(LOST_JUMP, "lost-jump", "what a longjmp leaves is not held", false)              \
    _(LOST_MODULE, "lost-module", "a loaded library's data is not looked at", false)   \
    _(LOST_WRITE, "lost-write", "a write to an old object is not noticed", false)      \
    _(BLIND_TYPE, "blind-type", "a type does not say what its object holds", false)    \
    _(LOST_THREAD, "lost-thread", "a thread hides, with all signals blocked", false)   \
    _(STALE_WRITE, "stale-write", "an object is written to after its free", true)      \
    _(FLIP, "flip", "a bit of an object changes", true)                                \
    _(LEAK, "leak", "objects that nothing holds stay", true)                           \
    _(WRONG_SIZE, "wrong-size", "an object is smaller than asked for", true)           \
    _(OVERLAP, "overlap", "memory is handed out that an object has", true)             \
    _(MISALIGNED, "misaligned", "an object begins between two granules", true)         \
    _(DIRTY, "dirty", "memory that has to be cleared is not", true)                    \
    _(MOVED, "moved", "gc_realloc moves what may not move", true)                      \
    _(SHORT_COPY, "short-copy", "a resized object loses its end", true)                \
    _(CUT_LINK, "cut-link", "a pointer in an object is cleared", true)                 \
    _(NO_FINALISER, "no-finaliser", "a finaliser is not called", true)                 \
    _(TWO_FINALISERS, "two-finalisers", "a finaliser is called twice", true)           \
    _(EARLY_FINALISER, "early-finaliser", "a finaliser is called for what is held",    \
        true)                                                                          \
    _(OLD_FINALISER, "old-finaliser", "a finaliser is not replaced", false)            \
    _(KEPT_FINALISER, "kept-finaliser", "a finaliser is not removed", false)           \
    _(NO_WEAK, "no-weak", "a weak reference's hook is not called", true)               \
    _(WRONG_VALUE, "wrong-value", "an ephemeron or a weak map has another's value",    \
        false)                                                                         \
    _(TWO_FINALIZES, "two-finalizes", "a gc_finalize's callback comes twice", false)   \
    _(OPEN_LOCK, "open-lock", "gc_alloc gives memory inside gc_lock", false)           \
    _(ERRNO, "errno", "a free changes errno", true)                                    \
    _(HANG, "hang", "a thread waits for ever", true)                                   \
    _(CRASH, "crash", "a thread reads where nothing is", true)

enum plant {
#define PLANT_ENUM(name, text, what, plain) PLANT_##name,
    PLANTS(PLANT_ENUM)
#undef PLANT_ENUM
        PLANT_COUNT
};

extern const char *const plant_names[PLANT_COUNT];
extern const char *const plant_texts[PLANT_COUNT];
extern const bool plant_plain[PLANT_COUNT];

/* The scenario that it is planted in runs in this build. */
bool plant_is_possible(enum plant plant);

/* This bug is planted, and it is its turn now: after a while, and then now and then. */
bool plant_now(enum plant plant);

/* It is at `at` that a write is lost: the system forgets that the page was written to. */
void plant_lose_write(void *at);

#endif /* SH_HARNESS_PLANT_H */
