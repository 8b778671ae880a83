/* SPDX-License-Identifier: MIT */
/*
 * Frees within one span that has one owner: heaps/remote.h, and what heaps/cache.h and
 * .c, heaps/sweep.c and heaps/collect.c do beside it. A change of owners is
 * adoption.pml's.
 *
 * A span of three cells, two in its first word and one in the second. Cell c is bit c of
 * `held`, `alive` or `remote`, which say whose state is HELD, LIVE or REMOTE; of none of
 * them it is FREE. The owner hands out, frees, unloads, refills and drains its inbox for
 * ever; other threads free whatever live cell they choose, hand out what they hold, and
 * unload it; a collector stops the world at any moment, which it does not have to share
 * with anyone, so that what it does is one step.
 *
 * Steps. Each access to a state, to `words`, `queued` or the inbox is one step: the C
 * code makes it by one operation, all but the plain stores of fast paths sequentially
 * consistent. A scan of states is a step for each cell. What only the owner can tell
 * apart is one step: loading FREE cells, and `used`. So are pushing on the inbox and
 * taking it whole: its list changes at a compare-and-swap and at an exchange. With one
 * span the inbox is a bit, and I1 is that nobody sets it twice. A magazine is a set:
 * whichever of its rounds may be on top, and whether it is full is left open.
 *
 * What the program does is kept in four sets of cells beside:
 *   live     handed out, in use            picked  passed to free, which found it live
 *   lost     nobody points there: garbage  freed   free; not handed out since
 *
 * Always:
 *   - a live cell looks live, so that no free is taken for a double free; a freed one
 *     looks dead, so that a double free is found;
 *   - when no thread is half-way through a remote free, words with REMOTE cells are
 *     named, and the span is in the inbox (I2);
 *   - what is handed out is free, and what is loaded is FREE, taken back (I3);
 *   - a held cell is in one magazine, once, or in the hands of who pushes or pops it; no
 *     other cell is in any (I4);
 *   - `used` never falls below 0, and counts the cells that are not FREE exactly,
 *     whenever the owner is between two operations.
 *
 * By default the span is EXPLICIT. With COLLECTED it is of a collected kind: then the
 * program loses cells, a collection marks and the owner sweeps. With DRAINING the
 * collector takes remote frees back, which it could (heaps/collect.c).
 *
 * With TWICE the program makes one mistake: another thread frees a cell between the
 * owner's look at its state and the owner's store. Then there may be two rounds of it.
 * When one of them is popped or unloaded, who finds the state not to be HELD tells it,
 * and all ends well. So I4 becomes: until it is told, no cell is handed out that is in
 * use, but where two threads look at a state and store it in the same instant
 * (`glitch`).
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef FREEING
#define FREEING 2
#endif
#ifndef FIRST
#define FIRST 3 /* the cells of the first word: 3 or 1 */
#endif
#define ALL (FIRST | 4)
#define BIT(c) (1 << (c))
#define WORD(c) ((c) >> 1)
#define MASK(w) ((w) == 0 -> FIRST : 4)
#define COUNT(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

byte held, alive, remote;
byte words; /* remote_words */
bit queued, inbox;
byte used;
byte marks = ALL;
bit due; /* sh_span_sweep_due */
byte magazine[FREEING + 1]; /* the owner's is the last */
byte again[FREEING + 1];    /* cells that have a second round there */
#define OWNER FREEING

byte live, picked, lost, freed = ALL;
byte inside;      /* threads half-way through a remote free */
bool critical;    /* the owner is in a critical section: it cannot be stopped */
byte freeing_now; /* the cell that the owner found LIVE and is about to make HELD */
bool twice, told, glitch;

#define FREE (ALL & ~(held | alive | remote))
#define looks_live (alive & (due -> marks : ALL))

#define ALIVE (((live | picked) & ~looks_live) == 0)
#define DEAD ((freed & alive) == 0)
#define EXACT (critical || used == COUNT(held | alive | remote))
#define NAMED(w) (!(remote & MASK(w)) || (words & BIT(w)))
#define FOUND (inside != 0 || critical || \
    (queued == inbox && NAMED(0) && NAMED(1) && (!remote || queued)))
#if FREEING == 1
#define IN_MAGAZINES (magazine[0] | magazine[1])
#else
#define IN_MAGAZINES (magazine[0] | magazine[1] | magazine[2])
#endif
#define ONLY_HELD ((IN_MAGAZINES & ~held) == 0)
#define SPOILT (told || glitch)

active proctype invariants()
{
end:
    do
    :: !(FOUND) && !SPOILT -> assert(FOUND)
    :: !(EXACT) && !SPOILT -> assert(EXACT)
#ifndef TWICE
    :: !(ALIVE) -> assert(ALIVE)
    :: !(DEAD) -> assert(DEAD)
    :: !(ONLY_HELD) -> assert(ONLY_HELD)
    :: told -> assert(!told)
#endif
    od
}

