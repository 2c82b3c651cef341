"""APScheduler 3: N cron jobs in its SQLAlchemy store, all due, a pool of ten threads that push to the broker.

Done when each push has arrived. It keeps no record of a run.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import redis
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from django.conf import settings

from bench.peers.stopwatch import Figures, queue, stopwatch


@lru_cache
def _broker() -> redis.Redis:
    return queue()


def push() -> None:
    _broker().lpush("bench", "{}")


def measure(count: int) -> Figures:
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=_url())},
        executors={"default": ThreadPoolExecutor(10)},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        timezone=UTC,
    )
    scheduler.start(paused=True)
    for number in range(count):
        due_at = datetime.now(UTC) - timedelta(seconds=1)
        scheduler.add_job("bench.peers.apscheduler_peer:push", "cron", id=str(number), next_run_time=due_at)
    with queue() as broker, stopwatch() as taken:
        scheduler.resume()
        while int(broker.llen("bench")) < count:
            time.sleep(0.005)
    scheduler.shutdown()
    return taken.figures


def _url() -> str:
    url = os.environ.get("DATABASE_URL", "")
    if url:
        return url.replace("postgresql://", "postgresql+psycopg://")
    return f"sqlite:///{Path(settings.ROTA_VAR) / 'apscheduler.sqlite3'}"
