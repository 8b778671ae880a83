/* SPDX-License-Identifier: MIT */
/*
 * New processes from threads, while others allocate and collect: fork, after which both
 * sides allocate, collect and make threads; posix_spawn, vfork, system, popen, daemon.
 */
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks),
        cmocka_unit_test(spawns),
        cmocka_unit_test(shells),
        cmocka_unit_test(daemons),
    };
    if (SH_TSAN)
        return 77; /* its locks are not freed in a child */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
