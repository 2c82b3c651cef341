"""How much memory and how many processes a session may take, and how it stands behind others on its machine.

    where Rota was given a cgroup (v2)    the kernel holds both limits, in a cgroup of the session's own below it
    else                                  the shim looks at the session's tree every few seconds, and ends it

Resource limits would not do. Address space and data are counted as reserved, not as used: Claude Code 2.1.327 reserves
9.4 GB and 5.3 GB of them while it uses 0.2 GB. They bind a single process and not the tree. And RLIMIT_NPROC counts all
that a user runs: sessions of one worker would take each other's, and the worker's own.

In both cases processes are counted with their threads, as the kernel's `pids` controller does. Imports little on
purpose: each session pays for a shim's memory.
"""

from __future__ import annotations

import binascii
import errno
import os
import time

from runners import processes
from runners.light import signal, suppress

TYPE_CHECKING = False  # as `typing` has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

LOOK = 3.0  # seconds between two looks at the tree; each reads all of /proc
OOM_SCORE = 500  # of 1000: on a machine without memory the kernel ends sessions before workers
MEGABYTE = 1024 * 1024
_LOOKS, _PAUSE = 50, 0.02  # until a cgroup is empty: a second


class Confinement:
    """The limits of one session. `limits`: `memory_bytes` and `tasks`, None for none; `nice`; `cgroup`, a folder."""

    def __init__(self, folder: str, limits: Any) -> None:
        self._memory: int | None = limits["memory_bytes"]
        self._tasks: int | None = limits["tasks"]
        self._nice: int = limits["nice"]
        self._look_at = 0.0
        self.cgroup = ""
        self.fault = ""  # why the cgroup that was given can't be used
        if limits["cgroup"] and self._is_limited:
            try:
                self.cgroup = _make_cgroup(limits["cgroup"], cgroup_name(folder), self._memory, self._tasks)
            except OSError as error:
                self.fault = f"No cgroup can be made in {limits['cgroup']}: {error.strerror}.{_advice(error)}"

    @property
    def _is_limited(self) -> bool:
        return self._memory is not None or self._tasks is not None

    def enter(self) -> None:
        """In the process that becomes the program. Raises RuntimeError."""
        if self._nice:
            os.nice(self._nice)
        with suppress(OSError):
            _write("/proc/self/oom_score_adj", str(OOM_SCORE))
        if self.cgroup:
            try:
                _write(f"{self.cgroup}/cgroup.procs", "0")
            except OSError as error:
                raise RuntimeError(f"its cgroup {self.cgroup} can't be entered: {error.strerror}") from error

    def next_look(self) -> float | None:
        """When the tree is to be looked at again; None where the kernel holds the limits, or there are none."""
        return None if self.cgroup or not self._is_limited else self._look_at

    def breach(self, now: float, tree: Callable[[], Iterable[processes.Process]]) -> tuple[str, str]:
        """Which limit the tree is found to have passed, as a code and a sentence; both empty where it passed none."""
        self._look_at = now + LOOK
        members = list(tree())
        tasks = sum(_threads(pid) for pid, _ in members)
        if self._tasks is not None and tasks > self._tasks:
            return "too_many_processes", f"They were {tasks} with their threads; the limit is {self._tasks}."
        # What forks share is counted in each of them by the first, quick look; the second tells it apart.
        if self._memory is not None and sum(_resident(pid) for pid, _ in members) > self._memory:
            used = sum(_proportional(pid) for pid, _ in members)
            if used > self._memory:
                return "out_of_memory", f"It took {_megabytes(used)}; the limit is {_megabytes(self._memory)}."
        return "", ""

    def killed_by_kernel(self) -> str:
        """A sentence when the kernel ended processes of the session for want of memory; else empty."""
        killed = _events(self.cgroup, "memory.events").get("oom_kill", 0) if self.cgroup else 0
        if not killed or self._memory is None:
            return ""
        return f"The kernel ended {killed} of its processes: the limit is {_megabytes(self._memory)}."

    def leave(self) -> None:
        """Nobody is left in it: the cgroup goes, and what the session made below it."""
        if self.cgroup:
            _remove(self.cgroup)


