# SPDX-License-Identifier: MIT
"""What the figures were measured on."""
import os
import platform


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line for line in file if line.startswith("model name")]
        return models[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def memory_gib():
    pages = os.sysconf("SC_PHYS_PAGES")
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def huge_pages():
    """What the kernel does of its own accord: the word in brackets."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="ascii") as file:
            return file.read().split("[")[1].split("]")[0]
    except (OSError, IndexError):
        return "unknown"


def machine():
    return {
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gib": memory_gib(),
        "system": "%s %s" % (platform.system(), platform.release()),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "huge_pages": huge_pages(),
    }


def machine_line(here=None):
    here = here or machine()
    return "%(processor)s, %(processors)d processors, %(system)s" % here
