/* SPDX-License-Identifier: MIT */
/*
 * Threads that the library did not see made: one that allocates is taken in on the spot;
 * one that never does, but holds a pointer, is stopped and scanned with the others.
 *
 * Each kind of thread does the same: it takes the one pointer to an object out of
 * hiding, onto its stack, and waits, while the main thread collects.
 */
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netdb.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <asm/prctl.h>
#include <sched.h>

#include "lib/meta.h"
#include "lib/os_linux_call.h"
#include "lib/os_thread.h"
#include "tests/child.h"
#include "tests/heap.h"
#include "threads/gang.h"

#define BYTES 200

static uintptr_t hidden;
static _Atomic uint32_t step;
static _Atomic bool allocates;

/* System calls by hand: a thread may have no errno. */
static void tell(uint32_t value)
{
    sh_store_seq_cst(&step, value);
    sh_os_park_wake(&step);
}

static void await(uint32_t value)
{
    uint32_t seen;
    while ((seen = sh_load_acquire(&step)) != value)
        sh_os_park_wait(&step, seen);
}

static SH_NOINLINE void hold_quietly(void)
{
    void *volatile p = reveal(hidden);
    tell(1);
    await(2);
    bool kept = filled(p, BYTES, 7);
    p = NULL;
    tell(kept ? 3 : 4);
}

static SH_NOINLINE void hold_and_allocate(void)
{
    void *volatile p = reveal(hidden);
    void *volatile q = gc_alloc(BYTES, 0);
    fill(q, BYTES, 5);
    tell(1);
    await(2);
    bool kept = filled(p, BYTES, 7) && filled(q, BYTES, 5) && gc_nbytes(p) >= BYTES &&
                gc_nbytes(q) >= BYTES;
    p = q = NULL;
    tell(kept ? 3 : 4);
}

static void hold(void)
{
    if (sh_load_relaxed(&allocates))
        hold_and_allocate();
    else
        hold_quietly();
}

static SH_NOINLINE void make_object(void)
{
    void *p = gc_alloc(BYTES, 0);
    fill(p, BYTES, 7);
    hidden = hide(p);
}

static struct batch garbage;

/* What nobody keeps is found dead meanwhile, so the collections are real ones. */
static void collect_some(void)
{
    garbage = (struct batch){.size = 64};
    in_thread(make_batch, &garbage);
    clear_stack();
    for (int i = 0; i < 3; i++)
        gc_collect();
    assert_in_range(count_live(&garbage), 0, SLACK);
}

static SH_NOINLINE bool is_live(void)
{
    return gc_nbytes(reveal(hidden)) >= BYTES;
}

static void check(void (*start_thread)(void))
{
    step = 0;
    make_object();
    gc_lock(); /* until the thread holds it */
    start_thread();
    await(1);
    gc_unlock();
    clear_stack();
    collect_some();
    bool live = is_live();
    tell(2); /* come what may: it would answer in the place of the next test's */
    while (step == 2)
        sched_yield();
    assert_true(live);
    assert_int_equal(step, 3);
    clear_stack();
    gc_collect();
}

static void check_both(void (*start_thread)(void))
{
    allocates = false;
    check(start_thread);
    allocates = true;
    check(start_thread);
}

/* ---- The C library's own ---- */

static void notified(union sigval value)
{
    hold();
}

static struct sigevent event(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD};
    event.sigev_notify_function = notified;
    return event;
}

static void start_timer(void)
{
    struct sigevent what = event();
    struct itimerspec soon = {.it_value = {0, 1000000}};
    static timer_t timer;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &what, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &soon, NULL), 0);
}

/* Linked with the archive that leaves malloc to the C library, it is not. */
static bool malloc_is_ours(void)
{
    void *p = malloc(BYTES);
    bool ours = gc_nbytes(p) >= BYTES;
    free(p);
    return ours;
}

/* They sleep with all signals blocked; but free something first, so that where malloc is
 * ours they are registered. */
static void check_notified(void (*start_thread)(void))
{
    allocates = true;
    check(start_thread);
    if (malloc_is_ours())
        check_both(start_thread);
}

static void timer_threads(void **unused)
{
    check_notified(start_timer);
}

static void start_lookup(void)
{
    static const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    static struct gaicb request, *list[] = {&request};
    request = (struct gaicb){.ar_name = "127.0.0.1", .ar_request = &hints};
    struct sigevent what = event();
    assert_int_equal(getaddrinfo_a(GAI_NOWAIT, list, 1, &what), 0);
}

static void name_lookup_threads(void **unused)
{
    check_notified(start_lookup);
}

static void start_read(void)
{
    static char buffer[16];
    static struct aiocb control;
    static int file = -1;
    if (file < 0)
        file = memfd_create("read", MFD_CLOEXEC);
    control = (struct aiocb){.aio_fildes = file, .aio_buf = buffer, .aio_nbytes = 16};
    control.aio_sigevent = event();
    assert_int_equal(aio_read(&control), 0);
}

