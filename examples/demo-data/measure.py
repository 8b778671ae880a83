# SPDX-License-Identifier: MIT
"""Runs a program under one allocator or another and measures it."""
import glob
import os
import select
import signal
import subprocess
import time

MALLOC_FAMILY = ("malloc", "calloc", "realloc", "free")


class Failure(Exception):
    """What went wrong, in words for the person at the terminal."""


class Allocator:
    """A name, and the library that is preloaded for it; None preloads nothing."""

    def __init__(self, name, library):
        self.name = name
        self.library = library

    def __repr__(self):
        return self.name


class Usage:
    """
    The wall time and the peak resident memory of one run, and what it printed. The
    kernel counts what this script itself had when it started the run, too: no peak
    comes out below that, so the script has to stay small.
    """

    def __init__(self, seconds, mib, output):
        self.seconds = seconds
        self.mib = mib
        self.output = output


def find_library(name):
    """The path of an installed library, or None."""
    for folder in ("/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/usr/lib"):
        for path in sorted(glob.glob(os.path.join(folder, name))):
            return path
    return None


def environment(work, allocator, extra=None):
    """Ours, without what steers a loader or an allocator, and with the library."""
    dropped = ("LD_", "MALLOC_", "MIMALLOC_", "PYTHON", "SQLITE_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    env.update(LC_ALL="C", HOME=work, TMPDIR=work, PYTHONDONTWRITEBYTECODE="1")
    env.update(extra or {})
    if allocator is not None and allocator.library is not None:
        env["LD_PRELOAD"] = allocator.library
    return env


def tail(path, lines=12):
    with open(path, "rb") as file:
        text = file.read().decode(errors="replace")
    return "\n".join("    | " + line for line in text.splitlines()[-lines:])


def how_it_ended(status):
    if os.WIFSIGNALED(status):
        return "was killed by " + signal.Signals(os.WTERMSIG(status)).name
    return "ended with status %d" % os.WEXITSTATUS(status)


class Child:
    """A program under an allocator, in a process group of its own."""

    def __init__(self, words, work, allocator=None, env=None, stdin=None):
        self.title = "%s under %s" % (os.path.basename(words[0]), allocator)
        self.out = os.path.join(work, "stdout")
        self.err = os.path.join(work, "stderr")
        self.status = None
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            with open(stdin or os.devnull, "rb") as source:
                self.started = time.monotonic()
                try:
                    self.process = subprocess.Popen(
                        words,
                        stdin=source,
                        stdout=out,
                        stderr=err,
                        cwd=work,
                        env=environment(work, allocator, env),
                        start_new_session=True,
                    )
                except OSError as error:
                    raise Failure("cannot run %s: %s" % (words[0], error)) from None

    @property
    def pid(self):
        return self.process.pid

    def ended(self, limit):
        """Whether it ended within `limit` seconds; then seconds and mib are set."""
        if self.status is None:
            handle = os.pidfd_open(self.pid)
            try:
                if not select.select([handle], [], [], limit)[0]:
                    return False
            finally:
                os.close(handle)
            _, self.status, usage = os.wait4(self.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(self.status)
            self.seconds = time.monotonic() - self.started
            self.mib = usage.ru_maxrss / 1024
        return True

    def kill(self):
        """Ends what is left of it; does nothing where it ended by itself."""
        if self.status is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.ended(None)

    def require_success(self, limit):
        if not self.ended(limit):
            self.kill()
            raise Failure("%s did not end in %d s" % (self.title, limit))
        if self.status != 0:
            message = "%s %s" % (self.title, how_it_ended(self.status))
            raise Failure((message + "\n" + tail(self.err)).rstrip())

    def output(self):
        with open(self.out, "rb") as file:
            return file.read()


def run(words, work, allocator=None, env=None, stdin=None, limit=180):
    """Runs a program to its end; a Failure unless it succeeds within the limit."""
    child = Child(words, work, allocator, env, stdin)
    try:
        child.require_success(limit)
    finally:
        child.kill()
    return Usage(child.seconds, child.mib, child.output())


def require_malloc_from(allocator, program, words, work, env=None):
    """
    Has the dynamic loader say where each object's malloc comes from, while `words`
    runs, and fails unless all of them, `program`'s own among them, come from the
    allocator's library.
    """
    log = os.path.join(work, "bindings")
    asked = {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": log, "LD_BIND_NOW": "1"}
    run(words, work, allocator, dict(env or {}, **asked))
    expected = os.path.basename(allocator.library or "libc.so.6")
    seen = set()  # what the program itself takes from the library
    for path in glob.glob(log + ".*"):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if "binding file" in line]
        os.remove(path)
        for line in lines:
            user, provider, name = read_binding(line)
            if name not in MALLOC_FAMILY:
                continue
            if os.path.basename(provider).startswith(program):
                continue  # a stub of a program at a fixed address: it leads to `seen`
            if os.path.basename(provider) != expected:
                message = "%s of %s comes from %s, not from %s"
                raise Failure(message % (name, user, provider, expected))
            seen.update([name] if os.path.basename(user).startswith(program) else [])
    if not {"malloc", "free"} <= seen:
        raise Failure("the loader bound no malloc and free for %s" % program)


def read_binding(line):
    """binding file USER [0] to PROVIDER [0]: normal symbol `NAME' [VERSION]"""
    text = line.split("binding file ", 1)[1]
    user, text = text.split(" [", 1)
    provider, text = text.split("] to ", 1)[1].split(" [", 1)
    return user, provider, text.split("`", 1)[1].split("'", 1)[0]
