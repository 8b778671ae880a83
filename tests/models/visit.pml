/* SPDX-License-Identifier: MIT */
/*
 * Visits to the cache of a thread that seems idle: sh_cache_enter and _leave in
 * heaps/cache.h, heaps/reclaim.c.
 *
 * One thread with a cache, for ever entering and leaving it, or idle; VISITORS others,
 * which come one at a time under the shared lock and leave without it.
 *
 * Steps. What the thread stores goes through a buffer, in order, to be seen by others at
 * any later time, and its loads do not wait for that: so it is on the processors that
 * promise most, and a release store, on others, does no less. A compare-and-swap waits
 * until the buffer is empty. The visitors' accesses are each one step, all sequentially
 * consistent; their fence has the thread's buffer emptied. sh_os_wait compares and falls
 * asleep in one step, as the kernel does.
 *
 * Always: what the thread changes inside, `lists`, is whole and nobody else's while a
 * visitor is there, and the other way round. A thread that waits is woken: whoever waits
 * does so while the others may all idle, so that all would come to stand, which is found
 * as an invalid end state.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef VISITORS
#define VISITORS 2
#endif

#define NO_VISITOR 0
#define VISITED 1
#define WAITED_FOR 2

mtype = {BUSY, LISTS};

chan buffer = [4] of {mtype, bit};
bit busy, lists; /* as others see them; lists: half-way through a change */
bit inside;      /* the thread, by its own account */
byte visited, visiting;
bit asleep, shared_lock;

#define EXCLUSIVE (!visiting || (!inside && !lists && visiting == 1))

active proctype invariants()
{
end:
    do
    :: !EXCLUSIVE -> assert(EXCLUSIVE)
    od
}

/* What was stored comes to be seen. */
inline see_one()
{
    if
    :: buffer?BUSY(seen_bit) -> busy = seen_bit
    :: buffer?LISTS(seen_bit) -> lists = seen_bit
    fi;
    seen_bit = 0
}

active proctype memory()
{
    bit seen_bit;
end:
    do
    :: atomic {
            nempty(buffer) ->
            see_one()
        }
    od
}

active proctype thread()
{
    byte seen;
end:
    do
    :: buffer!BUSY(1);
again:
        /* Nothing keeps this load behind that store. */
        seen = visited;
#ifndef PLANT_COME_IN_UNASKED
        if
        :: seen != NO_VISITOR ->
            /* sh_cache_await_visitor */
            buffer!BUSY(0);
            seen = visited;
            if
            :: seen == VISITED ->
                atomic {
                    empty(buffer) ->
                    if
                    :: visited == VISITED -> visited = WAITED_FOR
                    :: else
                    fi
                }
            :: else
            fi;
#ifdef PLANT_SLEEP_UNCOMPARED
            asleep = 1;
#else
            asleep = (visited == WAITED_FOR);
#endif
            !asleep;
            buffer!BUSY(1);
            goto again
        :: else
        fi;
#endif
        atomic {
            inside = 1;
            seen = 0
        }
        buffer!LISTS(1);
        inside = 0;
#ifdef PLANT_LEAVE_EARLY
        buffer!BUSY(0);
        buffer!LISTS(0)
#else
        buffer!LISTS(0);
        buffer!BUSY(0)
#endif
    od
}

proctype visitor()
{
    bit seen_bit;
    do
    :: break /* comes no more */
    :: atomic {
            !shared_lock ->
            shared_lock = 1
        }
        if
        :: visited == NO_VISITOR
#ifdef PLANT_NOT_ONE_AT_A_TIME
        :: true
#endif
        :: else -> goto unlock
        fi;
        visited = VISITED;
#ifndef PLANT_NO_FENCE
        atomic {
            do
            :: nempty(buffer) -> see_one()
            :: empty(buffer) -> break
            od
        }
#endif
        if
        :: !busy ->
            visiting++;
            shared_lock = 0;
            visiting--;
            goto leave
        :: busy
#ifdef PLANT_STAY_ANYHOW
            -> visiting++;
            visiting--
#endif
        fi;
        shared_lock = 0;
leave:
        /* sh_cache_end_visit: an exchange, then a wake */
        atomic {
            seen_bit = (visited == WAITED_FOR);
            visited = NO_VISITOR
        }
        if
#ifdef PLANT_WAKE_NOBODY
        :: seen_bit -> seen_bit = 0
#else
        :: seen_bit ->
            asleep = 0;
            seen_bit = 0
#endif
        :: else
        fi;
        goto over;
unlock:
        shared_lock = 0;
over:
        skip
    od
}

init {
    byte i;
    atomic {
        do
        :: i < VISITORS ->
            run visitor();
            i++
        :: else -> break
        od
    }
}
