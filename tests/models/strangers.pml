/* SPDX-License-Identifier: MIT */
/*
 * Threads that nobody announced: threads/strangers.c with the handler in threads/stop.c,
 * and how such a thread registers and leaves in threads/registry.c.
 *
 * THREADS threads run, register and leave, enter critical sections before and after that,
 * block all signals and sleep, make the next thread, and end. A collector stops the world
 * and lets it go, any number of times: the registered threads first, then in rounds those
 * that the kernel lists and that are not registered.
 *
 * Steps are as in stop.pml, where the waits and the signal's delivery are modelled in all
 * detail. Here a wait is a guard; what is looked at is the two records that a thread may
 * have one after the other, or at once: that of the registry (`asked`), and that of a
 * stranger (`state`, while `known`), which stays when its thread registers.
 *
 * Always, from the last look until the world resumes:
 *   - no code of the program's runs (RUNS) but in threads that are left out: GONE, after
 *     their end, or asleep with the signal blocked when they were asked;
 *   - a stranger that is HELD in a critical section does not leave that;
 *   - pending is 0.
 * And nobody waits for ever: threads may sleep at any time, blocking signals or not, and
 * the collector may cease to collect; what then stands is found as an invalid end state.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef ENTRIES
#define ENTRIES 2 /* critical sections, registrations and the like of each thread */
#endif

#define RUNNING 0
#define WANTED 1
#define PARKED 2
#define BLOCKING 3
#define HELD 4
#define GONE 5

bit born[THREADS], alive[THREADS];
bit registered[THREADS]; /* in the list, and sh_tls.self */
byte asked[THREADS];     /* the state of that record */
bit known[THREADS];      /* has a stranger's record */
byte state[THREADS];     /* of that */
bit signal[THREADS], blocked[THREADS], sleeps[THREADS];
bit critical[THREADS], left[THREADS], in_handler[THREADS];
byte pending;
bit registry_lock, stopped;

#define LEFT_OUT(t) (known[t] && state[t] == GONE || left[t])
#define RUNS assert(!stopped || LEFT_OUT(me))

/* ---- In a thread ---- */

/* park, of either record */
inline park(record)
{
    do
    :: atomic {
            record == WANTED ->
            record = PARKED
        }
        pending--;
        record != PARKED
    :: atomic {
            record != WANTED ->
            break
        }
    od
}

inline stand_still()
{
    do
    :: state[me] == WANTED -> park(state[me])
    :: state[me] == HELD -> state[me] != HELD
    :: state[me] == GONE -> state[me] != GONE
    :: state[me] == RUNNING -> break
    od
}

inline stand_as_gone()
{
    if
    :: atomic {
            state[me] == WANTED ->
            state[me] = GONE
        }
        pending--
    :: atomic {
            state[me] != WANTED
        }
    fi
}

inline stand_in_section()
{
    stop_wanted = 1;
    stranger = 1;
#ifndef PLANT_WAIT_IN_SECTION
    if
    :: atomic {
            state[me] == WANTED ->
            state[me] = HELD
        }
        pending--
    :: atomic {
            state[me] != WANTED
        }
    fi
#endif
}

/* on_signal, all signals blocked */
inline handle()
{
    atomic {
        signal[me] && !blocked[me] ->
        signal[me] = 0
    }
    if
    :: registered[me] && critical[me] -> stop_wanted = 1
    :: registered[me] && !critical[me] -> park(asked[me])
    :: !registered[me] && known[me] ->
        in_handler[me] = 1;
        if
        :: left[me] -> stand_as_gone()
        :: !left[me] && critical[me] -> stand_in_section()
        :: !left[me] && !critical[me] -> stand_still()
        fi;
        in_handler[me] = 0
    :: !registered[me] && !known[me]
    fi
}

inline may_be_signalled()
{
    if
    :: handle()
    :: true
    fi
}

/* sh_critical_leave, and sh_stop_park_self */
inline leave_critical()
{
    assert(!stopped || registered[me] || !known[me] || state[me] != PARKED);
    critical[me] = 0;
    may_be_signalled();
    if
    :: stop_wanted ->
        stop_wanted = 0;
        may_be_signalled();
        if
        :: registered[me] -> park(asked[me])
        :: !registered[me] ->
            if
#ifndef PLANT_GO_ON
            :: stranger && known[me] ->
                stranger = 0;
                stand_still()
            :: !(stranger && known[me]) -> stranger = 0
#else
            :: stranger = 0
#endif
            fi
        fi
    :: !stop_wanted
    fi
}

/* The registry's lock, by a thread inside a critical section. */
inline lock_registry()
{
    do
    :: handle()
    :: atomic {
            !registry_lock ->
            registry_lock = 1;
            break
        }
    od
}

inline block()
{
    do
    :: atomic {
            asked[me] == RUNNING ->
            asked[me] = BLOCKING;
            break
        }
    :: atomic {
            asked[me] != RUNNING ->
            assert(asked[me] == WANTED)
        }
        park(asked[me])
    od
}

