"""celery beat with Rota's clock in it: what is due is recorded in beat's own process, broker and workers up or not.

Ordinary periodic tasks of django-celery-beat go on as ever. A tick costs one indexed read of ours, and a write every
few seconds that says beat is alive.
"""

from __future__ import annotations

import logging
import socket
import time
from datetime import datetime
from typing import Any

from celery import __version__ as celery_version
from celery.beat import SchedulingError
from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler
from kombu import Connection

from schedules import tasks
from schedules.firing import fire_due
from schedules.models import Schedule, WorkerHeartbeat
from schedules.presence import Presence

logger = logging.getLogger(__name__)

# The longest sleep between two looks, in seconds: an edit, a pause or a resume takes effect within it.
LOOK_EVERY = 0.9


class Scheduler(DatabaseScheduler):
    """Fires due schedules on each tick, before and beside what DatabaseScheduler does."""

    _presence: Presence | None = None

    def tick(self, *args: Any, **kwargs: Any) -> float:
        look_again = time.monotonic() + self.look(timezone.now())
        return max(0.0, min(self._tick_as_ever(*args, **kwargs), look_again - time.monotonic()))

    def _tick_as_ever(self, *args: Any, **kwargs: Any) -> float:
        """It reads its tables anew every five minutes: a database that is away just then must not end beat."""
        try:
            wait: float = super().tick(*args, **kwargs)
        except (DatabaseError, InterfaceError):
            logger.exception("The database is away; periodic tasks wait", extra={"action": "beat_database_away"})
            connection.close()
            return LOOK_EVERY
        return wait

    def look(self, now: datetime) -> float:
        """Fire what is due. Returns the seconds until the next look; a database that is away is tried again then."""
        close_old_connections()
        try:
            self._say_alive(now)
            next_due_at = Schedule.objects.next_due_at()
            if next_due_at is None:
                return LOOK_EVERY
            if next_due_at > now:
                return min(LOOK_EVERY, (next_due_at - now).total_seconds())
            return self._fire(now)
        except (DatabaseError, InterfaceError):
            logger.exception(
                "The database is away; due times wait for it",
                extra={"action": "beat_database_away"},
            )
            connection.close()
            return LOOK_EVERY

    def _fire(self, now: datetime) -> float:
        fired = fire_due(now=now)
        logger.info("Fired %d schedules: %d runs", fired.schedules, fired.runs, extra={"action": "fired"})
        tasks.dispatch()
        return 0.0 if fired.more else self._until_next(timezone.now())

    def _until_next(self, now: datetime) -> float:
        next_due_at = Schedule.objects.next_due_at()
        return LOOK_EVERY if next_due_at is None else max(0.0, min(LOOK_EVERY, (next_due_at - now).total_seconds()))

    def _say_alive(self, now: datetime) -> None:
        if self._presence is None or not self._presence.renew(now):
            self._presence = Presence.register(
                kind=WorkerHeartbeat.Kind.BEAT,
                name=f"beat@{socket.gethostname()}",
                concurrency=0,
                version=f"celery {celery_version}",
                now=now,
            )

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an ordinary periodic task. While the broker is away that is a line in the log; it comes again."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            logger.warning("The broker is away: %s", error, extra={"action": "broker_away"})

    def close(self) -> None:
        if self._presence:
            self._presence.leave(timezone.now())
        super().close()

    def _ensure_connected(self) -> Connection:
        """Connects when it publishes, in bounds: stock beat waits here for the broker, and no schedule would fire."""
        return self.connection
