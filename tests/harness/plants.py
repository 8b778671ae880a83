#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""splitheap-stress finds every bug that it can plant, and nothing where none is.

    plants.py splitheap-stress BACKEND [OPTION...]

Each bug is looked for by a run of its own, which ends when it is found, and by which of
the harness's checks: whoever it is that finds it, be it the library or a sanitizer.
"""
import concurrent.futures
import json
import os
import subprocess
import sys

# By the kind of failure that the harness tells. Where another thread is quicker to fall
# over what was done, that is found instead: only that something is has to be so.
SURE = {
    "flip": "content",
    "wrong-size": "size",
    "misaligned": "alignment",
    "dirty": "dirty",
    "moved": "moved",
    "cut-link": "link",
    "leak": "leak",
    "open-lock": "lock",
    "errno": "errno",
    "hang": "hang",
    "overlap": "overlap",
    "no-finaliser": "callback",
    "two-finalisers": "callback",
    "early-finaliser": "callback",
    "no-weak": "callback",
    "old-finaliser": "callback",
    "kept-finaliser": "callback",
    "wrong-value": "weak",
    "two-finalizes": "finalize",
}
# Where a bug has its turn seldom.
MORE = {
    "lost-coroutine": ["--weights", "coroutine:400"],
    "lost-jump": ["--weights", "jump:400"],
    "lost-module": ["--weights", "module:100"],
    "kept-finaliser": ["--weights", "finalise:400"],
    "lost-write": ["--minor"],
    "lost-thread": ["--weights", "all:0,own:100,stranger:20,collect:2"],
}
MINOR = "generations:always,pace_floor:1m"
COMMON = ["--threads", "4", "--seed", "1", "--progress", "0"]


def run(words, timeout, **settings):
    done = subprocess.run(words, text=True, errors="replace", timeout=timeout,
                          env={**os.environ, **settings}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def plants(program, backend):
    """As --list tells them: a star stands at those that plain malloc cannot have."""
    _, text = run([program, "--list"], 60)
    lines = text[text.index("bugs to plant"):].splitlines()[1:]
    for line in lines:
        name, rest = line.split(None, 1)
        if name != "none" and not (backend == "malloc" and rest.startswith("*")):
            yield name


def look_for(program, backend, plant, more):
    patience = "3" if plant == "hang" else "300"
    words = [program, "--backend", backend, "--plant", plant, "--operations", "6000",
             "--patience", patience, *COMMON, *MORE.get(plant, []), *more]
    status, text = run(words, 600, **({"SPLITHEAP_CONF": MINOR} if plant == "lost-write" else {}))
    found = [line for line in text.splitlines() if "FAILED:" in line]
    if status == 0 or not found:
        return f"{plant}: not found, status {status}\n{text}"
    kind = found[0].split("FAILED:")[1].split(";")[0].strip()
    wanted = SURE.get(plant)
    if wanted and kind not in (wanted, "sanitizer"):
        return f"{plant}: found as {kind}, not as {wanted}\n{text}"
    if "seed" not in text or "thread" not in text:
        return f"{plant}: the report tells too little\n{text}"
    print(f"{plant}: found as {kind}")
    return None


def run_clean(program, backend, more):
    """Nothing is found where nothing is planted, and the JSON says what was done."""
    status, text = run([program, "--backend", backend, "--operations", "2000", "--json", "-",
                        *COMMON, *more], 600)
    if status != 0:
        return f"a run without a bug: status {status}\n{text}"
    summary = json.loads(text[text.index("{"):])
    for figure in ("operations", "made", "verified", "freed", "dropped", "collections"):
        if summary[figure] == 0:
            return f"a run without a bug: nothing {figure}\n{text}"
    if summary["operations"] != 8000:
        return f"a run without a bug: {summary['operations']} operations instead of 8000"
    return None


def run_minor(program, backend, more):
    """The same with minor collections, where the system can do what they need."""
    if "lost-write" not in plants(program, backend):
        return None
    status, text = run([program, "--backend", backend, "--operations", "3000", "--json", "-",
                        "--minor", *COMMON, *more], 600, SPLITHEAP_CONF=MINOR)
    if status != 0:
        return f"a run with minor collections: status {status}\n{text}"
    summary = json.loads(text[text.index("{"):])
    if summary["minor_ones"] == 0:
        return f"a run with minor collections had none\n{text}"
    return None


def replay(program, backend, more):
    """A replay does the same again, to the last collection, where pacing asks no clock."""
    def once():
        status, text = run([program, "--backend", backend, "--operations", "1000", "--json", "-",
                            "--threads", "4", "--progress", "0", "--replay", "5", *more], 600,
                           SPLITHEAP_CONF="pace:proportional")
        summary = json.loads(text[text.index("{"):]) if status == 0 else {"text": text}
        return {name: value for name, value in summary.items()
                if not name.endswith(("seconds", "_ms", "_MiB"))}
    first, second = once(), once()
    if "text" in first or first != second:
        return f"a replay: first {first}\nthen {second}"
    return None


def main():
    program, backend, *more = sys.argv[1:]
    problems = [run_clean(program, backend, more), run_minor(program, backend, more),
                replay(program, backend, more)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        problems += pool.map(lambda plant: look_for(program, backend, plant, more),
                             plants(program, backend))
    problems = [problem for problem in problems if problem]
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


main()
