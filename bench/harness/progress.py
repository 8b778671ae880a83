# SPDX-License-Identifier: MIT
"""Says how far a long run is, and how long it may still take."""
import time


def in_words(seconds):
    if seconds < 90:
        return "%d s" % max(1, round(seconds))
    return "%d min" % round(seconds / 60)


class Progress:
    """A run of many steps, each with a weight: what it is thought to take, in seconds."""

    def __init__(self, weight):
        self.started = time.monotonic()
        self.weight = weight
        self.done = 0.0

    def elapsed(self):
        return time.monotonic() - self.started

    def left(self):
        """Seconds, as the steps done so far let expect."""
        if self.done == 0:
            return self.weight
        return self.elapsed() * (self.weight - self.done) / self.done

    def row(self, title, name):
        print("%-14s %-14s" % (title, name), end="", flush=True)

    def cell(self, text):
        print("%12s" % text, end="", flush=True)

    def end_row(self, weight):
        self.done += weight
        print("   %s left" % in_words(self.left()), flush=True)
