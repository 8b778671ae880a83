# SPDX-License-Identifier: MIT
"""Unmodified programs: how each is run, and what it must leave behind."""
import hashlib
import os
import shutil
import socket
import sys
import time

from harness.allocators import Allocator, find_library, require_malloc_from
from harness.process import Child, Failure, meter, run

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")
sys.path.insert(0, HERE)

import make_c  # noqa: E402
import make_git  # noqa: E402
import make_redis  # noqa: E402


def file_digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 16):
            digest.update(block)
    return digest.hexdigest()


def remove(path):
    if os.path.exists(path):
        os.remove(path)


class Program:
    """What each is asked. `percent` says how much it has to do."""

    name = ""  # in the tables
    about = ""  # what it does, in a few words
    package = ""  # Debian's
    needs = ()  # the files that must be installed
    binary = ""  # what the loader calls the program whose malloc matters
    env = {}
    alone = True  # it does its work itself, and not in children

    def __init__(self, percent=100):
        self.percent = percent

    def weight(self):
        """About as many seconds, under all allocators together."""
        return self.percent * 0.2

    def portion(self, whole):
        return max(1, whole * self.percent // 100)

    def require_installed(self):
        missing = [path for path in self.needs if not os.access(path, os.X_OK)]
        if missing:
            raise Failure("not installed: %s (./dev installs them)" % " ".join(missing))

    def prepare(self, place):
        """Writes what the runs read."""

    def check_words(self):
        """A short run of the same program, for asking the loader about it."""
        raise NotImplementedError

    def check(self, place, allocator):
        require_malloc_from(allocator, self.binary, self.check_words(), place, self.env)

    def run(self, place, allocator, samples=None):
        """One run; its Usage's output is all that must be the same every time."""
        raise NotImplementedError


class Sqlite(Program):
    name = "sqlite3"
    about = "builds, queries and changes a database"
    package = "sqlite3"
    needs = ("/usr/bin/sqlite3",)
    binary = "sqlite3"

    def prepare(self, place):
        with open(os.path.join(HERE, "rows.sql"), encoding="ascii") as file:
            text = file.read()
        with open(place.path("rows.sql"), "w", encoding="ascii") as file:
            file.write(text.replace("ROWS", str(self.portion(1_000_000))))

    def check_words(self):
        return [*self.needs, "-version"]

    def run(self, place, allocator, samples=None):
        database = place.path("rows.db")
        remove(database)
        words = [*self.needs, "-batch", "-bail", "-init", os.devnull, database]
        usage = meter(words, place, allocator, stdin=place.path("rows.sql"), samples=samples)
        usage.output += b"the file: " + file_digest(database).encode()
        remove(database)
        return usage


class Python(Program):
    name = "python3"
    about = "four threads hand round documents (PYTHONMALLOC=malloc)"
    package = "python3"
    needs = ("/usr/bin/python3",)
    binary = "python3"
    # Without this python keeps small objects in pools of its own, away from malloc.
    env = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}

    def check_words(self):
        return [*self.needs, "-c", "pass"]

    def run(self, place, allocator, samples=None):
        words = [*self.needs, os.path.join(HERE, "churn.py"), str(self.portion(40))]
        return meter(words, place, allocator, env=self.env, samples=samples)


class Perl(Program):
    name = "perl"
    about = "takes texts apart, counts, sorts and joins them"
    package = "perl"
    needs = ("/usr/bin/perl",)
    binary = "perl"
    env = {"PERL_HASH_SEED": "0"}

    def check_words(self):
        return [*self.needs, "-e", "1"]

    def run(self, place, allocator, samples=None):
        words = [*self.needs, os.path.join(HERE, "words.pl"), str(self.portion(1000))]
        return meter(words, place, allocator, env=self.env, samples=samples)


class Gcc(Program):
    name = "gcc"
    about = "compiles a large C file at -O2"
    package = "gcc"
    needs = ("/usr/bin/gcc",)
    binary = "cc1"
    alone = False

    def prepare(self, place):
        make_c.make(place.path("large.c"), self.portion(170))
        with open(place.path("small.c"), "w", encoding="ascii") as file:
            file.write("int x;\n")

    def check_words(self):
        return [*self.needs, "-c", "small.c", "-o", "small.o"]

    def run(self, place, allocator, samples=None):
        result = place.path("large.o")
        remove(result)
        words = [*self.needs, "-O2", "-c", "large.c", "-o", "large.o"]
        usage = meter(words, place, allocator, samples=samples)
        usage.output += b"the object file: " + file_digest(result).encode()
        return usage


