"""Rota, again and again: a thousand schedules are due in each second of its clock, and five times as many are enabled.

Beat looks once for each of these seconds; done when all are recorded, moved on and handed to the broker.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from bench.peers.rota import enabled, may_all_start
from bench.peers.stopwatch import Figures, require, stopwatch
from config.celery import app
from schedules.beat import Scheduler
from schedules.models import Run, Schedule

_ENABLED, _EACH_SECOND = 5, 1_000  # times as many as are due in all


def measure(count: int) -> Figures:
    """`count` fires in all."""
    began_at = timezone.now() + timedelta(hours=1)
    Schedule.objects.bulk_create(
        (
            enabled(number, due_at=began_at + timedelta(seconds=number // _EACH_SECOND))
            for number in range(_ENABLED * count)
        ),
        batch_size=1000,
    )
    may_all_start(settings.ROTA_MAX_SESSIONS, now=began_at)
    scheduler = Scheduler(app=app, lazy=True)
    with stopwatch() as taken:
        for second in range(count // _EACH_SECOND):
            scheduler.look(began_at + timedelta(seconds=second))
    require(Run.objects.filter(status=Run.Status.QUEUED).count(), count, "runs")
    return taken.figures
