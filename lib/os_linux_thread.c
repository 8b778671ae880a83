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
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/os.h"

#if !defined(__x86_64__) || !defined(__GLIBC__)
#error "this file knows glibc's thread layout on x86-64 only"
#endif

/* Weak: a fully static program has no dlsym, and gets none because of us. */
extern __typeof__(dlsym) dlsym __attribute__((weak));

/* Where a fully static program has its pthread_create; hidden in libc.so. */
extern sh_os_create_fn __pthread_create __attribute__((weak));

/* Set by the loader before anything of ours runs: the top of the first frames. */
extern void *__libc_stack_end;

/* ---- Threads ---- */

static bool initial_stack_gone;

uint32_t sh_os_thread_id(void)
{
    return (uint32_t)syscall(SYS_gettid);
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

/* ---- Signals ---- */

#define KERNEL_MASK_BYTES 8

int sh_os_stop_signal(void)
{
    return SIGRTMAX - 6;
}

/*
 * All signals are blocked in the handler, the C library's own included: asynchronous
 * cancellation would otherwise unwind a stopped thread. Not on the alternate stack,
 * so that a thread's registers are on the stack that it runs on.
 */
static sh_os_handler *swap_handler(int signal, sh_os_handler *handler)
{
    struct sigaction new = {.sa_flags = SA_SIGINFO | SA_RESTART}, old;
    new.sa_sigaction = handler;
    memset(&new.sa_mask, 0xff, sizeof new.sa_mask);
    if (sigaction(signal, handler ? &new : NULL, &old) != 0)
        sh_fatal("signal %d cannot be handled: error %d", signal, errno);
    return old.sa_sigaction;
}

#if SH_TSAN
/*
 * The thread sanitizer's sigaction puts a signal off until the thread calls the
 * runtime; one that computes never does, nor one that waits for a mutex whose holder
 * is stopped. So the kernel is asked, behind the sanitizer's back. Now a signal may
 * come inside the runtime, which a stopped thread must not be in: it may hold locks
 * there that the collector needs. The handler asks sh_os_may_park first.
 *
 * Not where the runtime is linked into the program, as Clang does it, and cannot be
 * told from the rest: there the sanitizer's way has to do.
 */
struct kernel_sigaction {
    sh_os_handler *handler;
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

#define SA_RESTORER_FLAG 0x04000000

/* The way back from the handler, which the C library would have given. */
void sh_os_signal_return(void);
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "nop\n"
        ".globl sh_os_signal_return\n"
        ".hidden sh_os_signal_return\n"
        ".type sh_os_signal_return, @function\n"
        "sh_os_signal_return:\n"
        "movq $15, %rax\n" /* rt_sigreturn */
        "syscall\n"
        ".size sh_os_signal_return, .-sh_os_signal_return\n"
        ".popsection\n");

void __tsan_acquire(void *address);

static struct sh_range runtime;

static void install(int signal, sh_os_handler *handler)
{
    struct sh_range code = sh_os_mapping((uintptr_t)__tsan_acquire);
    uintptr_t ours = (uintptr_t)sh_os_signal_return;
    if (ours >= code.low && ours < code.high) {
        swap_handler(signal, handler);
        return;
    }
    runtime = code;
    struct kernel_sigaction new = {handler, SA_SIGINFO | SA_RESTART | SA_RESTORER_FLAG,
        sh_os_signal_return, ~(uint64_t)0};
    if (syscall(SYS_rt_sigaction, signal, &new, NULL, KERNEL_MASK_BYTES) != 0)
        sh_fatal("signal %d cannot be handled: error %d", signal, errno);
}

SH_NO_SANITIZE bool sh_os_may_park(const void *context)
{
    const ucontext_t *interrupted = context;
    uintptr_t at = (uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
    return at < runtime.low || at >= runtime.high;
}
#else
static void install(int signal, sh_os_handler *handler)
{
    swap_handler(signal, handler);
}

bool sh_os_may_park(const void *context)
{
    (void)context;
    return true;
}
#endif

static bool is_program_handler(sh_os_handler *handler)
{
    uintptr_t value = (uintptr_t)handler;
    return value != (uintptr_t)SIG_DFL && value != (uintptr_t)SIG_IGN;
}

int sh_os_signal_handle(int signal, sh_os_handler *handler)
{
    sh_os_handler *old = swap_handler(signal, NULL);
    if (is_program_handler(old) && old != handler)
        return EBUSY;
    install(signal, handler);
    return 0;
}

/* System calls by hand: the C library's may be instrumented, and set errno. */
SH_NO_SANITIZE static long call4(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

SH_NO_SANITIZE int sh_os_signal_thread(uint32_t tid, int signal)
{
    long process = call4(SYS_getpid, 0, 0, 0, 0);
    return (int)-call4(SYS_tgkill, process, (long)tid, signal, 0);
}

SH_NO_SANITIZE static uint64_t change_mask(int how, uint64_t mask)
{
    uint64_t old = 0;
    call4(SYS_rt_sigprocmask, how, (long)&mask, (long)&old, KERNEL_MASK_BYTES);
    return old;
}

SH_NO_SANITIZE void sh_os_signal_unblock(int signal)
{
    change_mask(SIG_UNBLOCK, (uint64_t)1 << (signal - 1));
}

SH_NO_SANITIZE uint64_t sh_os_signals_block(void)
{
    return change_mask(SIG_SETMASK, ~(uint64_t)0);
}

SH_NO_SANITIZE void sh_os_signals_restore(uint64_t saved)
{
    change_mask(SIG_SETMASK, saved);
}

SH_NO_SANITIZE void sh_os_park_wait(_Atomic uint32_t *word, uint32_t value)
{
    call4(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, (long)value, 0);
}

SH_NO_SANITIZE void sh_os_park_wake(_Atomic uint32_t *word)
{
    call4(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, INT_MAX, 0);
}

/* ---- Mappings ---- */

/* A line of /proc/self/maps, as far as "low-high perm" goes. */
#define LINE_KEPT 48

struct maps {
    long fd;
    long at, len; /* of `chunk` */
    char chunk[1024];
};

SH_NO_SANITIZE static bool refill(struct maps *maps)
{
    do {
        maps->len =
            call4(SYS_read, maps->fd, (long)maps->chunk, (long)sizeof maps->chunk, 0);
    } while (maps->len == -EINTR);
    maps->at = 0;
    return maps->len > 0;
}

/* The start of the next line; the rest is skipped. */
SH_NO_SANITIZE static bool next_line(struct maps *maps, char *line)
{
    for (int n = 0;;) {
        if (maps->at >= maps->len && !refill(maps))
            return false;
        char c = maps->chunk[maps->at++];
        if (c == '\n') {
            line[n] = '\0';
            return true;
        }
        if (n < LINE_KEPT - 1)
            line[n++] = c;
    }
}

SH_NO_SANITIZE static const char *hex_at(const char *at, uintptr_t *value)
{
    *value = 0;
    for (;; at++) {
        unsigned digit = (unsigned)*at - '0';
        if (digit > 9)
            digit = (unsigned)*at - 'a' + 10;
        if (digit > 15 || (digit > 9 && *at < 'a'))
            return at;
        *value = *value << 4 | digit;
    }
}

SH_NO_SANITIZE static struct sh_range parse(const char *line)
{
    struct sh_range range;
    const char *at = hex_at(line, &range.low);
    if (*at++ != '-')
        return (struct sh_range){0, 0};
    at = hex_at(at, &range.high);
    if (at[0] != ' ' || at[1] != 'r')
        return (struct sh_range){0, 0};
    return range;
}

SH_NO_SANITIZE struct sh_range sh_os_mapping(uintptr_t address)
{
    static const char path[] = "/proc/self/maps";
    struct maps maps = {.at = 0, .len = 0};
    maps.fd = call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
    if (maps.fd < 0)
        return (struct sh_range){0, 0};
    struct sh_range found = {0, 0};
    char line[LINE_KEPT];
    while (next_line(&maps, line)) {
        struct sh_range range = parse(line);
        if (address >= range.low && address < range.high) {
            found = range;
            break;
        }
    }
    call4(SYS_close, maps.fd, 0, 0, 0);
    return found;
}

/* ---- Stacks ---- */

/* Of struct pthread, in all glibc releases of ten years within a few bytes. */
#define DESCRIPTOR_SIZE 2304

/* Told by the C library for the use of debuggers; 0 until the constructor asked. */
static size_t descriptor_size;

/* Bytes of static TLS below the thread pointer: the same in all threads. Raised by
 * each walk over the loaded objects, under the loader's lock. */
static _Atomic size_t static_tls_size;

/* More than any program's; less than what lies between a thread and its neighbours. */
#define STATIC_TLS_MAX ((size_t)1 << 20)

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
    call4(SYS_sigaltstack, 0, (long)&stack, 0, 0);
    return if_inside(&stack, address);
}

SH_NO_SANITIZE struct sh_range sh_os_initial_tls(pthread_t handle)
{
    struct sh_range mapping = sh_os_mapping((uintptr_t)handle);
    struct sh_range tls = {(uintptr_t)handle - sh_load_relaxed(&static_tls_size),
        descriptor_end((uintptr_t)handle)};
    if (mapping.high) {
        tls.low = sh_max(tls.low, mapping.low);
        tls.high = sh_min(tls.high, mapping.high);
    }
    tls.low = sh_round_down(tls.low, sizeof(void *));
    return tls;
}

/* ---- Loaded objects ---- */

/*
 * dl_iterate_phdr holds the loader's write lock while it calls back. glibc adds an
 * object to its list, and unmaps it and takes it out, under that lock (elf/dl-object.c,
 * _dl_close_worker in elf/dl-close.c), so whatever is listed in a callback is mapped.
 * The write lock is not the one that is held while constructors run.
 *
 * When `begin` stops the world it does so under the lock: no stopped thread holds it,
 * nor is half-way through a change of the list; and none can unmap an object before
 * the world resumes, though the walk ends and the lock is free long before. A thread
 * that the collector does not know can; it has no business in dlclose.
 */
struct walk {
    bool (*begin)(void *context);
    void (*segment)(void *context, uintptr_t start, uintptr_t end);
    void *context;
    bool begun;
};

/* Of static TLS alone: blocks of objects that came later lie anywhere. */
static void note_static_tls(const struct dl_phdr_info *info, size_t size)
{
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof(void *))
        return;
    uintptr_t pointer = (uintptr_t)pthread_self(),
              block = (uintptr_t)info->dlpi_tls_data;
    if (block == 0 || block >= pointer || pointer - block > STATIC_TLS_MAX)
        return;
    if (pointer - block > sh_load_relaxed(&static_tls_size))
        sh_store_relaxed(&static_tls_size, pointer - block);
}

/* [start, end) of a segment less the part that relocation left read-only. */
static void visit_segment(const struct walk *walk, const struct dl_phdr_info *info,
    uintptr_t start, uintptr_t end)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_GNU_RELRO)
            continue;
        uintptr_t low = info->dlpi_addr + header->p_vaddr;
        uintptr_t high = sh_round_down(low + header->p_memsz, SH_PAGE_SIZE);
        if (low < start || high > end || low >= high)
            continue;
        if (start < low)
            walk->segment(walk->context, start, low);
        start = high;
    }
    if (start < end)
        walk->segment(walk->context, start, end);
}

static int visit_object(struct dl_phdr_info *info, size_t size, void *context)
{
    struct walk *walk = context;
    if (!walk->begun && !walk->begin(walk->context))
        return 1;
    walk->begun = true;
    note_static_tls(info, size);
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_W))
            continue;
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        visit_segment(walk, info, start, start + header->p_memsz);
    }
    return 0;
}

void sh_os_each_segment(bool (*begin)(void *context),
    void (*segment)(void *context, uintptr_t start, uintptr_t end), void *context)
{
    struct walk walk = {.begin = begin, .segment = segment, .context = context};
    dl_iterate_phdr(visit_object, &walk);
}
