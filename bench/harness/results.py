# SPDX-License-Identifier: MIT
"""Medians, ratios and aims of a document of the malloc suite."""
import collections
import statistics

from harness.allocators import BASE, OURS

Aim = collections.namedtuple("Aim", "what measured most met which")


def values(workload, allocator, field):
    """What the runs tell of a field; nothing where they do not."""
    runs = workload["runs"].get(allocator, [])
    return [run[field] for run in runs if run[field] is not None]


def median(workload, allocator, field):
    found = values(workload, allocator, field)
    return statistics.median(found) if found else None


def ratio(workload, allocator, field, base=BASE):
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


def mean(workloads, allocator, field):
    """The geometric mean of the ratios to the base; None where there are none."""
    found = [ratio(workload, allocator, field) for workload in workloads.values()]
    found = [one for one in found if one]
    return statistics.geometric_mean(found) if found else None


def share_kept(release, allocator):
    """Memory two seconds after everything was freed, as a share of the peak."""
    peak = median(release, allocator, "peak_kib")
    return median(release, allocator, "end_kib") / peak if peak else None


def worst(what, most, by_name):
    """The aim for each single workload: the worst, and the names of those that miss it."""
    known = {name: one for name, one in by_name.items() if one is not None}
    if not known:
        return []
    name = max(known, key=known.get)
    missed = sorted((n for n in known if known[n] > most), key=lambda n: -known[n])
    which = ", ".join("%s %.2f" % (n, known[n]) for n in missed)
    return [Aim(what, known[name], most, not missed, which or name)]


def aims(document):
    """Those that the document can tell of."""
    workloads, found = document["workloads"], []
    for field, what, most in (("seconds", "time", 0.65), ("peak_kib", "peak memory", 0.80)):
        measured = mean(workloads, OURS, field)
        if measured is not None:
            which = "workloads: %d" % len(workloads)
            title = "%s, geometric mean, of %s's" % (what, BASE)
            found.append(Aim(title, measured, most, measured <= most, which))
        if field == "seconds":
            by_name = {name: of_best(one, field) for name, one in workloads.items()}
            found += worst("time of any one, of the best peer's", 1.05, by_name)
        else:
            by_name = {name: ratio(one, OURS, field) for name, one in workloads.items()}
            found += worst("peak memory of any one, of %s's" % BASE, 1.25, by_name)
    if document["release"]:
        kept = share_kept(document["release"], OURS)
        title = "memory 2 s after all was freed, of its peak"
        found.append(Aim(title, kept, 0.05, kept < 0.05, "release"))
    return found
