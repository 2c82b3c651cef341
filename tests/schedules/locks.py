"""A row that somebody else holds, and who does not wait long for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from schedules.models import Schedule


@contextmanager
def somebody_holding(schedule: Schedule) -> Iterator[None]:
    """Another connection writes to it, and takes its time."""
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Schedule.objects.filter(pk=schedule.pk).hold()
            held.set()
            over.wait(timeout=30)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(timeout=30)
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)


@contextmanager
def waits_no_longer() -> Iterator[None]:
    """Whom a lock keeps waiting is refused at once, and not after the 20 seconds or more of the settings."""
    postgres = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '100ms'" if postgres else "PRAGMA busy_timeout = 100")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 0" if postgres else "PRAGMA busy_timeout = 20000")
