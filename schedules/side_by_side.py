"""Thousands of rows in two transactions at once, each of a half of them.

PostgreSQL has a process for each connection, and a burst is its work much more than ours. SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")

MANY = 1_000  # rows: from so many on it is worth to connect once more


@dataclass(frozen=True, slots=True)
class Halves:
    """Of what is to be done; or the whole, where there is no `second` thread with a connection of its own."""

    second: ThreadPoolExecutor | None

    def of(self, ids: Sequence[int], work: Callable[[Sequence[int]], Result]) -> list[Result]:
        """What `work`, a transaction of its own, returned for each half of the ids.

        Raises what it raised; by then both have ended, and the other one may have done its part.
        """
        if self.second is None:
            return [work(ids)]
        half = len(ids) // 2
        theirs = self.second.submit(work, ids[half:])
        try:
            ours = work(ids[:half])
        finally:
            wait([theirs])
        return [ours, theirs.result()]


@contextmanager
def in_halves(rows: int) -> Iterator[Halves]:
    """Put it around what has to be done first, too: meanwhile the second connection is opened.

    Few rows, or those of a transaction that others can't see into, are not divided.
    """
    if rows < MANY or connection.vendor != "postgresql" or connection.in_atomic_block:
        yield Halves(None)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-half") as second:
        second.submit(_connect)  # what it raises, the first statement raises again
        try:
            yield Halves(second)
        finally:
            second.submit(_disconnect)


def _connect() -> None:
    """That of the thread which calls it."""
    connection.ensure_connection()


def _disconnect() -> None:
    connection.close()
