/* SPDX-License-Identifier: MIT */
/*
 * The program's hook beside links: heaps/weak_table.h, 1 to 5.
 *
 * One cell, in a span without records at first. HOOKERS threads call gc_weakref_mark for
 * it; one links it, for the first time in its span, and unlinks it again, or not, TIMES
 * times; one takes its hook, under the callbacks' lock; one frees it (or what that does to
 * links and the hook), under that of weak references. HOOKED: it was hooked before.
 *
 * Steps. Each access to the weak bit or to the span's records is one step, in which a
 * read-modify-write tells what was there. What is in the record is the lock's alone.
 * Sequentially consistent: the C code orders no more than the weak bit and the records,
 * by a release and an acquire.
 *
 * Always: what is in the record has its weak bit, where the lock is free. In the end a
 * hook is there, or was taken; where nobody hooks meanwhile, by one only.
 *
 * PLANT_... are mistakes that have to be found.
 */
#ifndef HOOKERS
#define HOOKERS 1
#endif

#ifndef HOOKED
#define HOOKED 0
#endif

#ifndef TIMES
#define TIMES 2
#endif

bit weak = HOOKED; /* the cell's bit */
bit records;       /* the span has some */
bit entered, hooked;
bit callback_lock, weak_lock;
byte taken, running;

#define IS_HOOKED (weak && (!entered || hooked))

inline lock(which)
{
    atomic {
        !which ->
        which = 1
    }
}

inline unlock_weak()
{
    atomic {
        assert(weak || !entered);
        assert(entered || !hooked);
        weak_lock = 0
    }
}

/* sh_weak_clear_hooked */
inline clear_hooked()
{
    if
    :: entered ->
        taken = taken + hooked;
        hooked = 0
    :: else ->
#ifdef PLANT_LOOK_THEN_CLEAR
        was = weak;
        weak = 0;
#else
        atomic {
            was = weak;
            weak = 0
        }
#endif
        taken = taken + was
    fi
}

/* It is in the record no longer. */
inline leave_record()
{
    entered = 0;
    if
#ifndef PLANT_LEAVE_UNASKED
    :: hooked -> hooked = 0
#endif
    :: else ->
        weak = 0;
        hooked = 0
    fi
}

/* sh_weak_hook */
proctype hooker()
{
    if
    :: records -> goto ask
    :: else
    fi;
    weak = 1;
#ifdef PLANT_HOOK_AND_GO
    goto over;
#endif
    if
    :: !records -> goto over
    :: else
    fi;
ask:
    lock(weak_lock);
    if
    :: entered -> hooked = 1
    :: else -> weak = 1
    fi;
    unlock_weak();
over:
    running--
}

proctype linker()
{
    byte i;
    bit was;
    /* sh_weak_link_prepare */
#ifndef PLANT_MAKE_UNDER_ONE
    lock(callback_lock);
#endif
    lock(weak_lock);
    records = 1;
    unlock_weak();
#ifndef PLANT_MAKE_UNDER_ONE
    callback_lock = 0;
#endif
    do
    :: i < TIMES ->
        lock(weak_lock);
        /* enter() */
        atomic {
            was = weak;
            weak = 1
        }
#ifndef PLANT_ENTER_UNASKED
        hooked = was;
#endif
        entered = 1;
        unlock_weak();
        if
        :: lock(weak_lock);
            if
            :: entered -> leave_record()
            :: else
            fi;
            unlock_weak()
        :: goto over
        fi;
        i++
    :: else -> break
    od;
over:
    running--
}

/* sh_weak_unhook */
proctype taker()
{
    bit was;
    lock(callback_lock);
    if
#ifndef PLANT_TAKE_UNASKED
    :: records ->
        lock(weak_lock);
        clear_hooked();
        unlock_weak()
#endif
    :: else -> clear_hooked()
    fi;
    callback_lock = 0;
    running--
}

/* sh_weak_freed */
proctype freer()
{
    bit was;
    lock(weak_lock);
    if
    :: entered -> leave_record()
    :: else
    fi;
    clear_hooked();
    unlock_weak();
    running--
}

init {
    byte i;
    atomic {
        running = 3 + HOOKERS;
        do
        :: i < HOOKERS ->
            run hooker();
            i++
        :: else -> break
        od;
        run linker();
        run taker();
        run freer()
    }
    running == 0;
    assert(taken + IS_HOOKED >= (HOOKED || HOOKERS));
    assert(HOOKERS || taken + IS_HOOKED <= 1)
}
