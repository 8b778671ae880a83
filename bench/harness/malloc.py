# SPDX-License-Identifier: MIT
"""
The malloc suite: splitheap beside jemalloc, mimalloc, tcmalloc and the C library.

Each workload runs under every allocator in turn, a round at a time, each run in a
process of its own and each round starting with another allocator. Tables show medians as
ratios to jemalloc; plots, JSON and CSV go to DIR/bench.
"""
import collections
import os
import shutil
import statistics

from harness import docs, plots, record, report
from harness.allocators import BASE, find_allocators
from harness.machine import machine_line
from harness.process import Failure, TemporaryPlace
from harness.progress import Progress, in_words
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
CURVE_POINTS = 300


class Suite:
    """A run: what it was asked, and the document it fills."""

    def __init__(self, arguments, place):
        self.place = place
        self.effort = EFFORTS["quick" if arguments.quick else "full"]
        self.rounds = arguments.rounds or self.effort.rounds
        # Who asks for so many rounds gets them.
        self.limit = None if arguments.rounds else self.effort.limit
        self.allocators, self.missing = find_allocators(place)
        if not any(allocator.name == BASE for allocator in self.allocators):
            raise Failure("%s is missing; ./dev bench installs it" % BASE)
        name = "quick" if arguments.quick else "full"
        self.document = record.new_document(arguments, name, self.allocators)
        self.plan(arguments)
        self.document["rounds"] = self.rounds if self.workloads else 0
        self.expected = {}  # workload: output
        self.turns = collections.Counter()  # workload: rows so far

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
        self.progress = Progress(self.weight())
        for workload in {w.name: w for w in self.workloads + self.curves}.values():
            workload.require_installed()
            workload.prepare(self.place)
            for allocator in self.allocators:
                workload.check(self.place, allocator)
        print("%-14s %-14s" % ("", "seconds:"), end="")
        print("".join("%11s" % allocator for allocator in self.allocators))
        self.run_curves()
        self.run_scaling()
        self.run_rounds()

    def rotated(self, workload):
        """Each row of a workload starts with another allocator: none always follows one."""
        turn = self.turns[workload] % len(self.allocators)
        self.turns[workload] += 1
        return self.allocators[turn:] + self.allocators[:turn]

    def row(self, title, workload, samples=None):
        """One run under each allocator: {allocator's name: Usage}, in the usual order."""
        self.progress.row(title, workload.name)
        usages = {}
        for allocator in self.rotated(workload):
            usages[allocator.name] = self.one(workload, allocator, samples)
        usages = {a.name: usages[a.name] for a in self.allocators}
        for usage in usages.values():
            self.progress.cell("%.2f" % usage.seconds)
        self.progress.end_row(workload.weight())
        return usages

    def one(self, workload, allocator, samples):
        path = samples(allocator) if samples else None
        usage = workload.run(self.place, allocator, path)
        expected = self.expected.setdefault(workload, usage.output)
        if usage.output != expected:
            message = "%s under %s leaves something else behind:\n    %s\n    %s"
            shown = [o.decode("ascii", "replace")[-300:] for o in (expected, usage.output)]
            raise Failure(message % (workload.name, allocator, *shown))
        return usage

    # -- Memory over time -------------------------------------------------------------

    def curve_rounds(self, workload):
        """One draws a curve; more are for the figure that release is about."""
        return self.effort.memory_rounds if workload.name == RELEASE else 1

    def run_curves(self):
        for workload in self.curves:
            for number in range(self.curve_rounds(workload)):
                usages = self.row("memory", workload, samples=self.samples_path)
                self.keep_curves(workload, usages, number == 0)

    def samples_path(self, allocator):
        return self.place.path("samples-" + allocator.name)

    def keep_curves(self, workload, usages, first):
        if first:
            self.document["curves"][workload.name] = {
                "about": workload.about,
                "allocators": {
                    a.name: read_curve(self.samples_path(a)) for a in self.allocators
                },
            }
        if workload.name == RELEASE:
            self.document["release"] = self.document["release"] or self.entry(workload)
            self.keep(self.document["release"], workload, usages)

    # -- Scaling over threads ---------------------------------------------------------

    def run_scaling(self):
        for loads in self.scaled:
            seconds = {allocator.name: [] for allocator in self.allocators}
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
        found = {allocator.name: [] for allocator in self.allocators}
        title = "%d thread%s" % (load.threads, "s" if load.threads > 1 else "")
        for _ in range(self.effort.scaling_rounds):
            for column, usage in self.row(title, load).items():
                found[column].append(usage.seconds)
        return found

    # -- Rounds -----------------------------------------------------------------------

    def run_rounds(self):
        if not self.workloads:
            return
        for workload in self.workloads:
            self.document["workloads"][workload.name] = self.entry(workload)
        for number in range(1, self.rounds + 1):
            began = self.progress.elapsed()
            for workload in self.workloads:
                usages = self.row("round %d of %d" % (number, self.rounds), workload)
                self.keep(self.document["workloads"][workload.name], workload, usages)
            self.document["rounds"] = number
            ends = self.progress.elapsed() * 2 - began
            if self.limit and ends > self.limit and number < self.rounds:
                print("one more round would not end within %s" % in_words(self.limit))
                break

    def entry(self, workload):
        return {
            "about": workload.about,
            "runs": {allocator.name: [] for allocator in self.allocators},
        }

    def keep(self, entry, workload, usages):
        for name, usage in usages.items():
            entry["runs"][name].append(record.figures(usage, workload.alone))


