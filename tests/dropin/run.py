#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""splitheap where users put it: each test runs programs that know nothing of it.

    run.py TEST NAME=FILE...

FILES: the library (so, a), program preloaded, linked to the library, static and
static-pie, and what else a test needs. Exit status 77: the machine lacks something that
the test needs, and it says what.
"""
import concurrent.futures
import glob
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FILES = {k: os.path.abspath(v) for k, v in (w.split("=", 1) for w in sys.argv[2:])}
SKIPPED = []

OURS = ("LD_", "SPLITHEAP", "MALLOC_")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
CLEAN |= {"LC_ALL": "C", "TZ": "UTC"}
PRELOADED = CLEAN | {"LD_PRELOAD": FILES["so"]}


class Skip(Exception):
    pass


def run(words, env=None, status=0, **more):
    """What it wrote to both outputs."""
    done = subprocess.run(
        words, env=CLEAN if env is None else env, timeout=60, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more,
    )
    if status is not None and done.returncode != status:
        text = done.stdout.decode(errors="replace")
        if done.returncode == 77:
            raise Skip(text.strip())
        raise AssertionError(f"{words}: status {done.returncode}\n{text}")
    return done.stdout


# ---- Every way to link, and everything that programs do ----

WAYS = ("preloaded", "linked", "static", "static-pie")


def names():
    listed = run([FILES["plain"]], status=2).decode().split()
    return [name for name in listed if not name.startswith("group_")]


def one(way, name):
    preloaded = way == "preloaded"
    words = [FILES["plain" if preloaded else way], name]
    try:
        said = run(words, PRELOADED if preloaded else None).decode()
    except Skip as reason:
        return f"{name} {way}: {reason}"
    assert said.endswith(f"ok {name}\n") or name == "closed_files", said
    return None


def each_way(ways):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(one, way, name) for way in ways for name in names()]
        for job in jobs:
            if job.result():
                SKIPPED.append(job.result())


def preloaded():
    # As it is, it passes too: what it asks for is no more than malloc's duty.
    run([FILES["plain"], "malloc"])
    each_way(WAYS[:1])


def linked():
    each_way(WAYS[1:2])


def static():
    for way in WAYS[2:]:
        elf = subprocess.run(["readelf", "-ld", FILES[way]], capture_output=True, text=True)
        assert "INTERP" not in elf.stdout, way
        assert ("DYNAMIC" in elf.stdout) == (way == "static-pie"), way
    each_way(WAYS[2:])


# ---- dlopen ----


def loaded_late():
    modules = sorted(glob.glob(FILES["modules"] + "/*tls_module_*.so"))
    assert len(modules) >= 8, modules
    for visibility in "local", "global":
        for others in modules[:0], modules:
            run([FILES["dlopener"], FILES["so"], visibility, *others])
    # Of the 1664 bytes that glibc keeps, it takes few.
    elf = run(["readelf", "-lW", FILES["so"]]).decode()
    size = int(re.search(r"^ +TLS +(?:0x\w+ ){4}(0x\w+)", elf, re.M).group(1), 16)
    assert 0 < size <= 128, size


# ---- Limits ----


def root(path):
    if os.geteuid() != 0:
        raise Skip("not root")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        raise Skip(path + " cannot be mounted over here")


def group_limit():
    """A program in a container whose limit it reads from made-up files."""
    root("/sys/fs/cgroup")
    with tempfile.TemporaryDirectory() as folder:
        files = {"memory.max": 200 << 20, "memory.current": 20 << 20, "cgroup": "0::/"}
        for name, value in files.items():
            pathlib.Path(folder, name).write_text(f"{value}\n")
        script = (
            f"mount --bind {folder} /sys/fs/cgroup && "
            f"mount --bind {folder}/cgroup /proc/$$/cgroup && "
            f"LD_PRELOAD={FILES['so']} GROUP_MIB=180 exec {FILES['plain']} group_limit"
        )
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], env=CLEAN, capture_output=True, text=True
        )
        if "mount" in done.stderr:
            raise Skip(done.stderr.strip())
        assert done.stdout == "ok group_limit\n", done
    # A group's folder, with a limit set, that the test may use.
    if group := os.environ.get("SPLITHEAP_TEST_GROUP"):
        script = f"echo $$ >{group}/cgroup.procs && exec {FILES['plain']} group_end"
        run(["sh", "-c", f"LD_PRELOAD={FILES['so']}; export LD_PRELOAD; {script}"])


def setuid():
    """The loader takes no library from the environment of a setuid program."""
    if os.geteuid() != 0:
        raise Skip("not root")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = shutil.copy(shutil.which("env"), folder + "/env")
        env = PRELOADED | {"SPLITHEAP_CONF": "verbose:true", "LD_SHOW_AUXV": "1"}
        os.chmod(copy, 0o755)
        assert b"splitheap" in run([copy, "-i"], env)
        os.chown(copy, 65534, 65534)
        os.chmod(copy, 0o4755)
        said = run([copy, "-i"], env)
        if b"AT_SECURE" in said:
            raise Skip("setuid has no effect here")
        assert said == b"", said


# ---- Tools that look on ----

OURS_STAYS = "--soname-synonyms=somalloc=nouserintercepts"

# What memcheck says of each mistake, by the program's function.
FOUND = {
    "uninitialised": r"depends on uninitialised.*\n.* uninitialised \(",
    "after_free": r"Invalid read of size 4\n.* after_free \((.*\n)*.* inside a block of size 40 free'd",
    "overrun": r"Invalid write(.*\n)*?.*0 bytes after a block of size 1 alloc'd",
    "underrun": r"Invalid read(.*\n)*?.*1 bytes before a block of size 80 alloc'd",
    "leak": r"1,234 bytes in 1 blocks are definitely lost(.*\n)*?.* leak \(",
    "double_free": r"Invalid free\(\)(.*\n)*?.* inside a block of size 10 free'd",
    "foreign_free": r"Invalid free\(\)(.*\n)*?.* foreign_free \(",
}


def valgrind(*words, status=0, env=None):
    words = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=9", *words]
    return run(words, env, status).decode()


def memcheck():
    if not shutil.which("valgrind"):
        raise Skip("there is no valgrind")
    program = FILES["memcheck"]
    for ours in (False, True) if FILES["has_memcheck"].endswith("1") else (False,):
        # Without the option valgrind puts its own malloc in place of ours.
        option = [OURS_STAYS] if ours else ["--num-callers=12"]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = dict(zip(FOUND, pool.map(
                lambda name: valgrind(*option, program, name, status=9), FOUND)))
        for name, pattern in FOUND.items():
            assert re.search(pattern, said[name]), (name, said[name])
        # One of each size: small, large, of a page and more.
        said = run(["valgrind", *option, program, "overrun"])
        assert b"ERROR SUMMARY: 6 errors" in said, said
    if FILES["has_memcheck"].endswith("1"):
        said = valgrind("--leak-check=no", program, "collect")
        assert OURS_STAYS in said, said
        assert valgrind(OURS_STAYS, program, "clean") == "clean\n"
        assert valgrind("--leak-check=no", OURS_STAYS, program, "finalize") == "50\n"
        # What the C library has for a thread that is there at exit may look lost.
        assert valgrind(OURS_STAYS, program, "much") == "alone\n"
    # Other tools see the fast paths.
    said = run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", OURS_STAYS,
                "true"], PRELOADED)
    assert b"Collected" in said, said


def asan():
    """The sanitizer's malloc wins, or it says what is wrong."""
    source = pathlib.Path(__file__).with_name("memcheck.c")
    include = pathlib.Path(__file__).parents[2] / "lib/include"
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        for compiler in "gcc", "clang":
            program = f"{folder}/{compiler}"
            words = [compiler, "-g", "-w", "-fno-builtin", "-fsanitize=address", f"-I{include}", source,
                     "-o", program, FILES["so"], "-Wl,-rpath," + os.path.dirname(FILES["so"])]
            if not shutil.which(compiler) or run(words, status=None) or not os.path.exists(program):
                SKIPPED.append(compiler + " has no AddressSanitizer here")
                continue
            tried += 1
            env = CLEAN | {"ASAN_OPTIONS": "detect_leaks=0"}
            for mistake, name in (("heap-buffer-overflow", "overrun"),
                                  ("heap-use-after-free", "after_free"),
                                  ("double-free", "double_free")):
                said = run([program, name], env, status=None).decode()
                assert f"AddressSanitizer: {mistake}" in said or mistake in said, said
            run([program, "collect"], env)
            # Preloaded before a runtime that is a library of its own, it is refused.
            said = run([program, "collect"], env | {"LD_PRELOAD": FILES["so"]}, status=None)
            assert b"ASan runtime does not come first" in said or compiler == "clang", said
    if not tried:
        raise Skip("no compiler has AddressSanitizer here")


