# SPDX-License-Identifier: MIT
"""
The core suite: what the two faces' fast paths cost, and aims for it.

Each workload runs under every allocator in turn, a round at a time, each run in a
process of its own; the tables show medians over the rounds, with the fastest and slowest
run, and all figures go to DIR/bench/core.json as well. Allocators that are not installed
are left out, and named.
"""
import json
import os
import statistics

from harness.allocators import BASE, OURS, TABLE, Allocator, find_allocators, find_library
from harness.machine import machine, machine_line
from harness.process import Failure, TemporaryPlace, find_program, run

LIMIT = 120  # seconds for one run

LOADS = {
    "fixed": "64 B, replaced in turn",
    "mixed": "8 B to 16 KiB, replaced at random",
    "growth": "vectors grown by realloc",
    "lifo": "batches freed in reverse",
    "handoff": "one thread allocates, another frees, 4096 objects a time",
    "relay": "one thread allocates, another frees, 256 objects a time",
    "trees": "binary trees, depth 18",
}
SINGLE_THREADED = ("fixed", "mixed", "growth", "lifo")
HANDED_OVER = ("handoff", "relay")
TREES_SCALE = "25"  # at which the deepest that stays has a depth of 18


class Variant:
    """One way to run a workload: words of a command, an allocator, an environment."""

    def __init__(self, name, words, allocator=None, env=None):
        self.name = name
        self.words = words
        self.allocator = allocator
        self.env = env
        self.runs = []

    def run(self, place):
        output = run(self.words, place, self.allocator, self.env, limit=LIMIT)
        result = json.loads(output)
        library = self.allocator.library if self.allocator else None
        if library and not same_file(result["malloc"], library):
            message = "%s under %s took its malloc from %s"
            raise Failure(message % (result["workload"], self.name, result["malloc"]))
        self.runs.append(result)

    def values(self, key):
        return [result[key] for result in self.runs]

    def median(self, key):
        return statistics.median(self.values(key))


def same_file(one, other):
    return os.path.realpath(one) == os.path.realpath(other)


# ---- What runs ----------------------------------------------------------------------


def malloc_variants(place, workload):
    words = [find_program(place.build, "loads"), workload]
    allocators, missing = find_allocators(place)
    return [Variant(a.name, words, a) for a in allocators], missing


def tree_variants(place):
    def program(name, required=True):
        return find_program(place.build, name, required)

    missing, trees = [], ["trees-down", TREES_SCALE]
    variants = [Variant("splitheap gc", [program("gc-splitheap"), *trees])]
    bdwgc = program("gc-bdwgc", required=False)
    if bdwgc:
        variants.append(Variant("bdwgc", [bdwgc, *trees]))
        variants.append(Variant("bdwgc, 1 marker", [bdwgc, *trees], env={"GC_MARKERS": "1"}))
    else:
        missing.append("bdwgc (libgc-dev, at build time)")
    library = find_library("libjemalloc.so.2")
    if library:
        jemalloc = Allocator(BASE, library)
        words = [program("gc-malloc"), *trees]
        variants.append(Variant("jemalloc, freed", words, jemalloc))
    return variants, missing


def run_workload(place, workload, variants, rounds):
    print("%-8s" % workload, end="", flush=True)
    for number in range(rounds):
        # Every round starts with another allocator, so that none always follows one.
        turn = number % len(variants)
        for variant in variants[turn:] + variants[:turn]:
            variant.run(place)
            print(".", end="", flush=True)
    print()
    checksums = {result["checksum"] for variant in variants for result in variant.runs}
    if len(checksums) != 1:
        found = ", ".join(
            "%s %s" % (v.name, sorted(set(v.values("checksum")))) for v in variants
        )
        raise Failure("%s read back different contents: %s" % (workload, found))


# ---- What comes out -----------------------------------------------------------------


