"""Stock django-celery-beat: N PeriodicTasks of one crontab line, last run an hour ago, `DatabaseScheduler.tick`.

One line for all, for more than 1000 distinct ones fail to load on SQLite. Done when each message is in the broker and
what it keeps of each task is written back (`sync`).
"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from bench.peers.stopwatch import Figures, queue, stopwatch
from config.celery import app


def measure(count: int) -> Figures:
    app.conf.beat_schedule = {}
    every_minute = CrontabSchedule.objects.create(minute="*", hour="*")
    an_hour_ago = timezone.now() - timedelta(hours=1)
    PeriodicTask.objects.all().delete()
    PeriodicTask.objects.bulk_create(
        PeriodicTask(
            name=f"burst-{number}", task="bench.noop", crontab=every_minute, last_run_at=an_hour_ago, queue="bench"
        )
        for number in range(count)
    )
    PeriodicTask.objects.earliest("pk").save()  # type: ignore[no-untyped-call]  # tells that they changed
    scheduler = DatabaseScheduler(app=app, lazy=True)  # type: ignore[no-untyped-call]
    with queue() as broker, stopwatch() as taken:
        while int(broker.llen("bench")) < count:
            scheduler.tick()
        scheduler.sync()  # type: ignore[no-untyped-call]
    return taken.figures
