"""A clock that was turned back: schedules wait for the times that come again, and nothing is fired twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from schedules.models import Run, Schedule, WorkerHeartbeat
from schedules.models.write_back import write_back
from schedules.timetable import TimetableError

_AT_ONCE = 500
_PLANNED_FROM = (*sorted(Schedule.TIMING_FIELDS), "name", "status", "fired_count", "next_run_at", "due_at")


def replan_ahead(*, now: datetime) -> int:
    """The clock was turned back: schedules that wait for a time beyond their next one wait for that again.

    Returns how many. What they fired already is on record and is not fired twice.
    """
    # Rows of the time that never was: who lives renews its own within seconds.
    WorkerHeartbeat.objects.filter(last_seen_at__gt=now).update(last_seen_at=now)
    active = list(Schedule.objects.filter(status=Schedule.Status.ACTIVE).order_by("pk").values_list("pk", flat=True))
    at_once = range(0, len(active), _AT_ONCE)
    return sum(_replanned(active[begin : begin + _AT_ONCE], now) for begin in at_once)


def _replanned(pks: Sequence[int], now: datetime) -> int:
    moved = {}
    for schedule in Schedule.objects.filter(pk__in=pks).only(*_PLANNED_FROM):
        basis = _basis(schedule)
        waits_for = schedule.next_run_at
        try:
            schedule.plan(now)
        except TimetableError:
            continue  # it breaks when it is due
        if schedule.next_run_at and (waits_for is None or schedule.next_run_at < waits_for):
            moved[schedule.pk] = basis, schedule
    if not moved:
        return 0
    with transaction.atomic():
        held = Schedule.objects.filter(pk__in=moved).only(*_PLANNED_FROM).order_by("pk").select_for_update(of=("self",))
        same = [moved[row.pk][1] for row in held if moved[row.pk][0] == _basis(row)]
        write_back(same, Schedule.PLAN_FIELDS)
        # Missed by the clock that was wrong: they are still to come.
        ahead = Run.objects.filter(status=Run.Status.MISSED, trigger=Run.Trigger.SCHEDULE, scheduled_for__gt=now)
        ahead.filter(schedule__in=same).delete()
    return len(same)


def _basis(schedule: Schedule) -> list[object]:
    return [getattr(schedule, name) for name in _PLANNED_FROM]
