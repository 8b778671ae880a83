/* SPDX-License-Identifier: MIT */
/* threads/fork.h: fork in a threaded program, in the parent and in the child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heaps/malloc.h"
#include "lib/meta.h"
#include "lib/os_thread.h"
#include "tests/child.h"
#include "tests/workers.h"

/* ---- What goes on in other threads at the fork ---- */

static _Atomic bool over;
static struct sh_lock heap_lock = SH_LOCK_INIT(SH_RANK_HEAP);

/* A sanitizer's malloc, and its pthread_create, may lock up in the child. */
static void use_malloc(void)
{
    if (!SH_INTERPOSE)
        return;
    char *text = malloc(10000);
    MUST(text != NULL);
    memset(text, 'x', 10000);
    free(text);
}

static void *allocate(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        use_malloc();
        sh_critical_enter();
        void *piece = sh_meta_alloc(64);
        sh_meta_free(piece, 64);
        sh_critical_leave();
    }
    return NULL;
}

static void *collect(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        stop_to_collect();
        resume();
    }
    return NULL;
}

static void *lock(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        sh_gc_mutex_lock();
        MUST(sh_roots_add(&over, &over + 1) == 0);
        MUST(sh_roots_remove(&over, &over + 1) == 0);
        sh_gc_mutex_unlock();
    }
    return NULL;
}

static void *return_arg(void *arg)
{
    sh_thread_enter();
    return arg;
}

static void *come_and_go(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over))
        join(start(return_arg, NULL));
    return NULL;
}

static void *block(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        sh_blocking_begin(__builtin_frame_address(0));
        sleep_us(10);
        sh_blocking_end();
    }
    return NULL;
}

/* Held where the loader must be at rest: glibc's child of a fork in the midst of a dlopen
   has thread-local storage of a generation yet to come, and pthread_create asserts there. */
static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* The loader's lock may be taken at the fork; glibc leaves it so in the child. */
static void *load(void *unused)
{
    sh_thread_enter();
    while (!sh_load_relaxed(&over)) {
        pthread_mutex_lock(&loading);
        void *module = dlopen(TEST_MODULE, RTLD_NOW);
        MUST(module != NULL);
        dlclose(module);
        pthread_mutex_unlock(&loading);
    }
    return NULL;
}

#define OTHERS 6
static pthread_t others[OTHERS];

/* The thread sanitizer's runtime may stay locked in the child of a threaded process. */
static void start_others(void)
{
    if (SH_TSAN)
        skip();
    void *(*const routines[OTHERS])(void *) = {
        allocate, collect, lock, come_and_go, block, load};
    sh_store_relaxed(&over, false);
    for (int i = 0; i < OTHERS; i++)
        others[i] = start(routines[i], NULL);
}

static void end_others(void)
{
    sh_store_relaxed(&over, true);
    for (int i = 0; i < OTHERS; i++)
        join(others[i]);
}

/* ---- What must work afterwards ---- */

static uintptr_t data_word;

static void look_for_word(void *found, const void *start, const void *end)
{
    uintptr_t word = (uintptr_t)&data_word;
    if (word >= (uintptr_t)start && word < (uintptr_t)end)
        *(bool *)found = true;
}

static void check_segments(void)
{
    bool found = false;
    stop_to_collect();
    sh_roots_enter();
    sh_scan_static_roots(look_for_word, &found);
    sh_roots_leave();
    resume();
    MUST(found);
}

static void use_everything(void)
{
    use_malloc();
    check_segments();
    stop_to_collect();
    resume();
    sh_gc_mutex_lock();
    MUST(sh_gc_mutex_unlock());
    MUST(sh_roots_add(&over, &over + 1) == 0);
    MUST(sh_roots_remove(&over, &over + 1) == 0);
}

static void use_threads(void)
{
    if (!SH_INTERPOSE)
        return;
    MUST(join(start(return_arg, &over)) == &over);
    sh_store_relaxed(&over, false);
    pthread_t threads[] = {start(allocate, NULL), start(collect, NULL)};
    for (int i = 0; i < 10; i++) {
        stop_to_collect();
        resume();
    }
    sh_store_relaxed(&over, true);
    join(threads[0]);
    join(threads[1]);
}

