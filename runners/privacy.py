"""Keeps what a process holds from the other processes of its user, sessions among them.

A process that is not *dumpable* shows its environment, memory and open files to root alone (prctl(2), proc(5)); nobody
can trace it, and it leaves no core. What a session's end needs stays visible: /proc/PID/stat and /proc/PID/cmdline. The
next program that it executes is dumpable again. Against root it does not help: Rota is not to run as root.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

from runners.light import suppress

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from typing import Any

PR_SET_DUMPABLE = 4
_prctl: Any = None  # as C has it; found once, also for all that are forked


def make_private() -> bool:
    """Keep this process's environment and memory from its user's other processes. True when that holds.

    It holds for what is forked as well. Not where /proc shows only what may be traced (`hidepid`, systemd's
    ProtectProc): workers could no longer tell whether their shims are alive.
    """
    return not _hides_processes() and prctl(PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int | bytes) -> bool:
    """False where the kernel refuses, or ctypes is missing."""
    global _prctl
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        if _prctl is None:
            _prctl = ctypes.CDLL(None).prctl
        given = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
        return bool(_prctl(option, given, 0, 0, 0) == 0)
    return False


def _hides_processes() -> bool:
    with suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
        options = [line.split(" ")[3].split(",") for line in mounts if " /proc proc " in line]
        return any(option.startswith("hidepid=") for option in (options[-1] if options else ()))
    return False
