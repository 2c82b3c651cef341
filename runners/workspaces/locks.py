"""One lock per repository, between threads, between processes, and beyond the death of whoever holds it.

The lock is `flock` on a file of its own. Each holder opens the file anew, so that threads exclude each other, too. The
git commands that write keep the descriptor open: a worker that is SIGKILLed leaves the lock to its orphaned command,
and the next worker waits until that has ended instead of tidying up under its feet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from runners.base import WorkspaceError
from runners.processes import boot_id
from runners.workspaces.wanted import check_wanted

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1  # seconds between two tries


class Busy(WorkspaceError):
    """The lock did not become free in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The last fetch that was begun under a lock, for those who waited meanwhile. It stands in the lock's file."""

    url: str
    boot: str  # what `began` is counted from
    began: float  # monotonic seconds
    error: str = ""  # empty: it succeeded


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held. `descriptor` is for the commands that write under it."""

    descriptor: int

    def record(self, *, url: str, began: float, error: str = "") -> None:
        """Leave word of an attempt to whoever waits."""
        attempt = Attempt(url=url, boot=boot_id(), began=began, error=error)
        data = json.dumps(asdict(attempt)).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, data, 0)

    def attempt_since(self, asked: float, *, url: str) -> Attempt | None:
        """The last attempt on this URL if it began after `asked`: it is as good as one of one's own."""
        data = os.pread(self.descriptor, 10_000, 0)
        try:
            attempt = Attempt(**json.loads(data))
        except (ValueError, TypeError):
            return None  # the first holder, or one who was killed while writing
        current = attempt.url == url and attempt.boot == boot_id() and attempt.began >= asked
        return attempt if current else None


@contextlib.contextmanager
def locked(path: Path, *, wait: timedelta) -> Iterator[Lock]:
    """Hold the lock at `path`. Raises Busy when it is not free within `wait`, and Unwanted."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, wait=wait)
        try:
            yield Lock(descriptor)
        finally:
            # Explicitly: a daemon that a command left behind (a credential cache) may still have the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, *, wait: timedelta) -> None:
    deadline = time.monotonic() + wait.total_seconds()
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(
                    f"The repository cache {path.stem} has been in use by others for {wait.total_seconds():g} s."
                ) from None
            check_wanted(f"Waiting for the repository cache {path.stem}")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        else:
            return
