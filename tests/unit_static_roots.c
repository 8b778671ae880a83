/* SPDX-License-Identifier: MIT */
/*
 * threads/static_roots.h and the scanners of threads/stop.h: a word kept in one place
 * only is found there, and not where it is not.
 *
 * Secrets are kept masked, so that looking for one does not itself make a root of it;
 * what a register or a dead frame still holds of one would be found, so each place has
 * a secret of its own, and is looked for in another thread than it is in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/bits.h"
#include "lib/os_thread.h"
#include "tests/child.h"
#include "tests/workers.h"

#define MASK 0x5555555555555555u

/* A number that is no address, and its masked form. */
#define MASKED(n) ((uintptr_t)(0x7b00c0de00000000u + (n)*0x1111u) ^ MASK)

static SH_NOINLINE uintptr_t unmask(uintptr_t masked)
{
    return masked ^ MASK;
}

struct look {
    uintptr_t masked;
    unsigned found;
    size_t bytes;
};

SH_NO_SANITIZE static void look_in(void *context, const void *start, const void *end)
{
    struct look *look = context;
    const volatile uintptr_t *from =
        (const uintptr_t *)sh_round_up((uintptr_t)start, sizeof(uintptr_t));
    const volatile uintptr_t *to = end;
    for (; from < to; from++)
        look->found += (*from ^ MASK) == look->masked;
    look->bytes += (size_t)((const char *)end - (const char *)start);
}

/* In another thread than who keeps the secret, and than who looks for it in itself. */
static struct look look_everywhere(uintptr_t masked)
{
    struct look look = {.masked = masked};
    stop_to_collect();
    sh_scan_stopped_threads(look_in, &look);
    sh_roots_enter();
    sh_scan_static_roots(look_in, &look);
    sh_roots_leave();
    resume();
    return look;
}

/* ---- Threads that keep a secret ---- */

static _Atomic uint32_t stage;

static void keep(void)
{
    set_flag(&stage, 1);
    await_flag(&stage, 2);
}

/* While `keeper` is in keep() or has set the stage to 1 by itself. */
static unsigned found_in(void *(*keeper)(void *), uintptr_t masked)
{
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(keeper, (void *)masked);
    await_flag(&stage, 1);
    unsigned found = look_everywhere(masked).found;
    set_flag(&stage, 2);
    join(thread);
    return found;
}

static void *keep_nothing(void *masked)
{
    sh_thread_enter();
    (void)masked;
    keep();
    return NULL;
}

static void what_nobody_keeps_is_not_found(void **unused)
{
    assert_int_equal(found_in(keep_nothing, MASKED(1)), 0);
}

static void *keep_in_frame(void *masked)
{
    volatile uintptr_t words[100];
    sh_thread_enter();
    words[50] = unmask((uintptr_t)masked);
    keep();
    (void)words[50];
    return NULL;
}

static void a_frame_is_a_root(void **unused)
{
    assert_true(found_in(keep_in_frame, MASKED(2)) > 0);
}

/* Spins until told, the secret in rbx alone; the flag is set from within. */
static void *keep_in_register(void *masked)
{
    sh_thread_enter();
    __asm__ volatile("mov %[masked], %%rbx\n\t"
                     "xor %[mask], %%rbx\n\t"
                     "movl $1, %[stage]\n"
                     "1:\n\t"
                     "pause\n\t"
                     "cmpl $2, %[stage]\n\t"
                     "jne 1b\n\t"
                     "xor %%ebx, %%ebx"
                     : [stage] "+m"(stage)
                     : [masked] "r"(masked), [mask] "r"((uintptr_t)MASK)
                     : "rbx", "cc", "memory");
    return NULL;
}

static void *keep_in_vector_register(void *masked)
{
    sh_thread_enter();
    __asm__ volatile("mov %[masked], %%rbx\n\t"
                     "xor %[mask], %%rbx\n\t"
                     "movq %%rbx, %%xmm7\n\t"
                     "xor %%ebx, %%ebx\n\t"
                     "movl $1, %[stage]\n"
                     "1:\n\t"
                     "pause\n\t"
                     "cmpl $2, %[stage]\n\t"
                     "jne 1b\n\t"
                     "pxor %%xmm7, %%xmm7"
                     : [stage] "+m"(stage)
                     : [masked] "r"(masked), [mask] "r"((uintptr_t)MASK)
                     : "rbx", "xmm7", "cc", "memory");
    return NULL;
}

