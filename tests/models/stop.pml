/* SPDX-License-Identifier: MIT */
/*
 * Stopping the world: threads/stop.c, with threads/thread.h's critical sections and with
 * how threads come and go in threads/registry.c.
 *
 * A collector stops the world and lets it go, any number of times; it stands for whoever
 * holds the GC mutex for collecting. THREADS threads run, enter critical sections, in
 * which they take a lock that they share, block, leave the registry and come back.
 *
 * Steps. Each access to `state`, `generation`, `pending` or a lock is one step, as in
 * the C code, where it is one atomic operation. Waiting on a word (sh_os_wait) compares
 * and falls asleep in one step, as the kernel does; a wake is a step of its own. What a
 * thread keeps to itself (`critical`, `stop_wanted`) only its own handler sees besides:
 * so the handler may run (`may_be_signalled`) between any two accesses to these, and
 * whether the thread is in a critical section is known from where that is. It cannot
 * run where the C code has signals blocked. A signal that is pending is delivered at
 * some time, for a thread that idles waits for one. LATE signals come for no reason:
 * they were sent again, or belong to an earlier stop.
 *
 * With GONE a thread may vanish outside critical sections, without leaving the registry.
 * With TAKE_BACK the collector's patience may be over at any time: it takes the stop back.
 *
 * Always, when sh_world_stop returns, until sh_world_resume:
 *   - every registered thread is PARKED, HELD or GONE, executes no code of the program's
 *     (RUNS), and is in no critical section; no lock is held;
 *   - the place that it published is where it stands;
 *   - pending is 0.
 * And nobody waits for ever: every thread may idle at any time, and the collector may
 * cease to collect; so if one waited for something that nobody else has to do, all would
 * come to stand, which is found as an invalid end state.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef LATE
#define LATE 1
#endif

#define RUNNING 0
#define WANTED 1
#define PARKED 2
#define BLOCKING 3
#define HELD 4
#define GONE_STATE 5

/* Where a thread stands that is stopped. */
#define NOWHERE 0
#define IN_HANDLER 1 /* or where a critical section ended */
#define IN_BLOCKING 2
#define BELOW_BLOCKING 3 /* in gc_blocking_begin, which found it WANTED */

byte state[THREADS], published[THREADS];
byte pending;
bit raised[THREADS]; /* generation, since the thread read it: it never wraps here */
bit asleep[THREADS], collector_asleep;
bit signal[THREADS]; /* pending in the kernel */
bit registered[THREADS] = 1;
bit registry_lock, lock;

byte stands[THREADS];
bit critical[THREADS]; /* inside one, past the wait for the registry's lock */
bit vanished[THREADS];
bit stopped;
byte late = LATE;

#define RUNS assert(!stopped || !registered[me])

/* ---- In the stopped thread ---- */

inline answer()
{
    atomic {
        pending--;
        last = (pending == 0)
    }
    if
    :: last ->
        atomic {
            collector_asleep = 0;
            last = 0
        }
    :: else
    fi
}

inline wait_while(what)
{
    do
    :: raised[me] = 0;
#ifdef PLANT_WAIT_FOR_GENERATION
        raised[me];
        break
#endif
        if
        :: state[me] != what -> break
        :: state[me] == what
        fi;
        atomic {
            asleep[me] = !raised[me];
            raised[me] = 0
        }
        !asleep[me]
    od;
    raised[me] = 0
}

inline park(place)
{
    do
    :: atomic {
            state[me] == WANTED ->
            state[me] = PARKED;
            was = stands[me];
            stands[me] = place
        }
#ifdef PLANT_ANSWER_FIRST
        answer();
        published[me] = place;
#else
        published[me] = place;
        answer();
#endif
        wait_while(PARKED);
        atomic {
            stands[me] = was;
            published[me] = NOWHERE;
            was = 0
        }
    :: state[me] != WANTED -> break
    od
}

/* on_signal, all signals blocked */
inline handle()
{
    atomic {
        signal[me] ->
        signal[me] = 0
    }
    if
    :: !registered[me]
    :: else -> park(IN_HANDLER)
    fi
}

inline may_be_signalled()
{
    if
    :: handle()
    :: true
    fi
}

/* The same within a critical section. */
inline may_be_signalled_inside()
{
    if
    :: atomic {
            signal[me] ->
            signal[me] = 0;
            stop_wanted = registered[me]
        }
    :: true
    fi
}

