"""Wall and CPU time of a block, and the queue that it fills."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from django.conf import settings

Figures = tuple[float, float]
"""Seconds by the clock, and seconds of CPU in the process of the scheduler."""

WARM = 120  # schedules that the floor and Rota have fired before the clock starts: what is made once, they have


@dataclass
class Stopwatch:
    seconds: float = 0.0
    cpu: float = 0.0

    @property
    def figures(self) -> Figures:
        return self.seconds, self.cpu


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    found = Stopwatch()
    began, cpu_began = time.perf_counter(), time.process_time()
    yield found
    found.seconds, found.cpu = time.perf_counter() - began, time.process_time() - cpu_began


def queue() -> redis.Redis:
    """The broker, to be looked into."""
    return redis.Redis(unix_socket_path=str(settings.ROTA_VALKEY_SOCKET))


def require(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise RuntimeError(f"{found} {what} instead of {expected}")
