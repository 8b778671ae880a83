# SPDX-License-Identifier: MIT
"""The plots of a document of the gc suite."""
import collections
import math

from harness.allocators import OURS
from harness.gc_workloads import BASE, PERCENTS
from harness.plots import LOOKS, block, curves, data_name, page, quoted, ratios
from harness.results import median

HISTOGRAMS = ("trees-down", "gcbench-2", "gcbench-8", "quad", "lru", "idle")
BINS = 8  # to a factor of ten


# ---- Pauses -----------------------------------------------------------------------------


def pauses(workload, name):
    """Of all rounds together, in milliseconds."""
    return [us / 1e3 for run in workload["runs"][name] for us in run["pauses_us"] or ()]


def histogram(found):
    """(the middle of a bin, percent of the pauses)."""
    bins = collections.Counter(math.floor(math.log10(max(p, 1e-3)) * BINS) for p in found)
    first, last = min(bins), max(bins)
    for number in range(first - 1, last + 2):
        yield 10 ** ((number + 0.5) / BINS), 100 * bins[number] / len(found)


def pause_histograms(document, title):
    names = [name for name in HISTOGRAMS if name in document["workloads"]]
    if not names:
        return None
    script = page(document, title, (len(names) + 1) // 2, min(2, len(names)))
    script += ["set logscale x", "set xlabel 'pause, ms; logarithmic'", "set yrange [0:*]"]
    script += ["set ylabel '% of the collections'", "set style fill transparent solid 0.3"]
    for number, name in enumerate(names):
        drawn = []
        for one in (BASE, OURS):
            found = pauses(document["workloads"][name], one)
            if not found:
                continue
            data = data_name("pauses%d" % number, one)
            script += block(data, histogram(found))
            text = "%s: %d, longest %.1f ms" % (one, len(found), max(found))
            drawn.append(
                "$%s using 1:2 with fillsteps lc rgb '%s' notitle" % (data, LOOKS[one][0])
            )
            drawn.append(
                "$%s using 1:2 with steps lw 2 lc rgb '%s' title '%s'"
                % (data, LOOKS[one][0], text)
            )
        if drawn:
            script += ["set title %s noenhanced" % quoted(name), "plot " + ", ".join(drawn)]
    return script, 1100, 80 + 300 * ((len(names) + 1) // 2)


# ---- Time against the heap's limit --------------------------------------------------------


def limit_panels(document, title):
    limits = document["limits"]
    loads = list(dict.fromkeys(entry["load"] for entry in limits.values()))
    if not loads:
        return None
    script = page(document, title, (len(loads) + 1) // 2, min(2, len(loads)))
    script += ["set xlabel 'the most that the heap may take, of what lives'"]
    script += ["set ylabel 'seconds'", "set yrange [0:*]"]
    script += ["set xrange [%g:%g]" % (PERCENTS[0] / 100 - 0.2, PERCENTS[-1] / 100 + 0.2)]
    script += ["set xtics (%s)" % ", ".join("%g" % (percent / 100) for percent in PERCENTS)]
    for number, load in enumerate(loads):
        drawn = []
        for name in (BASE, OURS):
            rows = [
                (entry["percent"] / 100, median(entry, name, "seconds"))
                for entry in limits.values()
                if entry["load"] == load and median(entry, name, "seconds") is not None
            ]
            if not rows:
                continue
            data = data_name("limit%d" % number, name)
            script += block(data, rows)
            colour, mark = LOOKS[name]
            drawn.append(
                "$%s with linespoints lw 2 pt %d lc rgb '%s' title '%s'"
                % (data, mark, colour, name)
            )
        if drawn:
            script += ["set title %s noenhanced" % quoted(load), "plot " + ", ".join(drawn)]
    return script, 1100, 80 + 300 * ((len(loads) + 1) // 2)


# ---- All ----------------------------------------------------------------------------------


def heap_curves(document, title):
    """Resident memory as lines; a point where a collection began, at the heap's size."""

    def points(entry, number):
        for name, rows in entry["collections"].items():
            if rows:
                data = data_name("collections%d" % number, name)
                heap = [(began, before / 1024) for began, before, _ in rows]
                colour, mark = LOOKS[name]
                drawn = "$%s with points pt %d ps 0.5 lc rgb '%s' notitle"
                yield block(data, heap), drawn % (data, mark, colour)

    return curves(document, title, points)


PLOTS = (
    ("gc-ratios", "Time and peak memory by workload: left of the line is better",
        lambda document, title: ratios(document, title,
            (("seconds", "Time"), ("peak_kib", "Peak resident memory")))),
    ("gc-stops", "Time stopped and longest pause: left of the line is better",
        lambda document, title: ratios(document, title,
            (("stopped", "Time stopped"), ("pause_max", "Longest pause")))),
    ("gc-pauses", "Pauses: further left is better", pause_histograms),
    ("gc-curves",
        "Resident memory over time, and collections at the size of the heap before them",
        heap_curves),
    ("gc-limits", "Time against the limit of the heap; no point where it ran out of memory",
        limit_panels),
)  # fmt: skip
