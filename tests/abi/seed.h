/* SPDX-License-Identifier: MIT */
/*
 * What the seed's header declares with split heaps, automatic splitting and weak
 * references on, in its order and with its types: what an object has seen that was
 * compiled against that. Nothing of ours is included.
 */
#ifndef SH_TESTS_ABI_SEED_H
#define SH_TESTS_ABI_SEED_H

#include <stdbool.h>
#include <stddef.h>

typedef void (*mp_print_strn_t)(void *data, const char *str, size_t len);

typedef struct _mp_print_t {
    void *data;
    mp_print_strn_t print_strn;
} mp_print_t;

void gc_init(void *start, void *end);
void gc_add(void *start, void *end);
size_t gc_get_max_new_split(void);

void gc_lock(void);
void gc_unlock(void);
bool gc_is_locked(void);

void gc_collect(void);
void gc_collect_start(void);
void gc_collect_root(void **ptrs, size_t len);
void gc_collect_end(void);
void gc_sweep_all(void);

void gc_weakref_mark(void *ptr);
void gc_weakref_about_to_be_freed(void *ptr);
void gc_weakref_sweep(void);

enum {
    GC_ALLOC_FLAG_HAS_FINALISER = 1,
};

void *gc_alloc(size_t n_bytes, unsigned int alloc_flags);
void gc_free(void *ptr);
size_t gc_nbytes(const void *ptr);
void *gc_realloc(void *ptr, size_t n_bytes, bool allow_move);

typedef struct _gc_info_t {
    size_t total;
    size_t used;
    size_t free;
    size_t max_free;
    size_t num_1block;
    size_t num_2block;
    size_t max_block;
    size_t max_new_split;
} gc_info_t;

void gc_info(gc_info_t *info);
void gc_dump_info(const mp_print_t *print);
void gc_dump_alloc_table(const mp_print_t *print);

#endif /* SH_TESTS_ABI_SEED_H */
