/* SPDX-License-Identifier: MIT */
/*
 * Remote frees within one span that has one owner: heaps/remote.h, and what heaps/cache.c,
 * heaps/sweep.c and heaps/collect.c do beside it. A change of owners is adoption.pml's.
 *
 * A span of three cells, two in its first word and one in the second. Cell c is bit c of
 * `alloc` and of `remote`. The owner hands out and frees on its fast paths, drains its
 * inbox, and goes from window to window for ever; two threads free whatever live cell
 * they choose; a collector stops the world at any moment, which it does not have to
 * share with anyone, so that what it does is one step.
 *
 * Steps. Each access to a word that others write is one step: the C code makes it by one
 * atomic operation, all of those sequentially consistent. `alloc`, `used`, `window` and
 * `marks` are the owner's and the stopped world's; several accesses to them are one
 * step, but where a thread can be stopped between two of them. Pushing and taking the
 * whole inbox are one step each: their list changes at its compare-and-swap and at its
 * exchange, and `inbox_next` is touched only by who set `queued` or unlinked the span.
 * With one span the inbox is a bit, and I1 is that nobody sets it twice.
 *
 * What the program does is kept in four sets of cells beside:
 *   live     handed out, in use            picked  passed to free, which found it live
 *   lost     nobody points there: garbage  freed   free; not handed out since
 *
 * Always:
 *   - a live cell looks live, so that no free is taken for a double free; a freed one
 *     looks dead, so that a double free is found;
 *   - a cell is handed out that is free, its remote bit taken (I3);
 *   - `used` never falls below 0, and counts the cells outside the window exactly
 *     (EXPLICIT), whenever the owner is between two operations;
 *   - when no thread is inside sh_remote_free, remote bits are named, and the span is in
 *     the inbox (I2).
 *
 * By default the span is EXPLICIT. With COLLECTED it is of a collected kind. Then the
 * owner loses cells, a collection marks and the owner sweeps; a cell of a word whose
 * owner was stopped between load and store may come back (`back`), as heaps/cache.h
 * says, until the next collection. Threads that have no record are not stopped: so a
 * collection may find a thread inside sh_remote_free.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef FREEING
#define FREEING 2
#endif
#ifndef FIRST
#define FIRST 3 /* the cells of the first word: 3 or 1 */
#endif
#define NONE 2 /* no window */
#define BIT(c) (1 << (c))
#define WORD(c) ((c) >> 1)
#define MASK(w) ((w) == 0 -> FIRST : ((w) == 1 -> 4 : 0))
#define COUNT(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

byte alloc, remote, remote_words;
bit queued, inbox;
byte used, window = NONE;
byte bin;
byte marks;
bit due; /* sh_span_sweep_due */

byte live, picked, lost, freed = FIRST | 4;
byte back;        /* dead cells that a late store brought back */
byte inside;      /* threads in sh_remote_free */
bool critical;    /* the owner is in a critical section: it cannot be stopped */
bool between;     /* the owner is in the middle of a fast path */

#define looks_live (alloc & ~remote & (due -> marks : 7))

#define ALIVE (((live | picked) & ~looks_live) == 0)
#define DEAD ((freed & looks_live & ~back) == 0)
#define EXACT (critical || between || used == COUNT(alloc) + COUNT(bin))
#define NAMED(w) (!(remote & MASK(w)) || (remote_words & BIT(w)))
#define AT_REST (inside == 0 && !critical)
#define FOUND (!AT_REST || \
    (queued == inbox && NAMED(0) && NAMED(1) && (!remote || queued)))

active proctype invariants()
{
end:
    do
    :: !(ALIVE) -> assert(ALIVE)
    :: !(DEAD) -> assert(DEAD)
    :: !(FOUND) -> assert(FOUND)
#ifndef COLLECTED
    :: !(EXACT) -> assert(EXACT)
    :: back != 0 -> assert(back == 0)
#endif
    od
}

/* ---- The other threads ---- */

inline choose(set)
{
    if
    :: set & 1 -> c = 0
    :: set & 2 -> c = 1
    :: set & 4 -> c = 2
    fi
}

/* sh_heap_free, sh_remote_give, sh_remote_free */
active [FREEING] proctype freeing()
{
    byte c, old;
end:
    do
    :: atomic {
            live != 0 ->
            choose(live);
            live = live & ~BIT(c);
            picked = picked | BIT(c)
        }
        /* sh_critical_enter; or_remote: a compare-and-swap that sets the bit */
        atomic {
            inside++;
            assert(!(remote & BIT(c)));
            old = remote & MASK(WORD(c));
            remote = remote | BIT(c);
            picked = picked & ~BIT(c);
            freed = freed | BIT(c)
        }
        /* name_word */
        if
        :: old == 0 -> remote_words = remote_words | BIT(WORD(c))
        :: else
        fi;
        old = 0;
        c = 0;
        /* notify */
        if
        :: queued -> goto done
        :: !queued
        fi;
        if
        :: remote_words == 0 -> goto done
        :: remote_words != 0
        fi;
        atomic {
            if
            :: queued -> goto done
            :: else -> queued = 1
            fi
        }
        /* push, in deliver */
        atomic {
            assert(!inbox); /* I1 */
            inbox = 1
        }
done:
        inside--
    od
}

/* ---- The owner ---- */

