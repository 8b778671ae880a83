# SPDX-License-Identifier: MIT
"""The workloads of the gc suite, the back ends they run on, and what a run tells."""
import json
import math
import os
import statistics

from harness.allocators import OURS, Allocator, find_library
from harness.process import Child, Failure, find_program

BASE, INNER, FREED = "bdwgc", "bdwgc-inner", "malloc"
NO_MEMORY = 3  # the exit status of a run whose heap's limit does not do

# Row, workload, threads, what it does.
LOADS = (
    ("trees-down", "trees-down", 1, "binary trees, each node before its children"),
    ("trees-up", "trees-up", 1, "binary trees, each node after its children"),
    ("gcbench-1", "gcbench", 1, "lasting tree and array, dying trees, holes between nodes"),
    ("gcbench-2", "gcbench", 2, "the same work by two threads"),
    ("gcbench-4", "gcbench", 4, "the same work by four threads"),
    ("gcbench-8", "gcbench", 8, "the same work by eight threads"),
    ("quad", "quad", 1, "a lasting quad tree, branches replaced, small ones that die"),
    ("list", "list", 1, "ten million nodes in a row, and as many that die"),
    ("strings", "strings", 1, "a hash table of strings, inserted and removed"),
    ("lru", "lru", 2, "threads share a cache of the values used last"),
    ("graph", "graph", 1, "a GiB of vertices, their edges at random"),
    ("arrays", "arrays", 1, "four arrays of a million pointers, replaced"),
    ("weak", "weak", 1, "a cache by weak references"),
    ("references", "references", 1, "a million weak references"),
    ("finalisers", "finalisers", 1, "objects with finalisers, 100,000 at a time"),
    ("idle", "idle", 2, "200 threads sleep while one works"),
)
COLLECTED = ("weak", "references", "finalisers")  # they do not know when to free
LIMITED = ("gcbench-2", "quad", "strings", "arrays")
PERCENTS = (150, 200, 300)
MARKING, COSTS = "marking", "costs"
CURVES = ("trees-down", "gcbench-2", "quad", "lru")
NAMES = [entry[0] for entry in LOADS] + [MARKING, COSTS]

# Of one run; those of pauses and of the time to stop are in milliseconds.
FIELDS = (
    "seconds", "stopped", "collections", "minor", "pause_p50", "pause_p99", "pause_max", "stop_p50",
    "stop_max", "peak_kib", "end_kib", "faults", "mark_ms", "mark_objects", "mark_bytes",
)  # fmt: skip


class BackEnd(Allocator):
    """A program for all workloads, perhaps with malloc preloaded, and an environment."""

    def __init__(self, name, program, library=None, env=None, package=None):
        super().__init__(name, library, package)
        self.program = program
        self.env = env or {}


def back_ends(place):
    """Those that are there, and what is missing, in words."""
    found, missing = [BackEnd(OURS, "gc-splitheap")], []
    if find_program(place.build, "gc-bdwgc", required=False):
        markers = {"GC_MARKERS": str(len(os.sched_getaffinity(0)))}
        inner = dict(markers, GC_ALL_INTERIOR_POINTERS="1")
        found.append(BackEnd(BASE, "gc-bdwgc", env=markers, package="libgc1"))
        found.append(BackEnd(INNER, "gc-bdwgc", env=inner, package="libgc1"))
    else:
        raise Failure("there is no gc-bdwgc: libgc-dev was missing when this was built")
    library = find_library("libjemalloc.so.2")
    if library:
        found.append(BackEnd(FREED, "gc-malloc", library, package="libjemalloc2"))
    else:
        missing.append("malloc (libjemalloc2)")
    return found, missing


# ---- What a run tells -----------------------------------------------------------------


def rank(values, share):
    """The least of the sorted values that so many of them do not exceed."""
    return values[max(0, math.ceil(len(values) * share) - 1)] if values else None


class Run:
    """Answers to what harness.process.Usage answers to. Without output: no memory."""

    def __init__(self, told, output):
        self.seconds = told["seconds"] if told else None
        self.output = output
        self.told = told
        self.rows = (
            [dict(zip(told["columns"], row)) for row in told.get("collections", ())]
            if told else []
        )

    def column(self, name, census=False):
        return [row[name] for row in self.rows if bool(row["census"]) == census]

    def figures(self):
        """By FIELDS, and every pause and time to stop, in microseconds."""
        if not self.told:
            return dict.fromkeys((*FIELDS, "pauses_us", "stops_us"))
        told, pauses = self.told, sorted(self.column("pause_ns"))
        stops, marks = sorted(self.column("stop_ns")), self.column("mark_ns", census=True)
        found = {name: told[name] for name in ("seconds", "peak_kib", "end_kib", "faults")}
        found.update(stopped=sum(pauses) / 1e9 or None, collections=len(pauses))
        found["minor"] = sum(self.column("minor"))
        for name, values, share in (
            ("pause_p50", pauses, 0.5), ("pause_p99", pauses, 0.99), ("pause_max", pauses, 1),
            ("stop_p50", stops, 0.5), ("stop_max", stops, 1),
        ):  # fmt: skip
            found[name] = rank(values, share) / 1e6 if values else None
        found.update(self.marking(marks))
        found["pauses_us"] = [round(pause / 1e3) for pause in pauses]
        found["stops_us"] = [round(stop / 1e3) for stop in stops]
        return found

    def marking(self, marks):
        """Of the collections with a live set that the workload knows; rates a second."""
        objects = max(self.column("objects", census=True), default=0)
        if not marks or not objects:
            return dict.fromkeys(("mark_ms", "mark_objects", "mark_bytes"))
        seconds = statistics.median(marks) / 1e9
        size = max(self.column("bytes", census=True))
        return {
            "mark_ms": seconds * 1e3,
            "mark_objects": objects / seconds,
            "mark_bytes": size / seconds,
        }


