/* SPDX-License-Identifier: MIT */
/*
 * Loads the library long after the start: `dlopener LIBRARY local|global MODULE...`.
 * malloc stays the C library's; gc.h works by dlsym. The modules, loaded before, each take
 * some of the static thread-local storage that is left over.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(condition)                                                                \
    do {                                                                               \
        if (!(condition)) {                                                            \
            dprintf(2, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                 \
            _exit(1);                                                                  \
        }                                                                              \
    } while (0)

static void *(*alloc)(size_t n_bytes, unsigned flags);
static void (*collect)(void);
static size_t (*nbytes)(const void *p);
static void (*their_free)(void *p);
static void *(*their_malloc)(size_t size);

static void *global; /* a root */

/* What a thread that the library did not see come holds on its stack. */
static void *hold(void *unused)
{
    (void)unused;
    char *volatile p = alloc(100, 0);
    MUST(p);
    strcpy(p, "held");
    for (int i = 0; i < 100000; i++)
        MUST(alloc(40, 0));
    collect();
    MUST(strcmp(p, "held") == 0 && nbytes(p) >= 100);
    return NULL;
}

/* A pointer of the C library's malloc given to ours. */
static void free_foreign(void)
{
    int ends[2], status;
    MUST(pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        their_free(malloc(100));
        _exit(0);
    }
    close(ends[1]);
    char text[512];
    ssize_t n = read(ends[0], text, sizeof text - 1);
    MUST(n > 0);
    text[n] = '\0';
    MUST(strstr(text, "foreign pointer"));
    MUST(waitpid(pid, &status, 0) == pid);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    close(ends[0]);
}

int main(int count, char **words)
{
    MUST(count >= 3);
    pthread_t before;
    for (int i = 3; i < count; i++)
        if (!dlopen(words[i], RTLD_NOW)) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    void *early = malloc(1000);
    bool local = strcmp(words[2], "local") == 0;
    void *library = dlopen(words[1], RTLD_NOW | (local ? RTLD_LOCAL : RTLD_GLOBAL));
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&alloc = dlsym(library, "gc_alloc");
    *(void **)&collect = dlsym(library, "gc_collect");
    *(void **)&nbytes = dlsym(library, "gc_nbytes");
    *(void **)&their_free = dlsym(library, "free");
    *(void **)&their_malloc = dlsym(library, "malloc");
    MUST(alloc && collect && nbytes && their_free && their_malloc);
    /* The program's own malloc is what it was. */
    void *late = malloc(1000);
    MUST(nbytes(early) == 0 && nbytes(late) == 0);
    free(early);
    free(late);
    void *theirs = their_malloc(1000);
    MUST(nbytes(theirs) >= 1000);
    their_free(theirs);
    global = alloc(50, 0);
    strcpy(global, "global");
    hold(NULL);
    MUST(pthread_create(&before, NULL, hold, NULL) == 0);
    pthread_join(before, NULL);
    MUST(strcmp(global, "global") == 0);
    free_foreign();
    /* It stays: threads' ends lead into it. */
    MUST(dlclose(library) == 0);
    hold(NULL);
    printf("ok\n");
    return 0;
}
