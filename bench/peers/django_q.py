"""django-q2: N schedules of one cron line, its ORM broker (durable), one call of its scheduler.

Done when each task is in its queue and each schedule is moved on.
"""

from __future__ import annotations

from datetime import timedelta

from django.core.management import call_command
from django.utils import timezone

from bench.peers.stopwatch import Figures, require, stopwatch


def measure(count: int) -> Figures:
    from django_q.models import OrmQ, Schedule
    from django_q.scheduler import scheduler

    call_command("migrate", "django_q", verbosity=0)
    due_at = timezone.now() - timedelta(seconds=1)
    Schedule.objects.bulk_create(
        Schedule(
            name=f"burst-{number}",
            func="math.sqrt",
            args="4",
            schedule_type=Schedule.CRON,
            cron="0 * * * *",
            next_run=due_at,
        )
        for number in range(count)
    )
    with stopwatch() as taken:
        scheduler()
    require(OrmQ.objects.count(), count, "queued tasks")
    return taken.figures
