/* SPDX-License-Identifier: MIT */
/*
 * Atomic operations with the order in the name. Fields are _Atomic; every release
 * names in a comment the acquire that it pairs with.
 */
#ifndef SH_LIB_ATOMIC_H
#define SH_LIB_ATOMIC_H

#include <stdatomic.h>

#define sh_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define sh_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define sh_load_seq_cst(p) atomic_load_explicit((p), memory_order_seq_cst)

#define sh_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define sh_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define sh_store_seq_cst(p, v) atomic_store_explicit((p), (v), memory_order_seq_cst)

#define sh_add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define sh_sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define sh_sub_release(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_release)
#define sh_sub_seq_cst(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_seq_cst)
#define sh_add_seq_cst(p, v) atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define sh_or_relaxed(p, v) atomic_fetch_or_explicit((p), (v), memory_order_relaxed)
#define sh_or_acq_rel(p, v) atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
#define sh_or_seq_cst(p, v) atomic_fetch_or_explicit((p), (v), memory_order_seq_cst)

#define sh_and_relaxed(p, v) atomic_fetch_and_explicit((p), (v), memory_order_relaxed)
#define sh_and_seq_cst(p, v) atomic_fetch_and_explicit((p), (v), memory_order_seq_cst)

#define sh_exchange_acquire(p, v)                                                      \
    atomic_exchange_explicit((p), (v), memory_order_acquire)
#define sh_exchange_release(p, v)                                                      \
    atomic_exchange_explicit((p), (v), memory_order_release)
#define sh_exchange_seq_cst(p, v)                                                      \
    atomic_exchange_explicit((p), (v), memory_order_seq_cst)

/* True when *p was *expected and is now v; else *expected is what *p was. */
#define sh_cas_acquire(p, expected, v)                                                 \
    atomic_compare_exchange_strong_explicit(                                           \
        (p), (expected), (v), memory_order_acquire, memory_order_relaxed)
#define sh_cas_seq_cst(p, expected, v)                                                 \
    atomic_compare_exchange_strong_explicit(                                           \
        (p), (expected), (v), memory_order_seq_cst, memory_order_relaxed)
#define sh_cas_weak_seq_cst(p, expected, v)                                            \
    atomic_compare_exchange_weak_explicit(                                             \
        (p), (expected), (v), memory_order_seq_cst, memory_order_relaxed)

#define sh_fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)

#endif /* SH_LIB_ATOMIC_H */