# ---- Real programs ----


def prepare(folder):
    """Input for the programs below, the same each time."""
    words = [hashlib.sha256(b"%d" % i).hexdigest()[: i % 60 + 3] for i in range(60000)]
    pathlib.Path(folder, "words").write_text("\n".join(words) + "\n")
    pathlib.Path(folder, "table").write_text(
        "".join(f"{w} {i % 97} {i}\n" for i, w in enumerate(words))
    )
    pathlib.Path(folder, "one.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n"
        + "".join(f"int f{i}(int x) {{ return x * {i} + f{i - 1}(x); }}\n" if i else
                  "int f0(int x) { return x; }\n" for i in range(200))
    )
    pathlib.Path(folder, "one.cpp").write_text(
        "#include <map>\n#include <string>\n#include <vector>\n"
        "int f(std::map<std::string, std::vector<int>> &m) { m[\"a\"].push_back(1);"
        " int n = 0; for (auto &p : m) n += p.second.size(); return n; }\n"
    )
    pathlib.Path(folder, "meson.build").write_text(
        "project('p', 'c')\nexecutable('p', 'p.c')\n"
    )
    pathlib.Path(folder, "p.c").write_text("int main(void) { return 0; }\n")
    pathlib.Path(folder, "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(p C)\nadd_executable(p p.c)\n"
    )


