# SPDX-License-Identifier: MIT
"""Puts the results of a suite into docs/performance.md and docs/plots."""
import os

from harness import plots
from harness.process import Failure

DOCS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs"
)
BEGIN = "<!-- ./dev bench %s --docs writes from here -->"
END = "<!-- to here -->"


def section(document, begin, lines, drawn):
    yield begin
    for name, title in drawn:
        yield ""
        yield "![%s](plots/%s.svg)" % (title, name)
    yield ""
    yield "```"
    yield from lines(document)
    yield "```"
    yield ""
    yield END


def update(document, name, lines, drawings):
    page = os.path.join(DOCS, "performance.md")
    with open(page, encoding="utf-8") as file:
        text = file.read()
    before, begin, rest = text.partition(BEGIN % name)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failure("%s has no place for the results" % os.path.relpath(page))
    drawn = plots.draw(document, os.path.join(DOCS, "plots"), ("svg",), drawings)
    text = before + "\n".join(section(document, begin, lines, drawn)) + after
    with open(page, "w", encoding="utf-8") as file:
        file.write(text)
    print("\nwritten: " + os.path.relpath(page))
