"""One side of bench/throughput.py, in a process of its own: `python -m bench.session_rate SIDE COUNT AT_ONCE`.

So many programs that do nothing wait; then a worker with a pool of threads starts, and works until none is left. What
is timed begins when a tenth of them is over.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import django
import psutil

from bench.stack import celery

NOOP = ["true"]
_LONGEST = 600.0  # seconds
_LOOK_EVERY = 0.1  # seconds
_WARM = 10  # a tenth

Ends = Callable[[], list[datetime]]
"""When each of those that are over ended."""


def main(side: str, count: str, at_once: str) -> None:
    django.setup()
    json.dump({"rota": _rota, "plain": _plain}[side](int(count), int(at_once)), sys.stdout)


def _rota(count: int, at_once: int) -> dict[str, float]:
    """Rota's own worker, and the sessions of as many schedules; the outcome of each, and what came of its run."""
    from django.utils import timezone

    from schedules.firing import fire_due
    from schedules.models import Run, Schedule, Session

    due_at = timezone.now() - timedelta(seconds=1)
    Schedule.objects.bulk_create(
        Schedule(name=f"rate-{n}", runner="script", argv=NOOP, cron="0 0 1 1 *", next_run_at=due_at, due_at=due_at)
        for n in range(count)
    )
    while fire_due(now=timezone.now()).more:
        pass
    succeeded = Session.objects.filter(status=Session.Status.SUCCEEDED, finished_at__isnull=False)
    with _worker("config", "sessions", at_once) as worker:
        figures = _figures(worker, count, lambda: [at for at in succeeded.values_list("finished_at", flat=True) if at])
    settled = Run.objects.filter(status=Run.Status.SUCCEEDED).count()
    if settled != count:
        raise RuntimeError(f"{settled} runs of {count} are settled")
    return figures


def _plain(count: int, at_once: int) -> dict[str, float]:
    """A Celery task, its result stored."""
    from django_celery_results.models import TaskResult

    from bench.plain_task import QUEUE, run

    for _ in range(count):
        run.delay(NOOP)
    succeeded = TaskResult.objects.filter(status="SUCCESS")
    with _worker("bench.plain_task", QUEUE, at_once) as worker:
        return _figures(worker, count, lambda: list(succeeded.values_list("date_done", flat=True)))


def _figures(worker: psutil.Process, count: int, ends: Ends) -> dict[str, float]:
    """Until all are over: how many a second, and the time on a processor that each took with all its processes."""
    _await(ends, count // _WARM)
    warm, cpu = len(ends()), _cpu(worker)
    _await(ends, count)
    own, of_programs = (after - before for after, before in zip(_cpu(worker), cpu, strict=True))
    at = sorted(ends())
    return {
        "each_second": round((count - warm) / (at[-1] - at[warm - 1]).total_seconds(), 1),
        "cpu_ms_of_the_worker": round(own / (count - warm) * 1000, 2),
        "cpu_ms_of_its_processes": round(of_programs / (count - warm) * 1000, 2),
    }


def _await(ends: Ends, count: int) -> None:
    deadline = time.monotonic() + _LONGEST
    while len(ends()) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(ends())} of {count} are over after {_LONGEST:.0f} s")
        time.sleep(_LOOK_EVERY)


def _cpu(worker: psutil.Process) -> tuple[float, float]:
    """Seconds: of the worker itself, and of all that it started, what is over and what forks the others."""
    times, started = worker.cpu_times(), [child.cpu_times() for child in worker.children()]
    of_started = sum(each.user + each.system + each.children_user + each.children_system for each in started)
    return times.user + times.system, times.children_user + times.children_system + of_started


def _worker(app: str, queue: str, at_once: int) -> AbstractContextManager[psutil.Process]:
    return celery(
        *("--app", app, "worker", "--without-mingle", "--without-gossip"),
        *("--pool", "threads", "--concurrency", str(at_once), "--queues", queue),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