static unsigned found_in_spinning(void *(*keeper)(void *), uintptr_t masked)
{
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(keeper, (void *)masked);
    while (sh_load_acquire(&stage) != 1)
        sleep_us(100);
    unsigned found = look_everywhere(masked).found;
    sh_store_seq_cst(&stage, 2);
    join(thread);
    return found;
}

static void a_register_is_a_root(void **unused)
{
    assert_true(found_in_spinning(keep_in_register, MASKED(3)) > 0);
}

static void a_vector_register_is_a_root(void **unused)
{
    assert_true(found_in_spinning(keep_in_vector_register, MASKED(4)) > 0);
}

static SH_TLS volatile uintptr_t initial_exec_word;
static __thread volatile uintptr_t words_of_thread[200];

static void *keep_in_thread_local(void *masked)
{
    sh_thread_enter();
    initial_exec_word = unmask((uintptr_t)masked);
    keep();
    initial_exec_word = 0;
    return NULL;
}

static void *keep_far_in_thread_local(void *masked)
{
    sh_thread_enter();
    words_of_thread[199] = unmask((uintptr_t)masked);
    keep();
    words_of_thread[199] = 0;
    return NULL;
}

static void thread_local_storage_is_a_root(void **unused)
{
    assert_true(found_in(keep_in_thread_local, MASKED(5)) > 0);
    assert_true(found_in(keep_far_in_thread_local, MASKED(6)) > 0);
}

static pthread_key_t key;

static void *keep_in_specific(void *masked)
{
    sh_thread_enter();
    pthread_setspecific(key, (void *)unmask((uintptr_t)masked));
    keep();
    pthread_setspecific(key, NULL);
    return NULL;
}

/* The first 32 lie in the thread descriptor. */
static void thread_specific_data_is_a_root(void **unused)
{
    assert_int_equal(pthread_key_create(&key, NULL), 0);
    assert_true(key < 32);
    assert_true(found_in(keep_in_specific, MASKED(7)) > 0);
    pthread_key_delete(key);
}

/* ---- The main thread's, looked for by another ---- */

static void *look_from_elsewhere(void *masked)
{
    sh_thread_enter();
    return (void *)(uintptr_t)look_everywhere((uintptr_t)masked).found;
}

static uintptr_t found_by_another(uintptr_t masked)
{
    return (uintptr_t)join(start(look_from_elsewhere, (void *)masked));
}

static void the_main_threads_frames_are_roots(void **unused)
{
    volatile uintptr_t words[100];
    words[0] = unmask(MASKED(10));
    assert_true(found_by_another(MASKED(10)) > 0);
    (void)words[0];
}

static void the_main_threads_thread_locals_are_roots(void **unused)
{
    words_of_thread[0] = unmask(MASKED(11));
    words_of_thread[199] = unmask(MASKED(12));
    assert_true(found_by_another(MASKED(11)) > 0);
    assert_true(found_by_another(MASKED(12)) > 0);
    words_of_thread[0] = words_of_thread[199] = 0;
    assert_int_equal(pthread_key_create(&key, NULL), 0);
    pthread_setspecific(key, (void *)unmask(MASKED(13)));
    assert_true(found_by_another(MASKED(13)) > 0);
    pthread_setspecific(key, NULL);
    pthread_key_delete(key);
}