def read_curve(path):
    with open(path, encoding="ascii") as file:
        points = [tuple(map(float, line.split())) for line in file]
    step = max(1, len(points) // CURVE_POINTS)
    return points[::step] + points[-1:]


# ---- The whole ----------------------------------------------------------------------


def add_options(parser):
    parser.add_argument("--quick", action="store_true", help="a few minutes, rougher figures")
    parser.add_argument("--rounds", type=int, help="as many, however long they take")
    names = [*NAMES, RELEASE]
    parser.add_argument("--only", nargs="+", choices=names, metavar="WORKLOAD",
        help=", ".join(names))  # fmt: skip
    parser.add_argument("--scaling", action="store_true", help="only that over 1 to 16 threads")
    parser.add_argument("--docs", action="store_true",
        help="put tables and plots into docs/performance.md and docs/plots as well")  # fmt: skip
    parser.add_argument("--from", dest="source", metavar="JSON",
        help="run nothing: report what an earlier run left there")  # fmt: skip


def measure(arguments):
    with TemporaryPlace(arguments.build) as place:
        suite = Suite(arguments, place)
        print("%s; %s rounds at most" % (machine_line(), suite.rounds))
        suite.run()
        suite.document["seconds"] = round(suite.progress.elapsed())
        if suite.missing:
            print("left out, not found: " + ", ".join(suite.missing))
        return suite.document


def folder_of(arguments):
    """Where the results go: those of a run of less do not take the place of a full one's."""
    part = "-part" if arguments.only or arguments.scaling else ""
    quick = "-quick" if arguments.quick else ""
    return os.path.join(arguments.build, "bench", "malloc" + quick + part)


def main(arguments):
    if arguments.docs and (arguments.only or arguments.scaling):
        raise Failure("the documents show all of the suite, not a part of it")
    if arguments.source:
        folder = os.path.dirname(os.path.abspath(arguments.source))
        document = record.read_json(arguments.source)
    else:
        document = measure(arguments)
        folder = folder_of(arguments)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        record.write_json(document, os.path.join(folder, "malloc.json"))
        record.write_csv(document, os.path.join(folder, "malloc.csv"))
    print("\n" + "\n".join(report.lines(document)))
    plots.draw(document, folder, ("svg", "png"))
    if arguments.docs:
        docs.update(document)
    print("\nJSON, CSV and plots: %s (%d s)" % (os.path.relpath(folder), document["seconds"]))
