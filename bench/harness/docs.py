# SPDX-License-Identifier: MIT
"""Puts the results of the malloc suite into docs/performance.md and docs/plots."""
import os

from harness import plots, report
from harness.process import Failure

DOCS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs"
)
BEGIN = "<!-- ./dev bench malloc --docs writes from here -->"
END = "<!-- to here -->"


def section(document, drawn):
    yield BEGIN
    for name, title in drawn:
        yield ""
        yield "![%s](plots/%s.svg)" % (title, name)
    yield ""
    yield "```"
    yield from report.lines(document)
    yield "```"
    yield ""
    yield END


def update(document):
    page = os.path.join(DOCS, "performance.md")
    with open(page, encoding="utf-8") as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        raise Failure("%s has no place for the results" % os.path.relpath(page))
    drawn = plots.draw(document, os.path.join(DOCS, "plots"), ("svg",))
    before, rest = text.split(BEGIN, 1)
    text = before + "\n".join(section(document, drawn)) + rest.split(END, 1)[1]
    with open(page, "w", encoding="utf-8") as file:
        file.write(text)
    print("\nwritten: " + os.path.relpath(page))