# ---- Workloads ------------------------------------------------------------------------


class Load:
    """A row: one of ours with so many threads; in a heap of so many percent of what lives."""

    LIMIT = 180  # seconds for one run
    section = "workloads"

    def __init__(self, entry, scale, percent=None):
        self.name, self.load, self.threads, self.about = entry
        self.scale = scale
        self.percent = percent
        if percent:
            self.section = "limits"
            self.row = self.name
            self.name = "%s %g x" % (self.name, percent / 100)

    def weight(self):
        seconds = {"trees-down": 24, "trees-up": 24, "graph": 60, "list": 4, "quad": 4}
        share = 0.6 if self.percent else 1
        return seconds.get(self.load, 7) * share * self.scale / 100

    def columns(self, columns):
        names = [column.name for column in columns]
        if self.percent:
            names = [name for name in names if name not in (INNER, FREED)]
        if self.load in COLLECTED:
            names = [name for name in names if name != FREED]
        return [column for column in columns if column.name in names]

    def words(self, place, column):
        options = ["--heap", str(self.percent)] if self.percent else []
        numbers = [str(self.scale), str(self.threads)]
        return [find_program(place.build, column.program), *options, self.load, *numbers]

    def run(self, place, column, samples=None):
        child = Child(self.words(place, column), place, column, column.env,
            metered=bool(samples), samples=samples)  # fmt: skip
        try:
            if not child.ended(self.LIMIT):
                raise Failure("%s did not end in %d s" % (child.title, self.LIMIT))
            if self.percent and os.waitstatus_to_exitcode(child.status) == NO_MEMORY:
                return Run(None, None)
            child.require_success(self.LIMIT)
        finally:
            child.kill()
        told = json.loads(child.output())
        if column.library and os.path.realpath(told["malloc"]) != os.path.realpath(column.library):
            message = "%s under %s took its malloc from %s"
            raise Failure(message % (self.name, column, told["malloc"]))
        return Run(told, str(told["checksum"]).encode())

    def figures(self, run, _):
        return run.figures()


class Micro:
    """A program of its own, on splitheap alone; `kept`: what a run has to leave behind."""

    LIMIT = 180

    def __init__(self, scale):
        self.name = self.section
        self.scale = scale

    def run(self, place, column, samples=None):
        words = [find_program(place.build, column.program), str(self.argument())]
        child = Child(words, place, column, column.env)
        try:
            child.require_success(self.LIMIT)
        finally:
            child.kill()
        told = json.loads(child.output())
        return Run(told, str(told[self.kept]).encode())


class Marking(Micro):
    """The graph marked by one and by two, and how fast that can be: micro_bound."""

    section = MARKING
    about = "a graph marked, and its cells touched and read as fast as can be"
    kept = "checksum"

    def weight(self):
        return 50 * self.scale / 100

    def argument(self):
        return self.scale

    def columns(self, _):
        return [
            BackEnd(str(n), "micro_bound", env={"SPLITHEAP_CONF": "markers:%d" % n})
            for n in (1, 2)
        ]

    def figures(self, run, name):
        return bound_figures(run, int(name))


class Costs(Micro):
    """A million of weak references, ephemerons, finalisers: micro_weak."""

    section = COSTS
    about = "weak references, ephemerons, weak maps and finalisers, one thing at a time"
    kept = "objects_each"

    def weight(self):
        return 6 * self.scale / 100

    def argument(self):
        return 10000 * self.scale

    def columns(self, _):
        return [BackEnd(OURS, "micro_weak")]

    def figures(self, run, _):
        return run.told


def bound_figures(run, threads):
    """The marking of a run of micro_bound, and its bound for so many threads, in seconds."""
    bound = next(one for one in run.told["bounds"] if one["threads"] == threads)
    touch = min(bound["touch"].values())
    return {
        "seconds": run.seconds,
        "mark_seconds": statistics.median(run.column("mark_ns", census=True)) / 1e9,
        "touch": touch,
        "read": bound["read"],
        "bound": max(touch, bound["read"]),
        "in_flight": bound["touch"],
        "cells": run.told["cells"],
        "bytes": run.told["bytes"],
    }
