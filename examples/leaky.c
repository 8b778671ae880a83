/* SPDX-License-Identifier: MIT */
/*
 * leaky - a program with threads that allocates and never frees.
 *
 *     leaky [--malloc] [--seconds N] [--mib N]
 *
 * Four threads each keep a small set of trees, and for every request build a new tree
 * in place of an old one and drop the old one. Each tree's content is checked before it
 * is dropped; every hundredth new one goes to the next thread, which checks and keeps
 * it. Nothing is ever freed: on gc_alloc the collector finds what was dropped, and with
 * --malloc, the same program on malloc, it is lost.
 *
 * The work is fixed (N MiB are allocated in all) and spread over the time, as a
 * server's is. Standard output gets a line "seconds,MiB" of this process's resident
 * memory ten times a second, after a heading; it ends with a line that starts with "#".
 * Exit status 1 means that some content was wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <splitheap/gc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS = 4,
    KEPT_TREES = 400,  /* per thread */
    TREE_NODES = 63,   /* a full tree of six levels */
    LABEL_MIN = 16,    /* bytes of a node's label, the 0 included */
    LABEL_SPREAD = 64, /* labels are up to this much longer */
    PASS_EVERY = 100,  /* requests from one tree for the neighbour to the next */
    SAMPLE_NS = 100 * 1000 * 1000,
};

struct node {
    struct node *left;
    struct node *right;
    uint64_t key;
    char *label; /* a leaf object: derived from the key, see label_char */
};

/* A tree's keys count up from `first` in order, so its root and `first` say it all. */
struct tree {
    struct node *root;
    uint64_t first;
};

struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t requests; /* how many it made; for the last line of the output */
};

/* Trees on their way to a thread; static, hence a root. */
static struct {
    pthread_mutex_t lock;
    struct tree *tree[THREADS];
} mail = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool on_malloc;
static double seconds_to_run = 10;
static size_t bytes_per_worker = ((size_t)1024 << 20) / THREADS;
static _Atomic unsigned workers_done;
static struct timespec started;

static double seconds_since_start(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - started.tv_sec) +
           (double)(now.tv_nsec - started.tv_nsec) / 1e9;
}

static void sleep_ns(long ns)
{
    struct timespec pause = {.tv_nsec = ns};

    while (nanosleep(&pause, &pause) != 0 && errno == EINTR)
        ;
}

/* ---- Allocation, which never frees --------------------------------------------- */

static void *make(size_t size, unsigned gc_flags)
{
    void *object = on_malloc ? calloc(1, size) : gc_alloc(size, gc_flags);

    if (object == NULL) {
        fprintf(stderr, "leaky: no memory for %zu bytes\n", size);
        exit(1);
    }
    return object;
}

/* ---- Trees ----------------------------------------------------------------------- */

static size_t label_size(uint64_t key)
{
    return LABEL_MIN + (key * 0x9E3779B97F4A7C15u >> 32) % LABEL_SPREAD;
}

static char label_char(uint64_t key, size_t i)
{
    return (char)('a' + (key + i * 7) % 26);
}

static char *label_make(uint64_t key, size_t *bytes)
{
    size_t size = label_size(key);
    char *label = make(size, GC_ALLOC_FLAG_LEAF);

    for (size_t i = 0; i < size - 1; i++)
        label[i] = label_char(key, i);
    label[size - 1] = '\0';
    *bytes += size;
    return label;
}

static bool label_right(const char *label, uint64_t key)
{
    size_t size = label_size(key);

    for (size_t i = 0; i < size - 1; i++) {
        if (label[i] != label_char(key, i))
            return false;
    }
    return label[size - 1] == '\0';
}

/* A full tree of `count` nodes (2^n - 1) with keys from *next on, in order. */
static struct node *node_make(unsigned count, uint64_t *next, size_t *bytes)
{
    if (count == 0)
        return NULL;

    struct node *node = make(sizeof(*node), 0);
    *bytes += sizeof(*node);
    node->left = node_make(count / 2, next, bytes);
    node->key = (*next)++;
    node->label = label_make(node->key, bytes);
    node->right = node_make(count / 2, next, bytes);
    return node;
}

static struct tree *tree_make(uint64_t first, size_t *bytes)
{
    struct tree *tree = make(sizeof(*tree), 0);

    *bytes += sizeof(*tree);
    tree->first = first;
    tree->root = node_make(TREE_NODES, &first, bytes);
    return tree;
}