/* Leaves the secret there alone. */
static SH_NOINLINE void put(volatile uintptr_t *word, uintptr_t masked)
{
    *word = masked;
    *word ^= MASK;
    __asm__ volatile("" ::
                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
    memset((char[512]){1}, 0, 512);
}

/* Which makes three mappings of the stack. */
static SH_NOINLINE uintptr_t found_in_locked_page(uintptr_t masked)
{
    char pages[1 << 20]; /* deeper than it was looked at before */
    volatile uintptr_t *word =
        (void *)sh_round_up((uintptr_t)pages + (512 << 10), 4096);
    put(word, masked);
    bool locked = mlock((void *)word, 4096) == 0;
    uintptr_t found = found_by_another(masked);
    if (locked)
        munlock((void *)word, 4096);
    return found;
}

static void a_stack_with_a_locked_page_is_a_root(void **unused)
{
    assert_true(found_in_locked_page(MASKED(17)) > 0);
}

/* setenv of a variable that was there at the start writes there. */
static void the_initial_environment_is_a_root(void **unused)
{
    char *old = environ[0];
    assert_non_null(old);
    environ[0] = (char *)unmask(MASKED(14));
    uintptr_t found = found_by_another(MASKED(14));
    environ[0] = old;
    assert_true(found > 0);
}

static SH_NOINLINE unsigned look_in_self(uintptr_t masked)
{
    struct look look = {.masked = masked};
    stop_to_collect();
    sh_scan_self(look_in, &look);
    resume();
    return look.found;
}

/* Kept in rbx across the call, which has to save it. */
static unsigned found_in_own_register(uintptr_t masked)
{
    register uintptr_t secret __asm__("rbx") = unmask(masked);
    __asm__ volatile("" : "+r"(secret));
    unsigned found = look_in_self(masked);
    __asm__ volatile("" : "+r"(secret));
    return found;
}

static void the_collectors_own_registers_are_roots(void **unused)
{
    assert_true(found_in_own_register(MASKED(15)) > 0);
}

static void *look_in_self_unregistered(void *masked)
{
    volatile uintptr_t word = unmask((uintptr_t)masked);
    sh_thread_leave(true);
    unsigned found = look_in_self((uintptr_t)masked);
    (void)word;
    return (void *)(uintptr_t)found;
}

static void an_ended_collector_has_roots(void **unused)
{
    void *found = join(start(look_in_self_unregistered, (void *)MASKED(16)));
    assert_true(found != NULL);
}

/* ---- Blocking ---- */

static SH_NOINLINE void blocking_begin(void)
{
    sh_blocking_begin(__builtin_frame_address(0));
}

/* As a caller whose pointer stays in a register that nobody below needs. */
static void *keep_in_register_blocking(void *masked)
{
    sh_thread_enter();
    __asm__ volatile(
        "mov %[masked], %%rbx\n\t"
        "xor %[mask], %%rbx\n\t"
        "mov %%rsp, %%r12\n\t"
        "sub $256, %%rsp\n\t"
        "and $-16, %%rsp\n\t"
        "call *%[begin]\n\t"
        "mov %%r12, %%rsp\n\t"
        "movl $1, %[stage]\n"
        "1:\n\t"
        "pause\n\t"
        "cmpl $2, %[stage]\n\t"
        "jne 1b\n\t"
        "xor %%ebx, %%ebx"
        : [stage] "+m"(stage)
        : [masked] "r"(masked), [mask] "r"((uintptr_t)MASK), [begin] "r"(blocking_begin)
        : "rbx", "r12", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
        "cc", "memory");
    sh_blocking_end();
    return NULL;
}

static void *keep_in_frame_blocking(void *masked)
{
    volatile uintptr_t word = unmask((uintptr_t)masked);
    sh_thread_enter();
    blocking_begin();
    keep();
    sh_blocking_end();
    (void)word;
    return NULL;
}

static void what_a_blocking_thread_holds_is_a_root(void **unused)
{
    assert_true(found_in(keep_in_frame_blocking, MASKED(20)) > 0);
    assert_true(found_in_spinning(keep_in_register_blocking, MASKED(21)) > 0);
}

/* ---- Other stacks ---- */

static _Atomic uintptr_t masked_for_handler;

static void keep_in_handler(int signal)
{
    volatile uintptr_t word = unmask(sh_load_relaxed(&masked_for_handler));
    (void)signal;
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    (void)word;
}

static void on_alt_stack(char *stack, size_t size)
{
    stack_t alt = {.ss_sp = stack, .ss_size = size}, none = {.ss_flags = SS_DISABLE};
    struct sigaction action = {.sa_handler = keep_in_handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR2, &action, NULL);
    sigaltstack(&alt, NULL);
    raise(SIGUSR2);
    sigaltstack(&none, NULL);
}

#define ALT_SIZE (64 << 10)

/* The secret in the handler's frame, on the alternate stack. */
static void *keep_on_alt_stack(void *masked)
{
    char *stack = mmap(
        NULL, ALT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sh_thread_enter();
    sh_store_relaxed(&masked_for_handler, (uintptr_t)masked);
    on_alt_stack(stack, ALT_SIZE);
    munmap(stack, ALT_SIZE);
    return NULL;
}

/* In the frame that the signal interrupted. */
static void *keep_below_alt_stack(void *masked)
{
    volatile uintptr_t word = unmask((uintptr_t)masked);
    keep_on_alt_stack((void *)MASKED(0));
    (void)word;
    return NULL;
}

/* The same, the alternate stack being a part of the thread's own. */
static SH_NOINLINE void keep_deeper(char *stack, uintptr_t masked)
{
    volatile uintptr_t word = unmask(masked);
    sh_store_relaxed(&masked_for_handler, MASKED(0));
    on_alt_stack(stack, ALT_SIZE);
    (void)word;
}

static void *keep_below_own_alt_stack(void *masked)
{
    char stack[ALT_SIZE];
    sh_thread_enter();
    keep_deeper(stack, (uintptr_t)masked);
    return NULL;
}

/* The thread sanitizer blocks all signals in handlers, which ours must interrupt. */
static void alternate_signal_stacks_are_roots(void **unused)
{
    if (SH_TSAN)
        skip();
    assert_true(found_in(keep_on_alt_stack, MASKED(30)) > 0);
    assert_true(found_in(keep_below_alt_stack, MASKED(31)) > 0);
    assert_true(found_in(keep_below_own_alt_stack, MASKED(32)) > 0);
}

static ucontext_t outside, inside;
static _Atomic uintptr_t masked_for_coroutine;

static void coroutine(void)
{
    volatile uintptr_t word = unmask(sh_load_relaxed(&masked_for_coroutine));
    keep();
    (void)word;
}

static void *keep_in_coroutine(void *masked)
{
    size_t size = 128 << 10;
    char *stack =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sh_thread_enter();
    sh_store_relaxed(&masked_for_coroutine, (uintptr_t)masked);
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = size;
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    swapcontext(&outside, &inside);
    munmap(stack, size);
    return NULL;
}

static void *keep_outside_coroutine(void *masked)
{
    volatile uintptr_t word = unmask((uintptr_t)masked);
    keep_in_coroutine((void *)MASKED(0));
    (void)word;
    return NULL;
}

static void a_coroutines_and_the_left_stack_are_roots(void **unused)
{
    assert_true(found_in(keep_in_coroutine, MASKED(33)) > 0);
    assert_true(found_in(keep_outside_coroutine, MASKED(34)) > 0);
}

static void *keep_on_user_stack(void *masked)
{
    return keep_in_frame(masked);
}

static void a_stack_of_the_programs_is_a_root(void **unused)
{
    size_t size = 4 << 20;
    char *stack =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstack(&attr, stack + 16, size - 64);
    sh_store_relaxed(&stage, 0);
    MUST(pthread_create(&thread, &attr, keep_on_user_stack, (void *)MASKED(35)) == 0);
    await_flag(&stage, 1);
    assert_true(look_everywhere(MASKED(35)).found > 0);
    set_flag(&stage, 2);
    join(thread);
    munmap(stack, size);
}

/* ---- Segments and ranges ---- */

static volatile uintptr_t data_word = 1, bss_word;

static void the_programs_data_is_a_root(void **unused)
{
    data_word = unmask(MASKED(40));
    bss_word = unmask(MASKED(41));
    assert_true(look_everywhere(MASKED(40)).found > 0);
    assert_true(look_everywhere(MASKED(41)).found > 0);
    data_word = bss_word = 0;
}

static void a_librarys_data_is_a_root(void **unused)
{
    uintptr_t *word = dlsym(RTLD_DEFAULT, "obstack_alloc_failed_handler");
    assert_non_null(word);
    uintptr_t old = *word;
    *word = unmask(MASKED(42));
    assert_true(look_everywhere(MASKED(42)).found > 0);
    *word = old;
}

static void segments_can_be_left_out(void **unused)
{
    data_word = unmask(MASKED(43));
    assert_true(sh_roots_scan_segments(false));
    assert_int_equal(look_everywhere(MASKED(43)).found, 0);
    assert_false(sh_roots_scan_segments(true));
    assert_true(look_everywhere(MASKED(43)).found > 0);
    data_word = 0;
}

static volatile uintptr_t tables[3][8];

static void excluded_ranges_are_left_out(void **unused)
{
    sh_roots_exclude((void *)tables[2], (void *)(tables[2] + 8));
    sh_roots_exclude((void *)tables[0], (void *)(tables[0] + 8));
    for (int i = 0; i < 3; i++)
        tables[i][0] = tables[i][7] = unmask(MASKED(44));
    assert_int_equal(look_everywhere(MASKED(44)).found, 2);
}

static void added_ranges_are_roots_until_removed(void **unused)
{
    uintptr_t *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[100] = unmask(MASKED(45));
    assert_int_equal(look_everywhere(MASKED(45)).found, 0);
    assert_int_equal(sh_roots_add(page, page + 512), 0);
    assert_true(look_everywhere(MASKED(45)).found > 0);
    assert_int_equal(sh_roots_add(page, page + 512), 0);
    assert_int_equal(look_everywhere(MASKED(45)).found, 2);
    assert_int_equal(sh_roots_remove(page, page + 511), ENOENT);
    assert_int_equal(sh_roots_remove(page, page + 512), 0);
    assert_int_equal(sh_roots_remove(page, page + 512), 0);
    assert_int_equal(sh_roots_remove(page, page + 512), ENOENT);
    assert_int_equal(look_everywhere(MASKED(45)).found, 0);
    munmap(page, 4096);
}

static void added_ranges_are_forward_and_many(void **unused)
{
    static uintptr_t words[1000];
    assert_int_equal(sh_roots_add(words + 1, words), EINVAL);
    assert_int_equal(sh_roots_add(words, words), 0);
    assert_int_equal(sh_roots_remove(words, words), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(sh_roots_add(words + i, words + i + 1), 0);
    words[500] = unmask(MASKED(46));
    sh_roots_scan_segments(false);
    assert_true(look_everywhere(MASKED(46)).found > 0);
    sh_roots_scan_segments(true);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(sh_roots_remove(words + i, words + i + 1), 0);
    words[500] = 0;
}

/* ---- Objects that come and go ---- */

#ifndef TEST_MODULE
#define TEST_MODULE "./module_data.so"
#endif

static void *open_module(void)
{
    void *module = dlopen(TEST_MODULE, RTLD_NOW | RTLD_LOCAL);
    MUST(module != NULL);
    return module;
}

static void a_dlopened_objects_data_is_a_root(void **unused)
{
    void *module = open_module();
    uintptr_t *word = dlsym(module, "module_word");
    assert_non_null(word);
    *word = unmask(MASKED(50));
    assert_true(look_everywhere(MASKED(50)).found > 0);
    dlclose(module);
    assert_int_equal(look_everywhere(MASKED(50)).found, 0);
}

/* Its storage is the loader's to allocate, with malloc: ours to see if malloc is. */
static void *keep_in_modules_thread_local(void *masked)
{
    sh_thread_enter();
    void *module = open_module();
    void *symbol = dlsym(module, "module_set");
    void (*set)(uintptr_t);
    memcpy(&set, &symbol, sizeof set);
    set(unmask((uintptr_t)masked));
    keep();
    set(0);
    dlclose(module);
    return NULL;
}

static void a_dlopened_objects_thread_locals_work_on(void **unused)
{
    found_in(keep_in_modules_thread_local, MASKED(51));
}

static _Atomic bool over;

static void *open_and_close(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        void *module = open_module();
        uintptr_t *word = dlsym(module, "module_word");
        *word = 1;
        dlclose(module);
    }
    return NULL;
}

/* The thread sanitizer walks the loader's list in dlopen with a lock of its own held; a
 * thread stopped there keeps others from leaving its runtime, and so from stopping. */
static void dlopen_and_dlclose_go_on(void **unused)
{
    if (SH_TSAN)
        skip();
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        threads[i] = start(open_and_close, NULL);
    for (int i = 0; i < 300; i++)
        assert_true(look_everywhere(MASKED(52)).bytes > 0);
    sh_store_relaxed(&over, true);
    for (int i = 0; i < 2; i++)
        join(threads[i]);
    sh_store_relaxed(&over, false);
}

/* The loader's lock is held, and the GC mutex waited for, in both its ways. */
static int wait_in_loader(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info;
    (void)size;
    sh_gc_mutex_lock();
    sh_gc_mutex_unlock();
    if (sh_world_stop_to_collect(false, true, NULL))
        resume();
    stop_to_collect();
    resume();
    return 1;
}

static void *walk_often(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over))
        dl_iterate_phdr(wait_in_loader, NULL);
    return NULL;
}

