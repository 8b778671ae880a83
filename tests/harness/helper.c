/* SPDX-License-Identifier: MIT */
/* Starting threads, and how they end. See helper.h. */
#include "tests/harness/helper.h"

#include <errno.h>
#include <limits.h>

#include "lib/bits.h"
#include "tests/harness/backend.h"
#include "tests/harness/fault.h"
#include "tests/harness/object.h"
#include "tests/harness/report.h"
#include "tests/harness/settings.h"

#define STACK_SMALL ((size_t)64 << 10)
#define STACK_NO_ROOM ((size_t)1 << 46)
#define ALTERNATE_STACK ((size_t)64 << 10)

static pthread_key_t key;

/* ---- Starting ---- */

static size_t stack_size(struct random *random)
{
    size_t size = STACK_SMALL << random_below(random, 5);
    if (fault_now(FAULT_THREAD))
        return STACK_NO_ROOM;
    return HELPER_SANITIZED || random_below(random, 2) ? 0 : size;
}

bool helper_start(
    pthread_t *thread, void *(*run)(void *), void *arg, struct random *random)
{
    pthread_attr_t attr;
    size_t size = stack_size(random);
    pthread_attr_init(&attr);
    if (size)
        pthread_attr_setstacksize(&attr, size);
    HELPER_EYES_SHUT_BEGIN();
    int error = pthread_create(thread, &attr, run, arg);
    HELPER_EYES_SHUT_END();
    pthread_attr_destroy(&attr);
    if (error == 0) {
        sh_add_relaxed(&threads_created, (uint64_t)1);
        return true;
    }
    if (size != STACK_NO_ROOM && !settings_memory_is_short())
        fail("thread", NULL, "pthread_create failed: error %d", error);
    return false;
}

void *helper_join(pthread_t thread)
{
    void *result = NULL;
    HELPER_EYES_SHUT_BEGIN();
    int error = pthread_join(thread, &result);
    HELPER_EYES_SHUT_END();
    if (error)
        fail("thread", NULL, "pthread_join failed: error %d", error);
    return result;
}

/* It holds pointers before it allocates, where pthread_create is not the library's. */
void helper_register(void)
{
    for (int i = 0; backend->collects && gc_thread_register() != 0; i++) {
        if (!settings_memory_is_short())
            fail("thread", NULL, "a thread could not be registered");
        if (i == 1000)
            give_up("no memory for a thread's record");
        own_sleep_us(1000);
    }
}

/* ---- Ending ---- */

/* Twice: the destructor's own value is destroyed in the next round. */
static void destroy_specific(void *object)
{
    static _Thread_local unsigned rounds;
    struct worker worker = {.lane = my_lane(), .random = {my_operation()}};
    struct entry *entry = object_entry(object);
    object_verify(entry);
    object_free(&worker, entry);
    SH_KEEP(object);
    if (rounds++ < 2)
        pthread_setspecific(key, object_make(&worker, wish_any(&worker.random)));
}

void helper_leave_specific(struct worker *worker)
{
    struct wish wish = wish_any(&worker->random);
    if (!pthread_getspecific(key))
        pthread_setspecific(key, object_make(worker, wish));
}

/* ---- Signals ---- */

static void pause_here(int signal)
{
    int error = errno;
    own_sleep_us(1000 + (unsigned)signal * 100);
    errno = error;
}

static void handle(int signal, void (*handler)(int))
{
    struct sigaction action = {
        .sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, NULL) != 0)
        give_up("no handler for signal %d: %m", signal);
}

void helpers_init(void)
{
    if (pthread_key_create(&key, destroy_specific) != 0)
        give_up("no key for thread-specific values");
    handle(HELPER_SIGNAL, helper_handler);
    handle(HELPER_PAUSE, pause_here);
}

/* The thread's successor in the lane has it next. */
void helper_alternate_stack(void)
{
    struct lane *lane = my_lane();
    if (!lane->alternate)
        lane->alternate = own_map(ALTERNATE_STACK);
    stack_t stack = {.ss_sp = lane->alternate, .ss_size = ALTERNATE_STACK};
    if (sigaltstack(&stack, NULL) != 0)
        give_up("no alternate signal stack: %m");
}
