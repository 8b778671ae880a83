#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What other programs read of the library can be read: XML and JSON, by parsers that are
not ours, and options as a user sets them, in programs that know nothing of us.

    api_formats.py ROOT LIBRARY.so PROGRAM

PROGRAM has the library linked in; a copy of it is made setuid.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

ROOT, LIBRARY, PROGRAM = (os.path.abspath(a) for a in sys.argv[1:])
PYTHON = os.path.realpath(sys.executable)


def run(code, conf="", preload=LIBRARY, status=0):
    """Runs Python code in a program of its own; what it wrote to stderr."""
    env = dict(os.environ, LD_PRELOAD=preload, SPLITHEAP_CONF=conf)
    done = subprocess.run(
        [PYTHON, "-S", "-c", code], env=env, text=True, stderr=subprocess.PIPE, timeout=60
    )
    assert done.returncode == status, (done.returncode, done.stderr)
    return done.stderr


def fields():
    """The names in struct splitheap_stats."""
    header = pathlib.Path(ROOT, "lib/include/splitheap/malloc.h").read_text()
    struct = re.search(r"struct splitheap_stats \{(.*?)\n\};", header, re.S).group(1)
    struct = re.sub(r"/\*.*?\*/", "", struct, flags=re.S)
    return re.findall(r"(\w+)\s*[,;]", struct)


def check_stats(stats):
    assert set(stats) == {"process", "classes", *fields()}, set(stats) ^ {*fields()}
    assert stats["mapped"] + stats["given"] == sum(
        stats[k] for k in ("active", "dirty", "retained", "metadata")
    ), stats
    cells = stats["classes"]
    assert sum(c["objects"] for c in cells) == stats["small_objects"], stats
    assert (
        sum(c["objects"] * c["cell_size"] for c in cells) == stats["small_bytes"]
    ), stats


# ---- The C library's ----

INFO = """
import ctypes
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.free.argtypes = libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc.restype = ctypes.c_void_p
big = libc.malloc(ctypes.c_size_t(50 << 20))
kept = [libc.malloc(1000) for i in range(200)]
libc.free(kept.pop(10))
stream = ctypes.c_void_p(libc.fopen(b"/dev/stderr", b"w"))
assert libc.malloc_info(1, stream) == 22
assert libc.malloc_info(0, stream) == 0
libc.fclose(stream)
"""


def shape(element, path=""):
    """Every path of elements, with its attributes and its type."""
    path += "/" + element.tag + "[" + element.get("type", "") + "]"
    yield path, tuple(sorted(element.keys()))
    for child in element:
        yield from shape(child, path)


def malloc_info_has_glibcs_shape(_):
    ours, theirs = (ET.fromstring(run(INFO, preload=p)) for p in (LIBRARY, ""))
    assert ours.get("version") == theirs.get("version") == "1"
    # What is in <sizes> depends on what was freed, there as here.
    of = [{s for s in shape(x) if "sizes[]/" not in s[0]} for x in (ours, theirs)]
    assert of[0] == of[1], of[0] ^ of[1]
    size = ours.find("heap/sizes/size")
    assert set(size.keys()) == {"from", "to", "total", "count"}
    mapped = next(t for t in ours.findall("total") if t.get("type") == "mmap")
    assert int(mapped.get("size")) >= 50 << 20, mapped.attrib
    rest = next(t for t in ours.findall("total") if t.get("type") == "rest")
    sizes = ours.findall("heap/sizes/size")
    assert sum(int(s.get("count")) for s in sizes) < int(rest.get("count"))
    assert sum(int(s.get("total")) for s in sizes) < int(rest.get("size"))
    for s in sizes:
        assert int(s.get("from")) <= int(s.get("to"))
        assert int(s.get("total")) == int(s.get("count")) * int(s.get("to"))


# ---- At exit ----


def statistics_at_exit(_):
    text = run("", "stats_at_exit:text")
    assert text.startswith("splitheap: statistics of process "), text
    assert re.search(r"^ +[1-9][0-9]*  allocated ", text, re.M), text
    check_stats(json.loads(run("", "stats_at_exit:json")))
    assert run("") == ""
    assert run("", "stats_at_exit:false") == ""
    # Not where the program does not end by exit.
    assert run("import os; os._exit(0)", "stats_at_exit:text") == ""
    check_stats(json.loads(run("raise SystemExit(3)", "stats_at_exit:json", status=3)))


