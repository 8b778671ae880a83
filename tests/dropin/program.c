/* SPDX-License-Identifier: MIT */
/*
 * What programs do that can go wrong under another malloc, one way a name: `program NAME`
 * does it and says "ok NAME". It is run as it is, preloaded and linked in every way
 * (run.py), and knows of the library only by names that may be missing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

#define MUST(condition)                                                                \
    do {                                                                               \
        if (!(condition)) {                                                            \
            dprintf(                                                                   \
                2, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);   \
            _exit(1);                                                                  \
        }                                                                              \
    } while (0)

extern char **environ;

/* Linked or preloaded they are there; else NULL. */
void *gc_alloc(size_t n_bytes, unsigned flags) __attribute__((weak));
void gc_collect(void) __attribute__((weak));
size_t gc_nbytes(const void *p) __attribute__((weak));

static const char *self; /* this program's file */

/* Fills what it gets and keeps some for a while. */
static void churn(unsigned seed, size_t rounds)
{
    unsigned char *kept[64] = {NULL};
    size_t sizes[64] = {0};
    for (size_t i = 0; i < rounds; i++) {
        unsigned k = (seed = seed * 1103515245u + 12345u) >> 16 & 63;
        if (kept[k])
            MUST(kept[k][0] == k && kept[k][sizes[k] - 1] == k);
        sizes[k] = 1 + (seed >> 8) % (i % 97 ? 600 : 60000);
        kept[k] = realloc(kept[k], sizes[k]);
        MUST(kept[k]);
        memset(kept[k], (int)k, sizes[k]);
    }
    for (unsigned k = 0; k < 64; k++)
        free(kept[k]);
}

static void must_exit_0(pid_t pid)
{
    int status;
    MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- Memory ---- */

static void do_malloc(void)
{
    churn(1, 20000);
    void *p = NULL;
    MUST(posix_memalign(&p, 4096, 100) == 0 && (uintptr_t)p % 4096 == 0);
    free(p);
    char *big = calloc(1, 100 * MIB);
    MUST(big && big[50 * MIB] == 0);
    big = realloc(big, 120 * MIB);
    MUST(big);
    free(big);
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen("/dev/zero", "r");
    MUST(file && getdelim(&line, &size, 0, file) == 1);
    fclose(file);
    free(line);
    free(strdup("x"));
}

struct node {
    struct node *next;
    size_t number;
};

static void do_collect(void)
{
    if (!gc_alloc || !gc_collect) {
        fprintf(stderr, "gc.h is not there\n");
        exit(77);
    }
    struct node **kept = malloc(sizeof *kept);
    *kept = NULL;
    for (size_t i = 0; i < 200000; i++) {
        struct node *node = gc_alloc(sizeof *node, 0);
        MUST(node && !node->next);
        node->number = i;
        if (i % 100 == 0) {
            node->next = *kept;
            *kept = node;
        }
    }
    gc_collect();
    size_t n = 0;
    for (struct node *node = *kept; node; node = node->next, n++)
        MUST(node->number == (1999 - n) * 100 && gc_nbytes(node) >= sizeof *node);
    MUST(n == 2000);
    free(kept);
}

/* Takes chunks until there is no more; frees them; goes on. */
static void exhaust(size_t chunk)
{
    void **chain = NULL, **p;
    size_t count = 0;
    errno = 0;
    while ((p = malloc(chunk))) {
        memset(p, 1, chunk < 4096 ? chunk : 4096);
        *p = chain;
        chain = p;
        MUST(++count * chunk < (size_t)1 << 40);
    }
    MUST(errno == ENOMEM);
    MUST(count * chunk > 30 * MIB);
    errno = 0;
    MUST(!malloc(PTRDIFF_MAX / 2) && errno == ENOMEM);
    while ((p = chain)) {
        chain = *p;
        free(p);
    }
    churn(2, 2000);
    p = malloc(32 * MIB);
    MUST(p);
    free(p);
}

static void limited(__rlimit_resource_t resource, size_t bytes)
{
    struct rlimit limit = {bytes, bytes};
    MUST(setrlimit(resource, &limit) == 0);
    exhaust(100);
    exhaust(5000);
    exhaust(MIB);
    exhaust(40 * MIB);
    exhaust(100);
}

static void do_rlimit_as(void)
{
    limited(RLIMIT_AS, 256 * MIB);
}

static void do_rlimit_data(void)
{
    limited(RLIMIT_DATA, 128 * MIB);
}

static void do_rlimit_as_64g(void)
{
    struct rlimit limit = {(size_t)64 << 30, (size_t)64 << 30};
    MUST(setrlimit(RLIMIT_AS, &limit) == 0);
    churn(3, 20000);
    errno = 0;
    MUST(!malloc((size_t)65 << 30) && errno == ENOMEM);
    char *p = malloc(300 * MIB);
    MUST(p);
    p[299 * MIB] = 1;
    free(p);
}

static void *just_sleep(void *unused)
{
    usleep(1000);
    return unused;
}

/* What the heap reserves must leave room for what else a program maps. */
static void do_room_for_others(void)
{
    struct rlimit limit = {512 * MIB, 512 * MIB};
    MUST(setrlimit(RLIMIT_AS, &limit) == 0);
    void *kept[300 * 16];
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        kept[i] = malloc(MIB / 16 - 4096);
        MUST(kept[i]);
        memset(kept[i], 1, 64);
    }
    void *mapped = mmap(
        NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mapped != MAP_FAILED);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, just_sleep, NULL) == 0);
    pthread_join(thread, NULL);
}

