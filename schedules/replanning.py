"""A clock that was turned back: schedules wait for the times that come again, and nothing is fired twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from schedules.accounting import forget_what_is_to_come
from schedules.models import Hold, Incident, Schedule, Session, WorkerHeartbeat
from schedules.models.write_back import write_back
from schedules.quota import LONGEST_QUOTA
from schedules.timetable import TimetableError

_AT_ONCE = 500
_PLANNED_FROM = (*sorted(Schedule.TIMING_FIELDS), "name", "status", "fired_count", "next_run_at", "due_at")
_ANSWERS_BY = ("overdue_at", "timeout", "catch_up")


def replan_ahead(*, now: datetime) -> int:
    """The clock was turned back: schedules that wait for a time beyond their next one wait for that again.

    Returns how many. What they fired already is on record and is not fired twice.
    """
    _leave_the_future(now)
    forget_what_is_to_come(now=now)
    active = list(Schedule.objects.filter(status=Schedule.Status.ACTIVE).order_by("pk").values_list("pk", flat=True))
    at_once = range(0, len(active), _AT_ONCE)
    return sum(_replanned(active[begin : begin + _AT_ONCE], now) for begin in at_once)


def _leave_the_future(now: datetime) -> None:
    """Rows of the time that never was would count for nothing, or wait, until it comes."""
    WorkerHeartbeat.objects.filter(last_seen_at__gt=now).update(last_seen_at=now)  # who lives renews its own at once
    Schedule.objects.filter(status_at__gt=now).update(status_at=now)  # failures in a row count from then on
    Schedule.objects.filter(accounted_at__gt=now).update(accounted_at=now)
    alarms = Incident.objects.open()
    alarms.filter(first_at__gt=now).update(first_at=now)
    alarms.filter(last_at__gt=now).update(last_at=now)
    queued = Session.objects.filter(status=Session.Status.QUEUED)
    queued.filter(admitted_at__gt=now).update(admitted_at=now)
    furthest = now + LONGEST_QUOTA + timedelta(minutes=1)  # nothing is told to wait for longer
    queued.filter(not_before__gt=furthest).update(not_before=now)
    Hold.objects.filter(until__gt=furthest).update(until=now)


def _replanned(pks: Sequence[int], now: datetime) -> int:
    moved = {}
    for schedule in Schedule.objects.filter(pk__in=pks).only(*_PLANNED_FROM, *_ANSWERS_BY):
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
        for schedule in same:
            answers_by = schedule.answers_by()
            if schedule.overdue_at and answers_by and schedule.overdue_at > answers_by:
                Schedule.objects.filter(pk=schedule.pk, overdue_at__gt=answers_by).update(overdue_at=answers_by)
    return len(same)


def _basis(schedule: Schedule) -> list[object]:
    return [getattr(schedule, name) for name in _PLANNED_FROM]