def statistics_to_a_file(folder):
    conf = f"stats_at_exit:json,stats_file:{folder}/"
    code = "import os; open(f'{os.getpid()}', 'w')"
    assert run(f"import os; os.chdir('{folder}'); {code}", conf + "%p.json") == ""
    (process,) = (p for p in os.listdir(folder) if p.isdigit())
    stats = json.loads(pathlib.Path(folder, process + ".json").read_text())
    check_stats(stats)
    assert stats["process"] == int(process)
    # A file is appended to.
    for _ in range(2):
        assert run("", conf + "all") == ""
    texts = pathlib.Path(folder, "all").read_text().split("\n{")
    assert len(texts) == 2
    check_stats(json.loads(texts[0]))
    check_stats(json.loads("{" + texts[1]))


def a_file_that_cannot_be_opened(folder):
    path = f"{folder}/none/file"
    complaint, rest = run("", f"stats_at_exit:json,stats_file:{path}").split("\n", 1)
    assert complaint == (
        f"splitheap: the statistics' file {path} cannot be opened: error 2; they follow"
    ), complaint
    check_stats(json.loads(rest))


# ---- At a signal ----

KILL = "import os, signal; {} os.kill(os.getpid(), signal.SIG{}); x = [1] * 10000"


def statistics_at_a_signal(_):
    for name in "USR1", "USR2", "PROF":
        text = run(KILL.format("", name), f"stats_signal:{name}")
        assert text.count("splitheap: statistics of process ") == 1, text
    conf = "stats_signal:USR1,stats_signal_json:true"
    check_stats(json.loads(run(KILL.format("", "USR1"), conf)))
    run(KILL.format("", "USR1"), "stats_signal:USR2", status=-signal.SIGUSR1)
    run(KILL.format("", "USR1"), "stats_signal:0", status=-signal.SIGUSR1)
    handles = "signal.signal(signal.SIGUSR1, lambda *a: os.write(2, b'mine'));"
    assert run(KILL.format(handles, "USR1"), "stats_signal:USR1") == "mine"


# ---- Mistakes, and rights ----


def what_is_not_understood_is_said_once(_):
    line = "splitheap: SPLITHEAP_CONF: there is no option 'no';"
    assert run("", "no:1").startswith(line)
    assert run("", "no:1").count("\n") == 1
    assert run("", "decay_ms:5,background:true") == ""


def is_secure(program):
    """The loader itself ignores the environment: it lists what it was told otherwise."""
    env = dict(os.environ, LD_SHOW_AUXV="1")
    return b"AT_SECURE" not in subprocess.run(program, env=env, capture_output=True).stdout


def setuid_ignores_options(folder):
    if os.geteuid() != 0:
        return print("  not root: no setuid program was tried")
    os.chmod(folder, 0o755)
    env = dict(os.environ, SPLITHEAP_CONF="help:true")
    copies = []
    for program in "/bin/true", PROGRAM:
        copies.append(os.path.join(folder, "setuid-" + os.path.basename(program)))
        shutil.copy(program, copies[-1])
    for copy in copies:
        os.chmod(copy, 0o755)
    said = subprocess.run(copies[1], env=env, capture_output=True, text=True, timeout=60)
    assert "decay_ms" in said.stderr, said
    for copy in copies:
        os.chown(copy, 65534, 65534)
        os.chmod(copy, 0o4755)
    if not is_secure(copies[0]):
        return print("  setuid has no effect here")
    said = subprocess.run(copies[1], env=env, capture_output=True, text=True, timeout=60)
    assert "decay_ms" not in said.stderr, said


def main():
    for test in (
        malloc_info_has_glibcs_shape,
        statistics_at_exit,
        statistics_to_a_file,
        a_file_that_cannot_be_opened,
        statistics_at_a_signal,
        what_is_not_understood_is_said_once,
        setuid_ignores_options,
    ):
        with tempfile.TemporaryDirectory() as folder:
            test(folder)
        print("passed:", test.__name__)


main()
