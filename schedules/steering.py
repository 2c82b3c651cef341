"""What people do to schedules and runs: pause, resume, disable, cancel. Each by whom, why and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from schedules.models import Reason, Run, Schedule, Session
from schedules.settling import settle_run


def pause(schedules: Iterable[Schedule], *, by: str, reason: str, now: datetime) -> int:
    """Take active schedules off the rota. What they fired and no worker claimed yet is not run. Returns how many."""
    return sum(_take_off(schedule, Schedule.Status.PAUSED, by=by, reason=reason, now=now) for schedule in schedules)


def disable(schedules: Iterable[Schedule], *, by: str, reason: str, now: datetime) -> int:
    """Like pause, and they can't be run by hand either: nor is what somebody ran and no worker claimed yet."""
    return sum(_take_off(schedule, Schedule.Status.DISABLED, by=by, reason=reason, now=now) for schedule in schedules)


def _take_off(schedule: Schedule, status: Schedule.Status, *, by: str, reason: str, now: datetime) -> bool:
    weaker = (
        [Schedule.Status.ACTIVE, Schedule.Status.PAUSED]
        if status == Schedule.Status.DISABLED
        else [Schedule.Status.ACTIVE]
    )
    with transaction.atomic():
        changed = Schedule.objects.filter(pk=schedule.pk, status__in=weaker).update(
            status=status, status_reason=reason[:500], status_by=by, status_at=now, next_run_at=None, due_at=None
        )
        if not changed:
            return False
        queued = Session.objects.filter(schedule=schedule, status=Session.Status.QUEUED)
        why = Reason.DISABLED
        if status == Schedule.Status.PAUSED:
            queued, why = queued.filter(run__trigger=Run.Trigger.SCHEDULE), Reason.PAUSED
        for session in list(queued):
            _cancel_queued(
                session,
                reason=why,
                message=f"The schedule was {status} by {by or 'Rota'}.",
                now=now,
            )
    return True


def resume(schedules: Iterable[Schedule], *, by: str, now: datetime) -> int:
    """Back on the rota from `now` on; the past is not run. Returns how many were not active.

    Raises TimetableError for one whose time can't be read, and leaves that one and those after it as they are.
    """
    resumed = 0
    for schedule in schedules:
        with transaction.atomic():
            current = Schedule.objects.select_for_update().get(pk=schedule.pk)
            if current.status == Schedule.Status.ACTIVE:
                continue
            current.status, current.status_reason, current.status_by, current.status_at = (
                Schedule.Status.ACTIVE,
                "",
                by,
                now,
            )
            current.plan(now)
            current.save(
                update_fields=[
                    "status",
                    "status_reason",
                    "status_by",
                    "status_at",
                    *Schedule.PLAN_FIELDS,
                ]
            )
            resumed += 1
    return resumed


def cancel_run(run_id: int, *, by: str, now: datetime) -> bool:
    """Ask for the end of a run: what is queued ends at once, what runs a little later. False: it is over."""
    with transaction.atomic():
        Schedule.objects.filter(runs=run_id).hold()
        if not Run.objects.open().filter(pk=run_id).update(cancel_requested_at=now):
            return False
        for session in Session.objects.open().filter(run=run_id):
            cancel_session(session.pk, by=by, now=now)
        settle_run(run_id, now=now)
    return True


def cancel_session(session_id: int, *, by: str, now: datetime) -> bool:
    """Ask for the end of one session. False: it is over."""
    with transaction.atomic():
        Schedule.objects.filter(sessions=session_id).hold()
        asked = Session.objects.open().filter(pk=session_id)
        if not asked.update(cancel_requested_at=now, cancel_requested_by=by):
            return False
        session = Session.objects.get(pk=session_id)
        _cancel_queued(session, reason=Reason.CANCELLED, message=f"Cancelled by {by or 'Rota'}.", now=now)
    return True


def _cancel_queued(session: Session, *, reason: Reason, message: str, now: datetime) -> None:
    """queued → cancelled, unless a worker was faster."""
    queued = Session.objects.filter(pk=session.pk, status=Session.Status.QUEUED)
    ended = queued.update(
        status=Session.Status.CANCELLED,
        reason=reason,
        message=message,
        finished_at=now,
        cancel_requested_at=now,
    )
    if ended:
        settle_run(session.run_id, now=now)
