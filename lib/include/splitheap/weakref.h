/* SPDX-License-Identifier: MIT */
/*
 * splitheap/weakref.h - weak references for C: what the seed's `weakref` module is for its
 * programs, on the hooks of <splitheap/gc.h>; and ephemerons, which it does not have.
 *
 *   gc_weakref     leads to an object without keeping it alive
 *   gc_finalize    calls back when an object is gone; the library keeps it until then
 *   gc_ephemeron   keeps a value alive as long as a key is
 *
 * All of these are collected objects themselves: who drops one need not free it. A
 * reference that was itself found dead calls nothing back.
 *
 * When an object dies. A collection that does not reach it does, in this order: clears its
 * short references and finalizes; keeps it, if it has a finaliser, and all it reaches, until
 * that has run; if it is not kept, clears its long references and ephemerons, and frees it.
 * The callbacks come when the threads go on, in the thread that collected, before
 * these, with no lock held; they may use all of this header and of gc.h. Those of one
 * object: finalizes first, then short references, then long ones; of each the newest first
 * (as in the seed). Between objects that are found dead together there is no order, nor
 * between callbacks in threads that collect at the same time. A callback that is queued comes
 * even if its reference is dropped meanwhile.
 *
 * gc_free and free of an object clear what leads to it at once (where gc_lock puts gc_free
 * off, then); the callbacks come with the next collection. So does gc_realloc where it moves the object; where the object stays,
 * what leads to it stays. References, finalizes and ephemerons cannot be resized themselves:
 * where one leads somewhere yet, that is reported and ends the program. gc_sweep_all calls
 * all back. Objects of malloc are never found dead, but may be referred to until they are
 * freed.
 *
 * Thread safety: every function may be called from any thread at any time. Signal safety:
 * none may be called from a signal handler. None is a cancellation point. After a fork the
 * child has all that its parent had, queued callbacks included.
 */
#ifndef SPLITHEAP_WEAKREF_H
#define SPLITHEAP_WEAKREF_H

#include <splitheap/gc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- References -------------------------------------------------------------------- */

/** A weak reference. */
struct gc_weakref;

/** Called once, when the object of `ref` is gone; gc_weakref_get then gives NULL. */
typedef void gc_weakref_fn(struct gc_weakref *ref, void *ctx);

/**
 * A short reference to the live object that starts at `obj`: it is cleared before
 * finalisers run, so that nobody gets by it what a finaliser has touched. `callback` may be
 * NULL. `ctx` is kept alive for as long as the reference is: where it leads to `obj`, and
 * something keeps the reference, `obj` never dies. NULL with errno EINVAL where no live
 * object starts at `obj`; ENOMEM where there is no memory, or inside gc_lock. Takes 32
 * bytes, or 48 with a callback or `ctx`, and some 10 to 20 in the library's tables where
 * those that are referred to lie together; else up to 64, and once 3 KiB at most for the
 * 64 KiB around. May collect. (Seed: weakref.ref.)
 */
GC_PUBLIC GC_USE_RESULT struct gc_weakref *gc_weakref_new(
    void *obj, gc_weakref_fn *callback, void *ctx);

/** The same, but long: it leads to an object that finalisers keep or bring back, and is
 * cleared only when that is gone for good. */
GC_PUBLIC GC_USE_RESULT struct gc_weakref *gc_weakref_new_long(
    void *obj, gc_weakref_fn *callback, void *ctx);

/**
 * The object, which the result keeps alive as any pointer does; NULL when it is gone. Safe
 * against collections in other threads, and takes no lock. (Seed: calling the reference.)
 */
GC_PUBLIC void *gc_weakref_get(struct gc_weakref *ref);

/**
 * Frees the reference, at any time: a callback that has not begun, queued or not, will not
 * come; one that is under way may do this itself. Where another thread is just about to call
 * it, it has begun, and comes, but its `ref` is freed. NULL does nothing. gc_free of a
 * reference does the same.
 */
GC_PUBLIC void gc_weakref_free(struct gc_weakref *ref);

/* ---- Finalizes ----------------------------------------------------------------------- */

/** A callback for when an object is gone. */
struct gc_finalize;

/** What a finalize calls, with its arguments. */
typedef void gc_finalize_fn(unsigned count, void *const args[]);

enum {
    GC_FINALIZE_ARGS_MAX = 64 /**< the most arguments that a finalize has */
};

/**
 * Has `callback` called once, with the `count` pointers that follow, when the live object
 * that starts at `obj` is gone. The library keeps the finalize, and with it the arguments,
 * until that was called or cancelled: while `obj` lives, and only by it, so that arguments
 * that lead to `obj` do not keep it alive. (Who keeps the finalize keeps them.) NULL with
 * errno EINVAL where no live object starts at `obj`, `callback` is NULL, or there are more
 * than GC_FINALIZE_ARGS_MAX; ENOMEM as gc_weakref_new. (Seed: weakref.finalize.)
 */
GC_PUBLIC struct gc_finalize *gc_finalize_new(
    void *obj, gc_finalize_fn *callback, unsigned count, ...);

/** The same with the arguments in an array. */
GC_PUBLIC struct gc_finalize *gc_finalize_new_array(
    void *obj, gc_finalize_fn *callback, unsigned count, void *const args[]);

