"""What beat costs while nothing is due, with few schedules and with many."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from django.db import connection
from django.utils import timezone

from bench.rows import clear, process_of
from config.celery import app
from schedules.beat import Scheduler
from schedules.models import Schedule, WorkerHeartbeat

SIZES = (10, 1_000, 100_000)
_TICKS = 300
_BATCH = 5_000


def measure(*, quick: bool) -> dict[str, dict[str, float]]:
    """Number of schedules → the cost of a tick in this process, and of the beat that runs beside it."""
    beat = process_of(WorkerHeartbeat.Kind.BEAT)
    clear()
    scheduler = Scheduler(app=app, lazy=True)
    found = {}
    for size in SIZES[:2] if quick else SIZES:
        fill(size)
        found[str(size)] = _ticks(scheduler) | of_beat(beat, seconds=2 if quick else 6)
    scheduler.close()
    return found


def _ticks(scheduler: Scheduler) -> dict[str, float]:
    """Ticks, one after the other: each does what it does once a second."""
    queries: Counter[str] = Counter()

    def count(execute: Callable[..., Any], sql: str, *given: Any) -> Any:
        queries["django-celery-beat" if "django_celery_beat_" in sql else "rota"] += 1
        return execute(sql, *given)

    for _ in range(20):  # the first ones read django-celery-beat's own entries, and send what is due of them
        scheduler.tick()
    with connection.execute_wrapper(count):
        began, began_cpu = time.perf_counter(), time.process_time()
        for _ in range(_TICKS):
            scheduler.tick()
        cpu, wall = time.process_time() - began_cpu, time.perf_counter() - began
    return {
        "queries_of_rota_a_tick": round(queries["rota"] / _TICKS, 2),
        "queries_of_django_celery_beat_a_tick": round(queries["django-celery-beat"] / _TICKS, 2),
        "cpu_ms_a_tick": round(cpu / _TICKS * 1000, 2),
        "wall_ms_a_tick": round(wall / _TICKS * 1000, 2),
    }


def of_beat(beat: psutil.Process, *, seconds: float) -> dict[str, float]:
    """The real one, with its sleeps: share of one core, and memory."""
    began, began_cpu = time.monotonic(), _cpu_seconds(beat.pid)
    time.sleep(seconds)
    share = (_cpu_seconds(beat.pid) - began_cpu) / (time.monotonic() - began)
    memory = beat.memory_full_info()
    return {
        "beat_cpu_percent": round(share * 100, 2),
        "beat_rss_mb": round(memory.rss / 2**20, 1),
        "beat_pss_mb": round(memory.pss / 2**20, 1),
    }


def _cpu_seconds(pid: int) -> float:
    """Time on a processor, to the nanosecond; of the main thread, and beat has no other."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def fill(size: int) -> None:
    """As many active schedules as that, the next of them due in an hour."""
    now = timezone.now()
    begin = Schedule.objects.count()
    for start in range(begin, size, _BATCH):
        Schedule.objects.bulk_create(_schedule(number, now) for number in range(start, min(start + _BATCH, size)))


def _schedule(number: int, now: datetime) -> Schedule:
    due_at = now + timedelta(hours=1, seconds=number % 86_400)
    return Schedule(
        name=f"bench-idle-{number}",
        runner="claude",
        prompt="Look at {{ repository }}.",
        model="haiku",
        cron=f"{number % 60} {number // 60 % 24} * * *",
        next_run_at=due_at,
        due_at=due_at,
    )
