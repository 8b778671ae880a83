# SPDX-License-Identifier: MIT
"""Runs a program under one allocator or another and measures it."""
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

# What steers a loader, an allocator or one of the programs from outside.
DROPPED = (
    "LD_", "SPLITHEAP_", "MALLOC_", "MIMALLOC_", "TCMALLOC_", "GC_", "GLIBC_",
    "PYTHON", "PERL", "SQLITE_", "GIT_",
)  # fmt: skip


class Failure(Exception):
    """What went wrong, in words for the person at the terminal."""


class Usage:
    """
    What one run took, and what it printed. Memory is the program's own: meter, or the
    program itself, tells it, so that the memory of this script does not count.
    """

    def __init__(self, figures, output):
        self.seconds = figures["seconds"]
        self.peak_kib = figures["peak_kib"]
        self.end_kib = figures["end_kib"]
        self.faults = figures["faults"]
        self.output = output


class Place:
    """A folder to work in, and the build's meter."""

    def __init__(self, folder, build):
        self.folder = folder
        self.build = build
        self.meter = find_program(build, "meter")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def within(self, name):
        """A folder of this one, made where it is not there."""
        os.makedirs(self.path(name), exist_ok=True)
        return Place(self.path(name), self.build)


class TemporaryPlace:
    """A Place for the time of a `with`, away from what else lies about."""

    def __init__(self, build):
        self.build = build

    def __enter__(self):
        # A unix socket's path has to be short, so not whatever TMPDIR says.
        self.folder = tempfile.mkdtemp(prefix="splitheap-", dir="/tmp")
        return Place(self.folder, self.build)

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)


def find_program(build, name, required=True):
    """The path of one of the build's benchmark programs."""
    path = os.path.join(build, "bench", name)
    if os.path.exists(path):
        return path
    if required:
        raise Failure("there is no %s; ./dev build makes it" % path)
    return None


def environment(place, extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(DROPPED)}
    env.update(LC_ALL="C", HOME=place.folder, TMPDIR=place.folder)
    env.update(PYTHONDONTWRITEBYTECODE="1")
    env.update(extra or {})
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
    """
    A program under an allocator, in a process group of its own. Metered, it runs below
    meter, which alone knows its memory.
    """

    def __init__(
        self, words, place, allocator=None, env=None, stdin=None, metered=False, samples=None
    ):
        self.title = "%s under %s" % (os.path.basename(words[0]), allocator)
        self.place = place
        self.metered = metered
        self.status = None
        env = environment(place, env)
        library = allocator.library if allocator else None
        if metered:
            words = self.meter_words(library, samples) + words
        elif library:
            env["LD_PRELOAD"] = library
        self.start(words, env, stdin or os.devnull)

    def meter_words(self, library, samples):
        words = [self.place.meter]
        words += ["-p", library] if library else []
        words += ["-s", samples] if samples else []
        return words + [self.place.path("metered")]

    def start(self, words, env, stdin):
        out, err, source = self.place.path("stdout"), self.place.path("stderr"), stdin
        with open(out, "wb") as out, open(err, "wb") as err, open(source, "rb") as source:
            self.started = time.monotonic()
            try:
                self.process = subprocess.Popen(
                    words,
                    stdin=source,
                    stdout=out,
                    stderr=err,
                    cwd=self.place.folder,
                    env=env,
                    start_new_session=True,
                )
            except OSError as error:
                raise Failure("cannot run %s: %s" % (words[0], error)) from None

    def program_pid(self):
        """The pid of the program itself; not of meter, whose only child it is."""
        pid = self.process.pid
        if self.metered:
            with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
                return int(file.read())
        return pid

    def ended(self, limit):
        """Whether it ended within `limit` seconds."""
        if self.status is None:
            handle = os.pidfd_open(self.process.pid)
            try:
                if not select.select([handle], [], [], limit)[0]:
                    return False
            finally:
                os.close(handle)
            _, self.status = os.waitpid(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(self.status)
        return True

    def kill(self):
        """Ends what is left of it; does nothing where it ended by itself."""
        if self.status is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.ended(None)

    def require_success(self, limit):
        if not self.ended(limit):
            self.kill()
            raise Failure("%s did not end in %d s" % (self.title, limit))
        if self.status != 0:
            message = "%s %s" % (self.title, how_it_ended(self.status))
            raise Failure((message + "\n" + tail(self.place.path("stderr"))).rstrip())

    def output(self):
        with open(self.place.path("stdout"), "rb") as file:
            return file.read()

    def usage(self):
        """Of a metered program that has ended."""
        with open(self.place.path("metered"), encoding="ascii") as file:
            return Usage(json.load(file), self.output())


def run(words, place, allocator=None, env=None, stdin=None, limit=180):
    """Runs a program to its end and returns its output; a Failure unless it succeeds."""
    child = Child(words, place, allocator, env, stdin)
    try:
        child.require_success(limit)
    finally:
        child.kill()
    return child.output()


def meter(words, place, allocator, env=None, stdin=None, samples=None, limit=180):
    """The same, and returns its Usage."""
    child = Child(words, place, allocator, env, stdin, metered=True, samples=samples)
    try:
        child.require_success(limit)
    finally:
        child.kill()
    return child.usage()
