# SPDX-License-Identifier: MIT
"""The tables of a document of the malloc suite, as lines of text."""
from harness import record
from harness.allocators import BASE, OURS
from harness.results import (
    aims,
    best_peer,
    mean,
    median,
    of_best,
    ratio,
    share_kept,
    spread,
)

# Field, title, unit of the base's own column, what that is divided by.
TABLES = (
    ("seconds", "Time", "s", 1, "%.2f"),
    ("peak_kib", "Peak memory", "MiB", 1024, "%.1f"),
    ("faults", "Page faults", "1000", 1000, "%.1f"),
    ("end_kib", "Memory at the end", "MiB", 1024, "%.1f"),
)


def cell(form, value):
    return form % value if value is not None else "-"


def names_of(document):
    return list(document["allocators"])


def table(document, field, title, unit, divisor, form):
    names, workloads = names_of(document), document["workloads"]
    yield "%s, of %s's (medians of %d)" % (title, BASE, document["rounds"])
    others = [name for name in names if name != BASE]
    head = "  %-15s%12s" % ("", "%s, %s" % (BASE, unit))
    head += "".join("%11s" % name for name in others)
    yield head + "%9s%9s  %s" % ("± ours", "± base", "of the best peer")
    for name, workload in workloads.items():
        own = median(workload, BASE, field)
        line = "  %-15s%12s" % (name, cell(form, own / divisor if own is not None else None))
        line += "".join("%11s" % cell("%.2f", ratio(workload, n, field)) for n in others)
        for one in (OURS, BASE):
            part = spread(workload, one, field)
            line += "%9s" % (cell("%.0f %%", part * 100 if part is not None else None))
        best = of_best(workload, field)
        yield line + ("  %.2f of %s's" % (best, best_peer(workload, field)) if best else "")
    line = "  %-15s%12s" % ("geometric mean", "")
    yield line + "".join("%11s" % cell("%.2f", mean(workloads, n, field)) for n in others)


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


def aims_table(document):
    yield "Aims"
    for aim in aims(document):
        line = "  %-44s%6.2f   at most %.2f: " % (aim.what, aim.measured, aim.most)
        yield line + "%s (%s)" % ("met" if aim.met else "NOT MET", aim.which)


def lines(document):
    """Everything, for the terminal and for docs/performance.md."""
    yield from record.about(document)
    if document["workloads"]:
        for entry in TABLES:
            if mean(document["workloads"], BASE, entry[0]):
                yield ""
                yield from table(document, *entry)
    if document["release"]:
        yield ""
        yield from release_table(document)
    if document["scaling"]:
        yield ""
        yield from scaling_table(document)
    if aims(document):
        yield ""
        yield from aims_table(document)
