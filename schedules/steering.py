"""What people do to schedules and runs: pause, resume, disable, cancel. Each by whom, why and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from schedules.accounting import record_passed, settled_until
from schedules.ending import end_queued, settle, take_off
from schedules.models import Incident, Reason, Run, Schedule, Session


def pause(schedules: Iterable[Schedule], *, by: str, reason: str, now: datetime) -> int:
    """Take active or broken schedules off the rota. What they fired and nobody claimed is not run. Returns how many."""
    return sum(take_off(schedule, Schedule.Status.PAUSED, by=by, reason=reason, now=now) for schedule in schedules)


def disable(schedules: Iterable[Schedule], *, by: str, reason: str, now: datetime) -> int:
    """Like pause, and they can't be run by hand either: nor is what somebody ran and no worker claimed yet."""
    return sum(take_off(schedule, Schedule.Status.DISABLED, by=by, reason=reason, now=now) for schedule in schedules)


def resume(schedules: Iterable[Schedule], *, by: str, now: datetime) -> int:
    """Back on the rota from `now` on: what passed meanwhile is recorded and not run. Returns how many were not active.

    Raises TimetableError for one whose time can't be read, and leaves that one and those after it as they are.
    """
    resumed = 0
    for schedule in schedules:
        with transaction.atomic():
            current = Schedule.objects.select_for_update().get(pk=schedule.pk)
            if current.status == Schedule.Status.ACTIVE:
                continue
            record_passed(current, now=now)
            bring_back(current, by=by, now=now)
            current.save(update_fields=BROUGHT_BACK)
            resumed += 1
    return resumed


BROUGHT_BACK = ("status", "status_reason", "status_by", "status_at", *Schedule.PLAN_FIELDS)


def bring_back(schedule: Schedule, *, by: str, now: datetime) -> None:
    """Active again; BROUGHT_BACK names the fields, which the caller saves. Its alarms end. Raises TimetableError."""
    schedule.status, schedule.status_reason = Schedule.Status.ACTIVE, ""
    schedule.status_by, schedule.status_at = by, now
    schedule.plan(settled_until(schedule, now))
    alarms = Incident.objects.open()
    mended = (Incident.Kind.SCHEDULE_BROKEN, Incident.Kind.PAUSED_BY_ROTA)
    alarms.filter(kind__in=mended, schedule=schedule).update(recovered_at=now)
    if not _others_distrust_the_clock(schedule):
        alarms.recover(Incident.Kind.CLOCK_JUMPED, now=now)


def _others_distrust_the_clock(schedule: Schedule) -> bool:
    """Whether there are others that broke, and not for what is in their own row."""
    unreadable = Incident.objects.open().filter(kind=Incident.Kind.SCHEDULE_BROKEN, schedule=OuterRef("pk"))
    broken = Schedule.objects.filter(status=Schedule.Status.BROKEN).exclude(pk=schedule.pk)
    return broken.exclude(Exists(unreadable)).exists()


def cancel_run(run_id: int, *, by: str, now: datetime) -> bool:
    """Ask for the end of a run: what is queued ends at once, what runs a little later. False: it is over."""
    with transaction.atomic():
        Schedule.objects.filter(runs=run_id).hold()
        if not Run.objects.open().filter(pk=run_id).update(cancel_requested_at=now):
            return False
        for session in Session.objects.open().filter(run=run_id):
            cancel_session(session.pk, by=by, now=now)
        settle(run_id, now=now)
    return True


def cancel_session(session_id: int, *, by: str, now: datetime) -> bool:
    """Ask for the end of one session. False: it is over."""
    with transaction.atomic():
        Schedule.objects.filter(sessions=session_id).hold()
        asked = Session.objects.open().filter(pk=session_id)
        if not asked.update(cancel_requested_at=now, cancel_requested_by=by):
            return False
        session = Session.objects.get(pk=session_id)
        end_queued(session, reason=Reason.CANCELLED, message=f"Cancelled by {by or 'Rota'}.", now=now)
    return True
