"""Thousands of rows in two transactions at once, each of a half of them.

PostgreSQL has a process for each connection, and a burst is its work much more than ours. SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

Result = TypeVar("Result")

MANY = 1_000  # rows: from so many on it is worth to connect once more


def in_halves(ids: Sequence[int], work: Callable[[Sequence[int]], Result]) -> list[Result]:
    """What `work`, a transaction of its own, returned for each half of the ids: one of them in a thread of its own.

    Raises what it raised; by then both have ended, and the other one may have done its part. Few ids, or those of a
    transaction that others can't see into, are not divided.
    """
    if len(ids) < MANY or connection.vendor != "postgresql" or connection.in_atomic_block:
        return [work(ids)]

    def elsewhere() -> Result:
        try:
            return work(ids[half:])
        finally:
            connection.close()

    half = len(ids) // 2
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-half") as second:
        theirs = second.submit(elsewhere)
        return [work(ids[:half]), theirs.result()]