static bool node_right(const struct node *node, unsigned count, uint64_t *next)
{
    if (count == 0)
        return node == NULL;
    return node != NULL && node_right(node->left, count / 2, next) &&
           node->key == (*next)++ && label_right(node->label, node->key) &&
           node_right(node->right, count / 2, next);
}

static void tree_check(const struct tree *tree, unsigned worker)
{
    uint64_t next = tree->first;

    if (node_right(tree->root, TREE_NODES, &next))
        return;
    fprintf(stderr, "leaky: thread %u: the tree of keys from %llu is damaged\n", worker,
        (unsigned long long)tree->first);
    exit(1);
}

/* ---- A worker --------------------------------------------------------------------- */

static struct tree *mail_take(unsigned worker)
{
    pthread_mutex_lock(&mail.lock);
    struct tree *tree = mail.tree[worker];
    mail.tree[worker] = NULL;
    pthread_mutex_unlock(&mail.lock);
    return tree;
}

static void mail_put(unsigned worker, struct tree *tree)
{
    pthread_mutex_lock(&mail.lock);
    mail.tree[worker] = tree;
    pthread_mutex_unlock(&mail.lock);
}

/* Sleeps while this worker has allocated more than its share of the time gone by. */
static void keep_pace(size_t bytes)
{
    double due = seconds_to_run * (double)bytes / (double)bytes_per_worker;

    while (seconds_since_start() < due)
        sleep_ns(2 * 1000 * 1000);
}

static void *work(void *arg)
{
    struct worker *self = arg;
    struct tree **kept = make(KEPT_TREES * sizeof(struct tree *), 0);
    uint64_t random = self->number + 1;
    uint64_t first = (uint64_t)self->number << 48;
    size_t bytes = 0;

    while (bytes < bytes_per_worker) {
        struct tree *fresh = tree_make(first, &bytes);
        first += TREE_NODES;
        if (++self->requests % PASS_EVERY == 0) {
            mail_put((self->number + 1) % THREADS, fresh);
            struct tree *received = mail_take(self->number);
            if (received != NULL)
                fresh = received;
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t slot = (size_t)(random >> 33) % KEPT_TREES;
        if (kept[slot] != NULL)
            tree_check(kept[slot], self->number);
        kept[slot] = fresh;
        keep_pace(bytes);
    }

    for (size_t slot = 0; slot < KEPT_TREES; slot++) {
        if (kept[slot] != NULL)
            tree_check(kept[slot], self->number);
    }
    atomic_fetch_add_explicit(&workers_done, 1, memory_order_release);
    return NULL;
}

/* ---- The curve ---------------------------------------------------------------------- */

static double resident_mib(void)
{
    unsigned long total, resident;
    FILE *statm = fopen("/proc/self/statm", "r");

    if (statm == NULL || fscanf(statm, "%lu %lu", &total, &resident) != 2) {
        fprintf(stderr, "leaky: cannot read /proc/self/statm\n");
        exit(1);
    }
    fclose(statm);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void print_sample(void)
{
    printf("%.2f,%.1f\n", seconds_since_start(), resident_mib());
    fflush(stdout);
}

/* ---- main ---------------------------------------------------------------------------- */

static double number_argument(const char *text)
{
    char *end = NULL;
    double number = text != NULL ? strtod(text, &end) : 0;

    if (end == NULL || *end != '\0' || !(number > 0 && number <= 1e6)) {
        fprintf(stderr, "usage: leaky [--malloc] [--seconds N] [--mib N]\n");
        exit(2);
    }
    return number;
}

static void read_arguments(char **arg)
{
    while (*++arg != NULL) {
        if (strcmp(*arg, "--malloc") == 0)
            on_malloc = true;
        else if (strcmp(*arg, "--seconds") == 0)
            seconds_to_run = number_argument(*++arg);
        else if (strcmp(*arg, "--mib") == 0)
            bytes_per_worker = (size_t)(number_argument(*++arg) * (1 << 20)) / THREADS;
        else
            number_argument(NULL);
    }
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS];
    uint64_t requests = 0;

    if (argc > 1)
        read_arguments(argv);
    clock_gettime(CLOCK_MONOTONIC, &started);
    printf("seconds,MiB\n");
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].number = i;
        int error = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        if (error != 0) {
            fprintf(stderr, "leaky: pthread_create: %s\n", strerror(error));
            return 1;
        }
    }
    while (atomic_load_explicit(&workers_done, memory_order_acquire) < THREADS) {
        print_sample();
        sleep_ns(SAMPLE_NS);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        requests += workers[i].requests;
    }
    print_sample();
    printf("# %llu trees of %d nodes made, every one right\n",
        (unsigned long long)requests, TREE_NODES);
    return 0;
}
