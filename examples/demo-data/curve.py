# SPDX-License-Identifier: MIT
"""Two curves of memory over time, drawn with characters."""
import math
import shutil
import subprocess

WIDTH, HEIGHT = 78, 20


def draw(curves):
    """`curves` is a list of (title, mark, [(seconds, mib), ...]); returns text."""
    if shutil.which("gnuplot"):
        try:
            return draw_with_gnuplot(curves)
        except (OSError, subprocess.SubprocessError):
            pass
    return draw_by_hand(curves)


def highest(curves):
    return max(mib for _, _, points in curves for _, mib in points)


def draw_with_gnuplot(curves):
    top = highest(curves)
    step = 10 ** math.floor(math.log10(top)) / 5
    script = [
        "set terminal dumb size %d %d" % (WIDTH, HEIGHT + 4),
        "set xlabel 'seconds'",
        "set ylabel 'MiB'",
        "set yrange [%g:*]" % (-0.05 * top),  # keeps a low curve off the axis
        "set ytics 0, %g" % step,
        "set xrange [0:*]",
        "set key left top Left reverse",
        "set tics nomirror",
    ]
    plots = [
        "'-' title '%s' with points pointtype '%s'" % (title, mark)
        for title, mark, _ in curves
    ]
    script.append("plot " + ", ".join(plots))
    for _, _, points in curves:
        script += ["%g %g" % point for point in points] + ["e"]
    done = subprocess.run(
        ["gnuplot"],
        input="\n".join(script) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    if not done.stdout.strip():
        raise subprocess.SubprocessError("gnuplot drew nothing")
    lines = [line.rstrip() for line in done.stdout.replace("\f", "").splitlines()]
    return "\n".join(lines).strip("\n")


def draw_by_hand(curves):
    end = max(points[-1][0] for _, _, points in curves)
    top = highest(curves)
    columns = WIDTH - 10
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for _, mark, points in curves:
        for seconds, mib in points:
            x = min(columns - 1, int(seconds / end * columns))
            y = min(HEIGHT - 1, int(mib / top * HEIGHT))
            grid[HEIGHT - 1 - y][x] = mark
    lines = ["     MiB"]
    for number, row in enumerate(grid):
        label = "%8.0f" % (top * (HEIGHT - number) / HEIGHT) if number % 5 == 0 else ""
        lines.append(("%8s |" % label + "".join(row)).rstrip())
    lines.append(" " * 9 + "+" + "-" * columns)
    lines.append("%8s  0%*s" % ("", columns - 1, "%.0f seconds" % end))
    lines += ["%10s %s  %s" % ("", mark, title) for title, mark, _ in curves]
    return "\n".join(lines)
