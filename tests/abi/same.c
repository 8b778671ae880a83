/* SPDX-License-Identifier: MIT */
/*
 * Our header beside the seed's: it compiles only if both declare the same types, of
 * which the structs, being two, are compared member by member.
 */
#include <splitheap/gc.h>

#define _gc_info_t _seed_info_t
#define gc_info_t seed_info_t
#define GC_ALLOC_FLAG_HAS_FINALISER SEED_HAS_FINALISER
#define gc_init seed_init
#define gc_add seed_add
#define gc_get_max_new_split seed_get_max_new_split
#define gc_lock seed_lock
#define gc_unlock seed_unlock
#define gc_is_locked seed_is_locked
#define gc_collect seed_collect
#define gc_collect_start seed_collect_start
#define gc_collect_root seed_collect_root
#define gc_collect_end seed_collect_end
#define gc_sweep_all seed_sweep_all
#define gc_weakref_mark seed_weakref_mark
#define gc_weakref_about_to_be_freed seed_weakref_about_to_be_freed
#define gc_weakref_sweep seed_weakref_sweep
#define gc_alloc seed_alloc
#define gc_free seed_free
#define gc_nbytes seed_nbytes
#define gc_realloc seed_realloc
#define gc_info seed_info
#define gc_dump_info seed_dump_info
#define gc_dump_alloc_table seed_dump_alloc_table
#include "tests/abi/seed.h"
#undef _gc_info_t
#undef gc_info_t
#undef GC_ALLOC_FLAG_HAS_FINALISER
#undef gc_init
#undef gc_add
#undef gc_get_max_new_split
#undef gc_lock
#undef gc_unlock
#undef gc_is_locked
#undef gc_collect
#undef gc_collect_start
#undef gc_collect_root
#undef gc_collect_end
#undef gc_sweep_all
#undef gc_weakref_mark
#undef gc_weakref_about_to_be_freed
#undef gc_weakref_sweep
#undef gc_alloc
#undef gc_free
#undef gc_nbytes
#undef gc_realloc
#undef gc_info
#undef gc_dump_info
#undef gc_dump_alloc_table

#define SAME(one, other)                                                               \
    _Static_assert(__builtin_types_compatible_p(__typeof__(one), __typeof__(other)),   \
        #one " is declared otherwise")

SAME(gc_init, seed_init);
SAME(gc_add, seed_add);
SAME(gc_get_max_new_split, seed_get_max_new_split);
SAME(gc_lock, seed_lock);
SAME(gc_unlock, seed_unlock);
SAME(gc_is_locked, seed_is_locked);
SAME(gc_collect, seed_collect);
SAME(gc_collect_start, seed_collect_start);
SAME(gc_collect_root, seed_collect_root);
SAME(gc_collect_end, seed_collect_end);
SAME(gc_sweep_all, seed_sweep_all);
SAME(gc_weakref_mark, seed_weakref_mark);
SAME(gc_weakref_about_to_be_freed, seed_weakref_about_to_be_freed);
SAME(gc_weakref_sweep, seed_weakref_sweep);
SAME(gc_alloc, seed_alloc);
SAME(gc_free, seed_free);
SAME(gc_nbytes, seed_nbytes);
SAME(gc_realloc, seed_realloc);
SAME(gc_info, void(gc_info_t *));
SAME(seed_info, void(seed_info_t *));
SAME(gc_dump_info, void(const gc_print_t *));
SAME(seed_dump_info, void(const mp_print_t *));
SAME(gc_dump_alloc_table, void(const gc_print_t *));
SAME(seed_dump_alloc_table, void(const mp_print_t *));
_Static_assert((int)GC_ALLOC_FLAG_HAS_FINALISER == (int)SEED_HAS_FINALISER, "flag");

#define SAME_MEMBER(one, other, member)                                                \
    _Static_assert(offsetof(one, member) == offsetof(other, member), #member);         \
    SAME(((one *)0)->member, ((other *)0)->member)

_Static_assert(sizeof(gc_info_t) == sizeof(seed_info_t), "gc_info_t");
SAME_MEMBER(gc_info_t, seed_info_t, total);
SAME_MEMBER(gc_info_t, seed_info_t, used);
SAME_MEMBER(gc_info_t, seed_info_t, free);
SAME_MEMBER(gc_info_t, seed_info_t, max_free);
SAME_MEMBER(gc_info_t, seed_info_t, num_1block);
SAME_MEMBER(gc_info_t, seed_info_t, num_2block);
SAME_MEMBER(gc_info_t, seed_info_t, max_block);
SAME_MEMBER(gc_info_t, seed_info_t, max_new_split);
_Static_assert(sizeof(gc_print_t) == sizeof(mp_print_t), "gc_print_t");
SAME_MEMBER(gc_print_t, mp_print_t, data);
SAME_MEMBER(gc_print_t, mp_print_t, print_strn);
