"""One Rota per var folder: who runs it now, and what one that was killed has left running."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runners import ProcessIdentity, SupervisionError, identify, is_alive


class AlreadyRuns(Exception):
    """Another process holds the folder. The text says where, and what to do."""


class Instance:
    """The hold on a var folder, and the record beside it of the processes that are run there.

    The hold is a lock of the kernel's, so it ends with the process however that ends. The record
    outlives it, and tells the next holder what is still to be ended.
    """

    def __init__(self, var: Path) -> None:
        self._file = var / "up.json"
        self._processes: dict[str, ProcessIdentity] = {}

    def __enter__(self) -> Self:
        """Raises AlreadyRuns."""
        self._stream = os.fdopen(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            record = self._read()
            self._stream.close()
            raise AlreadyRuns(
                f"Rota runs here already, at {record.get('url', 'its address')}: use that one, "
                f"or end it first (Ctrl-C, or kill {record.get('pid', 'its process')})."
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def end_leftovers(self, *, patience: float = 8.0) -> list[str]:
        """End the processes of a holder that could not do so itself; their names.

        They get `patience` seconds to end by themselves, and are killed then.
        """
        recorded = {name: ProcessIdentity(**identity) for name, identity in self._read().get("processes", {}).items()}
        left = {name: process for name, process in recorded.items() if is_alive(process)}
        _signal(left.values(), signal.SIGTERM)
        deadline = time.monotonic() + patience
        while alive := [process for process in left.values() if is_alive(process)]:
            if time.monotonic() > deadline:
                _signal(alive, signal.SIGKILL)
            time.sleep(0.05)
        return list(left)

    def note(self, *, url: str, pids: dict[str, int]) -> None:
        """Write down where Rota answers and what it runs."""
        for name in pids.keys() - self._processes.keys():
            with suppress(SupervisionError):  # it has ended already
                self._processes[name] = identify(pids[name])
        record = {
            "pid": os.getpid(),
            "url": url,
            "processes": {name: asdict(process) for name, process in self._processes.items()},
        }
        self._stream.seek(0)
        self._stream.write(json.dumps(record))
        self._stream.truncate()
        self._stream.flush()

    def _read(self) -> dict[str, Any]:
        self._stream.seek(0)
        try:
            record: dict[str, Any] = json.loads(self._stream.read())
        except ValueError:
            return {}  # nothing yet, or half a record of a machine that went down
        return record


def _signal(processes: Iterable[ProcessIdentity], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
