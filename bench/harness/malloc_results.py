# SPDX-License-Identifier: MIT
"""The aims of the malloc suite."""
from harness.allocators import BASE, OURS
from harness.results import aim, mean, median, of_best, ratio, worst


def share_kept(release, allocator):
    """Memory two seconds after everything was freed, as a share of the peak."""
    peak = median(release, allocator, "peak_kib")
    return median(release, allocator, "end_kib") / peak if peak else None


def aims(document):
    """Those that the document can tell of."""
    workloads, found = document["workloads"], []
    for field, what, most in (("seconds", "time", 0.65), ("peak_kib", "peak memory", 0.80)):
        measured = mean(workloads, OURS, field, BASE)
        if measured is not None:
            which = "workloads: %d" % len(workloads)
            title = "%s, geometric mean, of %s's" % (what, BASE)
            found.append(aim(title, measured, most, which))
        if field == "seconds":
            by_name = {name: of_best(one, field) for name, one in workloads.items()}
            found += worst("time of any one, of the best peer's", 1.05, by_name)
        else:
            by_name = {name: ratio(one, OURS, field, BASE) for name, one in workloads.items()}
            found += worst("peak memory of any one, of %s's" % BASE, 1.25, by_name)
    if document["release"]:
        kept = share_kept(document["release"], OURS)
        title = "memory 2 s after all was freed, of its peak"
        found.append(aim(title, kept, 0.05, "release"))
    return found
