# SPDX-License-Identifier: MIT
"""
What the suites that compare have in common: workloads in rows, each run under every
column in turn, a round at a time; and what becomes of the document that they fill.
"""
import collections
import os
import shutil

from harness import docs, plots, record
from harness.machine import machine_line
from harness.process import Failure, TemporaryPlace
from harness.progress import Progress, in_words

CURVE_POINTS = 300


class Suite:
    """
    A run: what it was asked, and the document it fills. A workload has a `name`, says
    what it is `about`, what it weighs, and how it is run under a column, which has a name.
    """

    def __init__(self, arguments, effort, place, columns, document):
        self.place = place
        self.effort = effort
        self.columns = columns
        self.rounds = arguments.rounds or effort.rounds
        # Who asks for so many rounds gets them.
        self.limit = None if arguments.rounds else effort.limit
        self.document = document
        self.expected = {}  # workload: output
        self.turns = collections.Counter()  # workload: rows so far

    def columns_of(self, workload):
        """Those that a workload has runs of."""
        return self.columns

    def entry_of(self, workload):
        """Where a workload's runs are kept: made when it is first asked for."""
        return self.document["workloads"].setdefault(workload.name, self.entry(workload))

    def figures(self, usage, workload):
        """A run, for the document."""
        return record.figures(usage, workload.alone)

    def entry(self, workload):
        names = [column.name for column in self.columns_of(workload)]
        return {"about": workload.about, "runs": {name: [] for name in names}}

    # -- Rows -------------------------------------------------------------------------

    def start(self, weight):
        self.progress = Progress(weight)
        print("%-14s %-14s" % ("", "seconds:"), end="")
        print("".join("%12s" % column.name for column in self.columns))

    def rotated(self, workload):
        """Each row of a workload starts with another column: none always follows one."""
        columns = self.columns_of(workload)
        turn = self.turns[workload] % len(columns)
        self.turns[workload] += 1
        return columns[turn:] + columns[:turn]

    def row(self, title, workload, samples=None):
        """One run under each column: {column's name: usage}, in the usual order."""
        self.progress.row(title, workload.name)
        usages = {}
        for column in self.rotated(workload):
            usages[column.name] = self.one(workload, column, samples)
        usages = {c.name: usages[c.name] for c in self.columns_of(workload)}
        self.show(usages)
        self.progress.end_row(workload.weight())
        return usages

    def show(self, usages):
        """The seconds below their columns; a workload's own columns with their names."""
        names = [column.name for column in self.columns]
        if not set(usages) & set(names):
            cells = ["%s: %.2f" % (name, usage.seconds) for name, usage in usages.items()]
        else:
            seconds = [usages[name].seconds if name in usages else None for name in names]
            cells = ["-" if one is None else "%.2f" % one for one in seconds]
        for cell in cells + [""] * (len(names) - len(cells)):
            self.progress.cell(cell)

    def one(self, workload, column, samples):
        path = samples(column) if samples else None
        usage = workload.run(self.place, column, path)
        if usage.output is None:
            return usage
        expected = self.expected.setdefault(workload, usage.output)
        if usage.output != expected:
            message = "%s under %s leaves something else behind:\n    %s\n    %s"
            shown = [o.decode("ascii", "replace")[-300:] for o in (expected, usage.output)]
            raise Failure(message % (workload.name, column, *shown))
        return usage

    def keep(self, entry, workload, usages):
        for name, usage in usages.items():
            entry["runs"][name].append(self.figures(usage, workload))

    # -- Rounds -----------------------------------------------------------------------

    def run_rounds(self, workloads):
        for workload in workloads:
            self.entry_of(workload)
        for number in range(1, self.rounds + 1 if workloads else 1):
            began = self.progress.elapsed()
            for workload in workloads:
                usages = self.row("round %d of %d" % (number, self.rounds), workload)
                self.keep(self.entry_of(workload), workload, usages)
            self.document["rounds"] = number
            ends = self.progress.elapsed() * 2 - began
            if self.limit and ends > self.limit and number < self.rounds:
                print("one more round would not end within %s" % in_words(self.limit))
                break

    # -- Memory over time -------------------------------------------------------------

    def samples_path(self, column):
        return self.place.path("samples-" + column.name)

    def curves_of(self, workload):
        """What row(..., samples=self.samples_path) left there."""
        columns = self.columns_of(workload)
        return {c.name: read_curve(self.samples_path(c)) for c in columns}


def read_curve(path):
    with open(path, encoding="ascii") as file:
        points = [tuple(map(float, line.split())) for line in file]
    step = max(1, len(points) // CURVE_POINTS)
    return points[::step] + points[-1:]


# ---- The whole ----------------------------------------------------------------------


def add_options(parser, names):
    parser.add_argument("--quick", action="store_true", help="a few minutes, rougher figures")
    parser.add_argument("--rounds", type=int, help="as many, however long they take")
    parser.add_argument("--only", nargs="+", choices=names, metavar="WORKLOAD",
        help=", ".join(names))  # fmt: skip
    parser.add_argument("--docs", action="store_true",
        help="put tables and plots into docs/performance.md and docs/plots as well")  # fmt: skip
    parser.add_argument("--from", dest="source", metavar="JSON",
        help="run nothing: report what an earlier run left there")  # fmt: skip


def measure(arguments, make):
    """Runs the suite that make(arguments, place) returns; its document."""
    with TemporaryPlace(arguments.build) as place:
        suite = make(arguments, place)
        print("%s; %s rounds at most" % (machine_line(), suite.rounds))
        suite.run()
        suite.document["seconds"] = round(suite.progress.elapsed())
        if suite.missing:
            print("left out, not found: " + ", ".join(suite.missing))
        return suite.document


def folder_of(arguments, name, part):
    """Where the results go: those of a run of less do not take the place of a full one's."""
    quick = "-quick" if arguments.quick else ""
    return os.path.join(
        arguments.build, "bench", name + quick + ("-part" if part else "")
    )


def main(arguments, name, make, part, fields, lines, drawings):
    """
    Measures, or reads what an earlier run left: JSON, CSV of the `fields`, the report's
    `lines` of the document, and the table of `drawings`. `part`: it is not all of it.
    """
    if arguments.docs and part:
        raise Failure("the documents show all of the suite, not a part of it")
    if arguments.source:
        folder = os.path.dirname(os.path.abspath(arguments.source))
        document = record.read_json(arguments.source)
    else:
        document = measure(arguments, make)
        folder = folder_of(arguments, name, part)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        record.write_json(document, os.path.join(folder, name + ".json"))
        record.write_csv(document, os.path.join(folder, name + ".csv"), fields)
    print("\n" + "\n".join(lines(document)))
    plots.draw(document, folder, ("svg", "png"), drawings)
    if arguments.docs:
        docs.update(document, name, lines, drawings)
    print("\nJSON, CSV and plots: %s (%d s)" % (os.path.relpath(folder), document["seconds"]))
