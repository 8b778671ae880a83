/* SPDX-License-Identifier: MIT */
/*
 * What collecting needs of the kernel, forbidden one by one: it is told, and what does not
 * need it goes on.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/heap.h"

/* From here on the call fails with EPERM. */
static void forbid(unsigned call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static _Atomic uint32_t step;

static void *wait_here(void *unused)
{
    MUST(gc_alloc(10, 0));
    set_flag(&step, 1);
    await_flag(&step, 2);
    return NULL;
}

static struct batch garbage;

/* Alone it collects; beside another thread it grows, and nothing dies or hangs. */
static void use_heap(void *call)
{
    forbid((unsigned)(uintptr_t)call);
    garbage = (struct batch){.size = 64};
    make_batch(&garbage);
    pthread_t thread = start(wait_here, NULL);
    await_flag(&step, 1);
    for (size_t i = 0; i < 1000; i++)
        MUST(gc_alloc(64 << 10, 0));
    gc_collect();
    MUST(count_live(&garbage) == BATCH);
    set_flag(&step, 2);
    join(thread);
    clear_stack();
    gc_collect();
    MUST(count_live(&garbage) <= SLACK);
}

static const char forbidden[] =
    "splitheap: the system does not let threads be stopped (rt_sigaction or tgkill "
    "fails "
    "with error 1): while there are several, nothing is collected\n";

static void check(unsigned call)
{
    struct child child;
    step = 0;
    child_run(&child, use_heap, (void *)(uintptr_t)call);
    if (!child_returned(&child) || strcmp(child.text, forbidden) != 0)
        fail_msg("status %#x: %s", child.status, child.text);
}

static void signals_are_forbidden(void **unused)
{
    check(SYS_tgkill);
    check(SYS_rt_sigaction);
}

/* In the midst of things, when the signal was in use for long. A thread that has not yet
 * left the stop before stops all the same. */
static void forbid_late(void *unused)
{
    pthread_t thread = start(wait_here, NULL);
    await_flag(&step, 1);
    gc_collect();
    forbid(SYS_tgkill);
    garbage = (struct batch){.size = 64};
    make_batch(&garbage);
    gc_collect();
    gc_collect();
    set_flag(&step, 2);
    join(thread);
    clear_stack();
    gc_collect();
    MUST(count_live(&garbage) <= SLACK);
}

static void signals_may_be_forbidden_late(void **unused)
{
    struct child child;
    step = 0;
    child_run(&child, forbid_late, NULL);
    if (!child_returned(&child) || strcmp(child.text, forbidden) != 0)
        fail_msg("status %#x: %s", child.status, child.text);
}

static void *collect_elsewhere(void *unused)
{
    gc_collect();
    return NULL;
}

static void use_without_files(void *call)
{
    forbid((unsigned)(uintptr_t)call);
    void *volatile p = gc_alloc(100, 0);
    fill(p, 100, 1);
    in_thread(collect_elsewhere, NULL);
    gc_collect();
    MUST(filled(p, 100, 1) && gc_nbytes(p) >= 100);
}

/* Without the list of threads, and of mappings; or where thread-locals are. */
static void files_are_forbidden(void **unused)
{
    static const unsigned calls[] = {
        SYS_openat, SYS_newfstatat, SYS_getdents64, SYS_arch_prctl};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct child child;
        child_run(&child, use_without_files, (void *)(uintptr_t)calls[i]);
        if (!child_returned(&child))
            fail_msg("call %u, status %#x: %s", calls[i], child.status, child.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_forbidden),
        cmocka_unit_test(signals_may_be_forbidden_late),
        cmocka_unit_test(files_are_forbidden),
    };
    if (SH_TSAN)
        return 77;
    return run_on_clean_stack(tests, NULL, NULL);
}