PYTHON = r"""
import collections, json, re, threading, zlib, sys
text = open('words').read()
results = [None] * 8
def work(i):
    data = {w: [j, w * 2, {'k': i}] for j, w in enumerate(text.split()[i::8])}
    data = json.loads(json.dumps(data, sort_keys=True))
    results[i] = zlib.crc32(json.dumps(data, sort_keys=True).encode())
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(results, collections.Counter(re.findall('[a-f]+', text)).most_common(5))
"""

PERL = (
    "while (<>) { chomp; $h{$_} .= reverse $_; push @{$l{length $_}}, $_ } "
    "for (sort keys %h) { print qq($_ $h{$_}\n) } "
    "for (sort {$a<=>$b} keys %l) { print scalar @{$l{$_}}, qq(\n) }"
)

SQL = (
    "create table t(w text, n int, i int);\n.mode list\n.separator ' '\n.import table t\n"
    "create index x on t(w); select n, count(*), min(w), max(w) from t group by n;"
    "select a.w from t a join t b on a.w = b.w and a.i < b.i order by 1 limit 50;"
)

GIT = (
    "rm -rf g && git init -q g && cd g && cp ../words ../table . && "
    "export GIT_AUTHOR_DATE='2000-01-01T00:00Z' GIT_COMMITTER_DATE='2000-01-01T00:00Z' && "
    "git add . && git -c user.name=a -c user.email=b commit -q -m one && sort -r words -o words "
    "&& git add . && git -c user.name=a -c user.email=b commit -q -m two && git gc -q && "
    "git fsck --strict && git log -p --stat | sha256sum && git rev-list --objects --all"
)

