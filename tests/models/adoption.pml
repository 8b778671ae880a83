/* SPDX-License-Identifier: MIT */
/*
 * Spans that change their owner: threads that end, adopt and are born, descriptors and
 * cache records that live again, while others free: heaps/remote.h with the slow paths
 * of heaps/cache.c and with heaps/collect.c's condemned spans. What happens to states and
 * counts within a span is remote.pml's.
 *
 * SPANS descriptors of two cells in one word; OWNING cache records, each of a thread that
 * lives, leaves it idle and is followed by another, for ever; an idle cache is adopted
 * from, and dissolved. FREEING threads free what they do not own, and have a magazine of
 * one round. A collection may come whenever the threads with a cache are between two
 * operations; it does not wait for the others, which stand for threads without a record
 * too.
 *
 * Steps. Each access to `owner`, `queued`, `remote_words`, an inbox, the shared lock, or
 * the state of a cell that somebody holds or frees is one step: the C code makes it by
 * one operation on that word. Pushing is a step, the compare-and-swap, and so is taking the whole
 * inbox, the exchange; `inbox_next` is touched only by who has the span's token (set
 * `queued`, or unlinked it). So an inbox is a set here, and I1 is that a span is never
 * put into a set while it is in one. Whoever has taken several spans out of an inbox
 * keeps them in `work`, and delivers them in any order: sh_remote_pass_on inside deliver
 * inside sh_remote_pass_on is one of these orders. FREE cells and a cache's lists are
 * touched by the owner only, which is asserted (MINE). A cache's lists are the spans
 * that it owns and that are not dying. Whether a span that became empty is current, and
 * so is kept, is left open. The owner's own magazine is left out: what it loads it hands
 * out.
 *
 * Always:
 *   - a span is in no inbox twice (I1);
 *   - when nobody is in the middle of anything, a span that somebody owns with remote
 *     bits is queued, and a queued span is in its owner's inbox (I2); a descriptor that
 *     nobody uses is in no inbox;
 *   - a live cell looks live: no free is taken for a double free, and a cell is not
 *     handed out twice; a freed one looks dead;
 *   - a span is released once, when none of its cells is live or held, and only its owner
 *     touches it: of a cache that no thread has, who holds the shared lock;
 *   - who delivers a span that nobody owns does so once in a life of its descriptor, so
 *     that it does not go round in circles.
 *
 * PLANT_... are mistakes that have to be found. Two were made: a prototype cleared
 * `queued` at adoption (CLEAR_AT_ADOPTION), so that a span was queued twice and a free
 * taken for a double one; and a span was once released after no more than a look at
 * `queued` (RELEASE_AND_LOOK).
 */
#ifndef SPANS
#define SPANS 1
#endif
#ifndef OWNING
#define OWNING 2
#endif
#ifndef FREEING
#define FREEING 2
#endif
#ifndef CELLS
#define CELLS 3 /* the set of them */
#endif
#ifndef KEEPING
#define KEEPING 1 /* what is freed may become a round of who frees it */
#endif
#define SHARED 2
#define NOBODY 3
#define BIT(i) (1 << (i))

/* Of a descriptor. */
byte owner[SPANS] = NOBODY;
byte alive[SPANS], held[SPANS], remote[SPANS]; /* whose state is LIVE, HELD, REMOTE */
bit remote_words[SPANS], queued[SPANS];
bit unused[SPANS] = 1; /* in meta's hands */
bit dying[SPANS];      /* on a dead list */

/* Which processes have seen no owner of the descriptor since it was last born. */
byte seen[SPANS];
#define SEE_NONE(s) assert(!(seen[s] & BIT(_pid))); seen[s] = seen[s] | BIT(_pid)
#define SEE(s) seen[s] = seen[s] & ~BIT(_pid)
#define SEEN_BORN seen[s] = 0

/* Of a cell: see remote.pml. */
byte live[SPANS], picked[SPANS], freed[SPANS];

byte inbox[3]; /* sets of spans; of both caches and the shared one */
bit idle[4];   /* caches whose thread ended; never SHARED nor NOBODY */
bit shared_lock;
byte inside; /* threads in sh_remote_free */
byte busy;   /* threads with a cache in an operation */

