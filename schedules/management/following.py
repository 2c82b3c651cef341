"""Following runs from their start to their end, by looking at their rows."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from schedules.management.exits import Exit, Stop
from schedules.management.infrastructure import database_problem, hindrance
from schedules.management.report import elapsed
from schedules.models import Run, Session
from schedules.waiting import Waiting, waiting

_LOOK_EVERY = 0.25  # seconds
_CHECK_EVERY = timedelta(seconds=2)  # workers and broker
_DATABASE_PATIENCE = timedelta(seconds=30)
_LONG_TEXTS = ("prompt", "result", "patch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Runs and their sessions at one moment."""

    runs: Sequence[Run]
    sessions: Sequence[Session]
    waits: Mapping[int, Waiting] = field(default_factory=dict)  # session → what it waits for

    @property
    def is_over(self) -> bool:
        return not any(run.is_open for run in self.runs)


def look(run_ids: Collection[int], *, whole: bool = False) -> Picture:
    """The runs as they are now, in the order of their ids; with `whole`, their long texts too."""
    runs = Run.objects.filter(pk__in=run_ids).select_related("repository").defer("snapshot").order_by("pk")
    sessions = Session.objects.filter(run__in=run_ids).select_related("repository").order_by("run_id", "number")
    return Picture(runs=list(runs), sessions=list(sessions if whole else sessions.defer(*_LONG_TEXTS)))


class Display(Protocol):
    def show(self, picture: Picture, *, note: str, now: datetime) -> None:
        """Show progress. `note`: what they wait for, when that is out of the ordinary."""


def follow(run_ids: Collection[int], display: Display, *, timeout: timedelta | None, worker_wait: timedelta) -> None:
    """Return when all the runs are finished. Raises Stop when they can't be waited for any longer; they go on then."""
    patience = _Patience(worker_wait)
    started = failing_since = time.monotonic()
    while True:
        try:
            now = timezone.now()
            picture = look(run_ids)
            note = patience.note(picture, now=now)
            picture = replace(picture, waits=patience.waits)
        except (OperationalError, InterfaceError) as error:
            connection.close()
            if time.monotonic() - failing_since > _DATABASE_PATIENCE.total_seconds():
                raise Stop(Exit.INFRASTRUCTURE, database_problem(error) or str(error)) from error
        else:
            failing_since = time.monotonic()
            display.show(picture, note=note, now=timezone.now())
            if picture.is_over:
                return
        if timeout is not None and time.monotonic() - started >= timeout.total_seconds():
            raise Stop(Exit.TIMED_OUT, f"Not over after {elapsed(timeout)}.")
        time.sleep(_LOOK_EVERY)


@dataclass(slots=True)
class _Patience:
    """How long runs that nobody could take are waited for."""

    worker_wait: timedelta
    hindered_since: datetime | None = None
    checked_at: datetime | None = None
    hindrance: str | None = None
    waits: Mapping[int, Waiting] = field(default_factory=dict)

    def note(self, picture: Picture, *, now: datetime) -> str:
        """What is in the way, "" for nothing. Raises Stop when it has been there for too long."""
        if self.checked_at is None or now - self.checked_at >= _CHECK_EVERY:
            self.checked_at = now
            self.hindrance = hindrance(picture.runs, picture.sessions, now=now)
            self.waits = waiting(picture.sessions, now=now)
        if self.hindrance is None:
            self.hindered_since = None
            return ""
        self.hindered_since = self.hindered_since or now
        left = self.worker_wait - (now - self.hindered_since)
        if left <= timedelta():
            raise Stop(Exit.INFRASTRUCTURE, f"{self.hindrance}.")
        return f"{self.hindrance} (giving up in {elapsed(left)})"