/* The end of sh_critical_leave, and sh_stop_park_self */
inline leave_critical()
{
#ifdef PLANT_LOOK_BEFORE_LEAVING
    look = stop_wanted;
    may_be_signalled_inside();
    critical[me] = 0;
#else
    critical[me] = 0;
    may_be_signalled();
    look = stop_wanted;
#endif
    if
    :: look ->
        look = 0;
        stop_wanted = 0;
        may_be_signalled();
        /* spill_and_park: signals are blocked */
        if
        :: registered[me] -> park(IN_HANDLER)
        :: else
        fi
    :: else
    fi
}

/* sh_blocking_begin: signals are blocked */
inline become_blocking()
{
    do
    :: atomic {
            stands[me] = IN_BLOCKING;
            published[me] = IN_BLOCKING
        }
#ifdef PLANT_BLOCK_WITH_SIGNALS
        may_be_signalled();
#endif
        if
        :: atomic {
                state[me] == RUNNING ->
                state[me] = BLOCKING;
                break
            }
        :: atomic {
                state[me] != RUNNING ->
                assert(state[me] == WANTED)
            }
#ifdef PLANT_BLOCK_UNASKED
            state[me] = BLOCKING;
            break
#else
            park(BELOW_BLOCKING)
#endif
        fi
    od
}

inline blocking_end()
{
    do
    :: atomic {
            state[me] == BLOCKING ->
            state[me] = RUNNING;
            stands[me] = NOWHERE;
            published[me] = NOWHERE;
            break
        }
    :: atomic {
            state[me] != BLOCKING ->
            assert(state[me] == HELD)
        }
#ifdef PLANT_END_ANYWAY
        state[me] = RUNNING;
        break;
#endif
        wait_while(HELD)
    od
}

proctype thread(byte me)
{
    byte was;
    bit last, look, stop_wanted;

    do
    :: handle()
    /* Idle: computing, or waiting in the kernel, for as long as it likes. */
    :: atomic {
            !signal[me] ->
            RUNS
        }
end_idle:
        handle()
#ifdef GONE
    :: vanished[me] = 1;
        goto end
#endif
    /* A critical section */
    :: atomic {
            !signal[me] && registered[me] ->
            RUNS;
            critical[me] = 1
        }
        may_be_signalled_inside();
        atomic {
            !lock ->
            RUNS;
            lock = 1
        }
        may_be_signalled_inside();
        atomic {
            RUNS;
            lock = 0
        }
        leave_critical()
    /* gc_blocking_begin and _end */
    :: atomic {
            !signal[me] && registered[me] ->
            RUNS
        }
        become_blocking();
        do
        :: atomic {
                signal[me] ->
                signal[me] = 0
            }
            /* on_signal: not WANTED */
            assert(state[me] != WANTED)
        :: true ->
end_blocked:
            /* In the kernel, for as long as it likes */
            if
            :: signal[me]
            fi
        :: break
        od;
        blocking_end();
        RUNS
    /* sh_thread_leave: lock_as_blocking, then the record goes */
    :: atomic {
            !signal[me] && registered[me] ->
            RUNS
        }
#ifdef PLANT_LEAVE_RUNNING
        atomic {
            !registry_lock ->
            registry_lock = 1;
            critical[me] = 1
        }
#else
        become_blocking();
        may_be_signalled_inside();
        atomic {
            !registry_lock ->
            registry_lock = 1;
            critical[me] = 1;
            assert(state[me] == BLOCKING)
        }
        atomic {
            state[me] = RUNNING;
            stands[me] = NOWHERE;
            published[me] = NOWHERE
        }
#endif
        may_be_signalled_inside();
        atomic {
            RUNS;
            registered[me] = 0
        }
        atomic {
            registry_lock = 0
        }
        leave_critical()
    /* sh_thread_enter: new_record, admit */
    :: atomic {
            !signal[me] && !registered[me] ->
            state[me] = RUNNING;
            published[me] = 0
        }
        atomic {
            !registry_lock ->
            registry_lock = 1;
            critical[me] = 1
        }
        registered[me] = 1;
        may_be_signalled_inside();
        atomic {
            RUNS;
            registry_lock = 0
        }
        leave_critical()
    od;
end:
    false
}

/* ---- The collector ---- */

inline give_up(t)
{
    atomic {
        if
        :: state[t] == WANTED ->
            state[t] = GONE_STATE;
            pending--
        :: else
        fi
    }
}

