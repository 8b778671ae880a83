/* SPDX-License-Identifier: MIT */
/*
 * The gang: threads/gang.c.
 *
 * The caller opens JOBS jobs, one after the other, does its part and closes each;
 * HELPERS helpers sleep, join and leave.
 *
 * Steps. Each access to `call` and to `doors` is one step, as in the C code, where each is
 * one atomic operation; sh_os_wait compares and falls asleep in one step, as the kernel
 * does, and a wake is a step of its own. What the doors order (job and context are set
 * before they open, and what helpers did comes before close returns) is asserted by the
 * number of the job that is written before, and by who is inside.
 *
 * Always: a helper is inside an open job, or one that its caller still waits for, and
 * works on the job of now. Nobody sleeps for ever while the other waits for him, which
 * would be an invalid end state: in the end the helpers sleep, and the caller is done.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef HELPERS
#define HELPERS 2
#endif
#ifndef JOBS
#define JOBS 3
#endif

#define OPEN 8

byte call, doors, job;
byte working;               /* helpers between joining and leaving */
bool caller_asleep;
bool asleep[HELPERS];
bool at_work;               /* the caller lets helpers in or waits for them */

active proctype caller()
{
    byte n, i, seen;

    do
    :: n == JOBS -> break
    :: else ->
        n++;
#ifndef PLANT_JOB_AFTER_DOORS
        job = n;
#endif
        at_work = true;
        doors = OPEN;
#ifdef PLANT_JOB_AFTER_DOORS
        job = n;
#endif
        call++;
        /* Wakes some, or all, or, where it wants none, nobody. */
        i = 0;
        do
        :: i == HELPERS -> break
        :: else ->
            if
            :: asleep[i] = false
            :: skip
            fi;
            i++
        od;
        /* Its own part; then close. */
#ifdef PLANT_CLOSE_FORGETS
        doors = 0;
#else
        doors = doors & 7;
#endif
        do
        :: doors == 0 -> break
        :: seen = doors;
            if
            :: seen == 0 -> break
            :: else
            fi;
            atomic {
                if
                :: doors == seen -> caller_asleep = true
                :: else
                fi
            }
            !caller_asleep
        od;
        at_work = false;
        assert(working == 0)
    od;
end_caller:
    skip
}

active [HELPERS] proctype helper()
{
    byte seen, now, me = _pid - 1, mine;

    do
    :: now = call;
        if
        :: now == seen ->
            atomic {
                if
                :: call == seen -> asleep[me] = true
                :: else
                fi
            }
end_helper:
            !asleep[me]
        :: else ->
            seen = now;
            now = doors;
            do
            :: !(now & OPEN) -> break
            :: else ->
#ifdef PLANT_JOIN_UNASKED
                d_step {
                    now = doors; doors = now + 1; working++
                }
                goto inside;
#else
                d_step {
                    if
                    :: doors == now -> doors = now + 1; working++; now = 255
                    :: else -> now = doors
                    fi
                }
                if
                :: now == 255 -> goto inside
                :: else
                fi
#endif
            od;
            goto out;
inside:
            assert(at_work);
            mine = job;
            assert(mine == job && at_work);
            d_step {
                working--;
                doors--;
                now = doors
            }
#ifndef PLANT_LEAVE_SILENT
            if
            :: now == 0 -> caller_asleep = false
            :: else
            fi;
#endif
out:
            skip
        fi
    od
}
