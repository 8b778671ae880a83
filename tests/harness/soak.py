#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""splitheap-stress for long, with faults and storms, and what it came to.

    soak.py MINUTES NAME=COMMAND... [-- OPTION...]

Each program runs for so many minutes, in turns of at most five, each with a seed of its
own, every other one with minor collections. Ends with the first failure, whose report is printed.
"""
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

TURN = 300
EVERYTHING = ["--faults", "all", "--storm", "all", "--progress", "60"]
SUMS = ("operations", "made", "dropped", "collected", "refused", "collections", "minor_ones",
        "threads_created")


def run_turn(command, seconds, seed, options, minor):
    env = {**os.environ, "SPLITHEAP_CONF": "generations:always"} if minor else None
    options = [*options, "--minor"] if minor else options
    with tempfile.NamedTemporaryFile("r") as summary:
        words = [*command, "--seconds", str(seconds), "--seed", str(seed), *EVERYTHING,
                 "--json", summary.name, *options]
        print("$", shlex.join(words), flush=True)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              env=env,
                              timeout=seconds * 2 + 600)
        return done.returncode == 0 and json.load(summary)


def soak(name, command, minutes, options):
    turns, left = [], minutes * 60
    while left > 0:
        seconds = min(TURN, left)
        turn = run_turn(command, seconds, int(time.time() * 1000), options,
                        len(turns) % 2 == 1)
        if not turn:
            print(f"{name}: FAILED")
            return None
        turns.append(turn)
        left -= seconds
    return turns


def tell(name, turns):
    print(f"{name}: no failure; seeds", *(turn["seed"] for turn in turns))
    for figure in SUMS:
        print(f"  {figure:16} {sum(turn[figure] for turn in turns):14.0f}")
    print(f"  {'longest_pause':16} {max(turn['longest_pause_ms'] for turn in turns):14.1f} ms")
    for group in ("faults", "storms"):
        sums = {key: sum(turn[group][key] for turn in turns) for key in turns[0][group]}
        print(f"  {group:16}", *(f"{key} {value:.0f}" for key, value in sums.items()))


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    minutes, *programs = words[:cut]
    results = {}
    for program in programs:
        name, command = program.split("=", 1)
        results[name] = soak(name, shlex.split(command), float(minutes), words[cut + 1:])
    print()
    for name, turns in results.items():
        if turns:
            tell(name, turns)
        else:
            print(f"{name}: FAILED, see above")
    sys.exit(0 if all(results.values()) else 1)


main()
