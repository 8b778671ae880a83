/* SPDX-License-Identifier: MIT */
/*
 * New processes from threads, while others allocate and collect: fork, after which both
 * sides allocate, collect and make threads; posix_spawn, vfork, system, popen, daemon.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/child.h"
#include "tests/heap.h"

static _Atomic bool over;

static void *allocate(void *unused)
{
    void *kept[50] = {NULL};
    for (size_t i = 0; !sh_load_relaxed(&over); i++) {
        kept[i % 50] = gc_alloc(i % 500 + 1, 0);
        MUST(kept[i % 50]);
        sh_free(sh_malloc(i % 700));
        if (i % 4096 == 0)
            sleep_us(50); /* or a new process may wait for a processor very long */
    }
    return NULL;
}

static void *collect(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        gc_collect();
        sleep_us(300);
    }
    return NULL;
}

static void *use_a_little(void *unused)
{
    for (size_t i = 1; i < 200; i++)
        MUST(gc_alloc(i, 0));
    gc_collect();
    return NULL;
}

static void use_heap(void)
{
    use_a_little(NULL);
#if SH_INTERPOSE /* a sanitizer's locks are not freed in a child */
    join(start(use_a_little, NULL));
    gc_collect();
#endif
}

static void wait_for(pid_t pid)
{
    int status;
    MUST(pid > 0);
    MUST(waitpid(pid, &status, 0) == pid);
    MUST(status == 0);
}

static void by_fork(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        use_heap();
        _exit(0);
    }
    use_a_little(NULL);
    wait_for(pid);
}

static void by_two_forks(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        use_heap();
        by_fork();
        _exit(0);
    }
    wait_for(pid);
}

extern char **environ;

static void by_posix_spawn(void)
{
    char *const args[] = {"true", NULL};
    pid_t pid;
    MUST(posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ) == 0);
    wait_for(pid);
}

static void by_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    wait_for(pid);
}

static void by_system(void)
{
    MUST(system("exit 0") == 0);
}

static void by_popen(void)
{
    char line[20] = "";
    FILE *file = popen("echo said", "r");
    MUST(file && fgets(line, sizeof line, file));
    MUST(strcmp(line, "said\n") == 0 && pclose(file) == 0);
}

/* The daemon is nobody's child: it is heard of by its pipe. */
static void by_daemon(void)
{
    int fds[2];
    char c = 0;
    MUST(pipe(fds) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        MUST(daemon(1, 1) == 0);
        use_heap();
        MUST(write(fds[1], "x", 1) == 1);
        _exit(0);
    }
    close(fds[1]);
    wait_for(pid);
    MUST(read(fds[0], &c, 1) == 1 && c == 'x');
    close(fds[0]);
}

static void *repeat(void *how)
{
    MUST(gc_thread_register() == 0);
    for (int i = 0; i < 4; i++)
        (*(void (**)(void))how)();
    return NULL;
}

/* From two threads at once, and the main one. */
static void check(void (*how)(void))
{
    pthread_t others[3];
    over = false;
    others[0] = start(allocate, NULL);
    others[1] = start(allocate, NULL);
    others[2] = start(collect, NULL);
    pthread_t one = start(repeat, &how), two = start(repeat, &how);
    repeat(&how);
    join(one);
    join(two);
    over = true;
    for (int i = 0; i < 3; i++)
        join(others[i]);
}

static void forks(void **unused)
{
    check(by_fork);
    check(by_two_forks);
}

static void spawns(void **unused)
{
    check(by_posix_spawn);
    check(by_vfork);
}

static void shells(void **unused)
{
    check(by_system);
    check(by_popen);
}

static void daemons(void **unused)
{
    check(by_daemon);
}

/* ---- Beside streams ---- */

#define LINE_BYTES (2 << 20) /* so that the line is resized, as a large object */
#define FORKS 50

static void *flush_all(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        fflush(NULL);
        sleep_us(50); /* or who waits for a lock waits very long */
    }
    return NULL;
}

/* Whoever reads has the stream's lock while the line is made longer. */
static void *read_line(void *stream)
{
    char *line = NULL;
    size_t bytes = 0;
    while (!sh_load_relaxed(&over)) {
        rewind(stream);
        MUST(getline(&line, &bytes, stream) == LINE_BYTES + 1);
        free(line);
        line = NULL;
        sleep_us(50);
    }
    return NULL;
}

static FILE *long_line(void)
{
    FILE *file = tmpfile();
    MUST(file);
    for (int i = 0; i < LINE_BYTES; i++)
        fputc('x', file);
    MUST(fputc('\n', file) == '\n' && fflush(file) == 0);
    return file;
}

/* The lock of all streams is held by who waits for one, whose lock is held by who
 * allocates: and fork takes it, too. */
static void forks_beside_streams(void **unused)
{
    over = false;
    FILE *files[] = {long_line(), long_line()};
    pthread_t others[] = {
        start(flush_all, NULL), start(read_line, files[0]), start(read_line, files[1])};
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(fflush(NULL));
        wait_for(pid);
    }
    over = true;
    for (int i = 0; i < 3; i++)
        join(others[i]);
    fclose(files[0]);
    fclose(files[1]);
}

/* ---- In the midst of the first use ---- */

/* 1: a thread is about to take the stop signal into use; 2: it may go on. */
static _Atomic uint32_t step;

static void probed(int signal, siginfo_t *info, void *context)
{
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 0;
    if (sh_load_acquire(&step))
        return;
    set_flag(&step, 1);
    await_flag(&step, 2);
}

/* tgkill with the signal 0, by which it is asked whether threads can be signalled. */
static void trap_the_probe(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = probed;
    MUST(sigaction(SIGSYS, &action, NULL) == 0);
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void fork_at_the_first_use(void *unused)
{
    trap_the_probe();
    pthread_t thread = start(use_a_little, NULL);
    await_flag(&step, 1);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        use_heap();
        _exit(0);
    }
    set_flag(&step, 2);
    wait_for(pid);
    use_heap();
    join(thread);
}

/* The thread that is about to take it into use is not there in the child. */
static void forks_at_the_first_use(void **unused)
{
    struct child child;
    child_run(&child, fork_at_the_first_use, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_at_the_first_use), /* before the others use it */
        cmocka_unit_test(forks),
        cmocka_unit_test(forks_beside_streams),
        cmocka_unit_test(spawns),
        cmocka_unit_test(shells),
        cmocka_unit_test(daemons),
    };
    if (SH_TSAN)
        return 77; /* its locks are not freed in a child */
    return run_on_clean_stack(tests, NULL, NULL);
}
