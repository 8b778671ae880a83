/* SPDX-License-Identifier: MIT */
/*
 * lib/os_thread.h on Linux with the GNU C library, x86-64.
 *
 * How glibc lays out a thread, which is what a root scanner must know:
 *
 *      a thread of pthread_create              the initial thread
 *
 *      high  struct pthread                    high  environment, arguments
 *      TP -> static TLS                              frames
 *            frames                            sp ->
 *      sp ->                                   low   grows down on demand
 *            unused                            ---- elsewhere, of the loader ----
 *      low   guard                                   struct pthread
 *                                              TP -> static TLS
 *
 * So [sp, end of struct pthread) is everything of a thread: frames, static TLS, and the
 * first 32 values of pthread_setspecific, which lie in struct pthread; only the initial
 * thread's last two stand apart. Further values, and the TLS of objects that came by
 * dlopen, are allocated by the C library with malloc. That is ours, so they are
 * scanned as all malloc'd memory is. Built without interposition (-Dinterpose=false)
 * malloc is another's, and roots kept only there are missed.
 *
 * Locks: dl_iterate_phdr and dlsym take the loader's; dlsym is called from the
 * constructor or by a thread that waits for nobody. The rest take none.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "lib/os_thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/bits.h"
#include "lib/hide.h"
#include "lib/os.h"
#include "lib/os_linux_call.h"

#if !defined(__x86_64__) || !defined(__GLIBC__)
#error "this file knows glibc's thread layout on x86-64 only"
#endif

/* Weak: a fully static program has no dlsym, and gets none because of us. */
extern __typeof__(dlsym) dlsym __attribute__((weak));

/* Where a fully static program has its pthread_create; hidden in libc.so. */
extern sh_os_create_fn __pthread_create __attribute__((weak));

/* Set by the loader before anything of ours runs: the top of the first frames. */
extern void *__libc_stack_end;

/* What its fork calls; exported from the beginning, declared nowhere. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/* ---- Threads ---- */

static bool initial_stack_gone;

SH_NO_SANITIZE uint32_t sh_os_thread_id(void)
{
    return (uint32_t)sh_os_call4(SYS_gettid, 0, 0, 0, 0);
}

bool sh_os_on_initial_stack(void)
{
    return !initial_stack_gone && sh_os_thread_id() == (uint32_t)getpid();
}

void sh_os_initial_stack_gone(void)
{
    initial_stack_gone = true;
}

static void *symbol(void *where, const char *name)
{
    return dlsym ? dlsym(where, name) : NULL;
}

sh_os_function *sh_os_behind(const char *name)
{
    sh_os_function *function;
    void *address = symbol(RTLD_NEXT, name);
    memcpy(&function, &address, sizeof function);
    return function;
}

sh_os_create_fn *sh_os_pthread_create(void)
{
    static _Atomic(sh_os_create_fn *) found;
    sh_os_create_fn *create = sh_load_relaxed(&found);
    if (SH_LIKELY(create))
        return create;
    create = (sh_os_create_fn *)sh_os_behind("pthread_create");
    if (!create)
        create = __pthread_create;
    sh_store_relaxed(&found, create);
    return create;
}

size_t sh_os_stack_size(const pthread_attr_t *attr)
{
    pthread_attr_t made;
    size_t size = 0;
    if (!attr && pthread_attr_init(&made) != 0)
        return 0;
    if (pthread_attr_getstacksize(attr ? attr : &made, &size) != 0)
        size = 0;
    if (!attr)
        pthread_attr_destroy(&made);
    return size;
}

/* ---- Threads of our own ---- */

#define HELPER_STACK ((size_t)256 << 10) /* of address space */

static void *run_helper(void *helper)
{
    prctl(PR_SET_NAME, "splitheap", 0, 0, 0);
    ((struct sh_os_helper *)helper)->run(helper);
    return NULL;
}

/*
 * All signals but the C library's own, which it leaves out of the set. The mask is the
 * attribute's: to block the stop signal in the calling thread, which waits for locks in
 * pthread_create, would be to keep the world from stopping while their holders stand.
 */
static int set_attributes(pthread_attr_t *attr, size_t stack)
{
    sigset_t all;
    sigfillset(&all);
    if (stack)
        pthread_attr_setstacksize(attr, stack);
    return pthread_attr_setsigmask_np(attr, &all);
}

