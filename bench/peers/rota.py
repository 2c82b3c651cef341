"""Rota: N active schedules of one script each, due at the same instant.

Done when every run and session is on record, every schedule moved on, and what may start is handed to the broker. With
as many free slots as sessions (`ROTA_MAX_SESSIONS`, and one worker that has them all) that is all of them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from bench.peers.stopwatch import Figures, queue, require, stopwatch
from config.celery import app
from schedules.beat import Scheduler
from schedules.models import Run, Schedule, Session, WorkerHeartbeat

_LINES = 1440  # one for each minute of the day


def measure(count: int, *, lines: int = _LINES) -> Figures:
    now = timezone.now()
    due_at = now - timedelta(seconds=1)
    schedules = (enabled(number, due_at=due_at, lines=lines) for number in range(count))
    Schedule.objects.bulk_create(schedules, batch_size=1000)
    may_all_start(count, now=now)
    scheduler = Scheduler(app=app, lazy=True)
    with stopwatch() as taken:
        while scheduler.look(timezone.now()) == 0:
            pass
    with queue() as broker:
        require(int(broker.llen("sessions")), min(count, settings.ROTA_MAX_SESSIONS), "messages")
    require(Run.objects.filter(status=Run.Status.QUEUED).count(), count, "runs")
    require(Session.objects.filter(status=Session.Status.QUEUED).count(), count, "sessions")
    return taken.figures


def enabled(number: int, *, due_at: datetime, lines: int = _LINES) -> Schedule:
    """A script, on one of so many cron lines."""
    line = number % lines
    return Schedule(
        name=f"burst-{number}",
        runner="script",
        argv=["true"],
        cron=f"{line % 60} {line // 60} * * *",
        next_run_at=due_at,
        due_at=due_at,
    )


def may_all_start(count: int, *, now: datetime) -> None:
    """A worker that has room for them."""
    WorkerHeartbeat.objects.create(
        name="bench", kind="sessions", hostname="bench", pid=1, concurrency=count, started_at=now, last_seen_at=now
    )
