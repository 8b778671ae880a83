# SPDX-License-Identifier: MIT
"""
The gc suite: splitheap's collector beside bdwgc, and beside malloc and free by hand.

Each workload runs on every back end in turn, a round at a time, each run in a process of
its own and each round starting with another back end. Tables show medians as ratios to
bdwgc's; plots, JSON and CSV go to DIR/bench.
"""
import collections

from harness import record, suite
from harness.allocators import OURS
from harness.gc_plots import PLOTS
from harness.gc_report import lines
from harness.gc_workloads import (
    BASE,
    COSTS,
    CURVES,
    FIELDS,
    LIMITED,
    LOADS,
    MARKING,
    NAMES,
    PERCENTS,
    Costs,
    Load,
    Marking,
    back_ends,
)

Effort = collections.namedtuple("Effort", "limit rounds scale")  # limit: in seconds
EFFORTS = {"full": Effort(1600, 5, 100), "quick": Effort(130, 3, 25)}


class Suite(suite.Suite):
    """Workloads, some in limited heaps, marking, and single costs; and memory over time."""

    def __init__(self, arguments, place):
        columns, self.missing = back_ends(place)
        document = new_document(arguments, columns)
        effort = EFFORTS["quick" if arguments.quick else "full"]
        super().__init__(arguments, effort, place, columns, document)
        self.plan(arguments)

    def plan(self, arguments):
        scale, asked = self.effort.scale, arguments.only or NAMES
        loads = [entry for entry in LOADS if entry[0] in asked]
        limited = [entry for entry in loads if entry[0] in LIMITED]
        self.workloads = [] if arguments.limits else [Load(entry, scale) for entry in loads]
        self.workloads += [Load(entry, scale, p) for entry in limited for p in PERCENTS]
        for name, make in ((MARKING, Marking), (COSTS, Costs)):
            if name in asked and not arguments.limits:
                self.workloads.append(make(scale))
        everything = not arguments.only and not arguments.limits
        self.curves = [load for load in self.workloads if everything and load.name in CURVES]

    def columns_of(self, workload):
        return workload.columns(self.columns)

    def entry_of(self, workload):
        section = self.document[workload.section]
        return section.setdefault(workload.name, self.entry(workload))

    def entry(self, workload):
        entry = super().entry(workload)
        if workload.section == "limits":
            entry.update(load=workload.row, percent=workload.percent)
        return entry

    def keep(self, entry, workload, usages):
        for name, run in usages.items():
            entry["runs"][name].append(workload.figures(run, name))
        self.note_settings(usages)

    def note_settings(self, usages):
        """What a back end says of itself goes to the head of the report."""
        for column in self.columns:
            run = usages.get(column.name)
            if run and run.told and "settings" in run.told and column.name not in self.told:
                self.told.add(column.name)
                self.document["allocators"][column.name] += ": " + run.told["settings"]

    def run(self):
        self.told = set()
        weight = self.rounds * sum(load.weight() for load in self.workloads)
        self.start(weight + sum(load.weight() for load in self.curves))
        for workload in self.curves:
            usages = self.row("memory", workload, samples=self.samples_path)
            self.document["curves"][workload.name] = {
                "about": workload.about,
                "allocators": self.curves_of(workload),
                "collections": {name: marks(run) for name, run in usages.items()},
            }
        self.run_rounds(self.workloads)


def marks(run):
    """When a collection began, in seconds, and the heap before and after it, in KiB."""
    columns = [run.column(name) for name in ("began", "heap", "heap_after")]
    return [(began, heap / 1024, after / 1024) for began, heap, after in zip(*columns)]


def new_document(arguments, columns):
    versions = {c.name: "%s %s" % (c.package, c.version()) for c in columns}
    versions[OURS] = "commit %s" % record.commit(record.root())
    document = record.new_document(arguments, "gc", BASE, versions, [])
    document.update(limits={}, marking={}, costs={})
    return document


def add_options(parser):
    suite.add_options(parser, NAMES)
    parser.add_argument("--limits", action="store_true", help="only those in limited heaps")


def main(arguments):
    part = bool(arguments.only or arguments.limits)
    suite.main(arguments, "gc", Suite, part, FIELDS, lines, PLOTS)
