/* SPDX-License-Identifier: MIT */
/*
 * splitheap/gc.h - a garbage-collected, split heap for C programs with threads.
 *
 * The names and meanings are those of MicroPython's py/gc.h, with automatic split
 * growth and weak references on, carried to threaded POSIX hosts; what is ours beside
 * them is marked so. "The seed" in the comments below is that header.
 *
 * One heap, four kinds of cells:
 *   gc_alloc                       cleared; scanned for pointers; collected
 *   gc_alloc with FLAG_LEAF        not cleared; never scanned; collected
 *   gc_alloc with FLAG_TYPED       cleared; its type says what it holds; collected
 *   malloc and its family          never collected; scanned, so that pointers kept in
 *                                  malloc'd memory hold collected objects
 *
 * A block, the unit of gc_info and of the dumps, is GC_BYTES_PER_BLOCK bytes.
 *
 * Thread safety: every function may be called from any thread at any time, except
 * where its comment says otherwise. Signal safety: none may be called from a signal
 * handler that can interrupt another call into this library. None is a cancellation
 * point.
 */
#ifndef SPLITHEAP_GC_H
#define SPLITHEAP_GC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GC_PUBLIC __attribute__((visibility("default")))
/* Not `malloc`: what an object is given last, its finaliser may be the first to read. */
#define GC_USE_RESULT __attribute__((warn_unused_result))
#else
#define GC_PUBLIC
#define GC_USE_RESULT
#endif

/* The pointer's target is not read through it: it may hold anything, or be no object. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define GC_ADDRESS_ONLY __attribute__((access(none, 1)))
#else
#define GC_ADDRESS_ONLY
#endif

/** The unit of gc_info and of the dumps, in bytes; also the least alignment. */
#define GC_BYTES_PER_BLOCK 16

/* ---- The heap's memory ------------------------------------------------------- */

/**
 * Starts the heap on the memory [start, end), which stays the caller's to provide and
 * may have any alignment; its whole 4 KiB pages hold cells. With both NULL the heap
 * starts on mmap alone; a program that never calls this gets that at its first
 * allocation. Called again, or after something was already allocated, it adds the
 * memory, as gc_add does. Memory from malloc will do where it is one object of more than
 * 32 KiB, which can then be neither freed nor resized. An empty or backward range, or one with no whole page, is
 * reported and ends the program. (Seed: gc_init.)
 */
GC_PUBLIC void gc_init(void *start, void *end);

/**
 * Adds the memory [start, end) to the heap, as gc_init takes it. The memory must stay
 * mapped until the program ends. (Seed: gc_add.)
 */
GC_PUBLIC void gc_add(void *start, void *end);

/**
 * The most bytes that one new area may take from the system now; 0 keeps the heap from
 * growing. The default reads RLIMIT_AS, RLIMIT_DATA, the control group's memory limit
 * and the system's free memory. A program may define its own; it is called with no
 * lock held and must not allocate. (Seed: gc_get_max_new_split, the port's.)
 */
GC_PUBLIC size_t gc_get_max_new_split(void);

/* ---- Locking ----------------------------------------------------------------- */

/**
 * Keeps collections from beginning, and this thread from allocating: until the
 * matching gc_unlock, gc_alloc and gc_realloc return NULL in this thread, its gc_free
 * is put off to the last gc_unlock, and its gc_collect does nothing. Other threads
 * allocate and free as usual; an explicit gc_collect elsewhere waits. Nests. A
 * collection under way ends before the first gc_lock returns. (Seed: gc_lock.)
 */
GC_PUBLIC void gc_lock(void);

/** Undoes one gc_lock; without one it is reported and ends the program. */
GC_PUBLIC void gc_unlock(void);

/** Whether the calling thread is inside gc_lock, or between gc_collect_start and _end. */
GC_PUBLIC bool gc_is_locked(void);

/* ---- Collecting -------------------------------------------------------------- */

