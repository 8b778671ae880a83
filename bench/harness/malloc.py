# SPDX-License-Identifier: MIT
"""
The malloc suite: splitheap beside jemalloc, mimalloc, tcmalloc and the C library.

Each workload runs under every allocator in turn, a round at a time, each run in a
process of its own and each round starting with another allocator. Tables show medians as
ratios to jemalloc; plots, JSON and CSV go to DIR/bench.
"""
import collections
import os
import statistics

from harness import docs, plots, record, report
from harness.allocators import BASE, find_allocators
from harness.process import Failure, TemporaryPlace
from harness.progress import Progress, in_words
from harness.workloads import NAMES, make_load, make_workload

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
CURVES = (("release", 1), ("espresso-like", 3), ("mstress", 3), ("redis-server", 1))
CURVE_POINTS = 300
ROW_SECONDS = 5  # one workload under all allocators, where nothing is known yet


class Suite:
    """A run: what it was asked, and the document it fills."""

    def __init__(self, arguments, place):
        self.place = place
        self.effort = EFFORTS["quick" if arguments.quick else "full"]
        self.only = arguments.only or NAMES + ["release"]
        self.rounds = arguments.rounds or self.effort.rounds
        # Who asks for so many rounds gets them.
        self.limit = None if arguments.rounds else self.effort.limit
        self.allocators, self.missing = find_allocators(place)
        if not any(allocator.name == BASE for allocator in self.allocators):
            raise Failure("%s is missing; ./dev bench installs it" % BASE)
        name = "quick" if arguments.quick else "full"
        self.document = record.new_document(arguments, name, self.allocators)
        self.parts = self.plan(arguments)
        self.expected = {}  # name: output
        self.turn = 0

    # -- Parts ------------------------------------------------------------------------

    def plan(self, arguments):
        """(the part, its weight) in the order in which they run."""
        self.workloads = [
            make_workload(name, self.effort.scale, self.effort.percent)
            for name in NAMES
            if name in self.only and not arguments.scaling
        ]
        self.curves = [
            (make_workload(name, self.effort.memory_scale * more, self.effort.percent))
            for name, more in CURVES
            if name in self.only and not arguments.scaling
        ]
        self.scaled = [name for name in SCALED if name in self.only]
        return (
            (self.run_curves, len(self.curves) * self.effort.memory_rounds),
            (self.run_scaling, len(self.scaled) * self.effort.scaling_rounds * 2),
            (self.run_rounds, len(self.workloads) * self.rounds),
        )

    def run(self):
        self.progress = Progress(ROW_SECONDS * sum(weight for _, weight in self.parts))
        for workload in {w.name: w for w in self.workloads + self.curves}.values():
            workload.require_installed()
            workload.prepare(self.place)
            for allocator in self.allocators:
                workload.check(self.place, allocator)
        print("%-14s %-14s" % ("", "seconds:"), end="")
        print("".join("%11s" % allocator for allocator in self.allocators))
        for part, weight in self.parts:
            if weight:
                part()

    def rotated(self):
        """Every row starts with another allocator, so that none always follows one."""
        self.turn += 1
        turn = self.turn % len(self.allocators)
        return self.allocators[turn:] + self.allocators[:turn]

    def row(self, title, workload, key=None, samples=None):
        """One run under each allocator: {allocator's name: Usage}, in the usual order."""
        self.progress.row(title, workload.name)
        usages = {}
        for allocator in self.rotated():
            usages[allocator.name] = self.one(workload, allocator, key, samples)
        usages = {a.name: usages[a.name] for a in self.allocators}
        for usage in usages.values():
            self.progress.cell("%.2f" % usage.seconds)
        return usages

    def one(self, workload, allocator, key, samples):
        path = samples(allocator) if samples else None
        usage = workload.run(self.place, allocator, path)
        expected = self.expected.setdefault(key or workload, usage.output)
        if usage.output != expected:
            message = "%s under %s leaves something else behind:\n    %s\n    %s"
            shown = [o.decode("ascii", "replace")[-300:] for o in (expected, usage.output)]
            raise Failure(message % (workload.name, allocator, *shown))
        return usage

    # -- Memory over time -------------------------------------------------------------

    def run_curves(self):
        for number in range(self.effort.memory_rounds):
            for workload in self.curves:
                if number == 0 or workload.name == "release":
                    usages = self.row("memory", workload, samples=self.samples_path)
                    self.keep_curves(workload, usages, number == 0)
                    self.progress.end_row(ROW_SECONDS)
                else:
                    self.progress.done += ROW_SECONDS

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
        if workload.name == "release":
            self.document["release"] = self.document["release"] or self.entry(workload)
            self.keep(self.document["release"], workload, usages)

    # -- Scaling over threads ---------------------------------------------------------

    def run_scaling(self):
        for name in self.scaled:
            seconds = {allocator.name: [] for allocator in self.allocators}
            for threads in self.effort.threads:
                load = make_load(name, self.effort.scaling_scale, threads)
                for column, found in self.scaling_row(load).items():
                    seconds[column].append(found)
                self.progress.end_row(
                    2 * ROW_SECONDS * self.effort.scaling_rounds / len(self.effort.threads)
                )
            unit = statistics.median(seconds[BASE][0])
            self.document["scaling"][name] = {
                "about": load.about,
                "threads": self.effort.threads,
                "allocators": seconds,
                "rates": {
                    column: [unit / statistics.median(one) for one in found]
                    for column, found in seconds.items()
                },
            }

    def scaling_row(self, load):
        found = {allocator.name: [] for allocator in self.allocators}
        title = "%d thread%s" % (load.threads, "s" if load.threads > 1 else "")
        for number in range(self.effort.scaling_rounds):
            if number:
                print()
            for column, usage in self.row(title, load, (load.name, load.threads)).items():
                found[column].append(usage.seconds)
        return found

    # -- Rounds -----------------------------------------------------------------------

    def run_rounds(self):
        for workload in self.workloads:
            self.document["workloads"][workload.name] = self.entry(workload)
        for number in range(1, self.rounds + 1):
            began = self.progress.elapsed()
            for workload in self.workloads:
                usages = self.row("round %d of %d" % (number, self.rounds), workload)
                self.keep(self.document["workloads"][workload.name], workload, usages)
                self.progress.end_row(ROW_SECONDS)
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
    names = NAMES + ["release"]
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
        print("\n".join(record.about(suite.document)))
        suite.run()
        suite.document["seconds"] = round(suite.progress.elapsed())
        if suite.missing:
            print("left out, not found: " + ", ".join(suite.missing))
        return suite.document


def main(arguments):
    folder = os.path.join(arguments.build, "bench", "malloc")
    os.makedirs(folder, exist_ok=True)
    if arguments.source:
        document = record.read_json(arguments.source)
    else:
        document = measure(arguments)
        record.write_json(document, os.path.join(folder, "malloc.json"))
        record.write_csv(document, os.path.join(folder, "malloc.csv"))
    print("\n" + "\n".join(report.lines(document)))
    plots.draw(document, folder, ("svg", "png"))
    if arguments.docs:
        docs.update(document)
    print("\nJSON, CSV and plots: %s (%d s)" % (os.path.relpath(folder), document["seconds"]))
