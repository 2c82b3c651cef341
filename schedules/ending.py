"""How a session's row ends, and what follows from that: its money and its quota, the next attempt, its run, a pause.

    end a session ► spending and quota ► next attempt by policy ► settle its run ► pause a schedule that keeps failing

Whoever ends a session comes here. What belongs to the end is one transaction with it; a success that cost nothing and
asked nobody is one statement.
"""

from __future__ import annotations

import logging
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db import transaction

from schedules import quota, spending
from schedules.accounting import record_take_off
from schedules.models import Incident, Reason, Run, Schedule, Session
from schedules.models.session import SessionQuerySet
from schedules.retrying import may_retry, queue_retry
from schedules.settling import settle_run

logger = logging.getLogger(__name__)

_SUCCEEDED = (Run.Status.SUCCEEDED, Run.Status.PARTIAL)


def end(
    session: Session,
    *,
    status: str,
    reason: str,
    now: datetime,
    among: SessionQuerySet | None = None,
    resets_at: datetime | None = None,
    **fields: Any,
) -> bool:
    """Open → a final status, with what follows. True for the one caller that did it; `settle` its run then.

    `among`: only while the row is one of these. `resets_at`: when the quota that it ran into is given anew.
    `session.run` should be loaded.
    """
    rows = Session.objects.all() if among is None else among
    if reason == Reason.CANCELLED:
        fields["message"] = _with_whom(session.pk, fields.get("message", ""))
    retries = may_retry(session, status=status, reason=reason)
    cost = fields.get("cost_usd", session.cost_usd)
    if not (retries or cost or session.credential):
        return rows.finish(session.pk, status=status, reason=reason, now=now, **fields)
    with transaction.atomic():
        if retries:
            Schedule.objects.filter(pk=session.schedule_id).hold()
        if not rows.finish(session.pk, status=status, reason=reason, now=now, **fields):
            return False
        spending.settle(session, cost, now=now)
        answered = status == Session.Status.SUCCEEDED or bool(fields.get("turns"))
        quota.report(session.credential, reason=reason, answered=answered, resets_at=resets_at, now=now)
        retry = queue_retry(session, reason=reason, resets_at=resets_at, now=now) if retries else None
    if retry:
        logger.info(
            "Session %d is tried anew: attempt %d is session %d, not before %s",
            session.pk,
            retry.attempt,
            retry.pk,
            retry.not_before,
            extra={"action": "retried"},
        )
    return True


def _with_whom(session_id: int, message: str) -> str:
    """Who asked for the end of it: a person, or the overlap policy."""
    by = Session.objects.filter(pk=session_id).values_list("cancel_requested_by", flat=True).first()
    return f"{message} Asked for by {by}.".strip() if by else message


def end_queued(session: Session, *, reason: Reason, message: str, now: datetime) -> bool:
    """queued → cancelled and settled, unless a worker was faster. There is no next attempt: somebody wanted the end."""
    queued = Session.objects.filter(status=Session.Status.QUEUED)
    ended = queued.finish(
        session.pk,
        status=Session.Status.CANCELLED,
        reason=reason,
        now=now,
        message=message,
        cancel_requested_at=now,
    )
    if ended:
        settle(session.run_id, now=now)
    return ended


def settle(run_id: int, *, now: datetime) -> bool:
    """Settle a run whose sessions ended. One that failed may have been the last that its schedule is allowed."""
    status = settle_run(run_id, now=now)
    if status == Run.Status.FAILED:
        _pause_if_failing(run_id, now)
    return status is not None


def take_off(schedule: Schedule, status: Schedule.Status, *, by: str, reason: str, now: datetime) -> bool:
    """Pause or disable, end what waits, and record what was due. False: it was so already, or more than that."""
    weaker = [Schedule.Status.ACTIVE, Schedule.Status.BROKEN]
    if status == Schedule.Status.DISABLED:
        weaker.append(Schedule.Status.PAUSED)
    with transaction.atomic():
        current = Schedule.objects.select_for_update().filter(pk=schedule.pk, status__in=weaker).first()
        if current is None:
            return False
        Schedule.objects.filter(pk=schedule.pk).update(
            status=status,
            status_reason=reason[:500],
            status_by=by,
            status_at=now,
            accounted_at=record_take_off(current, status, by=by, now=now),
            next_run_at=None,
            due_at=None,
            overdue_at=None,
        )
        queued = Session.objects.filter(schedule=schedule, status=Session.Status.QUEUED)
        why = Reason.DISABLED
        if status == Schedule.Status.PAUSED:
            queued, why = queued.filter(run__trigger=Run.Trigger.SCHEDULE), Reason.PAUSED
        for session in list(queued):
            end_queued(session, reason=why, message=f"The schedule was {status} by {by or 'Rota'}.", now=now)
    return True


def _pause_if_failing(run_id: int, now: datetime) -> None:
    run = Run.objects.select_related("schedule").defer("snapshot").get(pk=run_id)
    schedule = run.schedule
    counts = run.trigger == Run.Trigger.SCHEDULE and not run.is_rehearsal
    if not counts or not schedule.pause_after or schedule.status != Schedule.Status.ACTIVE:
        return
    failed = failures_in_a_row(schedule, most=schedule.pause_after)
    if failed < schedule.pause_after:
        return
    times = "A due time" if failed == 1 else f"{failed} due times in a row"
    why = f"{times} failed: {run.get_reason_display()}. {run.message}".strip()
    with transaction.atomic():  # with its alarm, or not at all
        if not take_off(schedule, Schedule.Status.PAUSED, by="rota", reason=why, now=now):
            return
        Incident.objects.alarm(
            Incident.Kind.PAUSED_BY_ROTA,
            schedule.name,
            message=f"{schedule} is paused. {why}",
            schedule=schedule,
            now=now,
        )
    logger.warning("%s is paused: %s", schedule, why, extra={"action": "paused_by_rota"})


def failures_in_a_row(schedule: Schedule, *, most: int) -> int:
    """Its last due times that failed, counted up to `most`, since its status was last set.

    A due time with any success is none; what was not run, was cancelled or is still open does not count either way.
    """
    judged = Run.objects.filter(
        schedule=schedule,
        trigger=Run.Trigger.SCHEDULE,
        is_rehearsal=False,
        status__in=(*Run.OPEN, *_SUCCEEDED, Run.Status.FAILED),
    )
    if schedule.status_at:
        judged = judged.filter(scheduled_for__gt=schedule.status_at)
    rows = judged.order_by("-id").values_list("scheduled_for", "status").iterator(chunk_size=200)
    failed = 0
    for _, runs in groupby(rows, key=lambda row: row[0]):
        statuses = {status for _, status in runs}
        if statuses & set(_SUCCEEDED):
            break
        failed += not statuses & set(Run.OPEN)
        if failed == most:
            break
    return failed