/**
 * Collects: frees what no root reaches. The roots are every registered thread's stack,
 * registers and thread-local storage, the writable segments of the loaded objects,
 * ranges from gc_add_roots, and all malloc'd memory, which has to be readable. Runs finalisers and weak reference
 * hooks before it returns. Waits for other threads' gc_lock. Does nothing where a thread
 * cannot be stopped, which is reported to standard error. A program may define its
 * own of gc_collect_start, gc_collect_root and gc_collect_end. (Seed: the port's.)
 */
GC_PUBLIC void gc_collect(void);

/**
 * Begins a collection: waits for the GC mutex, stops every other thread and registers
 * their roots. Until gc_collect_end in the same thread nothing else of this header but
 * gc_collect_root, gc_lock, gc_unlock and gc_is_locked may be called, and nothing that
 * waits for another thread. Where threads cannot be stopped, or an allocation wanted the
 * collection and another thread has just done one, it does nothing, nor do the calls
 * up to gc_collect_end.
 */
GC_PUBLIC void gc_collect_start(void);

/** Takes the `len` words at `ptrs` for roots of the collection under way. */
GC_PUBLIC void gc_collect_root(void **ptrs, size_t len);

/** Marks, lets the threads go on, frees what was not reached, runs the callbacks. */
GC_PUBLIC void gc_collect_end(void);

/**
 * Runs every finaliser, in the calling thread, and frees every gc_alloc'd object, reachable
 * or not; malloc'd memory stays. No object may be used afterwards: no finaliser may call it.
 * Waits for the one that the library's own thread is running. (Seed: gc_sweep_all.)
 */
GC_PUBLIC void gc_sweep_all(void);

/* ---- Weak references ---------------------------------------------------------- */

/**
 * Says that a weak reference to the object at `ptr` exists: when it is found dead (or
 * is freed), gc_weakref_about_to_be_freed is called with it, once. A pointer that is
 * no live object's start is ignored. (Seed: gc_weakref_mark.)
 */
GC_PUBLIC void gc_weakref_mark(void *ptr);

/**
 * Called for each marked object found dead, its memory still intact, after the world
 * was resumed and with no lock held. The default does nothing; a program that keeps
 * weak references defines its own. (Seed: gc_weakref_about_to_be_freed.)
 */
GC_PUBLIC void gc_weakref_about_to_be_freed(void *ptr);

/**
 * Called once in a collection, after all gc_weakref_about_to_be_freed of it. The
 * default does nothing. (Seed: gc_weakref_sweep.)
 */
GC_PUBLIC void gc_weakref_sweep(void);

/* ---- Objects ------------------------------------------------------------------- */

enum {
    /** The object starts with a word that names its type: see struct gc_type. */
    GC_ALLOC_FLAG_HAS_FINALISER = 1,
    /** Ours. The object holds no pointers: it is neither cleared nor scanned. */
    GC_ALLOC_FLAG_LEAF = 2,
    /**
     * Ours. The object starts with a word that names its type, a struct gc_marked_type,
     * which says what the object holds: see gc_mark_object. Its other words hold nothing
     * by themselves. With FLAG_LEAF this counts.
     */
    GC_ALLOC_FLAG_TYPED = 4,
};

/** Ours. A thread that marks, as callbacks know it. */
struct gc_marker;

/**
 * Ours. What the first word of an object with a finaliser, or of a typed one, points to.
 * While the word is NULL, as it is from gc_alloc, no finaliser runs, and all words of the
 * object are taken for pointers.
 */
struct gc_type {
    /** Called once with the dead object, which is intact, as is all it reaches. */
    void (*finalise)(void *object);
};

/** Ours. The same of a typed object. */
struct gc_marked_type {
    /** What it has in common with others. */
    struct gc_type type;
    /** As gc_mark_object. NULL: all words are taken for pointers. */
    void (*mark)(void *object, size_t n_bytes, struct gc_marker *marker);
};

/**
 * Ours. Runs the finaliser of `object`. The default calls the `finalise` of the struct
 * gc_type that the object's first word points to; a program may define its own. Called
 * where gc_set_finaliser_mode says, with no lock held; it may use all of this header.
 */
