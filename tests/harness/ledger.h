/* SPDX-License-Identifier: MIT */
/*
 * The ledger: an entry for each object, in memory that the library under test cannot
 * reach, with all that is known of it. Addresses in it are hidden.
 *
 * An entry's life is one word, its serial number, how often it was dropped, and a state:
 *
 *      UNUSED -> LIVE -> FREEING -> UNUSED        freed by the program
 *                LIVE -> DROPPED -> COLLECTED -> UNUSED       by the collector
 *                LIVE <- DROPPED                  its finaliser brought it back
 *
 * LIVE: some root leads to it, so it must be there and whole. DROPPED: none does. That
 * it was collected is found either by who is handed its memory (shadow.h), or by who
 * dropped it and asks now and then (ledger_audit).
 *
 * Any thread; who holds the object changes its entry, but for the life of DROPPED ones,
 * which is changed by compare-and-swap.
 */
#ifndef SH_HARNESS_LEDGER_H
#define SH_HARNESS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "tests/harness/own.h"

#define LINKS_MAX 4

enum state { UNUSED, LIVE, FREEING, DROPPED, COLLECTED };
enum kind { SCAN, LEAF, EXPLICIT, KINDS };
enum pending { PENDING_FINALISER = 1, PENDING_WEAK = 2 };

/* By which function an EXPLICIT one was made, for free_sized. */
enum origin { OF_ANY, OF_MALLOC, OF_ALIGNED_ALLOC };

struct entry {
    _Atomic uint64_t life;
    _Atomic uintptr_t hidden; /* the address; an audit may look too late */
    size_t asked;             /* bytes asked for */
    size_t bytes;             /* that are filled: those, or all of its cell's */
    _Atomic size_t usable;    /* of its cell; an audit looks while it is resized */
    size_t alignment;         /* asked for */
    size_t head;              /* bytes at the start that are no contents: type, links */
    _Atomic uint32_t pending; /* callbacks that must come before it goes */
    _Atomic uint32_t finalisers; /* that gc_set_finaliser set; the last counts */
    uint32_t id;                 /* for ever */
    uint32_t stamp;              /* of a child that keeps it */
    uint32_t next;               /* of the same graph, or the next unused entry */
    uint32_t link[LINKS_MAX];    /* entries that its words lead to; 0: NULL */
    uint32_t offset[LINKS_MAX];  /* into the objects there */
    uint8_t links, kind, origin;
    bool in_graph, typed;
    bool leaked;                   /* on purpose */
    uint64_t made_at, used_at;     /* operations' numbers */
    uint32_t made_by, used_by;     /* lanes' numbers */
    const char *made_in, *used_in; /* scenarios */
};

void ledger_init(void);

static inline enum state life_state(uint64_t life)
{
    return (enum state)(life & 0xff);
}

static inline uint64_t life_serial(uint64_t life)
{
    return life >> 16;
}

struct entry *ledger_entry(uint32_t id);

static inline enum state entry_state(struct entry *entry)
{
    return life_state(sh_load_acquire(&entry->life));
}

static inline uint64_t entry_serial(struct entry *entry)
{
    return life_serial(sh_load_relaxed(&entry->life));
}

static inline void *entry_address(struct entry *entry)
{
    return reveal(sh_load_relaxed(&entry->hidden));
}

/* An entry with a serial number, UNUSED yet. */
struct entry *ledger_take(void);

/* It is no object's any more. */
void ledger_put(struct entry *entry);

/* Who holds the object says what becomes of it. */
void entry_set_state(struct entry *entry, enum state state);

/* True: it was `life`, and its state now is `state`. */
bool entry_try_state(struct entry *entry, uint64_t life, enum state state);

/* Takes one of the callbacks that were to come; false: it was not to. */
bool entry_take_pending(struct entry *entry, enum pending what);

/* The word of the object that its pointer number i is in: the last ones of its head. */
void **entry_link(struct entry *entry, unsigned i);

/* Callbacks are missed that did not come. */
bool ledger_misses_callbacks(void);

/* Who used the object last: the calling thread, now. */
void entry_touch(struct entry *entry);

/*
 * In the child of a fork, whose parent's threads may have been anywhere: what they held
 * on their stacks nothing holds here. First begin; then keep, for each slot that is still
 * a root; then end, from where on of all other objects anything may become. Callbacks
 * that another thread had begun do not come here, and are not missed.
 */
void ledger_fork_child_begin(void);
void ledger_fork_child_keep(const void *p);
void ledger_fork_child_end(void);

/* ---- What was dropped, by lane ---- */

struct dropped {
    uint32_t id;
    uint64_t life;
};

struct dropped_list {
    struct dropped *items;
    size_t count;
};

#define DROPPED_MAX ((size_t)1 << 15)

/* The object is no longer held by anything, from the caller's next step on. */
void ledger_drop(struct dropped_list *list, struct entry *entry);

/* Crosses out what was collected, and returns how many are left. */
size_t ledger_audit(struct dropped_list *list);

/* ---- Numbers ---- */

struct ledger_counts {
    _Atomic uint64_t made, freed, dropped, collected, resurrected;
    _Atomic uint64_t finalised, weak, verified, resized, moved, refused;
    _Atomic size_t live_bytes, live_objects;
};

extern struct ledger_counts counts;

#endif /* SH_HARNESS_LEDGER_H */