static void *collect_often(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        stop_to_collect();
        resume();
    }
    return NULL;
}

static void walks_of_the_programs_do_not_lock_up(void **unused)
{
    pthread_t threads[] = {start(walk_often, NULL), start(walk_often, NULL),
        start(collect_often, NULL), start(collect_often, NULL)};
    sleep_us(300000);
    sh_store_relaxed(&over, true);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    sh_store_relaxed(&over, false);
}

/* ---- Both ways to stop ---- */

static void stopping_with_the_mutex_held_lists_segments(void **unused)
{
    struct look look = {.masked = MASKED(60)};
    data_word = unmask(MASKED(60));
    sh_gc_mutex_collect_begin();
    sh_critical_enter();
    sh_world_stop_with_roots();
    sh_roots_enter();
    sh_scan_static_roots(look_in, &look);
    sh_roots_leave();
    resume();
    data_word = 0;
    assert_true(look.found > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nobody_keeps_is_not_found),
        cmocka_unit_test(a_frame_is_a_root),
        cmocka_unit_test(a_register_is_a_root),
        cmocka_unit_test(a_vector_register_is_a_root),
        cmocka_unit_test(thread_local_storage_is_a_root),
        cmocka_unit_test(thread_specific_data_is_a_root),
        cmocka_unit_test(the_main_threads_frames_are_roots),
        cmocka_unit_test(the_main_threads_thread_locals_are_roots),
        cmocka_unit_test(a_stack_with_a_locked_page_is_a_root),
        cmocka_unit_test(the_initial_environment_is_a_root),
        cmocka_unit_test(the_collectors_own_registers_are_roots),
        cmocka_unit_test(an_ended_collector_has_roots),
        cmocka_unit_test(what_a_blocking_thread_holds_is_a_root),
        cmocka_unit_test(alternate_signal_stacks_are_roots),
        cmocka_unit_test(a_coroutines_and_the_left_stack_are_roots),
        cmocka_unit_test(a_stack_of_the_programs_is_a_root),
        cmocka_unit_test(the_programs_data_is_a_root),
        cmocka_unit_test(a_librarys_data_is_a_root),
        cmocka_unit_test(segments_can_be_left_out),
        cmocka_unit_test(excluded_ranges_are_left_out),
        cmocka_unit_test(added_ranges_are_roots_until_removed),
        cmocka_unit_test(added_ranges_are_forward_and_many),
        cmocka_unit_test(a_dlopened_objects_data_is_a_root),
        cmocka_unit_test(a_dlopened_objects_thread_locals_work_on),
        cmocka_unit_test(dlopen_and_dlclose_go_on),
        cmocka_unit_test(walks_of_the_programs_do_not_lock_up),
        cmocka_unit_test(stopping_with_the_mutex_held_lists_segments),
    };
    sh_thread_enter();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
