# SPDX-License-Identifier: MIT
"""The unmodified programs of the demo: how each is run, and what it must leave behind."""
import hashlib
import os
import socket
import time

import make_c
import make_redis
from measure import Child, Failure, Usage, find_library, require_malloc_from, run

HERE = os.path.dirname(os.path.abspath(__file__))


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
    """What a part of the demo tells the rest of it."""

    name = ""  # in the tables
    about = ""  # what it does, in a few words
    needs = ""  # the file that must be installed
    binary = ""  # what the loader calls the program whose malloc matters

    def prepare(self, work):
        """Writes what the runs read."""

    def check_words(self):
        """A short run of the same program, for asking the loader about it."""
        raise NotImplementedError

    check_env = {}

    def check(self, work, allocator):
        require_malloc_from(
            allocator, self.binary, self.check_words(), work, self.check_env
        )

    def run(self, work, allocator):
        """One run; its Usage's output is all that must be the same every time."""
        raise NotImplementedError


class Sqlite(Program):
    name = "sqlite3"
    about = "builds, queries and changes a database of a million rows"
    needs = "/usr/bin/sqlite3"
    binary = "sqlite3"

    def check_words(self):
        return [self.needs, "-version"]

    def run(self, work, allocator):
        database = os.path.join(work, "rows.db")
        remove(database)
        words = [self.needs, "-batch", "-bail", "-init", os.devnull, database]
        usage = run(words, work, allocator, stdin=os.path.join(HERE, "rows.sql"))
        usage.output += b"the file: " + file_digest(database).encode()
        remove(database)
        return usage


class Python(Program):
    name = "python3"
    about = "four threads hand round documents (PYTHONMALLOC=malloc)"
    needs = "/usr/bin/python3"
    binary = "python3"
    # Without this python keeps small objects in pools of its own, away from malloc.
    check_env = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}

    def check_words(self):
        return [self.needs, "-c", "pass"]

    def run(self, work, allocator):
        words = [self.needs, os.path.join(HERE, "churn.py")]
        return run(words, work, allocator, env=self.check_env)


class Gcc(Program):
    name = "gcc"
    about = "compiles a large C file at -O2"
    needs = "/usr/bin/gcc"
    binary = "cc1"

    def prepare(self, work):
        make_c.make(os.path.join(work, "large.c"))
        with open(os.path.join(work, "small.c"), "w", encoding="ascii") as file:
            file.write("int x;\n")

    def check_words(self):
        return [self.needs, "-c", "small.c", "-o", "small.o"]

    def run(self, work, allocator):
        result = os.path.join(work, "large.o")
        remove(result)
        words = [self.needs, "-O2", "-c", "large.c", "-o", "large.o"]
        usage = run(words, work, allocator)
        usage.output += b"the object file: " + file_digest(result).encode()
        return usage


class Redis(Program):
    """
    Debian's redis-server is linked to libjemalloc.so.2 and takes its malloc from there.
    A preloaded library comes first in the loader's search, so it is preloaded in every
    variant, the C library too.
    """

    name = "redis-server"
    about = "is loaded with keys, then redis-benchmark runs against it"
    needs = "/usr/bin/redis-server"
    binary = "redis-server"
    SOCKET = "redis.sock"
    OPTIONS = (
        "--port 0 --daemonize no --appendonly no --lazyfree-lazy-user-del yes "
        "--enable-debug-command local"
    ).split() + ["--save", ""]
    BENCHMARK = (
        "-n 40000 -r 20000 -c 20 -P 16 -d 150 --dbnum 1 -q "
        "-t set,get,incr,lpush,rpop,sadd,hset,spop,zadd,lrange_100"
    ).split()

    def prepare(self, work):
        make_redis.make(os.path.join(work, "load.resp"))

    def check_words(self):
        return [self.needs, "--version"]

    def with_library(self, allocator):
        if allocator.library is not None:
            return allocator
        return type(allocator)(allocator.name, find_library("libc.so.6"))

    def check(self, work, allocator):
        super().check(work, self.with_library(allocator))

    def run(self, work, allocator):
        allocator = self.with_library(allocator)
        place = os.path.join(work, "redis")
        os.makedirs(place, exist_ok=True)
        path = os.path.join(place, self.SOCKET)
        remove(path)
        words = [self.needs, *self.OPTIONS, "--dir", place, "--unixsocket", path]
        server = Child(words, place, allocator)
        try:
            self.wait_for(server, path)
            self.require_mapped(server, allocator)
            started = time.monotonic()
            output = self.use(work, path)
            seconds = time.monotonic() - started
            self.stop(server, path)
        finally:
            server.kill()
        return Usage(seconds, server.mib, output)

    def use(self, work, path):
        """Loads, digests, benchmarks, and digests again; returns what must not vary."""
        cli = ["/usr/bin/redis-cli", "-s", path]
        load = os.path.join(work, "load.resp")
        piped = run([*cli, "--pipe"], work, stdin=load).output
        if b"errors: 0" not in piped:
            raise Failure("redis-cli --pipe: " + piped.decode(errors="replace"))
        output = b"keys " + run([*cli, "dbsize"], work).output
        digest = run([*cli, "debug", "digest"], work).output
        if len(digest.strip()) != 40:
            raise Failure("DEBUG DIGEST: " + digest.decode(errors="replace"))
        report = run(["/usr/bin/redis-benchmark", "-s", path, *self.BENCHMARK], work)
        tests = report.output.count(b"requests per second")
        if tests < 10 or b"rror" in report.output:
            text = report.output.decode(errors="replace").replace("\r", "\n")
            raise Failure("redis-benchmark did not finish:\n" + text)
        run([*cli, "-n", "1", "flushdb", "async"], work)
        if run([*cli, "debug", "digest"], work).output != digest:
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
        with open("/proc/%d/maps" % server.pid, encoding="utf-8") as maps:
            if not any(line.rstrip().endswith(library) for line in maps):
                raise Failure("%s has not mapped %s" % (server.title, library))

    def stop(self, server, path):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"SHUTDOWN NOSAVE\r\n")
        server.require_success(30)


PROGRAMS = (Sqlite(), Python(), Redis(), Gcc())
