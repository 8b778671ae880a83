/* SPDX-License-Identifier: MIT */
/*
 * Threads that the library did not see come: the C library's own (timers, asynchronous
 * name look-ups and I/O), those of programs that make threads by hand, and those that
 * were there before the library was loaded. One that allocates registers; one that only
 * holds what it was given is found here.
 *
 * When the registered threads stand still, the kernel's count of threads is compared
 * with ours: one system call. If they differ, the kernel is asked which there are, and
 * those that nobody knows get a record here and the stop signal. A thread made by hand
 * may have no thread-local storage, so the handler finds its record by the thread's
 * number. Then they are treated as registered ones are (see threads/stop.c), and the
 * kernel is asked again, for they may have made others.
 *
 * Many threads are strangers for a moment only, between their start and their
 * registration or between that's end and their own. They block signals there, or say in
 * the handler that they are not to be waited for.
 *
 * A record stays with its thread as long as the kernel knows that, for its thread may
 * still be on its way out of the last stop. That the kernel does not list it says nothing:
 * where a thread ends while the list is read, another may be passed over. Records are never given back, so a handler
 * that is late finds one, and sees that it is not its own.
 *
 * Where there is no memory for a record the collection is left out: what that thread holds
 * would be freed.
 *
 * Locks: the registry's is held, but where noted.
 */
#include "threads/strangers.h"

#include <errno.h>

#include "lib/bits.h"
#include "lib/check.h"
#include "lib/meta.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "lib/print.h"
#include "threads/registry.h"
#include "threads/stop.h"

/* ---- Records ---- */

#define CHUNK 8

struct chunk {
    _Atomic(struct chunk *) next;
    struct sh_stranger at[CHUNK];
};

static _Atomic(struct chunk *) chunks;
static struct sh_stranger *first;
static bool left_out; /* one, in this look, for there was no memory */

struct sh_stranger *sh_strangers_first(void)
{
    return first;
}

struct sh_stranger *sh_strangers_next(const struct sh_stranger *stranger)
{
    return (struct sh_stranger *)stranger->record.next;
}

/* The acquire of `tid` pairs with the release in take_in, which comes before the signal. */
SH_NO_SANITIZE struct sh_stranger *sh_strangers_me(uint32_t tid)
{
    struct chunk *chunk = sh_load_acquire(&chunks);
    for (; chunk; chunk = sh_load_acquire(&chunk->next))
        for (int i = 0; i < CHUNK; i++)
            if (sh_load_acquire(&chunk->at[i].tid) == tid)
                return &chunk->at[i];
    return NULL;
}

/* The releases pair with the acquires above. */
static struct chunk *add_chunk(void)
{
    struct chunk *fresh = sh_meta_alloc(sizeof *fresh);
    if (!fresh)
        return NULL;
    sh_store_relaxed(&fresh->next, NULL);
    for (int i = 0; i < CHUNK; i++) {
        fresh->at[i] = (struct sh_stranger){.listed = false};
        sh_store_relaxed(&fresh->at[i].tid, 0u);
    }
    _Atomic(struct chunk *) *last = &chunks;
    while (sh_load_relaxed(last))
        last = &sh_load_relaxed(last)->next;
    sh_store_release(last, fresh);
    return fresh;
}

static struct sh_stranger *free_record(void)
{
    struct chunk *chunk = sh_load_relaxed(&chunks);
    for (; chunk; chunk = sh_load_relaxed(&chunk->next))
        for (int i = 0; i < CHUNK; i++)
            if (!sh_load_relaxed(&chunk->at[i].tid))
                return &chunk->at[i];
    chunk = add_chunk();
    return chunk ? &chunk->at[0] : NULL;
}

static void take_in(uint32_t tid)
{
    struct sh_stranger *stranger = free_record();
    if (!stranger) {
        left_out = true;
        return;
    }
    struct sh_thread *record = &stranger->record;
    record->tid = tid;
    sh_thread_forget_stack(record);
    sh_store_relaxed(&record->state, SH_THREAD_RUNNING);
    sh_store_relaxed(&stranger->in_handler, false);
    stranger->silent = false;
    stranger->listed = true;
    record->next = first ? &first->record : NULL;
    first = stranger;
    sh_store_release(&stranger->tid, tid);
}

/* ---- Our own ---- */

#define OURS_MAX 64

static _Atomic uint32_t ours[OURS_MAX];
static _Atomic uint32_t ours_count;

/* Without a lock. */
void sh_strangers_ours_begin(void)
{
    uint32_t me = sh_os_thread_id();
    for (int i = 0; i < OURS_MAX; i++) {
        uint32_t none = 0;
        if (!sh_cas_seq_cst(&ours[i], &none, me))
            continue;
        sh_add_seq_cst(&ours_count, 1u);
        return;
    }
}

void sh_strangers_ours_end(void)
{
    uint32_t me = sh_os_thread_id();
    for (int i = 0; i < OURS_MAX; i++) {
        if (sh_load_relaxed(&ours[i]) != me)
            continue;
        sh_sub_seq_cst(&ours_count, 1u);
        sh_store_seq_cst(&ours[i], 0u);
        return;
    }
}

static bool is_ours(uint32_t tid)
{
    for (int i = 0; i < OURS_MAX; i++)
        if (sh_load_seq_cst(&ours[i]) == tid)
            return true;
    return false;
}

/* ---- Those that end ---- */

/*
 * Who has left the registry for good is not waited for. The kernel may use its number
 * again, but not so soon: it comes to it after all the others.
 */
