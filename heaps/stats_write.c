/* SPDX-License-Identifier: MIT */
/*
 * Statistics at exit and at a signal, as the options say. See heaps/stats.h.
 *
 * In the handler of the signal all of it is done at once: what it calls takes the
 * heap's lock alone, and prints by system calls from the stack. The interrupted thread
 * holds no lock of ours, unless it is in a critical section; then the handler leaves the
 * deed to the end of that (sh_thread_later). Who else holds the heap's lock is not
 * waiting for this thread, for a stop of the world takes that lock after all threads
 * have stopped, this one in its handler's own good time. What locks of the C library's
 * the interrupted thread holds does not matter: none is taken.
 */
#include "heaps/stats.h"

#include "heaps/text_file.h"
#include "lib/os.h"
#include "lib/os_thread.h"
#include "threads/thread.h"

void sh_stats_write(enum sh_stats_form form)
{
    struct sh_stats stats;
    struct sh_text_file file;
    sh_stats_gather(&stats);
    int error = sh_text_file_open(&file, sh_options.stats_file);
    if (error)
        sh_print(&sh_stderr_sink,
            "splitheap: the statistics' file %s cannot be opened: error %d; they "
            "follow\n",
            file.path, error);
    sh_stats_print(&stats, form, &file.sink);
    sh_text_file_close(&file);
}

/* ---- At a signal ---- */

/* Asked again meanwhile, by another thread or another signal, it is not begun again. A
 * child of a fork does not take part in its parent's. */
static void write_asked_for(void)
{
    static _Atomic uint32_t writer;
    uint32_t process = sh_os_process_id();
    if (sh_exchange_seq_cst(&writer, process) == process)
        return;
    sh_stats_write(sh_options.stats_signal_json ? SH_STATS_JSON : SH_STATS_TEXT);
    sh_store_seq_cst(&writer, 0u);
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    if (sh_tls.critical)
        sh_thread_later(write_asked_for);
    else
        write_asked_for();
}

/* One that the program handles is the program's. */
static void handle_signal(void)
{
    if (sh_options.stats_signal)
        sh_os_signal_handle(sh_options.stats_signal, on_signal);
}

/* ---- Beginning and end ---- */

/* Before the library's constructor ran, the loader may not yet be asked for functions,
 * nor is any signal on its way. */
static _Atomic bool known, constructed;

void sh_stats_prepare(void)
{
    sh_store_seq_cst(&known, true);
    if (sh_load_seq_cst(&constructed))
        handle_signal();
}

__attribute__((constructor)) static void construct(void)
{
    sh_store_seq_cst(&constructed, true);
    if (sh_load_seq_cst(&known))
        handle_signal();
}

__attribute__((destructor)) static void at_exit(void)
{
    if (sh_options.stats_at_exit != SH_STATS_NONE)
        sh_stats_write((enum sh_stats_form)sh_options.stats_at_exit);
}