GC_PUBLIC void gc_finalise(void *object);

/** Ours. A finaliser: told of the dead object, which is intact, as is all it reaches. */
typedef void gc_finaliser_fn(void *object, void *context);

/**
 * Ours. Gives the object that starts at `object`, of any size and however it was
 * gc_alloc'd, a finaliser, in place of the one that it has (that of its type word too);
 * NULL takes it away. One that waits to be run is replaced or taken away like any other:
 * the object then waits for its death again.
 *
 * The finaliser is called once, with `object` and `context`, after a collection found
 * the object dead: see gc_set_finaliser_mode. Dead objects that lead to one another, in
 * circles too, are finalised after the same collection, all of them intact in memory,
 * in no order that can be relied on. A finaliser may store the object somewhere; it then
 * lives on without a finaliser until it is given another. It may use all of this header
 * but gc_sweep_all, and be left by a C++ exception or longjmp: what else waits is run after
 * the next collection, or by the next gc_run_finalisers.
 *
 * `context` is kept alive as long as the finaliser is set; so it must not lead to
 * `object`, which would never die. gc_realloc takes the finaliser along; gc_free runs
 * none. 0; EINVAL for anything but a live object's start (malloc'd memory is none);
 * ENOMEM, and what was set stays.
 */
GC_PUBLIC GC_ADDRESS_ONLY int gc_set_finaliser(
    void *object, gc_finaliser_fn *finaliser, void *context);

/** Ours. Where finalisers run, those of type words too. */
enum gc_finaliser_mode {
    GC_FINALISE_AT_ONCE,   /**< in the thread that collected, before it goes on */
    GC_FINALISE_ON_DEMAND, /**< where gc_run_finalisers is called */
    GC_FINALISE_IN_THREAD  /**< in a thread of the library's own */
};

/**
 * Ours. Chooses the mode; GC_FINALISE_AT_ONCE is the default, or what the option finalise
 * says. At once, a finaliser may run in any call that allocates, with whatever locks that
 * thread holds. The thread of the library's own is made when it is first needed and ends
 * with the program's last; all signals are blocked in it. A finaliser that it runs must
 * not end it, nor be left by an exception. Where it cannot be made (in the child of a fork
 * that made no thread yet, say) finalisers wait. Weak references are told of by the
 * thread that collected, in any mode. 0, or EINVAL.
 */
GC_PUBLIC int gc_set_finaliser_mode(enum gc_finaliser_mode mode);

/**
 * Ours. Runs finalisers that wait, at most `max`, in the calling thread, in any mode; and
 * returns how many ran. 0 inside gc_lock and, unless it asks again and again, inside a
 * finaliser: what waits is left to who runs that one, lest they pile up on the stack.
 */
GC_PUBLIC size_t gc_run_finalisers(size_t max);

/** Ours. Says that finalisers wait. */
typedef void gc_finaliser_notifier_fn(void *context);

/**
 * Ours. Has `notifier` called after each collection after which finalisers wait for
 * gc_run_finalisers, in the thread that collected, with no lock held. It may use all of
 * this header, and has to return; for collections that it causes itself it is not called.
 * Replaces the one before; NULL is none. Returns 0.
 */
GC_PUBLIC int gc_set_finaliser_notifier(
    gc_finaliser_notifier_fn *notifier, void *context);

/**
 * Ours. A descriptor that is readable (for poll and its like) from when finalisers wait,
 * in modes other than at once, until gc_run_finalisers has left none. It may be readable
 * though none waits. It stays the library's: to be neither closed nor read. The child of
 * a fork asks for one of its own. -1 with errno where there is none.
 */
GC_PUBLIC int gc_finaliser_fd(void);