/* ask, and send if it was RUNNING */
inline ask(t)
{
    if
    :: registered[t] ->
        pending++;
        if
        :: atomic {
                state[t] == RUNNING ->
                state[t] = WANTED
            }
            if
            :: vanished[t] -> give_up(t)
            :: else -> signal[t] = 1
            fi
        :: atomic {
                state[t] == BLOCKING ->
                state[t] = HELD
            }
            pending--
        :: state[t] == GONE_STATE ->
            pending--
        fi
    :: else
    fi
}

/* Of take_back: by compare-and-swap. */
inline withdraw(t)
{
    if
#ifdef PLANT_WITHDRAW_UNASKED
    :: registered[t] ->
        state[t] = RUNNING;
        pending--
#else
    :: atomic {
            registered[t] && state[t] == WANTED ->
            state[t] = RUNNING
        }
#ifndef PLANT_WITHDRAW_UNCOUNTED
        pending--
#endif
    :: atomic {
            !registered[t] || state[t] != WANTED
        }
#endif
    fi
}

inline let_go(t)
{
    if
    :: state[t] == PARKED && registered[t] -> state[t] = RUNNING
    :: state[t] == HELD && registered[t] -> state[t] = BLOCKING
    :: else
    fi
}

inline raise_generation()
{
    atomic {
        raised[0] = 1;
#if THREADS > 1
        raised[1] = 1
#endif
    }
    atomic {
        asleep[0] = 0;
#if THREADS > 1
        asleep[1] = 0
#endif
    }
}

#define STANDS(t) (!registered[t] || state[t] == GONE_STATE || \
    ((state[t] == PARKED || state[t] == HELD) && !critical[t] && \
        published[t] == stands[t]))

inline await_no_answer()
{
    do
    :: left = pending;
        if
        :: left == 0 -> break
        :: else
        fi;
        atomic {
            collector_asleep = (pending == left);
            left = 0
        }
        !collector_asleep
    od
}

active proctype collector()
{
    byte left;

    do
    :: true ->
end:
        false /* collects no more */
    /* sh_world_stop */
    :: atomic {
            !registry_lock ->
            registry_lock = 1
        }
        assert(pending == 0);
        pending = 1;
        ask(0);
#if THREADS > 1
        ask(1);
#endif
        pending--;
        /* await_answers */
        do
        :: left = pending;
            if
            :: left == 0 -> break
            :: else
            fi;
            atomic {
                collector_asleep = (pending == left);
                left = 0
            }
            if
            :: !collector_asleep
#ifdef GONE
            /* look_after */
            :: state[0] == WANTED && vanished[0] -> give_up(0)
#if THREADS > 1
            :: state[1] == WANTED && vanished[1] -> give_up(1)
#endif
#endif
            fi
#ifdef TAKE_BACK
        :: pending > 0 -> goto take_back
#endif
        od;
        atomic {
            stopped = 1;
            assert(STANDS(0));
#if THREADS > 1
            assert(STANDS(1));
#endif
            assert(!lock)
        }
        /* It collects. sh_world_resume */
        atomic {
            assert(STANDS(0));
#if THREADS > 1
            assert(STANDS(1));
#endif
            assert(pending == 0);
            stopped = 0
        }
#ifdef TAKE_BACK
        goto resume;
take_back:
        withdraw(0);
#if THREADS > 1
        withdraw(1);
#endif
#ifndef PLANT_TAKE_BACK_AT_ONCE
        await_no_answer();
#endif
resume:
#endif
#ifdef PLANT_RAISE_FIRST
        raise_generation();
#endif
        let_go(0);
#if THREADS > 1
        let_go(1);
#endif
#ifndef PLANT_RAISE_FIRST
        raise_generation();
#endif
        registry_lock = 0
    od
}

active proctype kernel()
{
end:
    do
    :: atomic {
            late > 0 && !signal[0] ->
            late--;
            signal[0] = 1
        }
    od
}

init {
    atomic {
        run thread(0);
#if THREADS > 1
        run thread(1)
#endif
    }
}

#ifdef LIVENESS
/* As long as everybody goes on: a stop that began comes to its end, and who sleeps
 * until the world resumes is woken. */
ltl ends {
    [] ((pending > 0 -> <> stopped) && (asleep[0] -> <> !asleep[0]))
}
#endif
