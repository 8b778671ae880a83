# SPDX-License-Identifier: MIT
"""Tables that suites have in common, as lines of text."""
from harness.allocators import OURS
from harness.results import best_peer, mean, median, of_best, ratio, spread


def cell(form, value):
    return form % value if value is not None else "-"


def names_of(document):
    return list(document["allocators"])


def spaced(tables):
    """Each with an empty line before it."""
    for rows in tables:
        yield ""
        yield from rows


def table(document, field, title, unit, divisor, form, peer=None):
    """
    The base's own figures, and the others' as ratios to them; at the end ours as ratios to
    the peer's, or to the best one's.
    """
    base, workloads = document["base"], document["workloads"]
    yield "%s, of %s's (medians of %d)" % (title, base, document["rounds"])
    others = [name for name in names_of(document) if name != base]
    head = "  %-15s%12s" % ("", "%s, %s" % (base, unit))
    head += "".join("%12s" % name for name in others)
    yield head + "%9s%9s  ours, of %s" % ("± ours", "± base", peer or "the best peer")
    for name, workload in workloads.items():
        own = median(workload, base, field)
        line = "  %-15s%12s" % (name, cell(form, own / divisor if own is not None else None))
        line += "".join("%12s" % cell("%.2f", ratio(workload, n, field, base)) for n in others)
        for one in (OURS, base):
            part = spread(workload, one, field)
            line += "%9s" % (cell("%.0f %%", part * 100 if part is not None else None))
        yield (line + "  " + of_peer(workload, field, peer)).rstrip()
    line = "  %-15s%12s" % ("geometric mean", "")
    line += "".join("%12s" % cell("%.2f", mean(workloads, n, field, base)) for n in others)
    if peer:
        line += "%18s  %s" % ("", cell("%.2f", mean(workloads, OURS, field, peer)))
    yield line


def of_peer(workload, field, peer):
    if peer:
        return cell("%.2f", ratio(workload, OURS, field, peer))
    best = of_best(workload, field)
    return "%.2f of %s's" % (best, best_peer(workload, field)) if best else ""


def aims_table(aims):
    yield "Aims"
    for aim in aims:
        limit = "%s %s" % (aim.sense, aim.form % aim.limit)
        line = "  %-50s%7s   %s: " % (aim.what, aim.form % aim.measured, limit)
        yield line + "%s (%s)" % ("met" if aim.met else "NOT MET", aim.which)