/**
 * Ours. Says by gc_mark_pointer and gc_mark_words what the typed object at `object` holds,
 * whose first word is not NULL and is marked already; `n_bytes` are its usable ones. The
 * default calls the `mark` of the struct gc_marked_type that the word points to; a
 * program may define its own. It is called with all threads stopped, in several threads at once, the
 * library's own among them, which have little stack, and may be called more than once
 * for an object. It may not allocate, nor lock, wait, or call anything else of this
 * library. Who made the object may have been stopped at any point after it stored the
 * type: all other words may be as gc_alloc cleared them.
 */
GC_PUBLIC void gc_mark_object(void *object, size_t n_bytes, struct gc_marker *marker);

/**
 * Allocates `n_bytes`, aligned to 16 bytes or better, cleared unless a LEAF. NULL when
 * n_bytes is 0, when the thread is inside gc_lock, or when there is no memory (errno
 * is then ENOMEM). May collect, and so run finalisers. (Seed: gc_alloc.)
 */
GC_PUBLIC GC_USE_RESULT void *gc_alloc(size_t n_bytes, unsigned int alloc_flags);

/**
 * Frees the object at `ptr` at once, without its finaliser; NULL does nothing. Also
 * takes malloc'd pointers. A pointer that is not the start of a live object is
 * reported and ends the program. Keeps errno. (Seed: gc_free.)
 */
GC_PUBLIC void gc_free(void *ptr);

/** The usable bytes of the live object that starts at `ptr`; 0 of any other pointer. */
GC_PUBLIC GC_ADDRESS_ONLY size_t gc_nbytes(const void *ptr);

/**
 * Resizes the object at `ptr`, keeping its kind, finaliser and contents. `ptr` NULL
 * allocates; `n_bytes` 0 frees and returns NULL. Where `allow_move` is false and the
 * object cannot be resized where it is, NULL; it then stays as it was, as it does when
 * there is no memory. (Seed: gc_realloc.)
 */
GC_PUBLIC void *gc_realloc(void *ptr, size_t n_bytes, bool allow_move);

/* ---- Looking at the heap -------------------------------------------------------- */

/** What gc_info tells of the heap. */
typedef struct _gc_info_t {
    size_t total;         /**< bytes of all areas that can hold cells */
    size_t used;          /**< bytes in live cells, malloc'd ones included */
    size_t free;          /**< total - used */
    size_t max_free;      /**< longest run of free blocks, in blocks */
    size_t num_1block;    /**< cells of one block */
    size_t num_2block;    /**< cells of two blocks */
    size_t max_block;     /**< blocks of the largest cell */
    size_t max_new_split; /**< gc_get_max_new_split, in bytes */
} gc_info_t;

/** Fills `info` from a walk over the heap, the world stopped. (Seed: gc_info.) */
GC_PUBLIC void gc_info(gc_info_t *info);

/**
 * Ours. Fills total, used, free and max_new_split from counters, without stopping the
 * world, and sets the rest to 0. `used` counts a whole span of small cells from when a
 * thread takes it.
 */
GC_PUBLIC void gc_info_fast(gc_info_t *info);

/** Where the dumps go; laid out as the seed's mp_print_t. */
typedef struct _gc_print_t {
    void *data; /**< what print_strn is called with */
    void (*print_strn)(void *data, const char *str, size_t len); /**< prints `str` */
} gc_print_t;

/** Prints gc_info as text. `print` NULL means standard error. (Seed: gc_dump_info.) */
GC_PUBLIC void gc_dump_info(const gc_print_t *print);

/**
 * Prints one character a block, 64 blocks a line, area by area: `.` free, `h` the head
 * of a scanned object, `t` of a typed one, `l` of a leaf, `e` of malloc'd memory, `=` its
 * tail. A snapshot
 * of each line is taken under the heap's lock; printing is done outside it.
 * (Seed: gc_dump_alloc_table.)
 */
GC_PUBLIC void gc_dump_alloc_table(const gc_print_t *print);

/* ---- Ours: pacing and roots ------------------------------------------------------ */

/**
 * Turns collections that allocation starts on or off, and returns what was set before.
 * Off, an allocation still collects rather than fail. (Seed: gc.enable, gc.disable.)
 */