/* In a control group of which run.py says how many MiB it has left. */
static void do_group_limit(void)
{
    size_t left = strtoul(getenv("GROUP_MIB"), NULL, 10) * MIB;
    errno = 0;
    MUST(!malloc(left) && errno == ENOMEM);
    void *p = malloc(left / 2);
    MUST(p);
    free(p);
}

/* In one that the kernel knows of: up to the end, all of it used; and then again. */
static void do_group_end(void)
{
    for (int i = 0; i < 2; i++) {
        void **last = NULL;
        errno = 0;
        for (void **p; (p = malloc(10000)); last = p) {
            memset(p, 1, 10000);
            *p = last;
        }
        MUST(errno == ENOMEM && last);
        while (last) {
            void **next = *last;
            free(last);
            last = next;
        }
    }
}

/* ---- Threads ---- */

static void *churning(void *arg)
{
    churn((unsigned)(uintptr_t)arg, 200);
    return strdup("from the thread");
}

static void do_threads(void)
{
    enum { AT_ONCE = 100, WAVES = 30 };
    for (unsigned wave = 0; wave < WAVES; wave++) {
        pthread_t threads[AT_ONCE];
        for (uintptr_t i = 0; i < AT_ONCE; i++)
            MUST(!pthread_create(&threads[i], NULL, churning, (void *)(i + wave)));
        for (unsigned i = 0; i < AT_ONCE; i++) {
            void *text;
            MUST(pthread_join(threads[i], &text) == 0);
            MUST(strcmp(text, "from the thread") == 0);
            free(text);
        }
    }
}

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic unsigned destroyed;

/* In all rounds of destructors, and after ours took leave. */
static void destroy(void *value)
{
    unsigned *rounds = value;
    free(malloc(1000));
    churn(4, 50);
    destroyed++;
    if (--*rounds)
        pthread_setspecific(key, rounds);
    else
        free(rounds);
}

static void make_key(void)
{
    pthread_key_create(&key, destroy);
}

static void *with_destructor(void *unused)
{
    (void)unused;
    pthread_once(&once, make_key);
    unsigned *rounds = malloc(sizeof *rounds);
    *rounds = 4;
    pthread_setspecific(key, rounds);
    return NULL;
}

static void do_tls_destructors(void)
{
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, with_destructor, NULL) == 0);
        pthread_join(thread, NULL);
    }
    MUST(destroyed == 200);
}

/* ---- Processes ---- */

static _Atomic bool over;

static void *churn_on(void *unused)
{
    while (!over)
        churn(5, 100);
    return unused;
}

static void do_fork(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        MUST(pthread_create(&threads[i], NULL, churn_on, NULL) == 0);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            churn(6, 500);
            pthread_t thread;
            void *text;
            MUST(pthread_create(&thread, NULL, churning, NULL) == 0);
            MUST(pthread_join(thread, &text) == 0);
            free(text);
            if (i % 10 == 0)
                must_exit_0(fork() ?: (churn(7, 100), _exit(0), 0));
            _exit(0);
        }
        must_exit_0(pid);
    }
    over = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static char *const quick_words[] = {(char *)"program", (char *)"quick", NULL};

static void do_quick(void)
{
    churn(8, 500);
}