#define LIVE(s) (live[s] != 0)
#define IN_INBOX(s) (((inbox[0] | inbox[1] | inbox[SHARED]) >> (s)) & 1)
#define USED(s) (alive[s] | held[s] | remote[s])
#define ALIVE(s) (((live[s] | picked[s]) & ~alive[s]) == 0)
#define DEAD(s) ((freed[s] & alive[s]) == 0)
#define FOUND(s) (inside != 0 || busy != 0 || \
    (owner[s] == NOBODY -> !queued[s] && !IN_INBOX(s) : \
        (!remote[s] || (queued[s] && remote_words[s])) && \
            queued[s] == ((inbox[owner[s]] >> (s)) & 1) && queued[s] == IN_INBOX(s)))

active proctype invariants()
{
end:
    do
    :: !(ALIVE(0)) -> assert(ALIVE(0))
    :: !(DEAD(0)) -> assert(DEAD(0))
    :: !(FOUND(0)) -> assert(FOUND(0))
#if SPANS > 1
    :: !(ALIVE(1)) -> assert(ALIVE(1))
    :: !(DEAD(1)) -> assert(DEAD(1))
    :: !(FOUND(1)) -> assert(FOUND(1))
#endif
    od
}

/* Any span of which P holds; one has to. */
#if SPANS > 1
#define ANY(P) (P(0) || P(1))
#define SET(P) ((P(0) -> 1 : 0) | (P(1) -> 2 : 0))
#else
#define ANY(P) P(0)
#define SET(P) 1
#endif

inline choose_span(set)
{
#if SPANS > 1
    if
    :: (set) & 1 -> s = 0
    :: (set) & 2 -> s = 1
    fi
#else
    s = 0
#endif
}

/* deliver, of each span in `work`, with all that it leads to. */
inline deliver()
{
    do
    :: atomic {
            work == 0 ->
            to = 0;
            s = 0;
            break
        }
    :: atomic {
            work != 0 ->
            choose_span(work);
            work = work & ~BIT(s);
            to = owner[s]; /* owner_now */
            if
            :: to == NOBODY ->
                SEE_NONE(s)
            :: else
            fi
        }
        if
        :: to == NOBODY ->
            queued[s] = 0;
#ifndef PLANT_DROP_AND_NOTIFY
            if
            :: owner[s] == NOBODY -> goto next
            :: owner[s] != NOBODY
            fi;
#endif
            /* notify */
            if
            :: queued[s] -> goto next
            :: !queued[s]
            fi;
            if
            :: !remote_words[s] -> goto next
            :: remote_words[s]
            fi;
            atomic {
                if
                :: queued[s]
                :: else ->
                    queued[s] = 1;
                    work = work | BIT(s)
                fi
            }
        :: else ->
            /* push */
            atomic {
                assert(!IN_INBOX(s));
                inbox[to] = inbox[to] | BIT(s)
            }
#ifndef PLANT_PUSH_AND_FORGET
            /* owner_now; sh_remote_pass_on: the exchange */
            if
            :: owner[s] == to
            :: owner[s] != to ->
                pass_on(to)
            fi
#endif
        fi;
next:
        skip
    od
}

/* sh_remote_pass_on: the exchange; to be followed by deliver, or within it. */
inline pass_on(cache)
{
    atomic {
        assert((work & inbox[cache]) == 0);
        work = work | inbox[cache];
        inbox[cache] = 0
    }
}

/* ---- Threads that free what they do not own ---- */

inline free_it()
{
    assert(alive[s] & c);
    alive[s] = alive[s] & ~c;
    picked[s] = picked[s] & ~c;
    freed[s] = freed[s] | c;
    SEE(s)
}

/* sh_remote_notify; the token leads on to deliver */
inline tell()
{
    if
    :: !remote_words[s] -> remote_words[s] = 1
    :: remote_words[s]
    fi;
    if
    :: queued[s]
    :: !queued[s] ->
        /* notify */
        if
        :: !remote_words[s]
        :: remote_words[s] ->
            atomic {
                if
                :: queued[s]
                :: else ->
                    queued[s] = 1;
                    work = BIT(s)
                fi
            }
        fi
    fi;
    deliver();
    atomic {
        s = 0;
        inside--
    }
}