GC_PUBLIC bool gc_set_auto_collect(bool on);

/**
 * Whether collections that allocation starts for pacing's sake may be minor ones: these
 * look for what is dead among the objects made since the last collection only, and take
 * what survived that to live. They are short; what died later is found by the next full
 * collection, which comes in any case: each that the program asks for is one. On, the
 * default (and the option generations), they come where the system can tell which pages
 * were written to (Linux 6.7 and later) and where they pay. With typed objects, a word
 * decoder or a threshold of the program's all are full. Returns what was set before.
 */
GC_PUBLIC bool gc_set_generations(bool on);

/**
 * Collect after `n_bytes` were allocated since the last collection; 0, the default,
 * leaves it to the pacing (docs/collector.md, and the options pace, pace_percent and
 * pace_floor). Returns what was set before. (Seed: gc.threshold.)
 */
GC_PUBLIC size_t gc_set_threshold(size_t n_bytes);

/**
 * Limits the heap to `bytes`: the pages that hold objects of any kind, malloc'd ones
 * included, and free pages that are kept for reuse come to no more. An allocation that
 * would exceed it first collects (malloc too, once anything was gc_alloc'd), then fails
 * with ENOMEM. The library's own tables are not counted, nor are addresses that cost no
 * memory. Near the limit collections come earlier. Where more is in use already, that
 * stays, and nothing is added until less is. 0, the default, is no limit. Returns what
 * was set before. The option max_heap sets it from outside.
 */
GC_PUBLIC size_t gc_set_max_heap(size_t bytes);

/**
 * How many threads may mark in a collection, the collecting one included, at most 16; 0,
 * the default (and the option markers), means as many as there are processors. The
 * others are the library's own: made before the first collection of a heap of 8 MiB and
 * more, asleep between collections, and not scanned. Returns what was set before.
 */
GC_PUBLIC unsigned gc_set_markers(unsigned markers);

/** Why there was a collection. */
enum gc_cause {
    GC_CAUSE_EXPLICIT, /**< the program asked for it */
    GC_CAUSE_PACING,   /**< enough was allocated since the last one */
    GC_CAUSE_MEMORY    /**< an allocation found no memory */
};

/** What one collection did. Times are of the monotonic clock, in nanoseconds. */
struct gc_collection {
    uint64_t number;         /**< 1, 2, ... */
    uint64_t began;          /**< when the threads were asked to stop */
    uint64_t stop_ns;        /**< from there until they had */
    uint64_t mark_ns;        /**< marking, from the roots to the last object */
    uint64_t pause_ns;       /**< from `began` until the threads could go on */
    enum gc_cause cause;     /**< why it was */
    unsigned threads;        /**< threads registered */
    unsigned markers;        /**< threads that marked */
    size_t root_bytes;       /**< scanned that are no collected objects */
    size_t marked_objects;   /**< collected objects that survived */
    size_t marked_bytes;     /**< their bytes, which are whole cells */
    size_t heap_bytes;       /**< pages that held objects, in bytes, before */
    size_t heap_bytes_after; /**< the same after; what is swept later is still in it */
    size_t allocated_bytes;  /**< of collected kinds, since the collection before */
    bool minor;              /**< what survived before was taken to live */
};

/** Told of a collection; `context` is what it was set with. */
typedef void gc_collection_fn(void *context, const struct gc_collection *collection);

/**
 * Has `listener` called after each collection, in the thread that collected, once the
 * others go on, with no lock held, and before finalisers run. It may use all of this
 * header, and has to return. A collection that it causes is counted, but not told:
 * `number` then skips.
 * Replaces the listener before; NULL is none. One that was replaced may still be told of
 * a collection that another thread is just ending. Returns 0.
 */
GC_PUBLIC int gc_set_collection_listener(gc_collection_fn *listener, void *context);