static void do_spawn(void)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid;
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        MUST(posix_spawn(&pid, self, &actions, NULL, quick_words, environ) == 0);
        must_exit_0(pid);
        posix_spawn_file_actions_destroy(&actions);
        pid = vfork();
        if (pid == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(99);
        }
        must_exit_0(pid);
        MUST(system("exit 3") == 3 << 8);
        FILE *pipe = popen("echo text", "r");
        char text[8];
        MUST(pipe && fgets(text, sizeof text, pipe) && strcmp(text, "text\n") == 0);
        MUST(pclose(pipe) == 0);
    }
}

static void *exec_quick(void *unused)
{
    execv(self, quick_words);
    return unused;
}

/* The other threads vanish in the middle of whatever they do. */
static void do_exec_from_thread(void)
{
    for (int i = 0; i < 5; i++) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t thread;
            MUST(freopen("/dev/null", "w", stdout));
            pthread_create(&thread, NULL, churn_on, NULL);
            pthread_create(&thread, NULL, churn_on, NULL);
            pthread_create(&thread, NULL, exec_quick, NULL);
            pthread_join(thread, NULL);
            _exit(98);
        }
        must_exit_0(pid);
    }
}

/* A daemon's children tell by a pipe. */
static void do_daemon(void)
{
    int ends[2];
    MUST(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        churn(9, 200);
        MUST(daemon(0, 0) == 0);
        churn(10, 200);
        if (fork())
            _exit(0);
        setsid();
        if (fork())
            _exit(0);
        churn(11, 500);
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, churning, NULL) == 0);
        MUST(pthread_join(thread, NULL) == 0);
        if (gc_collect)
            gc_collect();
        MUST(write(ends[1], "ok", 2) == 2);
        _exit(0);
    }
    must_exit_0(pid);
    close(ends[1]);
    char text[2];
    MUST(read(ends[0], text, 2) == 2);
}

static _Atomic unsigned at_forks;

static void at_fork(void)
{
    free(realloc(malloc(100), 100000));
    at_forks++;
}

static void do_atfork(void)
{
    MUST(pthread_atfork(at_fork, at_fork, at_fork) == 0);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, churn_on, NULL) == 0);
    for (int i = 0; i < 30; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(at_forks == 2 + 2 * (unsigned)i ? 0 : 1);
        must_exit_0(pid);
    }
    over = true;
    pthread_join(thread, NULL);
    MUST(at_forks == 60);
}

/* ---- Signals and jumps ---- */

static sigjmp_buf jump;
static volatile sig_atomic_t signals;

static void count_signal(int signal)
{
    (void)signal;
    signals = signals + 1;
}

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(jump, 1);
}

static void do_signals(void)
{
    static char stack[64 << 10];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    MUST(sigaltstack(&alternate, NULL) == 0);
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_ONSTACK};
    MUST(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t main_thread = pthread_self();
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 500; i++) {
            kill(getppid(), SIGUSR1);
            usleep(100);
        }
        _exit(0);
    }
    while (signals < 20)
        churn(12, 200);
    int status;
    while (waitpid(pid, &status, 0) != pid)
        MUST(errno == EINTR);
    MUST(pthread_equal(main_thread, pthread_self()));
}

/* Out of a handler, while the program's own code runs. */
static void do_jumps(void)
{
    struct sigaction action = {.sa_handler = jump_out};
    MUST(sigaction(SIGSEGV, &action, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        void *p = malloc(50);
        if (sigsetjmp(jump, 1) == 0) {
            kill(getpid(), SIGSEGV);
            MUST(false);
        }
        free(p);
        churn(13, 20);
        if (i % 20 == 0 && gc_collect)
            gc_collect();
    }
}

/* ---- Beginnings and ends ---- */

static char *late;

static void free_late(void)
{
    free(late);
    free(strdup("atexit"));
}

__attribute__((destructor(101))) static void free_last(void)
{
    free(malloc(100000));
    churn(14, 100);
}

static void do_exit(void)
{
    late = strdup("late");
    MUST(atexit(free_late) == 0);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, churn_on, NULL) == 0);
    pthread_detach(thread);
    usleep(10000);
}

static void do_environ(void)
{
    clearenv();
    environ = NULL;
    churn(15, 500);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, churning, NULL) == 0);
    pthread_join(thread, NULL);
    MUST(setenv("A", "b", 1) == 0 && strcmp(getenv("A"), "b") == 0);
    pid_t pid;
    char *none[] = {NULL};
    MUST(posix_spawn(&pid, "/bin/true", NULL, NULL, quick_words, none) == 0);
    must_exit_0(pid);
}