/* sh_remote_give, sh_remote_free; sh_bin_take; unload_foreign */
active [FREEING] proctype freeing()
{
    byte s, c, to, work;
    byte kept, kept_span; /* the round in its magazine */
end:
    do
    :: atomic {
            /* find_live, outside critical sections */
            ANY(LIVE) ->
            choose_span(SET(LIVE));
            if
            :: live[s] & 1 -> c = 1
            :: live[s] & 2 -> c = 2
            fi;
            live[s] = live[s] & ~c;
            picked[s] = picked[s] | c
        }
        /* compare and swap */
        if
        :: atomic {
                KEEPING && !kept ->
                free_it();
                held[s] = held[s] | c;
                kept = c;
                kept_span = s;
                c = 0;
                s = 0
            }
        :: atomic {
                free_it();
                inside++;
                remote[s] = remote[s] | c;
                c = 0
            }
            tell()
        fi
    :: atomic {
            kept != 0 ->
            assert(held[kept_span] & kept);
            held[kept_span] = held[kept_span] & ~kept;
            alive[kept_span] = alive[kept_span] | kept;
            freed[kept_span] = freed[kept_span] & ~kept;
            live[kept_span] = live[kept_span] | kept;
            kept = 0;
            kept_span = 0
        }
    :: atomic {
            kept != 0 ->
            inside++;
            s = kept_span;
            assert(held[s] & kept);
            held[s] = held[s] & ~kept;
            remote[s] = remote[s] | kept;
            kept = 0;
            kept_span = 0
        }
        tell()
    od
}

/* ---- Threads with a cache ---- */

#define UNUSED(s) (unused[s])
#define MY(s) (owner[s] == me && !dying[s])
#define MY_FREE(s) (MY(s) && USED(s) != CELLS)
#define ADOPTABLE(s) (owner[s] == from && !dying[s])
#ifdef PLANT_CONDEMN_HELD
#define CONDEMNABLE(s) (owner[s] != NOBODY && !dying[s] && !picked[s] && !queued[s])
#else
#define CONDEMNABLE(s) \
    (owner[s] != NOBODY && !dying[s] && !picked[s] && !queued[s] && !held[s])
#endif
#define MINE(s) \
    (owner[s] == me && !idle[me] || locked && (owner[s] == SHARED || idle[owner[s]]))

/* sh_remote_take. remote.pml has the steps of take_word, which nobody but the owner and
 * those who set remote bits can tell apart. */
inline take()
{
    if
    :: !remote_words[s]
    :: else ->
        remote_words[s] = 0;
        d_step {
            assert(MINE(s));
            remote[s] = 0
        }
    fi
}

/* place: an empty span goes on the dead list, unless it is queued. */
inline place()
{
    atomic {
        assert(MINE(s));
        if
        :: USED(s) == 0 && !queued[s] && !dying[s] ->
#ifndef PLANT_RELEASE_AND_LOOK
            queued[s] = 1;
#endif
            dying[s] = 1;
            dead = dead | BIT(s)
        :: true
        fi;
        s = 0
    }
}

/* sh_remote_drain */
inline drain(cache)
{
    d_step {
        list = inbox[cache];
        inbox[cache] = 0
    }
    do
    :: list == 0 -> break
    :: atomic {
            list != 0 ->
            choose_span(list);
            list = list & ~BIT(s);
            to = owner[s]
        }
        if
        :: to == cache ->
#ifdef PLANT_TAKE_BEFORE_CLEAR
            take();
            queued[s] = 0;
#else
            queued[s] = 0;
            take();
#endif
            place()
        :: else ->
            work = BIT(s);
            deliver()
        fi
    od
}

/* sh_cache_give_back, with which operations end */
inline give_back()
{
    do
    :: atomic {
            dead == 0 ->
            busy--;
            break
        }
    :: atomic {
            dead != 0 ->
            choose_span(dead);
            dead = dead & ~BIT(s);
            assert(dying[s]);
            assert(!unused[s]);
            assert((live[s] | picked[s] | held[s]) == 0);
            /* sh_run_give: the end of the life, then sh_span_delete */
            owner[s] = NOBODY
        }
        atomic {
            dying[s] = 0;
            unused[s] = 1;
#ifndef PLANT_RELEASE_AND_LOOK
            SEE(s);
            work = BIT(s)
#endif
        }
        deliver()
    od
}

