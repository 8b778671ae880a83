/* SPDX-License-Identifier: MIT */
/*
 * What threads/ needs of the operating system and its C library, beside lib/os.h:
 * thread-directed signals, the bounds of stacks, thread-local storage, loaded objects,
 * and the pthread_create behind ours.
 *
 * Nothing here takes a lock of ours. Functions marked (handler) may be called in the
 * stop signal's handler and while the world is stopped: they take no lock of the C
 * library's and keep errno.
 */
#ifndef SH_LIB_OS_THREAD_H
#define SH_LIB_OS_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/atomic.h"
#include "lib/compiler.h"

/* ---- Threads ---- */

/* The kernel's name of the calling thread. (handler) */
uint32_t sh_os_thread_id(void);

/*
 * Whether the calling thread runs on the stack that the process began with. Once
 * sh_os_initial_stack_gone was called, in the child of a fork, none does.
 */
bool sh_os_on_initial_stack(void);
void sh_os_initial_stack_gone(void);

typedef int sh_os_create_fn(
    pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* The C library's own pthread_create; NULL where the program was linked without. */
sh_os_create_fn *sh_os_pthread_create(void);

/*
 * A thread of the library's own: made by the C library's pthread_create with a small
 * stack, named "splitheap", all signals blocked in it but those that the C library
 * itself sends. 0, or an errno. Join waits for its end; `helper` is there until then.
 */
struct sh_os_helper {
    uintptr_t handle; /* hidden: when the thread is gone others map memory there */
    void (*run)(struct sh_os_helper *helper);
};
int sh_os_helper_start(
    struct sh_os_helper *helper, void (*run)(struct sh_os_helper *helper), bool large);
void sh_os_helper_join(struct sh_os_helper *helper);

/* The process never had a second thread, as far as the C library knows. */
bool sh_os_single_threaded(void);

/*
 * The C library's lock of its list of streams, which fork takes after all handlers: before
 * ours are, and in the parent given back after those. In the child it is made free.
 */
void sh_os_streams_lock(void);
void sh_os_streams_unlock(void);
void sh_os_streams_reset(void);

/* The function of that name behind ours; NULL in a fully static program. */
typedef void sh_os_function(void);
sh_os_function *sh_os_behind(const char *name);

/* Bytes of stack that a thread made with `attr` (NULL: the default) gets. */
size_t sh_os_stack_size(const pthread_attr_t *attr);

/*
 * The process's threads as the system knows them, those included that no library told
 * us of, and those that are just ending: how many, 0 where it does not say; each one, 0
 * or an errno. (handler)
 */
size_t sh_os_thread_count(void);
typedef void sh_os_tid_fn(void *context, uint32_t tid);
int sh_os_each_thread(sh_os_tid_fn *visit, void *context);

/* What a thread is doing; false: it cannot be told. (handler) */
struct sh_os_task {
    char state; /* 'R' runs, 'S', 'D' sleep, 'T', 't' stopped, 'Z', 'X' ended */
    uint64_t blocked, pending; /* signals, bit n - 1 is n's */
};
bool sh_os_thread_look(uint32_t tid, struct sh_os_task *task);

/* Where it stands, for people; what cannot be told is "", -1 or 0. (handler) */
struct sh_os_place {
    char name[32], wait[64]; /* of the thread; of what it waits in, in the kernel */
    long call;               /* the number of its system call */
    uintptr_t pc;            /* in its program */
};
void sh_os_thread_where(uint32_t tid, struct sh_os_place *place);

/* Whether the calling thread has thread-local storage at all. It may be another's: a
 * thread that was made by hand may share it. (handler) */
bool sh_os_has_thread_locals(void);

/* ---- Signals ---- */

/* A signal that programs are unlikely to use, and that is ignored where unhandled. */
int sh_os_stop_signal(void);

typedef void sh_os_handler(int signal, siginfo_t *info, void *context);

/*
 * Installs `handler`, with all signals blocked while it runs and interrupted system
 * calls restarted. 0, EBUSY when the program already handles the signal, or another errno
 * where the system does not let it be handled.
 */
int sh_os_signal_handle(int signal, sh_os_handler *handler);

/*
 * Whether the code that the signal interrupted may be stopped where it is; if not, the
 * signal has to be sent again. (handler)
 */
bool sh_os_may_park(const void *context);

/* Sends `signal` (0: none, only looks) to a thread of this process. 0; ESRCH: no such
 * thread; EAGAIN: too many signals wait, try later. (handler) */
int sh_os_signal_thread(uint32_t tid, int signal);

/* The registers of the interrupted code, as far as they may hold pointers, into `words`;
 * returns its stack pointer, less what it may use below. (handler) */
#define SH_OS_REGISTERS 23
uintptr_t sh_os_interrupted(const void *context, uintptr_t words[SH_OS_REGISTERS]);

/* Lets the calling thread get `signal`. (handler) */
void sh_os_signal_unblock(int signal);

/* signalfd, as the C library has it. */
int sh_os_signalfd(int fd, const sigset_t *mask, int flags);

/* Blocks all signals in the calling thread. (handler) */
uint64_t sh_os_signals_block(void);
void sh_os_signals_restore(uint64_t saved);

/* sh_os_wait and sh_os_wake, without a time limit. (handler) */
void sh_os_park_wait(_Atomic uint32_t *word, uint32_t value);
void sh_os_park_wake(_Atomic uint32_t *word);

/* ---- Stacks ---- */

struct sh_range {
    uintptr_t low, high; /* [low, high); both 0: none */
};

/*
 * The highest address of the calling thread's stack, and of its static thread-local
 * storage where that lies at the top of the stack, as it does but on the initial one.
 */
uintptr_t sh_os_stack_base(void);

/* The calling thread's alternate signal stack where `address` lies on it, else none.
 * `context` is what the handler got, NULL outside one. (handler) */
struct sh_range sh_os_alt_stack(const void *context, uintptr_t address);

/* The readable mapping that contains `address`; none where it cannot be told.
 * (handler) */
struct sh_range sh_os_mapping(uintptr_t address);

/* The same, with the readable mappings that lie directly below. (handler) */
struct sh_range sh_os_mapped_run(uintptr_t address);

/*
 * The thread descriptor and static thread-local storage of the thread `handle`, which
 * runs on the initial stack. (handler)
 */
struct sh_range sh_os_initial_tls(pthread_t handle);

/* ---- Loaded objects ---- */

/* Bytes of static thread-local storage that a thread has below its thread pointer, as
 * far as the last walk saw. */
size_t sh_os_static_tls(void);

/* In the child of a fork: a thread that is no more may hold the loader's lock. */
void sh_os_loader_lock_lost(void);

/*
 * Calls begin(context), and if it returns true, then segment(context, start, end) for
 * each writable segment of the loaded objects, less what is read-only by now. During
 * begin no other thread is changing the list of loaded objects, nor has unmapped one
 * that is still listed; see the file for why.
 */
void sh_os_each_segment(bool (*begin)(void *context),
    void (*segment)(void *context, uintptr_t start, uintptr_t end), void *context);

#endif /* SH_LIB_OS_THREAD_H */
