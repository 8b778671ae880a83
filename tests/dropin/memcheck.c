/* SPDX-License-Identifier: MIT */
/* One mistake a name, for memcheck to find: `memcheck NAME`. */
#include <pthread.h>
#include <splitheap/gc.h>
#include <splitheap/weakref.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static volatile int sink;

static void uninitialised(void)
{
    int *p = malloc(40);
    if (p[3])
        sink = 1;
    free(p);
}

static void after_free(void)
{
    int *volatile p = malloc(40);
    p[0] = 1;
    free(p);
    sink = p[0];
}

static void overrun(void)
{
    for (size_t n = 1; n < 200000; n = n * 7 + 9) {
        char *volatile p = malloc(n);
        p[n] = 1;
        free(p);
    }
}

static void underrun(void)
{
    char *volatile p = calloc(5, 16);
    sink = p[-1];
    free(p);
}

static void leak(void)
{
    void *volatile p = malloc(1234);
    p = malloc(200000);
    p = NULL;
    sink = p != NULL;
}

static void double_free(void)
{
    void *volatile p = malloc(10);
    free(p);
    free(p);
}

static void foreign_free(void)
{
    static char buffer[64];
    void *volatile p = malloc(1);
    free(p);
    p = buffer + 16;
    free(p);
}

struct node {
    struct node *next;
    long number;
};

static void *volatile garbage;

static struct node *make_list(void)
{
    struct node *list = NULL;
    for (long i = 0; i < 3000; i++) {
        struct node *node = gc_alloc(sizeof *node, 0);
        node->next = list;
        node->number = i;
        list = node;
        garbage = gc_alloc((size_t)i % 500 + 1, i % 2 ? GC_ALLOC_FLAG_LEAF : 0);
    }
    return list;
}

static void *in_thread(void *unused)
{
    char undefined[300];
    sink = (int)sizeof undefined;
    make_list();
    gc_collect();
    return unused;
}

/* Nothing is wrong: all that malloc and gc.h offer, and collections in between. */
static void clean(void)
{
    struct node **kept = malloc(sizeof *kept);
    *kept = make_list();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, in_thread, NULL);
    void *blocks[100] = {NULL};
    for (unsigned i = 0; i < 3000; i++) {
        unsigned k = i * 7 % 100;
        blocks[k] = realloc(blocks[k], i * 37 % 3000 + 1);
        memset(blocks[k], 1, i * 37 % 3000 + 1);
        void *p = NULL;
        if (posix_memalign(&p, 16u << i % 10, i + 1) || (size_t)p % (16u << i % 10))
            exit(2);
        free(p);
        if (i % 500 == 0)
            gc_collect();
    }
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    free(realloc(malloc(40 << 20), 70 << 20));
    char *zero = calloc(1000, 1000);
    for (int i = 0; i < 1000000; i += 1000)
        if (zero[i])
            exit(3);
    free(zero);
    char *object = gc_alloc(100000, 0);
    object = gc_realloc(object, 300000, true);
    if (object[299999] || gc_nbytes(object) < 300000)
        exit(4);
    gc_free(object);
    gc_free(malloc(100));
    free(gc_alloc(100, 0));
    gc_collect();
    long n = 2999;
    for (struct node *node = *kept; node; node = node->next)
        if (node->number != n--)
            exit(5);
    free(kept);
    gc_sweep_all();
    puts("clean");
}

/* Roots on the stack alone: right whoever has malloc. */
static void collect(void)
{
    struct node *list = make_list();
    gc_collect();
    long n = 2999;
    for (struct node *node = list; node; node = node->next)
        if (node->number != n--)
            exit(5);
}

static void *nothing(void *unused)
{
    return unused;
}

/* Much in use, and then dirty, where there were threads: else worth the library's own. */
static void much(void)
{
    enum { BLOCKS = 40 };
    static void *blocks[BLOCKS];
    struct stat tasks;
    pthread_t thread;
    pthread_create(&thread, NULL, nothing, NULL);
    pthread_join(thread, NULL);
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(1 << 20);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    free(malloc(1 << 20));
    /* A link for each thread, one for the folder and one for its own name. */
    if (stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink != 3)
        exit(6);
    puts("alone");
}

static unsigned freed;

static void count_freed(unsigned count, void *const args[])
{
    (void)count;
    (void)args;
    freed++;
}

/* The library keeps what waits for a block to be freed. */
static void finalize(void)
{
    static void *volatile blocks[50];
    for (int i = 0; i < 50; i++) {
        blocks[i] = malloc(100);
        if (!gc_finalize_new(blocks[i], count_freed, 0))
            abort();
    }
    gc_collect();
    for (int i = 0; i < 50; i++)
        free(blocks[i]);
    gc_collect();
    printf("%u\n", freed);
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        void (*function)(void);
    } names[] = {
        {"uninitialised", uninitialised},
        {"after_free", after_free},
        {"overrun", overrun},
        {"underrun", underrun},
        {"leak", leak},
        {"double_free", double_free},
        {"foreign_free", foreign_free},
        {"clean", clean},
        {"collect", collect},
        {"much", much},
        {"finalize", finalize},
    };
    for (size_t i = 0; count == 2 && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(words[1], names[i].name) == 0) {
            names[i].function();
            return 0;
        }
    return 2;
}
