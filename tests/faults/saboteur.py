"""A Celery worker or beat that comes to harm: `python -m tests.faults.saboteur POINT …`, the rest being Celery's.

At a point of a session's life it is SIGKILLed: the statement tells that it is about to send to the database, or has
just sent. `locked`: a tenth of what it writes fails, as when somebody else keeps the lock of SQLite for too long.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import django
from celery.bin.celery import main
from django.db import OperationalError
from django.db.backends.signals import connection_created

# When, and what the statement has in it.
POINTS = {
    "before claim": ("before", '"claimed_at" = '),
    "after claim": ("after", '"claimed_at" = '),
    "after spawn": ("before", '"start_ticks" = '),
    "after spawn is recorded": ("after", '"start_ticks" = '),
    "after exit": ("before", '"finished_at" = '),
}
LOCKED = "locked"
_WRITES = ("INSERT", "UPDATE", "DELETE")


def lock_out() -> None:
    chance = random.Random(os.getpid())

    def refused(execute: Callable[..., Any], sql: str, *given: Any) -> Any:
        if sql.startswith(_WRITES) and chance.random() < 0.1:
            print("the database refuses to write", file=sys.stderr, flush=True)
            raise OperationalError("database is locked")
        return execute(sql, *given)

    _around_statements(refused)


def kill_at(point: str) -> None:
    when, mark = POINTS[point]

    def watched(execute: Callable[..., Any], sql: str, *given: Any) -> Any:
        is_it = sql.startswith('UPDATE "schedules_session"') and mark in sql
        if is_it and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = execute(sql, *given)
        if is_it and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    _around_statements(watched)


def _around_statements(wrapper: Callable[..., Any]) -> None:
    def wrap(connection: Any, **_: Any) -> None:
        if wrapper not in connection.execute_wrappers:  # it is the same one after a reconnection
            connection.execute_wrappers.append(wrapper)

    connection_created.connect(wrap, weak=False)


if __name__ == "__main__":
    django.setup()
    point = sys.argv.pop(1)
    if point == LOCKED:
        lock_out()
    else:
        kill_at(point)
    main()