#define LEAVING_MAX 64
#define LEAVING_NS 50000000

static struct {
    _Atomic uint32_t tid;
    _Atomic uint64_t since;
} leaving[LEAVING_MAX];
static _Atomic uint32_t left_so_far;

void sh_strangers_leaving(void)
{
    uint32_t i = sh_add_relaxed(&left_so_far, 1u) % LEAVING_MAX;
    sh_store_relaxed(&leaving[i].tid, 0u);
    sh_store_seq_cst(&leaving[i].since, sh_os_now_coarse_ns());
    sh_store_seq_cst(&leaving[i].tid, sh_os_thread_id());
}

static bool is_leaving(uint32_t tid)
{
    uint64_t now = sh_os_now_ns();
    for (int i = 0; i < LEAVING_MAX; i++)
        if (sh_load_seq_cst(&leaving[i].tid) == tid)
            return now - sh_load_seq_cst(&leaving[i].since) < LEAVING_NS;
    return false;
}

/* ---- Looking ---- */

/* One bit a thread number, of which there are no more than that (the kernel's
 * PID_MAX_LIMIT): set for those that are registered, while the kernel lists them. */
#define TIDS ((size_t)1 << 22)

static uint64_t *known;
static size_t visited; /* in this reading of the list */

static bool is_known(uint32_t tid)
{
    return tid < TIDS && (known[tid / 64] >> tid % 64 & 1);
}

static void know(uint32_t tid, bool whether)
{
    uint64_t bit = (uint64_t)1 << tid % 64;
    if (tid >= TIDS)
        return;
    if (whether)
        known[tid / 64] |= bit;
    else
        known[tid / 64] &= ~bit;
}

static void know_registered(bool whether)
{
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        if (sh_load_relaxed(&t->state) != SH_THREAD_GONE)
            know(t->tid, whether);
    know(sh_os_thread_id(), whether);
}

static void note(void *context, uint32_t tid)
{
    (void)context;
    visited++;
    if (tid >= TIDS || is_known(tid) || is_ours(tid))
        return;
    for (struct sh_stranger *s = first; s; s = sh_strangers_next(s)) {
        if (s->record.tid == tid) {
            s->listed = true;
            return;
        }
    }
    if (!is_leaving(tid))
        take_in(tid);
}

static void unlist_all(void)
{
    for (struct sh_stranger *s = first; s; s = sh_strangers_next(s))
        s->listed = false;
}

static void forget(struct sh_stranger *stranger)
{
    sh_store_release(&stranger->tid, 0u);
}

/* The kernel lists it, or knows it all the same; and it is not registered by now. */
static bool is_there(const struct sh_stranger *stranger)
{
    uint32_t tid = stranger->record.tid;
    return stranger->listed ||
           (!is_known(tid) && !is_ours(tid) && sh_os_signal_thread(tid, 0) != ESRCH);
}

static void forget_gone(void)
{
    struct sh_stranger *all = first, *next;
    first = NULL;
    for (; all; all = next) {
        next = sh_strangers_next(all);
        if (!is_there(all)) {
            forget(all);
            continue;
        }
        all->record.next = first ? &first->record : NULL;
        first = all;
    }
}

static void say_once(int error)
{
    static bool said;
    if (!said)
        sh_print(&sh_stderr_sink,
            "splitheap: the system does not tell the process's threads (error %d); "
            "what "
            "only threads hold that the library did not see made may be collected\n",
            error);
    said = true;
}

/* Threads that end meanwhile make the kernel pass over others. */
#define READINGS 4

static int read_list(void)
{
    int error = 0;
    for (int i = 0; i < READINGS; i++) {
        visited = 0;
        error = sh_os_each_thread(note, NULL);
        if (error || visited >= sh_os_thread_count())
            break;
    }
    return error;
}

static bool have_map(void)
{
    if (!known)
        known = sh_os_map(TIDS / 8, SH_PAGE_SIZE);
    return known != NULL;
}

void sh_strangers_prepare(void)
{
    have_map();
    if (!sh_load_relaxed(&chunks))
        add_chunk();
}

enum sh_strangers_told sh_strangers_look(void)
{
    sh_assert_held(&sh_registry_lock);
    if (!have_map())
        return SH_STRANGERS_NO_MEMORY;
    left_out = false;
    unlist_all();
    know_registered(true);
    int error = read_list();
    if (!error)
        forget_gone();
    know_registered(false);
    if (error)
        say_once(error);
    if (left_out)
        return SH_STRANGERS_NO_MEMORY;
    return error ? SH_STRANGERS_UNTOLD : SH_STRANGERS_TOLD;
}

bool sh_strangers_suspected(void)
{
    if (SH_TSAN)
        return false; /* what it makes for itself may hold its locks */
    size_t there = sh_os_thread_count(), mine = sh_load_seq_cst(&ours_count);
    if (!there && sh_registry_ever_many())
        say_once(ENOENT);
    for (struct sh_thread *t = sh_registry_first(); t; t = t->next)
        mine += sh_load_relaxed(&t->state) != SH_THREAD_GONE;
    mine += sh_tls.self == NULL;
    return there != 0 && there != mine;
}

void sh_strangers_fork_child(void)
{
    for (struct sh_stranger *s = first; s; s = sh_strangers_next(s))
        forget(s);
    first = NULL;
    for (int i = 0; i < OURS_MAX; i++)
        sh_store_relaxed(&ours[i], 0u);
    sh_store_relaxed(&ours_count, 0u);
}
