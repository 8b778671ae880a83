# SPDX-License-Identifier: MIT
"""
The malloc suite: splitheap beside jemalloc, mimalloc, tcmalloc and the C library.

Each workload runs under every allocator in turn, a round at a time, each run in a
process of its own and each round starting with another allocator. Tables show medians as
ratios to jemalloc; plots, JSON and CSV go to DIR/bench.
"""
import collections
import statistics

from harness import programs, record, suite
from harness.allocators import BASE, OURS, find_allocators
from harness.malloc_plots import PLOTS
from harness.malloc_report import lines
from harness.process import Failure
from harness.workloads import NAMES, RELEASE, make_load, make_workload

Effort = collections.namedtuple(
    "Effort",
    "limit"  # seconds: no round begins that would not end before
    " rounds"
    " scale percent"  # of loads and of programs, in each round
    " memory_rounds memory_scale"
    " scaling_rounds scaling_scale threads",
)
EFFORTS = {
    "full": Effort(1440, 7, 100, 35, 3, 100, 2, 60, (1, 2, 4, 8, 16)),
    "quick": Effort(130, 3, 15, 8, 1, 20, 1, 8, (1, 2, 16)),
}
SCALED = ("larson", "mstress", "rptest", "glibc-thread")
# Their memory is shown over time: the name, and how much more of it than usual.
CURVES = ((RELEASE, 1), ("espresso-like", 3), ("mstress", 3), ("redis-server", 1))


class Suite(suite.Suite):
    """The rounds, memory over time, and work over threads."""

    def __init__(self, arguments, place):
        allocators, self.missing = find_allocators(place)
        if not any(allocator.name == BASE for allocator in allocators):
            raise Failure("%s is missing; ./dev bench installs it" % BASE)
        document = new_document(arguments, allocators)
        effort = EFFORTS["quick" if arguments.quick else "full"]
        super().__init__(arguments, effort, place, allocators, document)
        self.plan(arguments)

    # -- Parts ------------------------------------------------------------------------

    def plan(self, arguments):
        """What each part has to do: all, or what was asked for and nothing beside it."""
        asked = arguments.only or [*NAMES, RELEASE]
        everything = not arguments.only and not arguments.scaling
        effort = self.effort
        self.workloads = [
            make_workload(name, effort.scale, effort.percent)
            for name in NAMES
            if name in asked and not arguments.scaling
        ]
        self.curves = [
            make_workload(name, effort.memory_scale * more, effort.percent)
            for name, more in CURVES
            if everything or (name == RELEASE and name in (arguments.only or ()))
        ]
        self.scaled = [
            [make_load(name, effort.scaling_scale, threads) for threads in effort.threads]
            for name in SCALED
            if name in asked and (everything or arguments.scaling)
        ]

    def weight(self):
        """Of all rows together."""
        total = self.rounds * sum(workload.weight() for workload in self.workloads)
        total += sum(self.curve_rounds(load) * load.weight() for load in self.curves)
        rows = sum(load.weight() for loads in self.scaled for load in loads)
        return total + self.effort.scaling_rounds * rows

    def run(self):
        for workload in {w.name: w for w in self.workloads + self.curves}.values():
            workload.require_installed()
            workload.prepare(self.place)
            for allocator in self.columns:
                workload.check(self.place, allocator)
        self.start(self.weight())
        self.run_curves()
        self.run_scaling()
        self.run_rounds(self.workloads)

    # -- Memory over time -------------------------------------------------------------

    def curve_rounds(self, workload):
        """One draws a curve; more are for the figure that release is about."""
        return self.effort.memory_rounds if workload.name == RELEASE else 1

    def run_curves(self):
        for workload in self.curves:
            for number in range(self.curve_rounds(workload)):
                usages = self.row("memory", workload, samples=self.samples_path)
                self.keep_curves(workload, usages, number == 0)

    def keep_curves(self, workload, usages, first):
        if first:
            curves = {"about": workload.about, "allocators": self.curves_of(workload)}
            self.document["curves"][workload.name] = curves
        if workload.name == RELEASE:
            self.document["release"] = self.document["release"] or self.entry(workload)
            self.keep(self.document["release"], workload, usages)

    # -- Scaling over threads ---------------------------------------------------------

    def run_scaling(self):
        for loads in self.scaled:
            seconds = {allocator.name: [] for allocator in self.columns}
            for load in loads:
                for column, found in self.run_threads(load).items():
                    seconds[column].append(found)
            unit = statistics.median(seconds[BASE][0])
            self.document["scaling"][load.name] = {
                "about": load.about,
                "threads": self.effort.threads,
                "allocators": seconds,
                "rates": {
                    column: [unit / statistics.median(one) for one in found]
                    for column, found in seconds.items()
                },
            }

    def run_threads(self, load):
        found = {allocator.name: [] for allocator in self.columns}
        title = "%d thread%s" % (load.threads, "s" if load.threads > 1 else "")
        for _ in range(self.effort.scaling_rounds):
            for column, usage in self.row(title, load).items():
                found[column].append(usage.seconds)
        return found


# ---- The whole ----------------------------------------------------------------------


def new_document(arguments, allocators):
    versions = {a.name: "%s %s" % (a.package, a.version()) for a in allocators}
    versions[OURS] = "commit %s" % record.commit(record.root())
    packages = [program.package for program in programs.ALL]
    document = record.new_document(arguments, "malloc", BASE, versions, packages)
    document.update(release=None, scaling={})
    return document


def add_options(parser):
    suite.add_options(parser, [*NAMES, RELEASE])
    parser.add_argument("--scaling", action="store_true", help="only that over 1 to 16 threads")


def main(arguments):
    part = bool(arguments.only or arguments.scaling)
    suite.main(arguments, "malloc", Suite, part, record.FIELDS, lines, PLOTS)
