"""celery beat with Rota's clock in it: what is due is recorded in beat's own process, broker and workers up or not.

Ordinary periodic tasks of django-celery-beat go on as ever. A tick costs one indexed read of ours, and a write every
few seconds that says beat is alive.
"""

from __future__ import annotations

import gc
import logging
import socket
import time
from datetime import datetime, timedelta
from typing import Any

from celery import __version__ as celery_version
from celery.beat import SchedulingError
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler
from kombu import Connection

from schedules import tasks
from schedules.firing import fire_due
from schedules.models import Schedule, WorkerHeartbeat
from schedules.presence import Presence, keep_connection
from schedules.replanning import replan_ahead
from schedules.watch import LOOK_EVERY as LOOK_AROUND_EVERY
from schedules.watch import Watch

logger = logging.getLogger(__name__)

# The longest sleep between two looks, in seconds: an edit, a pause or a resume takes effect within it.
LOOK_EVERY = 0.9
# By so much a clock is corrected now and then, and no due time comes again that matters.
_TURNED_BACK = timedelta(seconds=60)


class Scheduler(DatabaseScheduler):
    """Fires due schedules on each tick, before and beside what DatabaseScheduler does."""

    _presence: Presence | None = None
    _last_look: datetime | None = None
    _looked_at = float("-inf")
    _watch: Watch | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.app.connection_for_write().get_transport_cls()  # imports the broker's client now, and not at a due time
        gc.freeze()  # what a program is made of is there for good: no burst looks through it for garbage

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
        try:
            keep_connection()
            self._heed_the_clock(now)
            self._say_alive(now)
            self._look_around(now, time.monotonic())
            next_due_at = Schedule.next_due_at()
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

    def _heed_the_clock(self, now: datetime) -> None:
        """A clock that was turned back, while beat ran or was away: times that come again are waited for again."""
        if self._last_look is None:
            self._last_look = WorkerHeartbeat.objects.last_seen_at(WorkerHeartbeat.Kind.BEAT) or now
        if self._last_look - now > _TURNED_BACK:
            moved = replan_ahead(now=now)
            logger.error(
                "The clock was turned back by %s: %d schedules wait for an earlier time than before",
                self._last_look - now,
                moved,
                extra={"action": "clock_turned_back"},
            )
        self._last_look = now

    def _fire(self, now: datetime) -> float:
        fired = fire_due(now=now)
        logger.info("Fired %d schedules: %d runs", fired.schedules, fired.runs, extra={"action": "fired"})
        tasks.dispatch()
        if fired.more:
            return 0.0
        # Where nothing moved on, somebody else fires it just now, or it can't be fired: not at once again.
        return self._until_next(timezone.now()) if fired.schedules else LOOK_EVERY

    def _until_next(self, now: datetime) -> float:
        next_due_at = Schedule.next_due_at()
        return LOOK_EVERY if next_due_at is None else max(0.0, min(LOOK_EVERY, (next_due_at - now).total_seconds()))

    def _look_around(self, now: datetime, at: float) -> None:
        """Whether workers live, among others: they look the same way whether beat does."""
        if at - self._looked_at < LOOK_AROUND_EVERY:
            return
        self._looked_at = at
        self._watch = self._watch or Watch()
        try:
            self._watch.look(now=now, at=at)
        except (DatabaseError, InterfaceError):
            raise
        except Exception:  # no fault of it may keep schedules from firing
            logger.exception("A fault in Rota: beat goes on", extra={"action": "internal"})

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
