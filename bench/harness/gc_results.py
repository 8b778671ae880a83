# SPDX-License-Identifier: MIT
"""The aims of the gc suite."""
import statistics

from harness.allocators import OURS
from harness.gc_workloads import BASE, FREED
from harness.results import aim, median, ratio

TREES = ("trees-down", "trees-up")
PAUSE = "quad 3 x"  # the heap in which bdwgc's pauses were first measured


def shares(entry):
    """{threads: the bound as a share of the time that marking took}."""
    return {
        threads: median(entry, threads, "bound") / median(entry, threads, "mark_seconds")
        for threads in entry["runs"]
        if entry["runs"][threads]
    }


def speed_up(entry):
    """Of marking, from one marker to two."""
    one, two = (median(entry, threads, "mark_seconds") for threads in ("1", "2"))
    return one / two if one and two else None


def named(found):
    """The worst first."""
    order = sorted(found, key=lambda name: -found[name])
    return ", ".join("%s %.2f" % (name, found[name]) for name in order[:4])


def ratios(workloads, field, base, names=None):
    found = {
        name: ratio(entry, OURS, field, base)
        for name, entry in workloads.items()
        if names is None or name in names
    }
    return {name: one for name, one in found.items() if one}


def mean_aim(what, limit, workloads, field, base=BASE, names=None):
    """For the geometric mean; nothing where the document has no such runs."""
    found = ratios(workloads, field, base, names)
    if not found:
        return []
    measured = statistics.geometric_mean(found.values())
    return [aim(what, measured, limit, named(found))]


def ran_out(limits):
    """Where ours found no memory in a heap that does for bdwgc."""
    return [
        name
        for name, entry in limits.items()
        if ratio(entry, OURS, "seconds", BASE) is None
        and median(entry, BASE, "seconds") is not None
    ]


def marking_aims(marking):
    for entry in marking.values():
        for threads, share in shares(entry).items():
            which = "%s thread%s" % (threads, "s" if threads != "1" else "")
            yield aim("marking, share of the measured bound", share, 0.6, which, "at least")
        if speed_up(entry):
            yield aim("one marker to two: speed-up", speed_up(entry), 1.8, "graph", "at least")


def aims(document):
    """Those that the document can tell of."""
    workloads, limits = document["workloads"], document["limits"]
    found = mean_aim("time at the same limit of the heap, of bdwgc's", 0.35, limits, "seconds")
    found += mean_aim("time at default pacing, of bdwgc's", 0.35, workloads, "seconds")
    title = "binary trees, of malloc and free on jemalloc"
    found += mean_aim(title, 0.5, workloads, "seconds", FREED, TREES)
    title = "longest pause at the same limit, of bdwgc's"
    found += mean_aim(title, 0.25, limits, "pause_max")
    title = "longest pause, quad tree in a heap of 3 x"
    found += mean_aim(title, 0.25, limits, "pause_max", names=(PAUSE,))
    if limits:
        names = ran_out(limits)
        title = "out of memory in heaps that do for bdwgc"
        found.append(aim(title, len(names), 0, ", ".join(names) or "none", form="%d"))
    found += marking_aims(document["marking"])
    idle = workloads.get("idle")
    if idle and median(idle, OURS, "stop_p50") is not None:
        which = "the longest %.1f" % median(idle, OURS, "stop_max")
        stop = median(idle, OURS, "stop_p50")
        found.append(aim("time to stop 200 threads, ms (median)", stop, 5, which))
    title = "peak memory at default pacing, of bdwgc's"
    found += mean_aim(title, 0.6, workloads, "peak_kib")
    return found