static void asynchronous_io_threads(void **unused)
{
    check_notified(start_read);
}

static mqd_t queue;

static void start_message(void)
{
    struct sigevent what = event();
    char got[8];
    assert_int_equal(mq_notify(queue, &what), 0);
    assert_int_equal(mq_send(queue, "x", 1, 0), 0);
    assert_int_equal(mq_receive(queue, got, sizeof got, NULL), 1);
}

static void message_threads(void **unused)
{
    struct mq_attr most = {.mq_maxmsg = 1, .mq_msgsize = 8};
    char name[32];
    snprintf(name, sizeof name, "/splitheap-%d", (int)getpid());
    queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &most);
    if (queue == (mqd_t)-1)
        skip(); /* the system has none, or no more */
    mq_unlink(name);
    check_notified(start_message);
    mq_close(queue);
}

/* ---- Made behind our back ---- */

static void *run(void *unused)
{
    hold();
    return NULL;
}

static void start_behind(void)
{
    pthread_t thread;
    assert_int_equal(sh_os_pthread_create()(&thread, NULL, run, NULL), 0);
    pthread_detach(thread);
}

static void threads_of_the_c_librarys_pthread_create(void **unused)
{
    check_both(start_behind);
}

static void *run_behind(void *unused)
{
    start_behind();
    return NULL;
}

/* It is found when its maker is stopped. */
static void start_behind_behind(void)
{
    pthread_t thread;
    assert_int_equal(sh_os_pthread_create()(&thread, NULL, run_behind, NULL), 0);
    pthread_detach(thread);
}

static void threads_of_strangers(void **unused)
{
    check_both(start_behind_behind);
}

static int c11_run(void *unused)
{
    hold();
    return 0;
}

static void start_c11(void)
{
    thrd_t thread;
    assert_int_equal(thrd_create(&thread, c11_run, NULL), thrd_success);
    thrd_detach(thread);
}

static void c11_threads(void **unused)
{
    check_both(start_c11);
}

/* ---- Made by hand ---- */

#define STACK ((size_t)64 << 10)

static bool with_locals;

static void end_thread(void)
{
    sh_os_call4(SYS_exit, 0, 0, 0, 0);
}

static int run_cloned(void *unused)
{
    if (!with_locals)
        sh_os_call4(SYS_arch_prctl, ARCH_SET_FS, 0, 0, 0);
    hold_quietly();
    end_thread();
    return 0;
}

static char *clone_stack;
static _Atomic uint32_t clone_tid; /* 0: it has left its stack */

static void start_clone(void)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    char *top = clone_stack + STACK;
    assert_true(clone(run_cloned, top, flags, NULL, &clone_tid, NULL, &clone_tid) > 0);
}

static void check_clone_with(bool locals)
{
    with_locals = locals;
    check(start_clone);
    while (clone_tid)
        sched_yield();
}

static void check_clone(char *stack)
{
    clone_stack = stack;
    check_clone_with(false);
    check_clone_with(true); /* its maker's */
}

static void cloned_threads(void **unused)
{
    static char in_data[STACK] SH_ALIGNED(16);
    char *mapped =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check_clone(mapped);
    check_clone(in_data);
    check_clone(sh_malloc(STACK));
}

/* The signal comes without a word of who sent it. */
static void with_no_room_for_signals(void **unused)
{
    struct rlimit none = {0, 0}, before;
    getrlimit(RLIMIT_SIGPENDING, &before);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &none), 0);
    threads_of_the_c_librarys_pthread_create(NULL);
    cloned_threads(NULL);
    setrlimit(RLIMIT_SIGPENDING, &before);
}

/* ---- Those that are not held ---- */

static void *run_unregistered(void *unused)
{
    MUST(gc_thread_register() == 0);
    gc_thread_unregister();
    tell(1);
    await(2);
    tell(3);
    return NULL;
}

/* Nobody waits for it, nor is it kept from running. */
static void who_unregisters_is_left_alone(void **unused)
{
    step = 0;
    pthread_t thread = start(run_unregistered, NULL);
    await(1);
    gc_collect();
    gc_collect_start();
    tell(2);
    await(3);
    gc_collect_end();
    join(thread);
}

static void *run_deaf(void *unused)
{
    uint64_t mask = sh_os_signals_block();
    tell(1);
    await(2);
    sh_os_signals_restore(mask);
    return NULL;
}

/* As many a library's helper thread; it holds nothing of ours. */
static void who_blocks_all_signals_is_not_waited_for(void **unused)
{
    pthread_t thread;
    step = 0;
    assert_int_equal(sh_os_pthread_create()(&thread, NULL, run_deaf, NULL), 0);
    await(1);
    uint64_t began = sh_os_now_ns();
    for (int i = 0; i < 10; i++)
        gc_collect();
    assert_true(sh_os_now_ns() - began < 5000000000u);
    tell(2);
    join(thread);
}

