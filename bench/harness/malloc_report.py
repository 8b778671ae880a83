# SPDX-License-Identifier: MIT
"""The tables of a document of the malloc suite, as lines of text."""
from harness import record
from harness.allocators import BASE
from harness.malloc_results import aims, share_kept
from harness.report import aims_table, names_of, spaced, table
from harness.results import mean, median

# Field, title, unit of the base's own column, what that is divided by.
TABLES = (
    ("seconds", "Time", "s", 1, "%.2f"),
    ("peak_kib", "Peak memory", "MiB", 1024, "%.1f"),
    ("faults", "Page faults", "1000", 1000, "%.1f"),
    ("end_kib", "Memory at the end", "MiB", 1024, "%.1f"),
)


def release_table(document):
    release = document["release"]
    yield "Memory two seconds after everything was freed, of its peak"
    for name in names_of(document):
        kept, peak = share_kept(release, name), median(release, name, "peak_kib")
        if kept is not None:
            yield "  %-15s%7.1f %% of %.0f MiB" % (name, kept * 100, peak / 1024)


def scaling_table(document):
    yield "Work per second on so many threads, of %s's on one" % BASE
    for load, entry in document["scaling"].items():
        yield "  %-15s" % load + "".join("%11s" % n for n in entry["allocators"])
        for place, threads in enumerate(entry["threads"]):
            line = "  %-15s" % ("%6d thread%s" % (threads, "s" if threads > 1 else ""))
            for rates in entry["rates"].values():
                line += "%11.2f" % rates[place]
            yield line


def lines(document):
    """Everything, for the terminal and for docs/performance.md."""
    tables = []
    for entry in TABLES:
        if mean(document["workloads"], BASE, entry[0], BASE):
            tables.append(table(document, *entry))
    if document["release"]:
        tables.append(release_table(document))
    if document["scaling"]:
        tables.append(scaling_table(document))
    if aims(document):
        tables.append(aims_table(aims(document)))
    yield from record.about(document)
    yield from spaced(tables)
