"""Facts about processes, from /proc: who belongs to a session, and a signal that hits no stranger.

Shared by the shim and by `runners.supervision`. A process is told by its pid *and* its start,
counted in clock ticks since boot (field 22 of /proc/PID/stat): a pid alone may have passed to
somebody else by now.

Imports little on purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

import os

from runners.light import read, signal, suppress

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Process = tuple[int, int]
"""A pid and its start in clock ticks since boot."""

MARKER = "ROTA_SESSION"
"""The variable that every process of a session inherits: the path of the session's folder."""

_ENDED = (b"Z", b"X", b"x")  # zombie, dead: /proc still lists them, and they run no more
_boot_id = ""  # of this boot, once it was asked for: no process lives to see another


def boot_id() -> str:
    """Tells this boot of the machine from others: pids and ticks begin anew with each."""
    global _boot_id
    if not _boot_id:
        _boot_id = read("/proc/sys/kernel/random/boot_id").decode().strip()
    return _boot_id


def forks() -> int | None:
    """How many processes and threads this boot of the machine has seen. None where the kernel does not say."""
    lines = _read("/proc/stat").split(b"\n")
    return next((int(line[10:]) for line in lines if line.startswith(b"processes ")), None)


def are_later_ones_higher(pid: int, before: int | None) -> bool:
    """Whether all that were born after `pid` have a higher one. `before`: `forks()`, once it was there.

    Pids are given out in a circle: they are higher as long as it was not closed since.
    """
    now, most = forks(), _read("/proc/sys/kernel/pid_max")
    return before is not None and now is not None and bool(most) and pid + 2 * (now - before) < int(most)


def start_ticks(pid: int) -> int | None:
    """When the process started. None when there is none, or it has ended and is not reaped yet."""
    known = parent_and_start(pid)
    return known[1] if known else None


def pids() -> list[int]:
    """Of all processes, those included that have ended and are not reaped yet."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def tree(
    roots: Iterable[int], *, marker: str = "", but: Collection[int] = (), since: int = 0, above: int = 0
) -> list[Process]:
    """The live processes of a session: `roots`, who carries the marker, the descendants of either.

    The roots and their descendants come first, by generation: a parent that is signalled before its
    child has no time to make the child's end an exit code of its own. `but` is left out; its
    children are not. `since`, in ticks: nobody who was born before it carries the marker. `above`: nobody of
    them has that pid or a lower one. Reads all of /proc but for those, some 20 µs for each process of the machine:
    it is for the end of a session and not for a loop.
    """
    wanted = os.fsencode(f"{MARKER}={marker}") if marker else b""
    starts: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    marked: list[int] = []
    for pid in pids():
        known = parent_and_start(pid) if pid > above else None
        if known is None:
            continue
        parent, starts[pid] = known
        children.setdefault(parent, []).append(pid)
        if wanted and starts[pid] >= since and carries(pid, wanted):
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


def parent_and_start(pid: int) -> tuple[int, int] | None:
    """Parent and start of a live process. None when there is none, or it has ended and is not reaped yet."""
    text = _read(f"/proc/{pid}/stat")
    # The name stands in brackets and may itself hold spaces and brackets: go by the last one.
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in _ENDED:
        return None
    return int(fields[1]), int(fields[19])


def command_line(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/cmdline").split(b"\0")


def carries(pid: int, variable: bytes) -> bool:
    """Whether its environment has `NAME=value`; never so when it is kept from us."""
    environment = _read(f"/proc/{pid}/environ")
    return variable in environment and variable in environment.split(b"\0")


def _read(path: str) -> bytes:
    """A file of /proc; empty when the process is gone or belongs to somebody else."""
    try:
        return read(path)
    except OSError:
        return b""
