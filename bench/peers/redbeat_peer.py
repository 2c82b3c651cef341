"""celery-redbeat: N entries of one crontab line in the broker, `RedBeatScheduler.tick`. It keeps no record of a run.

Done when each message is in the broker.
"""

from __future__ import annotations

from datetime import timedelta

from celery.schedules import crontab
from django.conf import settings
from redbeat import RedBeatSchedulerEntry
from redbeat.schedulers import RedBeatScheduler

from bench.peers.stopwatch import Figures, queue, stopwatch
from config.celery import app


def measure(count: int) -> Figures:
    app.conf.beat_schedule = {}
    app.conf.redbeat_redis_url = f"unix://{settings.ROTA_VALKEY_SOCKET}"
    app.conf.redbeat_lock_key = None
    an_hour_ago = app.now() - timedelta(hours=1)
    for number in range(count):
        entry = RedBeatSchedulerEntry(
            f"burst-{number}",
            "bench.noop",
            crontab(),
            options={"queue": "bench"},
            last_run_at=an_hour_ago,
            app=app,
        )
        entry.save()
    scheduler = RedBeatScheduler(app=app, lazy=True)
    with queue() as broker, stopwatch() as taken:
        while int(broker.llen("bench")) < count:
            scheduler.tick()
    return taken.figures