/** Whether its callback was neither called nor cancelled; queued, it is still alive. */
GC_PUBLIC bool gc_finalize_alive(struct gc_finalize *finalize);

/** What a finalize would call. */
struct gc_finalize_info {
    gc_finalize_fn *callback;
    unsigned count;
    void *const *args; /**< inside the finalize */
};

/**
 * The object, and in `info`, unless it is NULL, what would be called; NULL, and `info` is as
 * it was, when the object is gone or the finalize not alive.
 */
GC_PUBLIC void *gc_finalize_peek(
    struct gc_finalize *finalize, struct gc_finalize_info *info);

/** gc_finalize_peek, and the callback is cancelled, also where it is queued. */
GC_PUBLIC void *gc_finalize_detach(
    struct gc_finalize *finalize, struct gc_finalize_info *info);

/**
 * Calls the callback now if the finalize is alive, which it then is no more. Whether it
 * did: of several threads that try, one does.
 */
GC_PUBLIC bool gc_finalize_call(struct gc_finalize *finalize);

/**
 * Whether the callback is called when the process ends by exit, if it is alive then; off at
 * first. They come newest first, in the thread that calls exit, after the handlers of
 * atexit; no other callback does. Returns what was set before. (Seed: Python's
 * finalize.atexit.)
 */
GC_PUBLIC bool gc_finalize_set_at_exit(struct gc_finalize *finalize, bool on);

/* ---- Ephemerons ------------------------------------------------------------------------ */

/** A key and a value that lives while the key does. */
struct gc_ephemeron;

/**
 * Keeps `value` alive for as long as both the ephemeron and the live object that starts at
 * `key` are; a value that leads to its key, or to keys of others, keeps none of them alive.
 * Ends when the key is gone for good, as a long reference does. `value` may be any word.
 * NULL with errno as gc_weakref_new.
 */
GC_PUBLIC GC_USE_RESULT struct gc_ephemeron *gc_ephemeron_new(void *key, void *value);

/** The key, and in `*value`, unless `value` is NULL, its value; both NULL when the key is
 * gone. Both are then kept alive as by any pointer. */
GC_PUBLIC void *gc_ephemeron_get(struct gc_ephemeron *ephemeron, void **value);

/** Frees the ephemeron; NULL does nothing. gc_free does the same. */
GC_PUBLIC void gc_ephemeron_free(struct gc_ephemeron *ephemeron);

/* ---- Weak maps --------------------------------------------------------------------------- */

/**
 * A hash map from pointers to pointers that keeps keys, values, or neither alive. A
 * collected object: who drops it need not free it. Its functions take one lock, all maps
 * the same, for as long as they look at an entry or some; gc_weak_map_iterate for all. What
 * an entry took is free when it was come across, or after as many changes as there are
 * buckets, eight for an entry at most, or by gc_weak_map_count.
 */
struct gc_weak_map;

enum {
    GC_WEAK_KEYS = 1, /**< an entry goes with its key; its value lives by it */
    GC_WEAK_VALUES =
        2, /**< an entry goes with its value, and keeps its key until then */
};

/**
 * A map without entries. `weak` is GC_WEAK_KEYS, whose entries are ephemerons: a value may
 * lead to its key, or to others; GC_WEAK_VALUES; or both together, and an entry goes with
 * whichever goes first. Keys go when they are gone for good, as long references do, values
 * before their finalisers run, as short ones. NULL with errno EINVAL for other `weak`;
 * ENOMEM where there is no memory, or inside gc_lock.
 */
GC_PUBLIC GC_USE_RESULT struct gc_weak_map *gc_weak_map_new(unsigned weak);

/**
 * Sets the value of `key`, which had one or not. What the map refers to weakly has to be a
 * live object's start; the other may be any word. 0; EINVAL; ENOMEM as gc_weak_map_new, and
 * the map is as it was. An entry takes 64 bytes (with weak values 96), and what a reference
 * takes in the library's tables for each weak side.
 */
GC_PUBLIC int gc_weak_map_set(struct gc_weak_map *map, void *key, void *value);

/** Whether `key` has a value; it is then in `*value`, unless `value` is NULL, and kept alive
 * as by any pointer. */
GC_PUBLIC bool gc_weak_map_get(struct gc_weak_map *map, const void *key, void **value);

/** Removes the entry of `key`; whether there was one. */
GC_PUBLIC bool gc_weak_map_remove(struct gc_weak_map *map, const void *key);

/** How many entries there are; takes time for all. */
GC_PUBLIC size_t gc_weak_map_count(struct gc_weak_map *map);

/** The entries of a map at a moment. */
struct gc_weak_map_iter;

/**
 * To go over the entries that the map has now: each comes once, in no order, unless it is
 * gone by then; entries made meanwhile do not come. Any thread may change the map, and
 * collections run. A collected object; it keeps no key or value. NULL with errno ENOMEM as
 * gc_weak_map_new.
 */
GC_PUBLIC GC_USE_RESULT struct gc_weak_map_iter *gc_weak_map_iterate(
    struct gc_weak_map *map);

/** The next entry, with its value of now, in `*key` and `*value`; each may be NULL. False:
 * that was the last. One thread at a time. */
GC_PUBLIC bool gc_weak_map_next(
    struct gc_weak_map_iter *iter, void **key, void **value);

#ifdef __cplusplus
}
#endif

#endif /* SPLITHEAP_WEAKREF_H */
