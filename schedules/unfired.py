"""What can't be fired: a schedule whose times can't be read or trusted is broken, a time that is too late is missed.

An alarm tells of either.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from schedules.models import Incident, Run, Schedule
from schedules.models.incident import Cause
from schedules.occasions import Missed
from schedules.rendering import durations

BROKEN_FIELDS = ("status", "status_reason", "status_by", "status_at", "overdue_at")
"""What `mark_broken` sets, beside the fields of its plan."""


def mark_broken(schedule: Schedule, problem: str, *, accounted_at: datetime, now: datetime) -> None:
    """It is off the rota; its due times up to `accounted_at` are on record. Does not save."""
    schedule.status, schedule.status_reason = Schedule.Status.BROKEN, problem[:500]
    schedule.status_by, schedule.status_at, schedule.overdue_at = "rota", now, None
    schedule.next_run_at = schedule.due_at = None
    schedule.accounted_at = accounted_at


def break_unread(pk: int, problem: str, *, now: datetime) -> bool:
    """Its row can't even be read: it is broken without that. What is in the row stays for whoever mends it.

    False: it is not due any more.
    """
    with transaction.atomic():
        broken = Schedule.objects.due(now).filter(pk=pk)
        if not broken.update(
            status=Schedule.Status.BROKEN,
            status_reason=problem[:500],
            status_by="rota",
            status_at=now,
            overdue_at=None,
            next_run_at=None,
            due_at=None,
            accounted_at=now,
        ):
            return False
        named = Schedule.objects.only("name").get(pk=pk)
        Incident.objects.alarm_all([cause_of_breakage(named, problem)], now=now)
    return True


def cause_of_breakage(schedule: Schedule, problem: str) -> Cause:
    return Cause(Incident.Kind.SCHEDULE_BROKEN, schedule.name, f"{schedule} does not run. {problem}", schedule)


def cause_of_missed(schedule: Schedule, count: int) -> Cause:
    times = "A due time" if count == 1 else f"{count} due times"
    window = durations.write(schedule.catch_up)
    message = f"{times} of {schedule} came later than its catch-up window of {window} allows."
    return Cause(Incident.Kind.MISSED, schedule.name, message, schedule, count)


def cause_of_jump(schedule: Schedule, missed: Missed) -> Cause:
    message = (
        f"More than {missed.count} due times of one schedule at once, last of {schedule}: the clock can't be right. "
        "Set it right, and resume the broken schedules."
    )
    return Cause(Incident.Kind.CLOCK_JUMPED, "", message)


def recover_missed(*, now: datetime) -> int:
    """Alarms of missed due times end with the next run that starts. Returns how many did."""
    started = Run.objects.filter(schedule=OuterRef("schedule"), started_at__gt=OuterRef("last_at"))
    missed = Incident.objects.open().filter(kind=Incident.Kind.MISSED)
    if not missed.exists():
        return 0
    return missed.filter(Exists(started)).update(recovered_at=now)
