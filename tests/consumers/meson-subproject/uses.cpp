/* SPDX-License-Identifier: MIT */
/*
 * A C++ program that uses both faces: new is splitheap's, and what a vector and another
 * thread's stack reach survives a collection.
 */
#include <atomic>
#include <cstdio>
#include <memory>
#include <splitheap/gc.h>
#include <splitheap/malloc.h>
#include <thread>
#include <vector>

static const int objects = 10000;
static const int handed_over = 100;

static long *in_passing[handed_over];

struct alignas(256) wide {
    char bytes[256];
};

static int failed(const char *what)
{
    std::fprintf(stderr, "uses.cpp: %s\n", what);
    return 1;
}

static long *object(long value)
{
    long *p = static_cast<long *>(gc_alloc(sizeof(long), GC_ALLOC_FLAG_LEAF));
    if (p != nullptr)
        *p = value;
    return p;
}

/* Overwrites cells that were freed. */
static void churn()
{
    for (int i = 0; i < objects * 10; i++)
        object(-1);
}

static void fill_in_passing()
{
    for (int i = 0; i < handed_over; i++)
        in_passing[i] = object(i);
}

int main()
{
    std::unique_ptr<int> plain(new int(1));
    std::unique_ptr<int[]> array(new int[100]);
    std::unique_ptr<wide> aligned(new wide);
    if (gc_nbytes(plain.get()) == 0 || gc_nbytes(array.get()) < 100 * sizeof(int) ||
        gc_nbytes(aligned.get()) < sizeof(wide))
        return failed("new is not splitheap's");
    if (malloc_usable_size(aligned.get()) != gc_nbytes(aligned.get()))
        return failed("malloc_usable_size is not splitheap's");

    std::vector<long *> kept;
    for (long i = 0; i < objects; i++)
        kept.push_back(object(i));

    /* The thread takes what is handed over; until the collection is over
     * it does not call splitheap. */
    fill_in_passing();
    std::atomic<int> stage(0);
    std::atomic<int> kept_by_thread(0);
    std::thread thread([&] {
        long *volatile mine[handed_over];
        for (int i = 0; i < handed_over; i++) {
            mine[i] = in_passing[i];
            in_passing[i] = nullptr;
        }
        stage = 1;
        while (stage != 2)
            std::this_thread::yield();
        for (int i = 0; i < handed_over; i++)
            kept_by_thread += gc_nbytes(mine[i]) != 0 && *mine[i] == i;
    });
    while (stage != 1)
        std::this_thread::yield();
    gc_collect();
    churn();
    stage = 2;
    thread.join();

    if (kept_by_thread != handed_over)
        return failed("what another thread's stack reaches did not survive");
    for (long i = 0; i < objects; i++) {
        if (*kept[static_cast<std::size_t>(i)] != i)
            return failed("what a vector reaches did not survive");
    }
    std::printf("uses.cpp: %d objects survived\n", objects);
    return 0;
}
