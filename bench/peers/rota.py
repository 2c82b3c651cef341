"""Rota: N active schedules of one script each, due at the same instant.

Done when every run and session is on record, every schedule moved on, and what may start is handed to the broker. With
as many free slots as sessions (`ROTA_MAX_SESSIONS`, and one worker that has them all) that is all of them. Beat is at
work: it has fired 120 others before.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from bench.peers.stopwatch import WARM, Figures, queue, require, stopwatch
from config.celery import app
from schedules.beat import Scheduler
from schedules.models import Run, Schedule, Session, WorkerHeartbeat

_LINES = 1440  # one for each minute of the day


def measure(count: int, *, lines: int = _LINES) -> Figures:
    scheduler = Scheduler(app=app, lazy=True)
    may_all_start(WARM + count, now=timezone.now())
    _burst(scheduler, range(WARM), lines)
    taken = _burst(scheduler, range(WARM, WARM + count), lines)
    with queue() as broker:
        require(int(broker.llen("sessions")), min(WARM + count, settings.ROTA_MAX_SESSIONS), "messages")
    require(Run.objects.filter(status=Run.Status.QUEUED).count(), WARM + count, "runs")
    require(Session.objects.filter(status=Session.Status.QUEUED).count(), WARM + count, "sessions")
    return taken


def _burst(scheduler: Scheduler, numbers: range, lines: int) -> Figures:
    due_at = timezone.now() - timedelta(seconds=1)
    schedules = (enabled(number, due_at=due_at, lines=lines) for number in numbers)
    Schedule.objects.bulk_create(schedules, batch_size=1000)
    with stopwatch() as taken:
        while scheduler.look(timezone.now()) == 0:
            pass
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
