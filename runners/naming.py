"""What a process is called, where others look: /proc/PID/cmdline, and so `ps`; /proc/PID/comm, and so `top`.

A shim that was forked has the command line of whom it was forked from. That lies in the memory of the process, where
its kernel has put it, and can be written over (as setproctitle does, in C).

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

from runners.light import read, suppress
from runners.privacy import prctl

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_NAME = 15
ROOM = 1024  # bytes of a command line that others can be written into
_ARG_START, _ARG_END = 45, 46  # fields of /proc/PID/stat, counted from the one after the name
_words: memoryview | None = None  # where the command line lies: in the same place of all that are forked

PADDING = "-" * ROOM
"""The last argument of a process that is to be renamed."""


def rename(words: Sequence[str]) -> bool:
    """Take another command line. True when others read it so; where there is no room it stays as it was."""
    global _words
    text = b"\0".join([word.encode("utf-8", "surrogateescape") for word in words]) + b"\0"
    with suppress(ImportError):
        place = _words = _words or _arguments()
        if len(text) <= len(place):
            place[:] = text.ljust(len(place), b"\0")
    return read("/proc/self/cmdline").rstrip(b"\0") == text.rstrip(b"\0")


def rename_thread(name: str) -> None:
    """What `top` shows: fifteen bytes. Where it can't be said, it is not."""
    prctl(PR_SET_NAME, name.encode("utf-8", "replace")[:15])


def _arguments() -> memoryview:
    """The words of the command line in memory; empty where the kernel does not say where they are."""
    import ctypes

    text = read("/proc/self/stat")
    fields = text[text.rfind(b")") + 2 :].split()
    start, end = map(int, fields[_ARG_START : _ARG_END + 1]) if len(fields) > _ARG_END else (0, 0)
    # Another kernel may count otherwise. What does not look like it is left alone.
    if not start or end - start != len(read("/proc/self/cmdline")):
        return memoryview(b"")
    return memoryview((ctypes.c_char * (end - start)).from_address(start)).cast("B")