/* leave_span, of each that the idle cache owns */
inline leave_spans()
{
    do
    :: atomic {
            ANY(ADOPTABLE) ->
            choose_span(SET(ADOPTABLE));
            owner[s] = SHARED /* change_owner */
        }
        take();
        place()
    :: else -> break
    od
}

/* A cache that no thread has: an idle one, or, to adopt from only, the shared one. */
inline choose_from()
{
    if
    :: idle[0] -> from = 0
#if OWNING > 1
    :: idle[1] -> from = 1
#endif
    :: !dissolves -> from = SHARED
    fi
}

/* A record, and the threads whose it is, one after another: a thread that begins finds
 * all as the one before left it. While the record is idle, the process stands for any
 * other thread that looks for something to adopt, or dissolves. */
proctype owning(byte me)
{
    byte s, to, work, list, dead, c, from;
    bool locked, dissolves;

end:
    do
    :: if
        /* use_new: sh_span_new and sh_span_setup; then the owner */
        :: atomic {
                !idle[me] && ANY(UNUSED) ->
                choose_span(SET(UNUSED));
                busy++;
                unused[s] = 0;
                remote_words[s] = 0;
                remote[s] = 0;
                alive[s] = 0;
                held[s] = 0;
                freed[s] = CELLS
            }
            atomic {
                owner[s] = me;
                SEEN_BORN;
                s = 0;
                busy--
            }
        /* load, sh_bin_take */
        :: atomic {
                !idle[me] && ANY(MY_FREE) ->
                choose_span(SET(MY_FREE));
                c = (USED(s) & 1 -> 2 : 1);
                assert(freed[s] & c); /* I3 */
                alive[s] = alive[s] | c;
                freed[s] = freed[s] & ~c;
                live[s] = live[s] | c;
                s = 0;
                c = 0
            }
        /* sh_remote_drain, in use_other */
        :: atomic {
                !idle[me] && inbox[me] ->
                busy++
            }
            drain(me);
            give_back()
        /* plan_pass or sh_span_sweep, then perhaps place */
        :: atomic {
                !idle[me] && ANY(MY) ->
                choose_span(SET(MY));
                busy++
            }
            take();
            place();
            give_back()
        /* condemn and resume: a span of any owner */
        :: atomic {
                busy == 0 && ANY(CONDEMNABLE) ->
                choose_span(SET(CONDEMNABLE));
                busy++;
#ifndef PLANT_RELEASE_AND_LOOK
                queued[s] = 1;
#endif
                live[s] = 0;
                freed[s] = CELLS;
                alive[s] = 0;
                remote[s] = 0;
                dying[s] = 1;
                dead = BIT(s);
                s = 0
            }
            give_back()
#ifdef PLANT_TAKE_IDLE_UNLOCKED
        /* sh_cache_new */
        :: idle[me] = 0
#endif
        /* Under the shared lock */
        :: atomic {
                !shared_lock ->
                shared_lock = 1;
                locked = true;
                busy++
            }
            if
            /* sh_cache_retire, sh_cache_new */
            :: idle[me] = 1 - idle[me]
            /* dissolve */
            :: atomic {
                    idle[0] || idle[1] ->
                    dissolves = true;
                    choose_from();
                    dissolves = false
                }
                drain(from);
                leave_spans();
#ifndef PLANT_DISSOLVE_AND_FORGET
                pass_on(from);
                deliver()
#endif
            /* adopt_from */
            :: choose_from();
                drain(from);
                if
                :: atomic {
                        !idle[me] && ANY(ADOPTABLE) ->
                        choose_span(SET(ADOPTABLE));
#ifdef PLANT_CLEAR_AT_ADOPTION
                        queued[s] = 0;
#endif
                        assert(MINE(s));
                        owner[s] = me /* change_owner */
                    }
#ifndef PLANT_ADOPT_AND_FORGET
                    pass_on(from);
                    deliver()
#endif
                :: else
                fi
            fi;
            atomic {
                from = 0;
                locked = false;
                shared_lock = 0
            }
            give_back()
        fi
    od
}

init {
    atomic {
        run owning(0);
#if OWNING > 1
        run owning(1)
#endif
    }
}
