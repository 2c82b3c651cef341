"""Keeps what a process holds from the other processes of its user, sessions among them.

A process that is not *dumpable* shows its environment, memory and open files to root alone (prctl(2), proc(5)); nobody
can trace it, and it leaves no core. What a session's end needs stays visible: /proc/PID/stat and /proc/PID/cmdline. The
next program that it executes is dumpable again. Against root it does not help: Rota is not to run as root.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

from runners.light import suppress

PR_SET_DUMPABLE = 4


def make_private() -> bool:
    """Keep this process's environment and memory from its user's other processes. True when that holds.

    Not where /proc shows only what may be traced (`hidepid`, systemd's ProtectProc): workers could no longer tell
    whether their shims are alive.
    """
    return not _hides_processes() and prctl(PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int) -> bool:
    """False where the kernel refuses, or ctypes is missing."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
    return False


def _hides_processes() -> bool:
    with suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
        options = [line.split(" ")[3].split(",") for line in mounts if " /proc proc " in line]
        return any(option.startswith("hidepid=") for option in (options[-1] if options else ()))
    return False