static _Atomic bool over;

static void *be_brief(void *unused)
{
    gc_free(gc_alloc(20, 0));
    return NULL;
}

static void *have_children(void *unused)
{
    while (!sh_load_relaxed(&over)) {
        pthread_t thread;
        MUST(sh_os_pthread_create()(&thread, NULL, be_brief, NULL) == 0);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void strangers_may_come_and_go(void **unused)
{
    pthread_t threads[3];
    over = false;
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            sh_os_pthread_create()(&threads[i], NULL, have_children, NULL), 0);
    for (int i = 0; i < 200; i++)
        gc_collect();
    over = true;
    for (int i = 0; i < 3; i++)
        join(threads[i]);
}

/* ---- In a child ---- */

static _Atomic int idlers;

static void *idle(void *unused)
{
    sh_add_relaxed(&idlers, 1);
    pause();
    return NULL;
}

/* Beside none, one, two ... others: if threads that are no more were counted, some of them
 * would make up for the stranger. */
static void check_in_child(void *unused)
{
    pthread_t thread;
    for (int i = 0; i < 5; i++) {
        check_both(start_behind);
        MUST(sh_os_pthread_create()(&thread, NULL, idle, NULL) == 0);
    }
}

/* Worth a second marker. */
static void have_thread_of_ours(void)
{
    void *large = sh_malloc((size_t)8 << 20);
    gc_set_markers(2);
    gc_collect();
    assert_int_equal(sh_gang_helpers(), 1);
    sh_free(large);
}

/* Who is held at the fork is not there any more, nor is a marker. */
static void a_childs_strangers_are_its_own(void **unused)
{
    struct child child;
    allocates = false;
    step = 0;
    make_object();
    start_behind();
    await(1);
    have_thread_of_ours();
    collect_some();
    child_run(&child, check_in_child, NULL);
    tell(2);
    while (step == 2)
        sched_yield();
    assert_int_equal(step, 3);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

/* More than there is memory for from the start. */
#define STRANGERS 40

static void use_up_metadata_memory(void)
{
    sh_critical_enter();
    for (size_t bytes = (size_t)1 << 16; bytes >= 64; bytes /= 2)
        while (sh_meta_alloc(bytes)) {
        }
    sh_critical_leave();
}

/* The last one holds the object: it has a record only if there are enough. */
static void be_held_without_memory(void *unused)
{
    pthread_t thread;
    struct rlimit was, none;
    allocates = false;
    step = 0;
    make_object();
    gc_lock();
    for (int i = 0; i < STRANGERS; i++)
        MUST(sh_os_pthread_create()(&thread, NULL, idle, NULL) == 0);
    start_behind();
    await(1);
    /* A sanitizer's runtime, too, maps memory for a thread that begins. */
    while (sh_load_relaxed(&idlers) < STRANGERS)
        sched_yield();
    gc_unlock();
    clear_stack();
    MUST(getrlimit(RLIMIT_AS, &was) == 0);
    none = (struct rlimit){0, was.rlim_max};
    MUST(setrlimit(RLIMIT_AS, &none) == 0);
    use_up_metadata_memory();
    for (int i = 0; i < 3; i++)
        gc_collect();
    MUST(is_live());
    MUST(setrlimit(RLIMIT_AS, &was) == 0);
    collect_some();
    MUST(is_live());
    tell(2);
    while (step == 2)
        sched_yield();
    MUST(step == 3);
}

static void without_memory_for_them_nothing_is_freed(void **unused)
{
    struct child child;
    child_run(&child, be_held_without_memory, NULL);
    if (!child_returned(&child))
        fail_msg("status %#x: %s", child.status, child.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_of_the_c_librarys_pthread_create),
        cmocka_unit_test(threads_of_strangers),
        cmocka_unit_test(c11_threads),
        cmocka_unit_test(timer_threads),
        cmocka_unit_test(name_lookup_threads),
        cmocka_unit_test(asynchronous_io_threads),
        cmocka_unit_test(message_threads),
        cmocka_unit_test(cloned_threads),
        cmocka_unit_test(with_no_room_for_signals),
        cmocka_unit_test(who_unregisters_is_left_alone),
        cmocka_unit_test(who_blocks_all_signals_is_not_waited_for),
        cmocka_unit_test(strangers_may_come_and_go),
        cmocka_unit_test(a_childs_strangers_are_its_own),
        cmocka_unit_test(without_memory_for_them_nothing_is_freed),
    };
    if (SH_TSAN)
        return 77; /* it has threads of its own, which are not to be stopped */
    return run_on_clean_stack(tests, NULL, NULL);
}