/* take_word, of what `some` says may lie there */
inline take_word(w)
{
    some = remote & MASK(w);
    do
    :: some == 0 -> break
    :: else ->
#ifdef PLANT_REMOTE_BEFORE_ALLOC
        remote = remote & ~some;
        atomic {
            alloc = alloc & ~some;
            count = count + COUNT(some);
            some = 0
        }
#else
        atomic {
            assert((alloc & some) == some);
            alloc = alloc & ~some;
            count = count + COUNT(some)
        }
        atomic {
            old = remote;
            remote = remote & ~some;
#ifdef PLANT_NO_SECOND_LOOK
            some = 0;
#else
            some = old & MASK(w) & ~some;
#endif
            old = 0
        }
#endif
    od
}

/* sh_remote_take */
inline take()
{
    count = 0;
    atomic {
        words = remote_words;
        remote_words = 0
    }
    if
    :: words & 1 -> take_word(0)
    :: else
    fi;
    if
    :: words & 2 -> take_word(1)
    :: else
    fi;
    words = 0
}

inline use_less()
{
    atomic {
        assert(used >= count);
        used = used - count;
        count = 0
    }
}

/* sweep_word, of all words; the world is stopped, or only the owner is concerned. */
inline sweep_words()
{
    alloc = alloc & marks;
    back = back & alloc;
    freed = freed | (lost & ~alloc);
    lost = lost & alloc;
    used = COUNT(alloc) + COUNT(bin);
    due = 0
}

/* sh_span_sweep */
inline sweep()
{
#ifndef PLANT_SWEEP_THE_NAMED
    remote_words = remote_words | 3;
#endif
    take();
    atomic {
        count = 0;
        sweep_words()
    }
}

/* A store of a word that was read before: brings back what was taken from it since. */
inline store_word(w, value)
{
    back = back | ((value) & freed & ~alloc);
    alloc = (alloc & ~MASK(w)) | (value)
}

active proctype owner()
{
    byte c, w, read, count, words, some, old, less;
end:
    do
    /* sh_bin_take: load; store */
    :: atomic {
            bin != 0 ->
            if
            :: bin & 1 -> c = 0
            :: !(bin & 1) && (bin & 2) -> c = 1
            :: !(bin & 3) -> c = 2
            fi;
            between = true
        }
        atomic {
            assert(!(remote & BIT(c))); /* I3 */
            assert(freed & BIT(c));
            assert(!(alloc & BIT(c)));
            freed = freed & ~BIT(c);
            alloc = alloc | BIT(c);
            live = live | BIT(c)
        }
        atomic {
            bin = bin & ~BIT(c);
            between = false;
            c = 0
        }
    /* sh_cache_give: load alloc and used; store used; store alloc */
    :: atomic {
            live != 0 ->
            choose(live);
            live = live & ~BIT(c);
            picked = picked | BIT(c);
            read = alloc & MASK(WORD(c));
            assert(used > 0);
            less = used - 1;
            between = true
        }
        used = less;
        atomic {
            picked = picked & ~BIT(c);
            freed = freed | BIT(c);
            store_word(WORD(c), read & ~BIT(c));
            between = false;
            less = 0;
            c = 0;
            read = 0
        }
#ifdef COLLECTED
    :: atomic {
            live != 0 ->
            choose(live);
            live = live & ~BIT(c);
            lost = lost | BIT(c);
            c = 0
        }
#endif
    /* sh_remote_drain, sh_cache_take_back */
    :: atomic {
            inbox ->
            critical = true;
            inbox = 0
        }
#ifdef PLANT_TAKE_BEFORE_CLEAR
        take();
        queued = 0;
#else
        queued = 0;
        take();
#endif
        use_less();
        critical = false
    /* sh_cache_refill: use_current, which closes the window and opens another, or
     * use_available, of a span that was put away */
    :: atomic {
            critical = true;
            used = used - COUNT(bin);
            bin = 0;
            window = NONE
        }
        if
        :: due -> sweep()
        :: !due
        fi;
        /* plan_pass, if this pass is over */
        if
        :: true ->
            take();
            use_less()
        :: true
        fi;
        /* open_window */
        atomic {
            if
            :: (alloc & FIRST) != FIRST -> window = 0
            :: (alloc & 4) != 4 -> window = 1
            :: else
            fi;
            bin = MASK(window) & ~alloc;
            used = used + COUNT(bin);
            critical = false
        }
    od
}

/* ---- The collector ---- */

#ifdef COLLECTED
/* sh_collect_start to sh_collect_end */
active proctype collector()
{
end:
    do
    :: atomic {
            !critical ->
            if
            :: due ->
                /* prepare_span: sh_span_sweep */
                remote_words = 0;
                alloc = alloc & ~remote;
                remote = 0;
                sweep_words()
            :: else
            fi;
            /* What is picked is in a register of who frees it. */
            marks = live | picked;
            /* mark_windows */
            marks = marks | (MASK(window) & ~(alloc & ~remote));
            due = 1
        }
    od
}
#endif

#ifdef PLANT_DRAIN_WHEN_STOPPED
/* What prepare must not do to the EXPLICIT spans of stopped threads. */
active proctype collector()
{
end:
    do
    :: atomic {
            !critical && inside == 0 && inbox ->
            inbox = 0;
            queued = 0;
            remote_words = 0;
            assert(used >= COUNT(remote & ~MASK(window)));
            used = used - COUNT(remote & ~MASK(window));
            alloc = alloc & ~remote;
            remote = 0
        }
    od
}
#endif