def print_table(workload, variants, base):
    print("\n%s: %s" % (workload, LOADS[workload]))
    header = ("", "time, s", "min - max", "of " + base.name)
    print("  %-16s%9s%16s%12s" % header + "%12s%12s" % ("peak, MiB", header[3]))
    for variant in variants:
        seconds = variant.values("seconds")
        time, peak = variant.median("seconds"), variant.median("peak_kib")
        print(
            "  %-16s%9.3f%16s%12.2f%12.1f%12.2f"
            % (
                variant.name,
                time,
                "%.3f - %.3f" % (min(seconds), max(seconds)),
                time / base.median("seconds"),
                peak / 1024,
                peak / base.median("peak_kib"),
            )
        )


def ratios(results, name, workloads, key):
    """`name`'s medians as shares of the base's, for those workloads that have it."""
    found = []
    for workload in workloads:
        variants, base = results.get(workload, ([], None))
        found += [v.median(key) / base.median(key) for v in variants if v.name == name]
    return found


def print_summary(results):
    done = [load for load in SINGLE_THREADED if load in results]
    if done:
        print("\ngeometric mean over %s, of jemalloc's" % " ".join(done))
        print("  %-16s%9s%12s" % ("", "time", "peak"))
        for name, _, _ in TABLE:
            if ratios(results, name, done, "seconds"):
                means = [
                    statistics.geometric_mean(ratios(results, name, done, key))
                    for key in ("seconds", "peak_kib")
                ]
                print("  %-16s%9.2f%12.2f" % (name, *means))


def bars(results):
    """(what, measured, the most it may be) for each aim that this run can tell of."""
    found = []
    single = ratios(results, OURS, SINGLE_THREADED, "seconds")
    if len(single) == len(SINGLE_THREADED):
        mean = statistics.geometric_mean(single)
        found.append(("single-threaded time, of jemalloc's (mean)", mean, 1.0))
        found.append(("single-threaded time, of jemalloc's (worst)", max(single), 1.0))
    for workload in HANDED_OVER:
        for ratio in ratios(results, OURS, [workload], "seconds"):
            found.append(("%s time, of jemalloc's" % workload, ratio, 0.5))
    trees = {v.name: v.median("seconds") for v in results.get("trees", ([], None))[0]}
    peers = [trees[name] for name in trees if name.startswith("bdwgc")]
    if peers:
        ratio = trees["splitheap gc"] / min(peers)
        found.append(("trees time, of the faster bdwgc's", ratio, 0.5))
    return found


def print_bars(found):
    if found:
        print("\naims")
    for what, ratio, most in found:
        verdict = "met" if ratio <= most else "NOT MET"
        print("  %-46s%6.2f   at most %.2f: %s" % (what, ratio, most, verdict))


def write_json(path, rounds, results, found):
    document = {
        "suite": "core",
        "rounds": rounds,
        "machine": machine(),
        "workloads": {
            workload: {
                "base": base.name,
                "variants": {
                    variant.name: {
                        "seconds": variant.values("seconds"),
                        "peak_kib": variant.values("peak_kib"),
                    }
                    for variant in variants
                },
            }
            for workload, (variants, base) in results.items()
        },
        "aims": [dict(zip(("what", "ratio", "most"), bar)) for bar in found],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


# ---- The whole ----------------------------------------------------------------------


def core(place, rounds, only):
    print("%s; %d rounds" % (machine_line(), rounds))
    results, missing = {}, []
    for workload in LOADS:
        if only and workload not in only:
            continue
        trees = workload == "trees"
        variants, absent = (
            tree_variants(place) if trees else malloc_variants(place, workload)
        )
        missing += [name for name in absent if name not in missing]
        run_workload(place, workload, variants, rounds)
        base_name = "bdwgc" if trees else BASE
        base = next((v for v in variants if v.name == base_name), variants[-1])
        results[workload] = (variants, base)
    for workload, (variants, base) in results.items():
        print_table(workload, variants, base)
    print_summary(results)
    found = bars(results)
    print_bars(found)
    if missing:
        print("\nleft out, not found: " + ", ".join(missing))
    path = os.path.join(place.build, "bench", "core.json")
    write_json(path, rounds, results, found)
    print("\nall figures: " + os.path.relpath(path))


def add_options(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(LOADS), metavar="WORKLOAD")


def main(arguments):
    with TemporaryPlace(arguments.build) as place:
        core(place, arguments.rounds, arguments.only)
