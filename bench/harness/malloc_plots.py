# SPDX-License-Identifier: MIT
"""The plots of a document of the malloc suite."""
from harness.allocators import BASE, OURS
from harness.plots import LOOKS, block, curves, page, quoted, ratios


def scaling(document, title):
    if not document["scaling"]:
        return None
    count = len(document["scaling"])
    script = page(document, title, (count + 1) // 2, min(2, count))
    script += ["set xlabel 'threads'", "set logscale x 2", "set yrange [0:*]"]
    script += ["set ylabel 'work per second, of %s on one thread'" % BASE]
    script += ["set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lw 2 dt 2"]
    for number, (name, entry) in enumerate(document["scaling"].items()):
        drawn = []
        for allocator, rates in entry["rates"].items():
            data = "scaling%d_%s" % (number, allocator)
            script += block(data, zip(entry["threads"], rates))
            colour, mark = LOOKS[allocator]
            drawn.append(
                "$%s with linespoints lw %g pt %d lc rgb '%s' title '%s'"
                % (data, 3 if allocator == OURS else 1.5, mark, colour, allocator)
            )
        script += ["set xtics (%s)" % ", ".join(map(str, entry["threads"]))]
        script += ["set xrange [%g:%g]" % (entry["threads"][0] / 1.1, entry["threads"][-1] * 1.1)]
        script += ["set title %s noenhanced" % quoted(name), "plot " + ", ".join(drawn)]
    return script, 1100, 80 + 360 * ((count + 1) // 2)


PLOTS = (
    ("malloc-ratios", "Time and peak memory by workload: left of the line is better",
        lambda document, title: ratios(document, title,
            (("seconds", "Time"), ("peak_kib", "Peak resident memory")))),
    ("malloc-pages", "Page faults, and memory at the end: left of the line is better",
        lambda document, title: ratios(document, title,
            (("faults", "Page faults"), ("end_kib", "Resident memory at the end")))),
    ("malloc-curves", "Resident memory over time: lower is better", curves),
    ("malloc-scaling",
        "Work per second over threads; 1 is %s on one thread: higher is better" % BASE,
        scaling),
)  # fmt: skip
