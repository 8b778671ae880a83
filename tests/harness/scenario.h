/* SPDX-License-Identifier: MIT */
/*
 * Scenarios: what one operation of a lane may be. Each has a weight, by which the lane's
 * chance chooses; the table is in scenario.c.
 */
#ifndef SH_HARNESS_SCENARIO_H
#define SH_HARNESS_SCENARIO_H

#include <stdbool.h>

#include "tests/harness/lane.h"

struct scenario {
    const char *name;
    const char *what;
    unsigned weight; /* unless --weights says otherwise */
    bool library;    /* plain malloc has nothing like it */
    void (*run)(struct worker *worker);
};

extern const struct scenario scenarios[];
extern const unsigned scenario_count;

/* One operation. */
void scenario_run_one(struct worker *worker);

/* How often each was run. */
extern _Atomic uint64_t scenario_runs[];

/* scenario_objects.c */
void run_own(struct worker *worker);
void run_shared(struct worker *worker);
void run_burst(struct worker *worker);
void run_edges(struct worker *worker);
void own_slot_use(struct worker *worker, void **slot);
void slot_verify(void *p);
void places_finish(struct worker *worker, struct place *place, bool drop);
void shared_finish(struct worker *worker, bool drop);

/* scenario_graph.c; `root` is a slot. */
void run_graph(struct worker *worker);
void *graph_make(struct worker *worker);
void graph_grow(struct worker *worker, struct entry *root);
void graph_verify(struct entry *root);
void graph_let_go(struct worker *worker, struct entry *root, bool drop);

/* scenario_collect.c */
void run_collect(struct worker *worker);
void run_phases(struct worker *worker);
void run_lock(struct worker *worker);
void run_info(struct worker *worker);
void run_dump(struct worker *worker);
void run_area(struct worker *worker);
void run_pacing(struct worker *worker);
void run_blocking(struct worker *worker);

/* scenario_coroutine.c */
void coroutines_init(void);
void run_coroutine(struct worker *worker);
void coroutines_finish(struct worker *worker);

/* scenario_weak.c */
void weak_init(void);
void run_weak(struct worker *worker);

/* scenario_ephemeron.c */
void run_ephemeron(struct worker *worker);
void run_map(struct worker *worker);

/* scenario_finalise.c */
void run_finalise(struct worker *worker);
void finalisers_finish(void);
void finalizes_init(void);
void run_finalize(struct worker *worker);
void finalizes_finish(void);

/* scenario_root.c */
void roots_prepare(void);
void run_root(struct worker *worker);

/* scenario_thread.c */
void run_thread(struct worker *worker);
void run_cancel(struct worker *worker);
void run_end(struct worker *worker);
void run_signal(struct worker *worker);
void run_stranger(struct worker *worker);
void run_jump(struct worker *worker);

/* scenario_process.c */
void run_fork(struct worker *worker);
void run_exec(struct worker *worker);

/* scenario_module.c */
void run_module(struct worker *worker);

#endif /* SH_HARNESS_SCENARIO_H */