static void check_child(bool may_make_threads)
{
    struct sh_thread *self = sh_tls.self;
    MUST(sh_tls.critical == 0);
    MUST(sh_registry_count() == (self ? 1 : 0));
    MUST(sh_registry_first() == self);
    MUST(!self || (self->tid == sh_os_thread_id() && !self->next && !self->prev));
    use_everything();
    if (may_make_threads)
        use_threads();
}

static int wait_for(pid_t child)
{
    int status;
    MUST(child > 0);
    MUST(waitpid(child, &status, 0) == child);
    return status;
}

/* Every other fork may come in the midst of a dlopen. */
static int fork_and_check(void)
{
    static _Atomic unsigned forks;
    bool at_rest = sh_add_relaxed(&forks, 1) % 2 == 0;
    if (at_rest)
        pthread_mutex_lock(&loading);
    pid_t child = fork();
    if (at_rest)
        pthread_mutex_unlock(&loading);
    if (child == 0) {
        alarm(20);
        check_child(at_rest);
        _exit(0);
    }
    return wait_for(child);
}

/* ---- Tests ---- */

static void a_lone_thread_forks(void **unused)
{
    assert_int_equal(fork_and_check(), 0);
    use_everything();
}

static void forking_while_others_run(void **unused)
{
    start_others();
    for (int i = 0; i < 40; i++) {
        assert_int_equal(fork_and_check(), 0);
        use_everything();
    }
    end_others();
}

static void *fork_in_thread(void *unused)
{
    sh_thread_enter();
    for (int i = 0; i < 20; i++)
        MUST(fork_and_check() == 0);
    return NULL;
}

static void several_threads_fork_at_once(void **unused)
{
    start_others();
    pthread_t forkers[] = {start(fork_in_thread, NULL), start(fork_in_thread, NULL)};
    MUST(fork_and_check() == 0);
    join(forkers[0]);
    join(forkers[1]);
    end_others();
}

/* The initial stack is nobody's then, and the forking thread's its own as before. */
static void *check_stack_after_fork(void *unused)
{
    uintptr_t base = sh_thread_enter()->stack_base;
    pid_t child = fork();
    if (child == 0) {
        MUST(sh_tls.self->stack_base == base && !sh_tls.self->initial);
        sh_thread_leave(false);
        MUST(!sh_thread_enter()->initial && sh_tls.self->stack_base == base);
        _exit(0);
    }
    MUST(wait_for(child) == 0);
    return NULL;
}

static void a_forking_threads_stack_stays_its_own(void **unused)
{
    join(start(check_stack_after_fork, NULL));
}

static void a_child_forks_again(void **unused)
{
    if (!SH_INTERPOSE)
        skip();
    pid_t child = fork();
    if (child == 0) {
        start_others();
        MUST(fork_and_check() == 0);
        end_others();
        _exit(0);
    }
    assert_int_equal(wait_for(child), 0);
}

static void *fork_unregistered(void *unused)
{
    sh_thread_leave(true);
    MUST(fork_and_check() == 0);
    return NULL;
}

static void an_ended_thread_forks(void **unused)
{
    join(start(fork_unregistered, NULL));
}

static _Atomic uint32_t stage;

static void *lock_until_told(void *unused)
{
    sh_gc_mutex_lock();
    set_flag(&stage, 1);
    await_flag(&stage, 2);
    sh_gc_mutex_unlock();
    return NULL;
}

static void another_threads_gc_lock_is_gone_in_the_child(void **unused)
{
    sh_store_relaxed(&stage, 0);
    pthread_t holder = start(lock_until_told, NULL);
    await_flag(&stage, 1);
    assert_int_equal(fork_and_check(), 0);
    assert_false(sh_gc_mutex_collect_try());
    set_flag(&stage, 2);
    join(holder);
    use_everything();
}

static void ones_own_gc_lock_is_kept(void **unused)
{
    sh_gc_mutex_lock();
    pid_t child = fork();
    if (child == 0) {
        MUST(sh_gc_mutex_is_locked());
        MUST(sh_gc_mutex_unlock());
        check_child(true);
        _exit(0);
    }
    assert_int_equal(wait_for(child), 0);
    assert_true(sh_gc_mutex_unlock());
    use_everything();
}

