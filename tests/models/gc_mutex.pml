/* SPDX-License-Identifier: MIT */
/*
 * The GC mutex: threads/gc_mutex.c.
 *
 * THREADS threads, each for ever inside gc_lock (or a fork, which takes the mutex in the
 * same way), or collecting, or trying to; or idle.
 *
 * Steps. Each access to the word is one step: a load, or a compare-and-swap, which the
 * C code makes by one sequentially consistent operation. sh_os_wait compares and falls
 * asleep in one step, as the kernel does; a wake is a step of its own. The nesting is
 * each thread's own and not here; nor is that who sleeps counts as stopped, which is
 * stop.pml's BLOCKING.
 *
 * Always: one thread collects and none is inside gc_lock, or none collects. A wake is
 * never lost: whoever waits does so while the others may all idle, so that all would
 * come to stand, which is found as an invalid end state.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef THREADS
#define THREADS 3
#endif

#define COUNT 3
#define WAITED_FOR 4
#define COLLECTING 8

byte word;
bit asleep[THREADS];
byte inside, alone;

#define EXCLUSIVE (alone == 0 || (alone == 1 && inside == 0))

/* Sleeps while the word is `seen`; leaves it anew in `seen`. */
inline sleep_on()
{
    if
    :: seen & WAITED_FOR -> goto sleep
    :: else ->
#ifdef PLANT_SLEEP_UNTOLD
        goto sleep
#else
        atomic {
            if
            :: word == seen ->
                word = seen | WAITED_FOR;
                seen = seen | WAITED_FOR;
                goto sleep
            :: else -> seen = word
            fi
        }
#endif
    fi;
    goto awake;
sleep:
    asleep[_pid] = (word == seen);
    !asleep[_pid];
    seen = word;
awake:
    skip
}

inline share()
{
    seen = word;
    do
    :: seen & COLLECTING -> sleep_on()
    :: else ->
        atomic {
            if
            :: word == seen ->
#ifdef PLANT_SHARE_FORGETS_WAITERS
                word = (seen + 1) & ~WAITED_FOR;
#else
                word = seen + 1;
#endif
                assert((word & COUNT) != 0);
                inside++;
                assert(EXCLUSIVE);
                seen = 0;
                break
            :: else -> seen = word
            fi
        }
    od
}

inline wake_all()
{
    atomic {
        asleep[0] = 0;
        asleep[1] = 0;
        asleep[2] = 0
    }
}

inline give_up(what)
{
    seen = word;
    do
    :: atomic {
            word == seen ->
            word = seen - what;
            if
            :: (word & COUNT) == 0 -> word = word & ~WAITED_FOR
            :: else
            fi;
            if
            :: what == COLLECTING -> alone--
            :: else -> inside--
            fi;
            wake = (seen & WAITED_FOR) && !(word & WAITED_FOR);
            seen = 0;
            break
        }
    :: atomic {
            word != seen ->
            seen = word
        }
    od;
    if
    :: wake ->
        wake = false;
#ifdef PLANT_WAKE_ONE
        if
        :: asleep[0] -> asleep[0] = 0
        :: asleep[1] -> asleep[1] = 0
        :: asleep[2] -> asleep[2] = 0
        :: !asleep[0] && !asleep[1] && !asleep[2]
        fi
#else
        wake_all()
#endif
    :: else
    fi
}

/* sh_gc_mutex_attempt: `obstacle` is 0, COLLECTING or COUNT. */
inline attempt()
{
    seen = word;
    do
    :: seen & COLLECTING ->
        obstacle = COLLECTING;
        break
    :: !(seen & COLLECTING) && (seen & COUNT) ->
        obstacle = COUNT;
        break
    :: else ->
        atomic {
            if
            :: word == seen ->
                word = seen | COLLECTING;
                alone++;
                assert(EXCLUSIVE);
                seen = 0;
                obstacle = 0;
                break
            :: else -> seen = word
            fi
        }
    od
}

/* sh_gc_mutex_await */
inline await()
{
    seen = word;
    do
    :: seen & obstacle -> sleep_on()
    :: else ->
        seen = 0;
        break
    od
}

active [THREADS] proctype thread()
{
    byte seen, obstacle;
    bool wake;

    do
    :: true ->
end:
        false /* idle from here on */
    /* gc_lock, gc_unlock; fork's prepare and parent */
    :: share();
        give_up(1)
    /* sh_gc_mutex_collect_begin */
    :: do
        :: attempt();
            if
            :: obstacle == 0 -> break
            :: else -> await()
            fi
        od;
        give_up(COLLECTING)
    /* sh_gc_mutex_collect_try */
    :: attempt();
        if
        :: obstacle == 0 -> give_up(COLLECTING)
        :: obstacle == COLLECTING -> await()
        :: obstacle == COUNT
        fi;
        atomic {
            obstacle = 0;
            seen = 0
        }
    od
}
