/* SPDX-License-Identifier: MIT */
/*
 * Static probes for tracers (SystemTap's sys/sdt.h, which perf, bpftrace and gdb read
 * too): a no-operation in the code and a note in the library. They cost nothing while
 * nobody traces, and are left out where the build found no sys/sdt.h.
 */
#ifndef SH_HEAPS_PROBE_H
#define SH_HEAPS_PROBE_H

#if SH_PROBES
#include <sys/sdt.h>
#define SH_PROBE1(name, a) DTRACE_PROBE1(splitheap, name, a)
#define SH_PROBE2(name, a, b) DTRACE_PROBE2(splitheap, name, a, b)
#else
#define SH_PROBE1(name, a) ((void)0)
#define SH_PROBE2(name, a, b) ((void)0)
#endif

#endif /* SH_HEAPS_PROBE_H */