def cgroup_name(folder: str) -> str:
    """The name of the cgroup of the session in this folder."""
    return f"rota-{os.path.basename(folder)}-{binascii.crc32(os.fsencode(folder)):08x}"


def clear_cgroup(cgroup: str, folder: str) -> None:
    """End all that is in the cgroup of a session whose shim died, and remove it. No other cgroup is touched."""
    if os.path.basename(cgroup) != cgroup_name(folder):
        return
    try:
        _write(f"{cgroup}/cgroup.kill", "1")
    except OSError:  # before Linux 5.14
        _kill_members(cgroup)
    _remove(cgroup)


def _kill_members(cgroup: str) -> None:
    """KILL who is in it or below, until nobody is: who forks meanwhile is found by the next look."""
    for _ in range(_LOOKS):
        found = [(pid, processes.start_ticks(pid)) for pid in _members(cgroup)]
        alive = [(pid, start) for pid, start in found if start is not None]
        if not alive:
            return
        for process in alive:
            if process[0] in _members(cgroup):  # with this start: it is the one that was listed
                processes.send(process, signal.SIGKILL)
        time.sleep(_PAUSE)


def _members(cgroup: str) -> list[int]:
    folders = (folder for folder, _, _ in os.walk(cgroup))
    return [int(pid) for folder in folders for pid in _read(f"{folder}/cgroup.procs").split() if pid.isdigit()]


def _remove(cgroup: str) -> None:
    """A cgroup goes with its files, and not with those below it. Waits a second for the kernel to be done."""
    for _ in range(_LOOKS):
        try:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(folder)
        except OSError as error:
            if error.errno == errno.EBUSY:
                time.sleep(_PAUSE)
                continue
        return


def _make_cgroup(parent: str, name: str, memory: int | None, tasks: int | None) -> str:
    """Raises OSError; then there is none."""
    path = os.path.join(parent, name)
    wanted = [f"+{kind}" for kind, limit in (("memory", memory), ("pids", tasks)) if limit is not None]
    refused: OSError | None = None  # they may be on already, and not ours to turn on
    for asked in dict.fromkeys([" ".join(wanted), *wanted]):  # all or nothing of each
        try:
            _write(f"{parent}/cgroup.subtree_control", asked)
        except OSError as error:
            refused = refused or error
        else:
            if len(wanted) == len(asked.split()):
                break
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
    try:
        if memory is not None:
            _write(f"{path}/memory.max", str(memory))
            with suppress(OSError):  # where the kernel counts no swap
                _write(f"{path}/memory.swap.max", "0")
        if tasks is not None:
            _write(f"{path}/pids.max", str(tasks))
    except OSError as error:
        with suppress(OSError):
            os.rmdir(path)
        raise refused or error from error
    return path


def _advice(error: OSError) -> str:
    """Limits are for cgroups in whose parent no process is (the kernel's rule of no internal processes)."""
    return " There are processes in it, and they have to be in one below it." if error.errno == errno.EBUSY else ""


def _write(path: str, text: str) -> None:
    """To a file that is there already: the kernel makes those of a cgroup."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _events(cgroup: str, name: str) -> dict[str, int]:
    words = [line.split() for line in _read(f"{cgroup}/{name}").splitlines()]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _threads(pid: int) -> int:
    text = _read(f"/proc/{pid}/stat")
    fields = text[text.rfind(")") + 2 :].split()
    return int(fields[17]) if len(fields) > 17 else 0


def _resident(pid: int) -> int:
    """Bytes in memory that are not a file's; what it shares with others as well."""
    fields = _read(f"/proc/{pid}/statm").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 2 else 0


def _proportional(pid: int) -> int:
    """Bytes in memory that are not a file's; of what it shares, its part. All of it where the kernel does not say."""
    words = [line.split() for line in _read(f"/proc/{pid}/smaps_rollup").splitlines()]
    parts = [int(line[1]) for line in words if line and line[0] in ("Pss_Anon:", "Pss_Shmem:")]
    return sum(parts) * 1024 if parts else _resident(pid)


def _read(path: str) -> str:
    """A file of the kernel; empty when its process is gone or somebody else's."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"
