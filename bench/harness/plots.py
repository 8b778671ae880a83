# SPDX-License-Identifier: MIT
"""
Plots drawn by gnuplot. A suite has a table of them: a name, a title, and a function that
makes the script of a document, its width and its height, or None. draw() writes one file
for each plot and format.
"""
import os
import shutil
import subprocess

from harness.allocators import OURS
from harness.machine import machine_line
from harness.process import Failure
from harness.results import mean, median, ratio, values

# Colours that differ for those who see few, and marks that differ without any.
LOOKS = {
    "splitheap": ("#d55e00", 7),
    "jemalloc": ("#000000", 2),
    "mimalloc": ("#0072b2", 9),
    "tcmalloc": ("#009e73", 5),
    "glibc": ("#999999", 13),
    "bdwgc": ("#0072b2", 9),
    "bdwgc-inner": ("#56b4e9", 8),
    "malloc": ("#000000", 2),
}
TERMINALS = {
    "svg": 'svg size %d,%d font "DejaVu Sans,11" background "white"',
    "png": 'pngcairo size %d,%d font "DejaVu Sans,9" background "white"',
}
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
MEAN = "geometric mean"


def quoted(text):
    return '"%s"' % str(text).replace("\\", "").replace('"', "'").replace("@", " ")


def block(name, rows):
    """Rows as a named block of data."""
    return ["$%s << EOD" % name, *(" ".join(map(str, row)) for row in rows), "EOD"]


def data_name(*words):
    """A name that block() may give to data."""
    return "_".join(words).replace("-", "_").replace(" ", "_")


def subtitle(document):
    of = (document["date"][:10], machine_line(document["machine"]))
    return "%s, %s" % of


def page(document, title, rows, columns):
    """What opens a page of several panels."""
    head = "%s\\n{/*0.75 %s}" % (title, subtitle(document))
    return [
        'set multiplot layout %d,%d title "%s"' % (rows, columns, head),
        "set border 3 lc rgb '#666666'",
        "set grid lt 1 lw 0.5 lc rgb '#cccccc'",
        "set tics nomirror",
        "set bmargin 6",
        "set key bmargin center horizontal maxrows 1 samplen 2 noenhanced",
    ]


# ---- Ratios by workload -------------------------------------------------------------


def ratio_rows(document, allocator, field):
    """(ratio, row, least, most) for the workloads in turn, and their mean at the end."""
    workloads, base = document["workloads"], document["base"]
    for row, workload in enumerate(workloads.values()):
        one, unit = ratio(workload, allocator, field, base), median(workload, base, field)
        if one:
            found = values(workload, allocator, field)
            yield one, row, min(found) / unit, max(found) / unit
    total = mean(workloads, allocator, field, base)
    if total:
        yield total, len(workloads) + 0.5, total, total


def ratio_panel(document, field, title):
    names = [name for name in document["allocators"] if name != document["base"]]
    names.sort(key=lambda name: name == OURS)  # ours on top of the others
    rows = {name: list(ratio_rows(document, name, field)) for name in names}
    names = [name for name in names if rows[name]]
    all_rows = [row for found in rows.values() for row in found]
    if not all_rows:
        return []
    least, most = min(row[0] for row in all_rows), max(row[0] for row in all_rows)
    labels = [(name, row) for row, name in enumerate(document["workloads"])]
    labels.append((MEAN, len(labels) + 0.5))
    script = []
    for name in names:
        script += block(data_name(field, name), rows[name])
    script += [
        "set title %s" % quoted(title),
        "set xlabel 'of %s, which is the line at 1; logarithmic'" % document["base"],
        "set logscale x",
        "set xrange [%g:%g]" % (min(least, 0.5) / 1.2, max(most, 2) * 1.2),
        "set xtics (%s)" % ", ".join("'%g' %g" % (tick, tick) for tick in TICKS),
        "set yrange [%g:-0.8]" % (len(labels) + 0.3),
        "set ytics (%s) noenhanced" % ", ".join("%s %g" % (quoted(n), r) for n, r in labels),
        "set arrow 1 from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb '#000000'",
    ]
    drawn = []
    for name in names:
        colour, mark = LOOKS[name]
        data, size = "$" + data_name(field, name), 1.2 if name == OURS else 0.8
        if name == OURS:
            drawn.append(
                "%s using 3:2:($4-$3):(0) with vectors nohead lw 2 lc rgb '%s' notitle"
                % (data, colour)
            )
        drawn.append(
            "%s using 1:2 with points pt %d ps %g lc rgb '%s' title '%s'"
            % (data, mark, size, colour, name)
        )
    return script + ["plot " + ", ".join(drawn), "unset arrow 1"]


def ratios(document, title, panels):
    drawn = [ratio_panel(document, field, text) for field, text in panels]
    if not document["workloads"] or not all(drawn):
        return None
    script = page(document, title, 1, len(panels))
    for panel in drawn:
        script += panel
    return script, 1100, 150 + 26 * len(document["workloads"])


# ---- Memory over time ---------------------------------------------------------------


def curves(document, title, more=None):
    """A panel a workload; more(entry, number) yields blocks of data, and what to plot."""
    if not document["curves"]:
        return None
    count = len(document["curves"])
    columns = min(2, count)
    script = page(document, title, (count + 1) // 2, columns)
    script += ["set xlabel 'seconds'", "set ylabel 'resident memory, MiB'"]
    script += ["set yrange [0:*]", "set xrange [0:*]"]
    for number, (name, entry) in enumerate(document["curves"].items()):
        drawn = []
        for allocator, points in entry["allocators"].items():
            data = data_name("curve%d" % number, allocator)
            script += block(data, [(seconds, kib / 1024) for seconds, kib in points])
            width = 3 if allocator == OURS else 1.5
            drawn.append(
                "$%s with lines lw %g lc rgb '%s' title '%s'"
                % (data, width, LOOKS[allocator][0], allocator)
            )
        for data, plotted in more(entry, number) if more else ():
            script += data
            drawn.append(plotted)
        script += ["set title %s noenhanced" % quoted("%s: %s" % (name, entry["about"]))]
        script += ["plot " + ", ".join(drawn)]
    return script, 1100, 80 + 360 * ((count + 1) // 2)


# ---- All ----------------------------------------------------------------------------

def gnuplot(script):
    done = subprocess.run(
        ["gnuplot"], input="\n".join(script) + "\n", capture_output=True, text=True
    )
    if done.returncode != 0 or "line " in done.stderr:
        raise Failure("gnuplot: " + done.stderr.strip())


def draw(document, folder, formats, table):
    """The names and titles of the plots drawn."""
    if not shutil.which("gnuplot"):
        print("\nno gnuplot, no plots: ./dev bench installs gnuplot-nox")
        return []
    os.makedirs(folder, exist_ok=True)
    drawn = []
    for name, title, make in table:
        made = make(document, title)
        if made is None:
            continue
        script, width, height = made
        for form in formats:
            path = os.path.join(folder, "%s.%s" % (name, form))
            gnuplot([
                "set terminal " + TERMINALS[form] % (width, height),
                "set output %s" % quoted(path),
                *script,
                "unset multiplot",
            ])  # fmt: skip
        drawn.append((name, title))
    return drawn