/** All collections of this process so far, together. */
struct gc_collection_totals {
    uint64_t collections; /**< how many; the next three come to the same */
    uint64_t by_request;  /**< of GC_CAUSE_EXPLICIT */
    uint64_t by_pacing;   /**< of GC_CAUSE_PACING */
    uint64_t for_memory;  /**< of GC_CAUSE_MEMORY */
    uint64_t stop_ns, mark_ns, pause_ns;             /**< sums of the collections' */
    uint64_t stop_ns_max, mark_ns_max, pause_ns_max; /**< the longest */
    uint64_t root_bytes, marked_objects, marked_bytes, allocated_bytes; /**< sums */
    uint64_t marked_bytes_max, heap_bytes_max;                          /**< the most */
    uint64_t minor; /**< of all these, how many were minor ones */
};

/** Fills `totals`; all zero before the first collection. A child of a fork goes on from
 * what its parent counted. */
GC_PUBLIC void gc_get_collection_totals(struct gc_collection_totals *totals);

/**
 * Makes [start, end) a root range until gc_remove_roots with the same arguments. 0, or
 * EINVAL for a backward range, ENOMEM. The memory must stay readable.
 */
GC_PUBLIC int gc_add_roots(void *start, void *end);

/** 0, or ENOENT where that very range was not added. */
GC_PUBLIC int gc_remove_roots(void *start, void *end);

/**
 * Makes the word at `slot` a root until gc_remove_root_slot, which has to come as often as
 * this did. 0, or EINVAL for NULL or a misaligned one, ENOMEM. There may be very many, in
 * any order; the word must stay readable.
 */
GC_PUBLIC int gc_add_root_slot(void **slot);

/** 0, or ENOENT where the slot was not added. */
GC_PUBLIC int gc_remove_root_slot(void **slot);

/**
 * In a callback that was given `marker`, and in its thread: the object that `pointer`
 * points into is reached. NULL, and what points to no object, is ignored.
 */
GC_PUBLIC void gc_mark_pointer(struct gc_marker *marker, const void *pointer);

/** The same of the `len` words at `ptrs`. */
GC_PUBLIC void gc_mark_words(struct gc_marker *marker, void **ptrs, size_t len);

/** Says what is a root, by gc_mark_pointer and gc_mark_words, or by gc_collect_root. */
typedef void gc_root_callback_fn(void *context, struct gc_marker *marker);

/**
 * Has `callback` called once in each collection, in the thread that collects, until
 * gc_remove_root_callback with the same arguments. It is called with the other threads
 * stopped, whatever locks they hold: it may not allocate, nor lock, wait, or call
 * anything else of this library. 0, or EINVAL for NULL, ENOMEM.
 */
GC_PUBLIC int gc_add_root_callback(gc_root_callback_fn *callback, void *context);

/** 0, or ENOENT where it was not added. Once this returns it is not called any more. */
GC_PUBLIC int gc_remove_root_callback(gc_root_callback_fn *callback, void *context);

/**
 * Whether the writable segments of the program and its libraries are roots (the
 * default). Returns what was set before.
 */
GC_PUBLIC bool gc_set_scan_data_segments(bool on);

/**
 * Whether threads' stacks, registers and thread-local storage are roots (the default).
 * Stacks that were announced are, either way. Without them the program itself has to see
 * to it that a root leads to each object that is in use when a collection begins, in
 * any thread: to what gc_realloc is given, too. What a callback of a dead object is given
 * stays until that returns. Returns what was set before.
 */
GC_PUBLIC bool gc_set_scan_stacks(bool on);

/**
 * Whether malloc'd memory is a root (the default). Where it is not, what C and C++
 * libraries keep there holds nothing, nor does thread-local storage of objects that came
 * by dlopen. Returns what was set before; from the next collection on.
 */
GC_PUBLIC bool gc_set_scan_malloc(bool on);

/* ---- Ours: words that hide pointers ----------------------------------------------- */