/* ---- What all threads do ---- */

inline choose(set)
{
    if
    :: (set) & 1 -> c = 0
    :: (set) & 2 -> c = 1
    :: (set) & 4 -> c = 2
    fi
}

inline push(mag)
{
#ifdef TWICE
    again[mag] = again[mag] | (magazine[mag] & BIT(c));
#else
    assert(!(IN_MAGAZINES & BIT(c))); /* I4 */
#endif
    magazine[mag] = magazine[mag] | BIT(c)
}

inline pop(mag)
{
    magazine[mag] = (magazine[mag] & ~BIT(c)) | (again[mag] & BIT(c));
    again[mag] = again[mag] & ~BIT(c)
}

inline set_state(h, a, r)
{
    held = (held & ~BIT(c)) | (h);
    alive = (alive & ~BIT(c)) | (a);
    remote = (remote & ~BIT(c)) | (r)
}

/* sh_bin_take: load; store */
inline take_round(mag)
{
    atomic {
        choose(magazine[mag]);
        pop(mag);
#ifndef PLANT_POP_ANYTHING
        if
        :: held & BIT(c)
        :: else -> told = true
        fi
#endif
    }
    atomic {
        if
        :: told
        :: else ->
#ifndef PLANT_POP_ANYTHING
            glitch = glitch || !(held & BIT(c));
#endif
            assert(glitch || !(live & BIT(c)));
            set_state(0, BIT(c), 0);
            freed = freed & ~BIT(c);
            live = live | BIT(c)
        fi;
        c = 0
    }
}

inline no_longer_live()
{
    assert(alive & BIT(c));
    picked = picked & ~BIT(c);
    freed = freed | BIT(c)
}

/* ---- The other threads ---- */

/* sh_remote_notify, of the words in `named` */
inline notify()
{
    if
    :: (named & ~words) != 0 -> words = words | named
    :: (named & ~words) == 0
    fi;
    named = 0;
    if
    :: queued
    :: !queued ->
        /* notify */
        if
        :: words == 0
        :: words != 0 ->
            atomic {
                if
                :: queued
                :: else ->
                    queued = 1;
                    token = true
                fi
            }
        fi
    fi;
    /* push, in deliver */
    atomic {
        if
        :: token ->
            assert(!inbox); /* I1 */
            inbox = 1;
            token = false
        :: else
        fi;
        inside--
    }
}

active [FREEING] proctype freeing()
{
    byte c, named, me = _pid - 1;
    bool token;
end:
    do
    :: told -> break
    /* sh_remote_give, sh_heap_free: the cell is LIVE */
    :: atomic {
            !told && live != 0 ->
            choose(live);
            live = live & ~BIT(c);
            picked = picked | BIT(c)
        }
        goto compare
#ifdef TWICE
    :: atomic {
            !told && !twice && freeing_now ->
            twice = true;
            choose(freeing_now)
        }
        goto compare
#endif
    /* sh_bin_take */
    :: !told && magazine[me] != 0 ->
        take_round(me)
    /* sh_cache_unload, unload_foreign */
    :: atomic {
            !told && magazine[me] != 0 ->
            inside++
        }
        do
        :: magazine[me] == 0 -> break
        :: atomic {
                magazine[me] != 0 ->
                choose(magazine[me]);
                pop(me);
                if
#ifndef PLANT_UNLOAD_ANYTHING
                :: !(held & BIT(c)) -> told = true
#endif
                :: else ->
#ifdef PLANT_UNLOAD_AS_OWN
                    set_state(0, 0, 0)
#else
                    set_state(0, 0, BIT(c));
                    named = named | BIT(WORD(c))
#endif
                fi;
                c = 0
            }
        od;
#ifdef PLANT_UNLOAD_UNTOLD
        named = 0;
#endif
        notify()
    od;
    goto over;

    /* sh_remote_give, and sh_remote_free where there is no room: compare and swap */
compare:
#ifdef PLANT_NAME_BEFORE_CHANGE
    words = words | BIT(WORD(c));
#endif
    if
    /* It fails, and sh_heap_free says so; or the owner handed the cell out again
     * meanwhile: then the instant is over. */
    :: atomic {
            !(alive & picked & BIT(c)) ->
            told = true
        }
    :: atomic {
            (alive & picked & BIT(c)) ->
            no_longer_live();
            set_state(BIT(c), 0, 0)
        }
        atomic {
            push(me);
            c = 0
        }
    :: atomic {
            (alive & picked & BIT(c)) ->
            inside++;
            no_longer_live();
            set_state(0, 0, BIT(c));
#ifndef PLANT_NAME_BEFORE_CHANGE
            named = BIT(WORD(c));
#endif
            c = 0
        }
        notify()
    fi;
    goto end;
over:
    skip
}

/* ---- The owner ---- */