class Git(Program):
    """With one thread, for two share out the work by who comes first."""

    name = "git"
    about = "packs a repository's history anew"
    package = "git"
    needs = ("/usr/bin/git",)
    binary = "git"
    env = {"GIT_CONFIG_NOSYSTEM": "1"}
    alone = False

    def prepare(self, place):
        repository = place.path("repository")
        shutil.rmtree(repository, ignore_errors=True)
        make_git.make(place.path("history"), self.portion(1500))
        self.git(place, "init", "--quiet", "--bare", repository)
        history = place.path("history")
        run([*self.words(place), "fast-import", "--quiet"], place, stdin=history, env=self.env)

    def words(self, place, name="repository"):
        return [*self.needs, "--git-dir", place.path(name)]

    def git(self, place, *words):
        return run([*self.needs, *words], place, env=self.env)

    def check_words(self):
        return [*self.needs, "version", "--build-options"]

    def run(self, place, allocator, samples=None):
        copy = place.path("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(place.path("repository"), copy)
        words = [*self.words(place, "copy"), "-c", "pack.threads=1"]
        words += ["repack", "-a", "-d", "-f", "-q", "--window=20"]
        usage = meter(words, place, allocator, env=self.env, samples=samples)
        packs = os.path.join(copy, "objects", "pack")
        for name in sorted(os.listdir(packs)):
            if name.endswith((".pack", ".idx")):
                digest = file_digest(os.path.join(packs, name))
                usage.output += ("%s %s\n" % (name, digest)).encode()
        return usage


class Redis(Program):
    """
    Debian's redis-server is linked to libjemalloc.so.2 and takes its malloc from there.
    A preloaded library comes first in the loader's search, so it is preloaded in every
    variant, the C library too.
    """

    name = "redis-server"
    about = "is loaded with keys, then redis-benchmark runs against it"
    package = "redis-server"
    needs = ("/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/redis-benchmark")
    binary = "redis-server"
    SOCKET = "redis.sock"
    OPTIONS = (
        "--port 0 --daemonize no --appendonly no --lazyfree-lazy-user-del yes "
        "--enable-debug-command local"
    ).split() + ["--save", ""]
    BENCHMARK = (
        "-r 20000 -c 20 -P 16 -d 150 --dbnum 1 -q "
        "-t set,get,incr,lpush,rpop,sadd,hset,spop,zadd,lrange_100"
    ).split()

    def prepare(self, place):
        make_redis.make(place.path("load.resp"), self.percent)

    def check_words(self):
        return [self.needs[0], "--version"]

    def with_library(self, allocator):
        if allocator.library is not None:
            return allocator
        return Allocator(allocator.name, find_library("libc.so.6"))

    def check(self, place, allocator):
        super().check(place, self.with_library(allocator))

    def run(self, place, allocator, samples=None):
        allocator = self.with_library(allocator)
        place, client = place.within("redis"), place
        path = place.path(self.SOCKET)
        remove(path)
        words = [self.needs[0], *self.OPTIONS, "--dir", place.folder, "--unixsocket", path]
        server = Child(words, place, allocator, metered=True, samples=samples)
        try:
            self.wait_for(server, path)
            self.require_mapped(server, allocator)
            started = time.monotonic()
            output = self.use(client, path)
            seconds = time.monotonic() - started
            self.stop(server, path)
        finally:
            server.kill()
        usage = server.usage()
        usage.seconds, usage.output = seconds, output
        return usage

    def use(self, place, path):
        """Loads, digests, benchmarks, and digests again; returns what must not vary."""
        _, cli, benchmark = self.needs
        cli = [cli, "-s", path]
        piped = run([*cli, "--pipe"], place, stdin=place.path("load.resp"))
        if b"errors: 0" not in piped:
            raise Failure("redis-cli --pipe: " + piped.decode(errors="replace"))
        output = b"keys " + run([*cli, "dbsize"], place)
        digest = run([*cli, "debug", "digest"], place)
        if len(digest.strip()) != 40:
            raise Failure("DEBUG DIGEST: " + digest.decode(errors="replace"))
        requests = str(self.portion(40_000))
        report = run([benchmark, "-s", path, "-n", requests, *self.BENCHMARK], place)
        tests = report.count(b"requests per second")
        if tests < 10 or b"rror" in report:
            text = report.decode(errors="replace").replace("\r", "\n")
            raise Failure("redis-benchmark did not finish:\n" + text)
        run([*cli, "-n", "1", "flushdb", "async"], place)
        if run([*cli, "debug", "digest"], place) != digest:
            raise Failure("redis-benchmark in database 1 changed database 0")
        return output + b"digest " + digest + b"benchmarks %d\n" % tests

    def wait_for(self, server, path):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not server.ended(0):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                try:
                    client.connect(path)
                    client.sendall(b"PING\r\n")
                    if client.recv(64).startswith(b"+PONG"):
                        return
                except OSError:
                    pass
            time.sleep(0.02)
        if server.ended(0):
            server.require_success(0)
        raise Failure("%s answers no PING in 20 s" % server.title)

    def require_mapped(self, server, allocator):
        library = os.path.realpath(allocator.library)
        with open("/proc/%d/maps" % server.program_pid(), encoding="utf-8") as maps:
            if not any(line.rstrip().endswith(library) for line in maps):
                raise Failure("%s has not mapped %s" % (server.title, library))

    def stop(self, server, path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"SHUTDOWN NOSAVE\r\n")
        server.require_success(30)


DEMO = (Sqlite, Python, Redis, Gcc)
ALL = (Sqlite, Python, Redis, Gcc, Perl, Git)