/* fork takes locks of the C library's: none that the stopped thread may hold. */
static void a_collecting_thread_forks(void **unused)
{
    sh_store_relaxed(&over, false);
    pthread_t other = start(block, NULL);
    stop_to_collect();
    pid_t child = fork();
    if (child == 0) {
        MUST(sh_gc_mutex_is_locked() && sh_registry_first() == sh_tls.self);
        resume();
        check_child(true);
        _exit(0);
    }
    resume();
    assert_int_equal(wait_for(child), 0);
    use_everything();
    sh_store_relaxed(&over, true);
    join(other);
}

static struct sh_thread_hooks hooks;
static const struct sh_thread_hooks *heap;
static unsigned prepared, in_parent, in_child;

static void fork_prepare(void)
{
    prepared++;
    MUST(sh_tls.critical > 0);
    if (heap->fork_prepare)
        heap->fork_prepare();
    else
        sh_lock_acquire(&heap_lock);
}

static void fork_parent(void)
{
    in_parent++;
    if (heap->fork_parent)
        heap->fork_parent();
    else
        sh_lock_release(&heap_lock);
}

static void fork_child(bool more)
{
    in_child++;
    MUST(sh_registry_count() <= 1);
    if (heap->fork_child)
        heap->fork_child(more);
    else
        sh_lock_reset(&heap_lock);
}

static int set_hooks(void **unused)
{
    sh_thread_enter();
    heap = sh_registry_hooks();
    hooks = *heap;
    hooks.fork_prepare = fork_prepare;
    hooks.fork_parent = fork_parent;
    hooks.fork_child = fork_child;
    sh_registry_set_hooks(&hooks);
    return 0;
}

static void the_heap_is_told(void **unused)
{
    sh_store_relaxed(&stage, 0);
    pthread_t other = start(lock_until_told, NULL);
    await_flag(&stage, 1);
    prepared = in_parent = in_child = 0;
    pid_t child = fork();
    if (child == 0) {
        MUST(prepared == 1 && in_parent == 0 && in_child == 1);
        _exit(0);
    }
    assert_int_equal(wait_for(child), 0);
    assert_true(prepared == 1 && in_parent == 1 && in_child == 0);
    set_flag(&stage, 2);
    join(other);
}

/* ---- Beside the first use of the heap ---- */

#define FIRST_USES 120
#define FIRST_USE_NS 150000 /* about how long it takes */

static void *use_first(void *unused)
{
    set_flag(&stage, 1);
    while (sh_load_acquire(&stage) == 1)
        ;
    sh_free(sh_malloc(100));
    return NULL;
}

static void fork_beside_the_first_use(void *delay)
{
    sh_registry_set_hooks(heap);
    sh_store_relaxed(&stage, 0);
    pthread_t thread = start(use_first, NULL);
    await_flag(&stage, 1);
    uint64_t end = sh_os_now_ns() + (uintptr_t)delay;
    sh_store_seq_cst(&stage, 2);
    while (sh_os_now_ns() < end)
        ;
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        sh_free(sh_malloc(100));
        _exit(0);
    }
    MUST(wait_for(child) == 0);
    join(thread);
}

static void forks_beside_the_first_use(void **unused)
{
    if (SH_TSAN)
        skip();
    for (uintptr_t i = 0; i < FIRST_USES; i++) {
        struct child child;
        uintptr_t delay = FIRST_USE_NS / FIRST_USES * i;
        child_run(&child, fork_beside_the_first_use, (void *)delay);
        if (!child_returned(&child))
            fail_msg("status %#x: %s", child.status, child.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_beside_the_first_use), /* before the others use it */
        cmocka_unit_test(a_lone_thread_forks),
        cmocka_unit_test(the_heap_is_told),
        cmocka_unit_test(a_child_forks_again),
        cmocka_unit_test(forking_while_others_run),
        cmocka_unit_test(several_threads_fork_at_once),
        cmocka_unit_test(a_forking_threads_stack_stays_its_own),
        cmocka_unit_test(an_ended_thread_forks),
        cmocka_unit_test(another_threads_gc_lock_is_gone_in_the_child),
        cmocka_unit_test(ones_own_gc_lock_is_kept),
        cmocka_unit_test(a_collecting_thread_forks),
    };
    return cmocka_run_group_tests(tests, set_hooks, NULL);
}