proctype thread(byte me)
{
    bit stop_wanted, stranger;
    byte entries = ENTRIES;

end_unborn:
    alive[me];
    do
    :: handle()
    :: atomic {
            !signal[me] || blocked[me] ->
            RUNS
        }
    :: atomic {
            !signal[me] ->
            RUNS;
            sleeps[me] = 1
        }
end_idle:
        atomic {
            signal[me] ->
            sleeps[me] = 0
        }
    /* It blocks the signal, and sleeps for as long as it likes. */
    :: atomic {
            entries > 0 && !registered[me] ->
            RUNS;
            entries--;
            blocked[me] = 1
        }
        if
        :: sleeps[me] = 1;
            if
            :: sleeps[me] = 0
            :: true ->
end_asleep:
                false
            fi
        :: true
        fi;
        atomic {
            RUNS;
            blocked[me] = 0
        }
    /* It makes a thread by hand. */
    :: atomic {
            entries > 0 && me + 1 < THREADS && !born[me + 1] && !left[me] &&
                !signal[me] ->
            RUNS;
            entries--;
            born[me + 1] = 1;
            alive[me + 1] = 1
        }
    /* A critical section, as of who makes a thread before it is registered. */
    :: atomic {
            entries > 0 && !registered[me] && !signal[me] ->
            RUNS;
            entries--;
            critical[me] = 1
        }
        may_be_signalled();
        leave_critical()
    /* sh_thread_enter */
    :: atomic {
            entries > 0 && !registered[me] && !signal[me] ->
            RUNS;
            entries--;
            critical[me] = 1
        }
        lock_registry();
        asked[me] = RUNNING;
        atomic {
            registered[me] = 1;
            left[me] = 0 /* in C a little later; nobody asks of who is registered */
        }
        may_be_signalled();
        registry_lock = 0;
        leave_critical()
    /* sh_thread_leave; lock_as_blocking */
    :: atomic {
            registered[me] && !signal[me] ->
            RUNS
        }
        block();
        critical[me] = 1;
        lock_registry();
        assert(asked[me] == BLOCKING);
        asked[me] = RUNNING;
        may_be_signalled();
        registered[me] = 0;
        registry_lock = 0;
        leave_critical();
        may_be_signalled();
        left[me] = 1
    :: atomic {
            left[me] || (!registered[me] && !signal[me]) ->
            RUNS;
            break
        }
    od;
    alive[me] = 0
}

/* ---- The collector ---- */

#define DEAF(t) (signal[t] && blocked[t] && sleeps[t] && !in_handler[t])

inline give_up(t)
{
    if
    :: atomic {
            state[t] == WANTED ->
            state[t] = GONE
        }
        pending--
    :: atomic {
            state[t] != WANTED
        }
    fi
}

inline ask_registered(t)
{
    if
    :: registered[t] ->
        pending++;
        if
        :: atomic {
                asked[t] == RUNNING ->
                asked[t] = WANTED
            }
            signal[t] = 1
        :: atomic {
                asked[t] == BLOCKING ->
                asked[t] = HELD
            }
            pending--
        fi
    :: !registered[t]
    fi
}

/* Who is not registered and listed gets a record, where it has none, but for one that
 * said that it is about to end; who is registered, or no more, loses it. */
inline look(t)
{
    if
    :: alive[t] && !registered[t] && !known[t] && !left[t] ->
        state[t] = RUNNING;
        known[t] = 1
    :: alive[t] && !registered[t] && !known[t] && left[t]
    :: alive[t] && !registered[t] && known[t]
    :: atomic {
            !alive[t] || registered[t] ->
            known[t] = 0
        }
    fi
}

inline ask_stranger(t)
{
    if
    :: known[t] && state[t] == RUNNING ->
        any = 1;
        pending++;
        state[t] = WANTED;
        signal[t] = 1
    :: !(known[t] && state[t] == RUNNING)
    fi
}

inline await_answers()
{
    do
    :: pending == 0 -> break
    :: known[0] && state[0] == WANTED && !alive[0] -> give_up(0)
#ifndef PLANT_WAIT_FOR_THE_DEAF
    :: known[0] && state[0] == WANTED && DEAF(0) -> give_up(0)
#endif
#if THREADS > 1
    :: known[1] && state[1] == WANTED && !alive[1] -> give_up(1)
#ifndef PLANT_WAIT_FOR_THE_DEAF
    :: known[1] && state[1] == WANTED && DEAF(1) -> give_up(1)
#endif
#endif
    od
}

inline let_go(t)
{
    if
    :: registered[t] && asked[t] == PARKED -> asked[t] = RUNNING
    :: registered[t] && asked[t] == HELD -> asked[t] = BLOCKING
    :: registered[t] && asked[t] != PARKED && asked[t] != HELD
    :: !registered[t]
    fi;
#ifndef PLANT_KEEP_STRANGERS
    if
    :: known[t] && state[t] != RUNNING -> state[t] = RUNNING
    :: !(known[t] && state[t] != RUNNING)
    fi
#endif
}

#define STANDS(t) (!alive[t] || LEFT_OUT(t) || \
    (registered[t] && (asked[t] == PARKED || asked[t] == HELD)) || \
    (!registered[t] && known[t] && (state[t] == PARKED || state[t] == HELD)))

proctype collector()
{
    bit any;

    do
    :: true ->
end:
        false /* collects no more */
    :: atomic {
            !registry_lock ->
            registry_lock = 1
        }
        assert(pending == 0);
        ask_registered(0);
#if THREADS > 1
        ask_registered(1);
#endif
        pending == 0;
        do
        :: look(0);
#if THREADS > 1
            look(1);
#endif
            any = 0;
            ask_stranger(0);
#if THREADS > 1
            ask_stranger(1);
#endif
            if
            :: !any -> break
            :: any
            fi;
            await_answers();
#ifdef PLANT_LOOK_ONCE
            break
#endif
        od;
        atomic {
            stopped = 1;
            assert(pending == 0);
            assert(STANDS(0));
#if THREADS > 1
            assert(STANDS(1))
#endif
        }
        atomic {
            assert(pending == 0);
            stopped = 0
        }
        let_go(0);
#if THREADS > 1
        let_go(1);
#endif
        registry_lock = 0
    od
}

init {
    atomic {
        alive[0] = 1;
        run collector();
        run thread(0);
#if THREADS > 1
        run thread(1)
#endif
    }
}
