# SPDX-License-Identifier: MIT
"""
What a run of a suite leaves behind: a document, as JSON; and its runs, as CSV.

    suite command date commit effort seconds rounds machine packages
    allocators name: what it is; `base` is the name of the one that ratios are to
    workloads  name: {about, runs: {allocator: [{seconds peak_kib end_kib faults ...}]}}
    curves     name: {about, allocators: {allocator: [[seconds, KiB] ...]}}

of malloc beside them

    release    as workloads, for the one of that name
    scaling    name: {about, threads: [...], allocators: {allocator: [[seconds ...] ...]},
               rates: {allocator: [...]}}, of the base's on one thread

and of gc

    limits     name: {about, load, percent, runs: ...}, of heaps of so many percent of what lives
    marking    name: {about, runs: {markers: [{mark_seconds touch read cells bytes ...}]}}
"""
import csv
import datetime
import json
import os
import subprocess

from harness.allocators import package_version
from harness.machine import machine, machine_line

FIELDS = ("seconds", "peak_kib", "end_kib", "faults")


def commit(folder):
    words = ["git", "-C", folder, "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def root():
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def new_document(arguments, suite, base, allocators, packages):
    return {
        "suite": suite,
        "command": arguments.command,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": commit(root()),
        "effort": "quick" if arguments.quick else "full",
        "machine": machine(),
        "packages": {name: package_version(name) for name in packages},
        "base": base,
        "allocators": allocators,
        "rounds": 0,
        "workloads": {},
        "curves": {},
    }


def figures(usage, alone=True):
    """A run, for the document; programs that work in children tell no memory at the end."""
    end_kib = usage.end_kib if alone else None
    return dict(zip(FIELDS, (usage.seconds, usage.peak_kib, end_kib, usage.faults)))


def about(document):
    """Lines that say what the figures are of."""
    of = dict(document, machine=machine_line(document["machine"]))
    yield "%(command)s: %(rounds)d rounds, %(date)s, commit %(commit)s" % of
    more = "%(distribution)s, huge pages: %(huge_pages)s" % document["machine"]
    yield "%s, %s" % (of["machine"], more)
    yield ", ".join("%s: %s" % pair for pair in document["allocators"].items())
    if document["packages"]:
        yield ", ".join("%s %s" % pair for pair in document["packages"].items())


def write_json(document, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def write_csv(document, path, fields):
    with open(path, "w", encoding="utf-8", newline="") as file:
        for line in about(document):
            file.write("# %s\n" % line)
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("workload", "allocator", "round", *fields))
        measured = dict(document["workloads"])
        measured.update(document.get("limits", {}))
        if document.get("release"):
            measured["release"] = document["release"]
        for name, workload in measured.items():
            for allocator, runs in workload["runs"].items():
                for number, one in enumerate(runs, 1):
                    table.writerow((name, allocator, number, *(one[f] for f in fields)))


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
