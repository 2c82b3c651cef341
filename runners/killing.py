"""KILL for all of a session, also for those who flee: each link of a chain forks the next one and ends.

A look at /proc takes milliseconds, and who was not born when it began is not in it. So whoever is found is stopped, and
only those are looked at who were not there the last time, the youngest first, until there is none: then nobody can have
slipped through. Who is stopped forks no more, and what descends from him still does. Then they are killed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable

from runners import processes

# That find nobody, and a pause between: a process that executes something has no environment for a moment.
QUIET_LOOKS = 2
PAUSE = 0.01  # seconds


def kill_all(is_marked: Callable[[int], bool], *, roots: Iterable[processes.Process], seconds: float) -> int:
    """End `roots`, whoever is marked, and what descends from either, until nobody is left; how many there were.

    Gives up after so many seconds: then somebody is not ours to signal, or hangs in the kernel.
    """
    deadline = time.monotonic() + seconds
    killed: set[processes.Process] = set()
    quiet, known = 0, list(roots)
    while quiet < QUIET_LOOKS and time.monotonic() < deadline:
        found: list[processes.Process] = []
        try:
            _stop(is_marked, known, deadline, found)
        finally:  # also when it is interrupted: nobody is to stay stopped
            killed |= {process for process in found if processes.send(process, signal.SIGKILL)}
        quiet = 0 if found else quiet + 1
        time.sleep(PAUSE)
    return len(killed)


def _stop(
    is_marked: Callable[[int], bool],
    roots: list[processes.Process],
    deadline: float,
    found: list[processes.Process],
) -> None:
    """Stop all of them. `found` grows by them, also by those who could not be stopped."""
    members = dict(roots)
    known: set[int] = set()
    while time.monotonic() < deadline:
        listed = set(processes.pids())
        known &= listed
        for pid in members.keys() - listed:
            del members[pid]
        strange = sorted(listed - known, reverse=True)
        if not strange:
            break
        for process in _members_among(strange, is_marked, members):
            found.append(process)
            processes.send(process, signal.SIGSTOP)
        known.update(strange)


def _members_among(
    pids: list[int], is_marked: Callable[[int], bool], members: dict[int, int]
) -> Iterable[processes.Process]:
    """Who of them belongs to the session. `members`, pid → start, grows by them."""
    parents: dict[int, processes.Process] = {}
    for pid in pids:
        if (facts := processes.parent_and_start(pid)) is None:
            continue
        parent, start = facts
        if members.get(pid) == start or is_marked(pid):
            members[pid] = start
            yield pid, start
        else:
            parents[pid] = (parent, start)
    heirs = [pid for pid, (parent, _) in parents.items() if parent in members]
    while heirs:
        for pid in heirs:
            members[pid] = parents.pop(pid)[1]
            yield pid, members[pid]
        heirs = [pid for pid, (parent, _) in parents.items() if parent in members]
