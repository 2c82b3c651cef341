"""Facts about processes, from /proc: who belongs to a session, and a signal that hits no stranger.

Shared by the shim and by `runners.supervision`. A process is told by its pid *and* its start,
counted in clock ticks since boot (field 22 of /proc/PID/stat): a pid alone may have passed to
somebody else by now.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

import os

from runners.light import signal, suppress

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Process = tuple[int, int]
"""A pid and its start in clock ticks since boot."""

MARKER = "ROTA_SESSION"
"""The variable that every process of a session inherits: the path of the session's folder."""

_ENDED = (b"Z", b"X", b"x")  # zombie, dead: /proc still lists them, and they run no more


def boot_id() -> str:
    """Tells this boot of the machine from others: pids and ticks begin anew with each."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def start_ticks(pid: int) -> int | None:
    """When the process started. None when there is none, or it has ended and is not reaped yet."""
    known = _stat(pid)
    return known[1] if known else None


def tree(roots: Iterable[int], *, marker: str = "", but: Collection[int] = (), since: int = 0) -> list[Process]:
    """The live processes of a session: `roots`, who carries the marker, the descendants of either.

    The roots and their descendants come first, by generation: a parent that is signalled before its
    child has no time to make the child's end an exit code of its own. `but` is left out; its
    children are not. `since`, in ticks: nobody who was born before it carries the marker. Reads all
    of /proc, some 20 µs for each process of the machine: it is for the end of a session and not for
    a loop.
    """
    wanted = os.fsencode(f"{MARKER}={marker}") if marker else b""
    starts: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    marked: list[int] = []
    for name in os.listdir("/proc"):
        known = _stat(int(name)) if name.isdigit() else None
        if known is None:
            continue
        pid = int(name)
        parent, starts[pid] = known
        children.setdefault(parent, []).append(pid)
        if wanted and starts[pid] >= since and _carries(pid, wanted):
            marked.append(pid)
    members: dict[int, None] = {}
    for generations in (list(roots), marked):
        for pid in generations:  # which grow meanwhile
            if pid not in members:
                members[pid] = None
                generations += children.get(pid, ())
    return [(pid, starts[pid]) for pid in members if pid in starts and pid not in but]


def send(process: Process, number: int) -> bool:
    """Signal exactly this process; False when it is gone, or is not ours to signal.

    The descriptor pins it, so that its pid can't pass to another between the look and the signal.
    Where the kernel is older than 5.3, or a container forbids it, the look alone has to do.
    """
    pid, start = process
    pinned = -1
    with suppress(OSError):
        pinned = os.pidfd_open(pid)
    try:
        if start_ticks(pid) != start:
            return False
        if pinned < 0:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(pinned, number)
    except OSError:
        return False
    finally:
        if pinned >= 0:
            os.close(pinned)
    return True


def _stat(pid: int) -> tuple[int, int] | None:
    """Parent and start of a live process."""
    text = _read(f"/proc/{pid}/stat")
    # The name stands in brackets and may itself hold spaces and brackets: go by the last one.
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in _ENDED:
        return None
    return int(fields[1]), int(fields[19])


def _carries(pid: int, variable: bytes) -> bool:
    environment = _read(f"/proc/{pid}/environ")
    return variable in environment and variable in environment.split(b"\0")


def _read(path: str) -> bytes:
    """A file of /proc; empty when the process is gone or belongs to somebody else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return b"".join(parts)