# The program that it takes, and what to run: by the shell, in a folder with the input.
PROGRAMS = (
    ("bash", "bash -c 'for i in {1..20000}; do a[i]=x$i; s+=${a[i]}; done; echo ${#s}'"),
    ("sort", "sort -S 20M --parallel=4 words | sha256sum; sort -u -r words | md5sum"),
    ("awk", "awk '{n[$2] += $3; s = s substr($1, 1, 1)} END {for (i = 0; i < 97; i++) "
            "print i, n[i]; print length(s)}' table"),
    ("sed", "sed -E 's/([a-f]+)([0-9]+)/\\2\\1/g; $!N; P; D' words | sha256sum"),
    ("grep", "grep -c -E '(ab|cd)+.*(ef|01)+' words; grep -o -P '(?<=a)[0-9]{3}' words | md5sum"),
    ("tar", "tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - words table | sha256sum"),
    ("xz", "xz -T2 --block-size=300KiB -1 -c table words | sha256sum"),
    ("zstd", "zstd -q -T2 -5 -c table | sha256sum"),
    ("gzip", "gzip -n -c words | gunzip | sha256sum"),
    ("openssl", "openssl dgst -sha512 words; openssl enc -aes-256-cbc -K 00 -iv 00 -in words"
                " 2>/dev/null | sha256sum; openssl prime -generate -bits 64 >/dev/null; "
                "openssl version"),
    ("curl", "curl --version; curl -s file://$PWD/words | sha256sum"),
    ("python3", "python3 -c \"$PYTHON\""),
    ("perl", "perl -e '" + PERL + "' words | sha256sum"),
    ("git", GIT),
    ("gcc", "gcc -O1 -S -o - one.c -w | sha256sum"),
    ("g++", "g++ -O1 -S -o - one.cpp | sha256sum"),
    ("clang", "clang -O1 -S -o - one.c -w | sha256sum"),
    ("ld", "gcc -w -shared -fPIC -Wl,--build-id=sha1 -o one.so one.c && sha256sum one.so"),
    ("cmake", "rm -rf c && cmake -S . -B c >/dev/null && c=$(cmake --build c) && ls c/p"),
    ("meson", "rm -rf m && meson setup m >/dev/null && ninja -C m >/dev/null && ls m/p"),
    ("sqlite3", "printf '%s\\n' \"$SQL\" | sqlite3 :memory:"),
    ("vim", "vim -es -u NONE -i NONE -c 'sort! /a/' -c '%s/[bc]x*/yy/g' -c 'w! v' -c q words; sha256sum v"),
    ("gdb", "gcc -w -g -o dbg p.c && gdb -q -nx -batch -ex 'break main' -ex 'info line main'"
            " -ex 'list' ./dbg"),
    ("node", "node -e \"const w = require('fs').readFileSync('words', 'utf8').split('\\n');"
             "console.log(w.map(x => x + x).sort().length, JSON.stringify(w).length)\""),
    ("lua", "lua -e 'local t = {} for i = 1, 1e5 do t[i] = i .. \"x\" end print(#t)'"),
    ("ruby", "ruby -e 'puts (1..100000).map { |i| i.to_s * 2 }.sort.last'"),
    ("redis-server", "redis-server --version"),
)


def compare(program, command, folder):
    if not shutil.which(program):
        SKIPPED.append(program + " is not installed")
        return
    outputs = []
    for env in CLEAN, PRELOADED:
        home = tempfile.mkdtemp(dir=folder)
        prepare(home)
        env = env | {"PYTHON": PYTHON, "SQL": SQL, "HOME": home}
        done = subprocess.run(
            ["sh", "-c", command], env=env, cwd=home, timeout=100,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        outputs.append((done.returncode, done.stdout.replace(home.encode(), b"HOME")))
        shutil.rmtree(home)
    without, with_ours = outputs
    assert without[0] == 0 and without[1], (program, without)
    assert without == with_ours, (program, without[1][-500:], with_ours)


def programs():
    with tempfile.TemporaryDirectory() as folder:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(compare, p, c, folder) for p, c in PROGRAMS]
            for job in jobs:
                job.result()
    print(len(PROGRAMS) - len(SKIPPED), "programs left the same behind")


TESTS = {f.__name__: f for f in (
    preloaded, linked, static, loaded_late, group_limit, setuid, memcheck, asan, programs)}


def main():
    try:
        TESTS[sys.argv[1]]()
    except Skip as reason:
        print("skipped:", reason)
        return 77
    for reason in SKIPPED:
        print("left out:", reason)
    return 0


sys.exit(main())
