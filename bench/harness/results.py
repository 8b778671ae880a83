# SPDX-License-Identifier: MIT
"""Medians and ratios of the runs in a document, and aims for them."""
import collections
import statistics

from harness.allocators import OURS

# What is measured against what limit, which is the most or the least that it may be.
Aim = collections.namedtuple("Aim", "what measured limit met which sense form")


def aim(what, measured, limit, which, sense="at most", form="%.2f"):
    met = measured <= limit if sense == "at most" else measured >= limit
    return Aim(what, measured, limit, met, which, sense, form)


def values(workload, allocator, field):
    """What the runs tell of a field; nothing where they do not."""
    runs = workload["runs"].get(allocator, [])
    return [run[field] for run in runs if run[field] is not None]


def median(workload, allocator, field):
    found = values(workload, allocator, field)
    return statistics.median(found) if found else None


def ratio(workload, allocator, field, base):
    own, other = (median(workload, name, field) for name in (allocator, base))
    return own / other if own is not None and other else None


def spread(workload, allocator, field):
    """Half of the distance between the least and the most, as a share of the median."""
    found = values(workload, allocator, field)
    middle = statistics.median(found) if found else 0
    return (max(found) - min(found)) / 2 / middle if middle else None


def best_peer(workload, field):
    """The name of the peer with the least of it."""
    peers = [name for name in workload["runs"] if name != OURS]
    known = [name for name in peers if median(workload, name, field) is not None]
    return min(known, key=lambda name: median(workload, name, field), default=None)


def of_best(workload, field):
    return ratio(workload, OURS, field, best_peer(workload, field))


def mean(workloads, allocator, field, base):
    """The geometric mean of the ratios to the base; None where there are none."""
    found = [ratio(workload, allocator, field, base) for workload in workloads.values()]
    found = [one for one in found if one]
    return statistics.geometric_mean(found) if found else None


def worst(what, most, by_name):
    """The aim for each single one: the worst, and the names of those that miss it."""
    known = {name: one for name, one in by_name.items() if one is not None}
    if not known:
        return []
    name = max(known, key=known.get)
    missed = sorted((n for n in known if known[n] > most), key=lambda n: -known[n])
    which = ", ".join("%s %.2f" % (n, known[n]) for n in missed)
    return [aim(what, known[name], most, which or name)]