/**
 * Says which bits of a word may be tags: a word counts as a pointer as it is, and also
 * without them. Returns what was set before; the default is 0. Tags in the low four bits
 * need not be said: a pointer into an object holds it, and no object begins or ends
 * within GC_BYTES_PER_BLOCK bytes. What needs it is tags in the uppermost bits, or of
 * objects that the program aligns to more. Applies to all that is scanned, roots too,
 * from the next collection on. Each word that has such a bit is looked up twice.
 */
GC_PUBLIC uintptr_t gc_set_pointer_tags(uintptr_t tags);

/** Returns the address that is hidden in a word, not 0, or NULL; it may lie anywhere. */
typedef void *gc_word_decoder_fn(uintptr_t word);

/**
 * Has `decoder` asked what is hidden in each word that is scanned, roots too, from the
 * next collection on, for values that are boxed in NaNs, say. That is beside what the
 * word is a pointer to by itself. NULL, the default, asks nobody. Returns what was set
 * before. The decoder is called with all threads stopped, in several threads at once, the
 * library's own among them, which have little stack; whatever word it is given, it must
 * answer from that alone, the same each time. Locks of any kind may be held by who was
 * stopped: it may not allocate, nor lock, wait, or call into this library.
 */
GC_PUBLIC gc_word_decoder_fn *gc_set_word_decoder(gc_word_decoder_fn *decoder);

/* ---- Ours: threads ----------------------------------------------------------------- */

/**
 * Makes the calling thread known to the collector. Seldom needed: threads from
 * pthread_create are known, one that allocates comes to be, and the others are found when
 * a collection begins, where the system tells its threads. Idempotent. 0, or ENOMEM.
 */
GC_PUBLIC int gc_thread_register(void);

/**
 * Undoes gc_thread_register before the thread ends; its stack is no root from here.
 * Happens by itself when a thread ends. A later allocation registers it again.
 */
GC_PUBLIC void gc_thread_unregister(void);

/**
 * Chooses the signal that stops threads, by default SIGURG (or what the option stop_signal
 * says), before it is in use: before gc_init and the first gc_alloc. 0; EINVAL where
 * `signal` is none that can be handled, or one of an error (SIGSEGV, SIGBUS, SIGFPE,
 * SIGILL, SIGABRT); EBUSY when it is too late. A signal that the program handles itself
 * is reported when it is first needed, and ends the program.
 */
GC_PUBLIC int gc_set_stop_signal(int signal);

/**
 * Between the two the thread counts as stopped and gets no signal. It must not touch
 * the heap or write collected pointers where they were not before gc_blocking_begin.
 * Does not nest.
 */
GC_PUBLIC void gc_blocking_begin(void);
GC_PUBLIC void gc_blocking_end(void);

/* ---- Ours: stacks that the program makes -------------------------------------------- */

/** A stack that was announced. */
struct gc_stack;

/**
 * Announces [start, end), to run coroutines on: what lies there is a root, whichever
 * thread runs on it, and while none does. It must be readable until gc_stack_remove, so
 * a guard page is left out. NULL with errno EINVAL for an empty or backward range, or
 * ENOMEM. A stack in collected memory is held by pointers to it, as any object is, and by
 * running on it; malloc'd memory is scanned in whole anyhow.
 */
GC_PUBLIC GC_USE_RESULT struct gc_stack *gc_stack_add(void *start, void *end);

/**
 * Said by the function that is about to switch from the announced stack `from` to `to`;
 * NULL is the thread's own. It need not be said; but if so, only the part of `from` that
 * is in use is scanned while nobody runs on it. So whoever says that a stack is left must
 * also say when it is entered again. What saves the registers may use 900 bytes of stack
 * below the caller's. Any thread may go on where another left off. A few stores: takes no
 * lock.
 */
GC_PUBLIC void gc_stack_switch(struct gc_stack *from, struct gc_stack *to);

/** Undoes gc_stack_add; NULL does nothing. Nobody runs on the stack. */
GC_PUBLIC void gc_stack_remove(struct gc_stack *stack);

#ifdef __cplusplus
}
#endif

#endif /* SPLITHEAP_GC_H */