/* A message finds no standard error; the outcome is the same. */
static void do_closed_files(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        close(0);
        close(1);
        close(2);
        churn(16, 500);
        char *p = malloc(10);
        volatile uintptr_t hidden = (uintptr_t)p;
        free(p);
        free((void *)hidden);
        _exit(0);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* In a directory without /proc, /sys and /dev. */
static void do_chroot(void)
{
    char path[] = "/tmp/splitheap-empty-XXXXXX";
    MUST(mkdtemp(path));
    if (chroot(path) != 0) {
        rmdir(path);
        fprintf(stderr, "not root\n");
        exit(77);
    }
    rmdir("/");
    MUST(access("/proc", F_OK) != 0);
    churn(17, 5000);
    char *p = malloc(100 * MIB);
    MUST(p);
    free(p);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, churning, NULL) == 0);
    pthread_join(thread, NULL);
    if (gc_alloc)
        do_collect();
}

/* ---- Forbidden system calls ---- */

static void forbid(const long *calls, size_t count, unsigned error)
{
    struct sock_filter filter[32] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    size_t n = 1;
    for (size_t i = 0; i < count; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        filter[n++] =
            (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
        fprintf(stderr, "there is no seccomp here\n");
        exit(77);
    }
}

/* Enough that pages are given back and huge objects change their size. */
static void work_without(const long *calls, size_t count, unsigned error)
{
    forbid(calls, count, error);
    churn(18, 5000);
    char *blocks[100];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 100; i++) {
            MUST(blocks[i] = calloc(1, MIB));
            for (size_t at = 0; at < MIB; at += 4096) {
                MUST(blocks[i][at] == 0);
                blocks[i][at] = 1;
            }
        }
        for (int i = 0; i < 100; i++)
            free(blocks[i]);
    }
    char *huge = malloc(40 * MIB);
    MUST(huge);
    huge[0] = huge[40 * MIB - 1] = 7;
    huge = realloc(huge, 90 * MIB);
    MUST(huge && huge[0] == 7 && huge[40 * MIB - 1] == 7);
    huge = realloc(huge, 35 * MIB);
    MUST(huge && huge[0] == 7);
    free(huge);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, churning, NULL) == 0);
    pthread_join(thread, NULL);
}

static const long unusual_calls[] = {SYS_madvise, SYS_mremap, SYS_membarrier,
    SYS_getrlimit, SYS_prlimit64, SYS_sched_getaffinity, SYS_sysinfo};

static void do_seccomp_enosys(void)
{
    work_without(unusual_calls, sizeof unusual_calls / sizeof unusual_calls[0], ENOSYS);
}

static void do_seccomp_eperm(void)
{
    work_without(unusual_calls, sizeof unusual_calls / sizeof unusual_calls[0], EPERM);
}

static void do_seccomp_no_files(void)
{
    static const long calls[] = {SYS_open, SYS_openat, SYS_readlink, SYS_prctl};
    forbid(calls, sizeof calls / sizeof calls[0], EACCES);
    churn(19, 5000);
    char *p = malloc(100 * MIB);
    MUST(p);
    free(p);
}

/* ---- Which ---- */

static const struct {
    const char *name;
    void (*function)(void);
} names[] = {
    {"malloc", do_malloc},
    {"collect", do_collect},
    {"rlimit_as", do_rlimit_as},
    {"rlimit_data", do_rlimit_data},
    {"rlimit_as_64g", do_rlimit_as_64g},
    {"room_for_others", do_room_for_others},
    {"group_limit", do_group_limit},
    {"group_end", do_group_end},
    {"threads", do_threads},
    {"tls_destructors", do_tls_destructors},
    {"fork", do_fork},
    {"quick", do_quick},
    {"spawn", do_spawn},
    {"exec_from_thread", do_exec_from_thread},
    {"daemon", do_daemon},
    {"atfork", do_atfork},
    {"signals", do_signals},
    {"jumps", do_jumps},
    {"exit", do_exit},
    {"environ", do_environ},
    {"closed_files", do_closed_files},
    {"chroot", do_chroot},
    {"seccomp_enosys", do_seccomp_enosys},
    {"seccomp_eperm", do_seccomp_eperm},
    {"seccomp_no_files", do_seccomp_no_files},
};

int main(int count, char **words)
{
    static char path[4096];
    MUST(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
    self = path;
    for (size_t i = 0; count == 2 && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(words[1], names[i].name) == 0) {
            names[i].function();
            printf("ok %s\n", words[1]);
            return 0;
        }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        puts(names[i].name);
    return 2;
}
