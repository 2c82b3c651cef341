"""One size of bench/idle.py, in a process of its own: `python -m bench.idle_side COUNT EDITS SECONDS`.

The real `celery beat` runs beside so many active schedules, of which none is due but those that are edited.
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import timedelta
from typing import Any

import django

from bench.stack import celery

_LONGEST = 60.0  # seconds until beat is there, or an edit is effective


def main(count: str, edits: str, seconds: str) -> None:
    django.setup()
    from bench.idle_beat import fill, of_beat

    fill(int(count))
    began = time.monotonic()
    with celery("--app", "config", "--quiet", "beat") as beat:
        _await_first_tick()
        figures: dict[str, Any] = {"first_tick_s": round(time.monotonic() - began, 2)}
        time.sleep(2)  # it reads django-celery-beat's tables, and sends what is due of them
        figures["start_cpu_s"] = round(sum(beat.cpu_times()[:2]), 2)
        figures["beat_cpu_at_first_percent"] = of_beat(beat, seconds=float(seconds))["beat_cpu_percent"]
        figures |= of_beat(beat, seconds=float(seconds))
        figures["edit_effective_ms"] = _edits(int(edits))
    figures["stall_ms"] = _stalls(int(edits))
    json.dump(figures, sys.stdout)


def _await_first_tick() -> None:
    from schedules.models import WorkerHeartbeat

    _until(lambda: WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.BEAT).exists(), every=0.005)


def _edits(count: int) -> dict[str, float]:
    """From when a person wants a schedule to run, in a moment, until beat has recorded that, less that moment."""
    from django.utils import timezone

    from bench.figures import spread
    from schedules.editing import save_edited
    from schedules.models import Run, Schedule

    late = []
    for schedule in Schedule.objects.order_by("?")[:count]:
        time.sleep(random.uniform(0.0, 1.0))  # not in step with beat
        now = timezone.now()
        schedule.cron, schedule.at = "", now + timedelta(milliseconds=50)
        save_edited(schedule, {"cron", "at"}, by="bench", now=now)
        runs = Run.objects.filter(schedule=schedule)
        _until(runs.exists, every=0.01)
        late.append((runs.get().queued_at - schedule.at).total_seconds() * 1000)
    return spread(late)


def _stalls(count: int) -> dict[str, float]:
    """How long a tick of beat takes just after an edit, in this process."""
    from django.utils import timezone

    from bench.figures import spread
    from config.celery import app
    from schedules.beat import Scheduler
    from schedules.editing import save_edited
    from schedules.models import Schedule

    scheduler = Scheduler(app=app, lazy=True)
    for _ in range(20):
        scheduler.tick()
    taken = []
    for schedule in Schedule.objects.filter(at=None).order_by("?")[: max(count, 2)]:
        schedule.cron = "59 23 31 12 *"
        save_edited(schedule, {"cron"}, by="bench", now=timezone.now())
        began = time.perf_counter()
        scheduler.tick()
        taken.append((time.perf_counter() - began) * 1000)
    scheduler.close()
    return spread(taken)


def _until(condition: object, *, every: float) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _LONGEST
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(every)


if __name__ == "__main__":
    main(*sys.argv[1:])
