# SPDX-License-Identifier: MIT
"""
What a run of the malloc suite leaves behind: a document, as JSON; and its runs, as CSV.

    command date commit effort seconds rounds machine packages allocators
    workloads  name: {about, threads, runs: {allocator: [{seconds peak_kib end_kib faults}]}}
    release    the same, for the one workload of that name
    curves     name: {about, allocators: {allocator: [[seconds, KiB] ...]}}
    scaling    name: {about, threads: [...], allocators: {allocator: [[seconds ...] ...]},
               rates: {allocator: [...]}}, of the base's on one thread
"""
import csv
import datetime
import json
import os
import subprocess

from harness import programs
from harness.allocators import OURS, package_version
from harness.machine import machine, machine_line

FIELDS = ("seconds", "peak_kib", "end_kib", "faults")


def commit(root):
    words = ["git", "-C", root, "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None


def new_document(arguments, effort, allocators):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    packages = [program.package for program in programs.ALL]
    return {
        "suite": "malloc",
        "command": arguments.command,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "commit": commit(root),
        "effort": effort,
        "machine": machine(),
        "packages": {name: package_version(name) for name in packages},
        "allocators": {a.name: "%s %s" % (a.package, a.version()) for a in allocators}
        | {OURS: "commit %s" % commit(root)},
        "rounds": 0,
        "workloads": {},
        "release": None,
        "curves": {},
        "scaling": {},
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
    yield ", ".join("%s %s" % pair for pair in document["packages"].items())


def write_json(document, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def write_csv(document, path):
    with open(path, "w", encoding="utf-8", newline="") as file:
        for line in about(document):
            file.write("# %s\n" % line)
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("workload", "allocator", "round", *FIELDS))
        measured = dict(document["workloads"])
        if document["release"]:
            measured["release"] = document["release"]
        for name, workload in measured.items():
            for allocator, runs in workload["runs"].items():
                for number, one in enumerate(runs, 1):
                    table.writerow((name, allocator, number, *(one[f] for f in FIELDS)))


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