/* Looks at the cell's state, in take. */
inline scan(cell)
{
    atomic {
        if
        :: (found & BIT(WORD(cell))) && (remote & BIT(cell)) ->
            remote = remote & ~BIT(cell);
            count++
        :: else
        fi
    }
}

/* sh_remote_take */
inline take()
{
    if
    :: words == 0
    :: words != 0 ->
#ifdef PLANT_SCAN_BEFORE_EXCHANGE
        found = words;
#else
        atomic {
            found = words;
            words = 0
        }
#endif
        scan(0);
        scan(1);
        scan(2);
#ifdef PLANT_SCAN_BEFORE_EXCHANGE
        words = 0;
#endif
        found = 0
    fi
}

inline use_less()
{
    atomic {
        assert(SPOILT || used >= count);
        used = used - count;
        count = 0
    }
}

/* sweep_word, of all words; the world is stopped, or only the owner is concerned. */
inline sweep_words()
{
    alive = alive & marks;
    freed = freed | (lost & ~alive);
    lost = lost & alive;
    used = COUNT(held | alive | remote);
    due = 0
}

active proctype owner()
{
    byte c, count, found;
end:
    do
    :: told -> break
    /* sh_bin_take */
    :: !told && magazine[OWNER] != 0 ->
        take_round(OWNER)
    /* sh_cache_give: load; store; push. Or its magazine is full: sh_cache_free_own. */
    :: atomic {
            !told && live != 0 ->
            choose(live);
            live = live & ~BIT(c);
            picked = picked | BIT(c);
            freeing_now = BIT(c)
        }
        if
        :: atomic {
                glitch = glitch || (live & BIT(c));
                freeing_now = 0;
                picked = picked & ~BIT(c);
                freed = freed | BIT(c);
                set_state(BIT(c), 0, 0)
            }
            atomic {
                push(OWNER);
                c = 0
            }
        :: atomic {
                glitch = glitch || (live & BIT(c));
                freeing_now = 0;
                if
                :: alive & BIT(c) ->
                    no_longer_live();
                    set_state(0, 0, 0);
                    used--
                :: else -> told = true
                fi;
                c = 0
            }
        fi
    /* sh_cache_unload */
    :: atomic {
            !told && magazine[OWNER] != 0 ->
            critical = true
        }
        do
        :: magazine[OWNER] == 0 -> break
        :: atomic {
                magazine[OWNER] != 0 ->
                choose(magazine[OWNER]);
                pop(OWNER);
                count++;
#ifndef PLANT_UNLOAD_ANYTHING
                if
                :: held & BIT(c)
                :: else ->
                    told = true;
                    break
                fi
#endif
            }
            atomic {
#ifndef PLANT_UNLOAD_ANYTHING
                glitch = glitch || !(held & BIT(c));
#endif
                set_state(0, 0, 0);
                c = 0
            }
        od;
        use_less();
        critical = false
    /* sh_remote_drain, sh_cache_take_back */
    :: atomic {
            inbox && !told ->
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
    /* sh_cache_refill, whose magazine is empty: sh_span_sweep, plan_pass, load */
    :: atomic {
            magazine[OWNER] == 0 && !told ->
            critical = true
        }
        if
        :: due ->
            take();
            atomic {
                count = 0;
                sweep_words()
            }
        :: !due
        fi;
        if
        :: true ->
            take();
            use_less()
        :: true
        fi;
        atomic {
            if
            :: FREE & FIRST -> c = FREE & FIRST
            :: FREE & 4 -> c = 4
            :: !FREE
            fi;
#ifndef TWICE
            assert(!(c & ~freed) && !(c & IN_MAGAZINES)); /* I3, I4 */
#endif
            held = held | c;
            magazine[OWNER] = c;
            used = used + COUNT(c);
            c = 0;
            critical = false
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
    od
}

/* ---- The collector ---- */

#ifdef COLLECTED
/* sh_collect_start to sh_collect_end; threads without a record are not stopped. */
active proctype collector()
{
end:
    do
    :: atomic {
            !critical ->
            if
            :: due ->
                /* prepare_span: sh_span_sweep */
                remote = remote & ~((words & 1 -> FIRST : 0) | (words & 2 -> 4 : 0));
                words = 0;
                sweep_words()
            :: else
            fi;
            /* prepare_span; what is picked is in a register of who frees it */
#ifdef PLANT_MARK_THE_LIVE_ONLY
            marks = live | picked;
#else
            marks = live | picked | (ALL & ~alive);
#endif
            due = 1
        }
    od
}
#endif

#ifdef DRAINING
/* What prepare could do. */
active proctype collector()
{
end:
    do
    :: atomic {
            !critical && inbox ->
            inbox = 0;
            queued = 0;
            assert(used >= COUNT(remote));
            used = used - COUNT(remote);
            remote = 0;
            words = 0
        }
    od
}
#endif
