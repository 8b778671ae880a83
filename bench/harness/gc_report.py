# SPDX-License-Identifier: MIT
"""The tables of a document of the gc suite, as lines of text."""
import statistics

from harness import record
from harness.allocators import OURS
from harness.gc_results import aims, shares, speed_up
from harness.gc_workloads import BASE, FREED, INNER, PERCENTS
from harness.report import aims_table, cell, spaced, table
from harness.results import mean, median, ratio, spread, values

# Field, title, unit of the base's own column, what that is divided by, form, another peer.
TABLES = (
    ("seconds", "Time", "s", 1, "%.2f", FREED),
    ("peak_kib", "Peak memory", "MiB", 1024, "%.1f", FREED),
    ("stopped", "Time stopped", "s", 1, "%.2f", INNER),
    ("pause_max", "Longest pause", "ms", 1, "%.1f", INNER),
)
# Field, title, form.
COLUMNS = (
    ("collections", "number", "%.0f"),
    ("minor", "minor", "%.0f"),
    ("pause_p50", "p50", "%.2f"),
    ("pause_p99", "p99", "%.2f"),
    ("pause_max", "max", "%.2f"),
    ("stop_p50", "stop p50", "%.3f"),
    ("stop_max", "stop max", "%.3f"),
)


def pauses_table(document):
    """Beside each other: ours and the base's."""
    width = 10 * len(COLUMNS)
    yield "Collections; their pauses, and the time to stop the world in them, ms"
    yield "  %-15s%s%s" % ("", OURS.center(width), BASE.center(width))
    yield "  %-15s" % "" + "".join("%10s" % title for _, title, _ in COLUMNS) * 2
    for name, workload in document["workloads"].items():
        line = "  %-15s" % name
        for one in (OURS, BASE):
            for field, _, form in COLUMNS:
                line += "%10s" % cell(form, median(workload, one, field))
        yield line


def rates_table(document):
    yield "Marking at the end, of a live set that is known"
    head = "%12s%12s%12s" % ("ms", "Mobjects/s", "GB/s")
    yield "  %-15s%s%s%16s" % ("", OURS.center(36), BASE.center(36), "ours, of bdwgc's")
    yield "  %-15s%s%s%16s" % ("", head, head, "time")
    for name, workload in document["workloads"].items():
        if not values(workload, OURS, "mark_ms"):
            continue
        line = "  %-15s" % name
        for one in (OURS, BASE):
            for field, divisor in (("mark_ms", 1), ("mark_objects", 1e6), ("mark_bytes", 1e9)):
                line += "%12.2f" % (median(workload, one, field) / divisor)
        yield line + "%16s" % cell("%.2f", ratio(workload, OURS, "mark_ms", BASE))


def limits_table(document):
    """In heaps of so many times what lives; "-": it ran out of memory."""
    limits = document["limits"]
    yield "In limited heaps: bdwgc's, and ours as ratios to it"
    head = ("", "time, s", "ours", "± ours", "stopped", "pauses, ms", "ours", "number", "ours")
    yield "  %-15s%10s%8s%8s%9s%12s%8s%9s%8s" % head
    for name, workload in limits.items():
        line = "  %-15s%10s" % (name, cell("%.2f", median(workload, BASE, "seconds")))
        line += "%8s" % cell("%.2f", ratio(workload, OURS, "seconds", BASE))
        part = spread(workload, OURS, "seconds")
        line += "%8s" % cell("%.0f %%", part * 100 if part is not None else None)
        line += "%9s" % cell("%.2f", ratio(workload, OURS, "stopped", BASE))
        line += "%12s" % cell("%.2f", median(workload, BASE, "pause_max"))
        line += "%8s" % cell("%.2f", ratio(workload, OURS, "pause_max", BASE))
        line += "%9s" % cell("%.0f", median(workload, BASE, "collections"))
        yield line + "%8s" % cell("%.0f", median(workload, OURS, "collections"))
    for percent in PERCENTS:
        some = {n: one for n, one in limits.items() if one["percent"] == percent}
        line = "  %-15s%10s" % ("mean, %g x" % (percent / 100), "")
        line += "%8s%8s" % (cell("%.2f", mean(some, OURS, "seconds", BASE)), "")
        line += "%9s%12s" % (cell("%.2f", mean(some, OURS, "stopped", BASE)), "")
        yield line + "%8s" % cell("%.2f", mean(some, OURS, "pause_max", BASE))


def marking_table(document):
    for entry in document["marking"].values():
        one = next(iter(entry["runs"].values()))[0]
        of = (one["cells"] / 1e6, one["bytes"] / 2**20)
        yield "Marking a graph of %.1f million cells, %.0f MiB, and its bound, ms" % of
        head = ("", "marking", "touch", "read", "bound", "share")
        yield "  %-15s%10s%10s%10s%10s%10s" % head
        for threads, share in shares(entry).items():
            line = "  %-15s" % (threads + (" markers" if threads != "1" else " marker"))
            for field in ("mark_seconds", "touch", "read", "bound"):
                line += "%10.1f" % (median(entry, threads, field) * 1e3)
            yield line + "%10.2f" % share
        if speed_up(entry):
            yield "  one marker to two: %.2f" % speed_up(entry)


# Title, what micro_weak calls it, what of that, form.
COSTS = (
    ("making a weak reference, ns", "reference_new_ns", None, "%.0f"),
    ("reading one, ns", "reference_get_ns", None, "%.0f"),
    ("freeing one, ns", "reference_free_ns", None, "%.0f"),
    ("pause: the objects alone, ms", "objects", "pause_ms", "%.1f"),
    ("pause: a reference to each, ms", "references", "pause_ms", "%.1f"),
    ("pause: half of them have just died, ms", "half_dead", "pause_ms", "%.1f"),
    ("pause: a chain of ephemerons, ms", "ephemeron_chain", "pause_ms", "%.1f"),
    ("setting an entry of a weak map, longest, ms", "map_set_longest_ms", None, "%.2f"),
    ("setting a finaliser, ns", "finaliser_set_ns", None, "%.0f"),
    ("running one, ns", "finaliser_run_ns", None, "%.0f"),
    ("pause: a finaliser for each, ms", "finalisers", "pause_ms", "%.1f"),
    ("pause: all finalisable, just died, ms", "all_finalised", "pause_ms", "%.1f"),
)


def costs_table(document):
    for entry in document["costs"].values():
        (runs,) = entry["runs"].values()
        yield "What single things cost, with %d of each" % runs[0]["objects_each"]
        for title, name, part, form in COSTS:
            found = [run[name][part] if part else run[name] for run in runs]
            yield "  %-46s%10s" % (title, form % statistics.median(found))


def lines(document):
    """Everything, for the terminal and for docs/performance.md."""
    tables = []
    if document["workloads"]:
        tables += [table(document, *entry) for entry in TABLES]
        tables += [pauses_table(document), rates_table(document)]
    if document["limits"]:
        tables.append(limits_table(document))
    if document["marking"]:
        tables.append(marking_table(document))
    if document.get("costs"):
        tables.append(costs_table(document))
    if aims(document):
        tables.append(aims_table(aims(document)))
    yield from record.about(document)
    yield from spaced(tables)