static int create_helper(struct sh_os_helper *helper, size_t stack)
{
    sh_os_create_fn *create = sh_os_pthread_create();
    pthread_attr_t attr;
    if (!create)
        return ENOSYS;
    int error = pthread_attr_init(&attr);
    if (error)
        return error;
    error = set_attributes(&attr, stack);
    pthread_t handle;
    if (!error)
        error = create(&handle, &attr, run_helper, helper);
    if (!error)
        helper->handle = sh_hide((void *)handle);
    pthread_attr_destroy(&attr);
    return error;
}

/* With a default stack where thread-local storage leaves too little of a small one. */
int sh_os_helper_start(
    struct sh_os_helper *helper, void (*run)(struct sh_os_helper *helper), bool large)
{
    helper->run = run;
    int error = create_helper(helper, large ? 0 : HELPER_STACK);
    return error == EINVAL ? create_helper(helper, 0) : error;
}

/* It must not be left half-way: it is a cancellation point. */
void sh_os_helper_join(struct sh_os_helper *helper)
{
    int cancel;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    pthread_join((pthread_t)sh_reveal(helper->handle), NULL);
    pthread_setcancelstate(cancel, NULL);
}

bool sh_os_single_threaded(void)
{
    return __libc_single_threaded;
}

void sh_os_streams_lock(void)
{
    if (_IO_list_lock)
        _IO_list_lock();
}

void sh_os_streams_unlock(void)
{
    if (_IO_list_unlock)
        _IO_list_unlock();
}

void sh_os_streams_reset(void)
{
    if (_IO_list_resetlock)
        _IO_list_resetlock();
}

/* ---- Stacks ---- */

/* Of struct pthread, in all glibc releases of ten years within a few bytes. */
#define DESCRIPTOR_SIZE 2304

/* Told by the C library for the use of debuggers; 0 until the constructor asked. */
static size_t descriptor_size;

__attribute__((constructor)) static void ask_the_loader(void)
{
    const uint32_t *size = symbol(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
    if (size)
        descriptor_size = *size;
    sh_os_pthread_create();
}

/* Without the library's word, no further than memory is certain to reach. */
SH_NO_SANITIZE static uintptr_t descriptor_end(uintptr_t descriptor)
{
    if (descriptor_size)
        return descriptor + descriptor_size;
    uintptr_t page_end = sh_round_up(descriptor + 1, SH_PAGE_SIZE);
    return sh_min(descriptor + DESCRIPTOR_SIZE, page_end);
}

/* pthread_self is the thread pointer here, and where struct pthread begins. */
uintptr_t sh_os_stack_base(void)
{
    if (sh_os_on_initial_stack())
        return (uintptr_t)__libc_stack_end;
    return sh_round_down(descriptor_end((uintptr_t)pthread_self()), sizeof(void *));
}

SH_NO_SANITIZE static struct sh_range if_inside(const stack_t *stack, uintptr_t address)
{
    struct sh_range range = {(uintptr_t)stack->ss_sp, 0};
    range.high = range.low + stack->ss_size;
    if (stack->ss_size == 0 || address < range.low || address >= range.high)
        return (struct sh_range){0, 0};
    return range;
}

SH_NO_SANITIZE struct sh_range sh_os_alt_stack(const void *context, uintptr_t address)
{
    if (context)
        return if_inside(&((const ucontext_t *)context)->uc_stack, address);
    stack_t stack = {.ss_size = 0};
    sh_os_call4(SYS_sigaltstack, 0, (long)&stack, 0, 0);
    return if_inside(&stack, address);
}

/*
 * Looked up once, by the collector: the mapping may grow, but does not move. Kept as
 * distances: where it ends an area may begin, and these words are roots.
 */
SH_NO_SANITIZE struct sh_range sh_os_initial_tls(pthread_t handle)
{
    static size_t below, above; /* of the mapping; 0: not known */
    uintptr_t at = (uintptr_t)handle;
    struct sh_range tls = {at - sh_os_static_tls(), descriptor_end(at)};
    if (above == 0) {
        struct sh_range mapping = sh_os_mapping(at);
        if (mapping.high) {
            below = at - mapping.low;
            above = mapping.high - at;
        }
    }
    if (above) {
        tls.low = sh_max(tls.low, at - below);
        tls.high = sh_min(tls.high, at + above);
    }
    tls.low = sh_round_down(tls.low, sizeof(void *));
    return tls;
}
