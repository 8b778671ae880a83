/* SPDX-License-Identifier: MIT */
/*
 * Spans that change their owner: threads that end, adopt and are born, descriptors and
 * cache records that live again, while others free: heaps/remote.h with the slow paths
 * of heaps/cache.c and with heaps/collect.c's condemned spans. What happens to bits and
 * counts within a span is remote.pml's.
 *
 * SPANS descriptors of two cells in one word; OWNING cache records, each of a thread that
 * lives, retires and is followed by another, for ever; FREEING threads that only free. A
 * collection may come whenever the threads with a cache are between two operations; it
 * does not wait for the others, which stand for threads without a record too.
 *
 * Steps. Each access to `owner`, `queued`, `remote`, `remote_words`, an inbox or the
 * shared lock is one step: the C code makes it by one sequentially consistent operation
 * on that word. Pushing is a step, the compare-and-swap, and so is taking the whole
 * inbox, the exchange; `inbox_next` is touched only by who has the span's token (set
 * `queued`, or unlinked it). So an inbox is a set here, and I1 is that a span is never
 * put into a set while it is in one. Whoever has taken several spans out of an inbox
 * keeps them in `work`, and delivers them in any order: sh_remote_pass_on inside deliver
 * inside sh_remote_pass_on is one of these orders. `alloc` and a cache's lists are
 * touched by the owner only, which is asserted (MINE). A cache's lists are the spans
 * that it owns and that are not dying. Whether a span that became empty is current, and
 * so is kept, is left open.
 *
 * Always:
 *   - a span is in no inbox twice (I1);
 *   - when nobody is in the middle of anything, a span that somebody owns with remote
 *     bits is queued, and a queued span is in its owner's inbox (I2); a descriptor that
 *     nobody uses is in no inbox;
 *   - a live cell looks live: no free is taken for a double free, and a cell is not
 *     handed out twice; a freed one looks dead;
 *   - a span is released once, and only its owner touches it;
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
#define SHARED 2
#define NOBODY 3
#define BIT(i) (1 << (i))

/* Of a descriptor. */
byte owner[SPANS] = NOBODY;
byte alloc[SPANS], remote[SPANS];
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
bit shared_lock;
byte inside; /* threads in sh_remote_free */
byte busy;   /* threads with a cache in an operation */

#define LIVE(s) (live[s] != 0)
#define IN_INBOX(s) (((inbox[0] | inbox[1] | inbox[SHARED]) >> (s)) & 1)
#define LOOKS_LIVE(s) (alloc[s] & ~remote[s])
#define ALIVE(s) (((live[s] | picked[s]) & ~LOOKS_LIVE(s)) == 0)
#define DEAD(s) ((freed[s] & LOOKS_LIVE(s)) == 0)
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

/* sh_remote_free */
active [FREEING] proctype freeing()
{
    byte s, c, to, work;
    bool first;
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
        /* or_remote */
        atomic {
            inside++;
            assert(!(remote[s] & c));
            first = remote[s] == 0;
            remote[s] = remote[s] | c;
            picked[s] = picked[s] & ~c;
            freed[s] = freed[s] | c;
            c = 0;
            SEE(s)
        }
        /* name_word */
        if
        :: atomic {
                first ->
                first = false;
                remote_words[s] = 1
            }
        :: else
        fi;
        /* notify */
        if
        :: queued[s] -> goto done
        :: !queued[s]
        fi;
        if
        :: !remote_words[s] -> goto done
        :: remote_words[s]
        fi;
        atomic {
            if
            :: queued[s] -> goto done
            :: else ->
                queued[s] = 1;
                work = BIT(s)
            fi
        }
        deliver();
done:
        atomic {
            s = 0;
            inside--
        }
    od
}

/* ---- Threads with a cache ---- */

#define UNUSED(s) (unused[s])
#define MY(s) (owner[s] == me && !dying[s])
#define MY_FREE(s) (MY(s) && alloc[s] != CELLS)
#define ADOPTABLE(s) (owner[s] == SHARED && !dying[s])
#define CONDEMNABLE(s) (owner[s] != NOBODY && !dying[s] && !picked[s] && !queued[s])
#define MINE(s) (owner[s] == me || (owner[s] == SHARED && locked))

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
            assert((alloc[s] & remote[s]) == remote[s]);
            alloc[s] = alloc[s] & ~remote[s];
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
        :: alloc[s] == 0 && !queued[s] && !dying[s] ->
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
            assert((live[s] | picked[s]) == 0);
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

/* leave_span, of each that the cache owns */
inline leave_spans()
{
    do
    :: atomic {
            ANY(MY) ->
            choose_span(SET(MY));
            owner[s] = SHARED /* change_owner */
        }
        take();
        place()
    :: else -> break
    od
}

/* A record, and the threads whose it is, one after another: a thread that begins brings
 * nothing along, and finds of the life before only the inbox (sh_cache_init). */
proctype owning(byte me)
{
    byte s, to, work, list, dead, c;
    bool locked, ends;

end:
    do
    :: if
        /* use_new: sh_span_new and sh_span_setup; then the owner */
        :: atomic {
                ANY(UNUSED) ->
                choose_span(SET(UNUSED));
                busy++;
                unused[s] = 0;
                remote_words[s] = 0;
                remote[s] = 0;
                alloc[s] = 0;
                freed[s] = CELLS
            }
            atomic {
                owner[s] = me;
                SEEN_BORN;
                s = 0;
                busy--
            }
        /* sh_bin_take */
        :: atomic {
                ANY(MY_FREE) ->
                choose_span(SET(MY_FREE));
                c = (alloc[s] & 1 -> 2 : 1);
                assert(!(remote[s] & c)); /* I3 */
                assert(freed[s] & c);
                alloc[s] = alloc[s] | c;
                freed[s] = freed[s] & ~c;
                live[s] = live[s] | c;
                s = 0;
                c = 0
            }
        /* sh_remote_drain, in use_other */
        :: atomic {
                inbox[me] ->
                busy++
            }
            drain(me);
            give_back()
        /* plan_pass, then perhaps place; or sh_span_sweep, which names all words first,
         * so that the free that has yet to name its word comes late */
        :: atomic {
                ANY(MY) ->
                choose_span(SET(MY));
                busy++;
                if
                :: remote_words[s] = 1
                :: true
                fi
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
                alloc[s] = 0;
                dying[s] = 1;
                dead = BIT(s);
                s = 0
            }
            give_back()
        /* sh_cache_retire and adopt_one, which have much in common */
        :: atomic {
                !shared_lock ->
                shared_lock = 1;
                locked = true;
                busy++;
                if
                :: ends = true
                :: ANY(ADOPTABLE) || inbox[SHARED]
                fi
            }
            if
            :: ends ->
                drain(me);
                leave_spans();
#ifndef PLANT_RETIRE_AND_FORGET
                pass_on(me);
                deliver()
#endif
            :: else
            fi;
            drain(SHARED);
            if
            :: atomic {
                    !ends && ANY(ADOPTABLE) ->
                    choose_span(SET(ADOPTABLE));
#ifdef PLANT_CLEAR_AT_ADOPTION
                    queued[s] = 0;
#endif
                    owner[s] = me /* change_owner */
                }
#ifndef PLANT_ADOPT_AND_FORGET
                pass_on(SHARED);
                deliver()
#endif
            :: else
            fi;
            atomic {
                ends = false;
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
