"""When the last session of a run ends, the run's outcome follows from theirs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, Sum

from schedules.models import Reason, Run, Schedule, Session

_SUCCEEDED = Session.Status.SUCCEEDED
_CANCELLED = Session.Status.CANCELLED


def settle_run(run_id: int, *, now: datetime) -> bool:
    """Give the run its final status if all its sessions ended. True for the one caller that did it."""
    sessions = Session.objects.filter(run=run_id)
    totals = sessions.aggregate(
        open=Count("pk", filter=Q(status__in=Session.OPEN)),
        ended=Count("pk"),
        succeeded=Count("pk", filter=Q(status=_SUCCEEDED)),
        turns=Sum("turns"),
        input_tokens=Sum("input_tokens"),
        output_tokens=Sum("output_tokens"),
        cached_tokens=Sum("cached_tokens"),
        cost_usd=Sum("cost_usd"),
    )
    open_sessions, ended, succeeded = (
        totals.pop("open"),
        totals.pop("ended"),
        totals.pop("succeeded"),
    )
    if open_sessions or not ended:
        return False
    facts: dict[str, Any] = {name: total or 0 for name, total in totals.items()}
    rows = list(sessions.order_by("number").values_list("status", "reason", "message", "summary"))
    status, reason, message = outcome([row[:3] for row in rows])
    settled = Run.objects.finish(
        run_id,
        status=status,
        reason=reason,
        now=now,
        message=message,
        summary=next((summary for *_, summary in rows if summary), ""),
        items_processed=ended,
        items_failed=ended - succeeded,
        **facts,
    )
    if settled:
        Schedule.objects.filter(runs=run_id).update(last_status=status)
    return settled


def outcome(sessions: Collection[tuple[str, str, str]]) -> tuple[Run.Status, str, str]:
    """A run's status, reason and sentence out of its sessions' (status, reason, message). There is at least one."""
    statuses = [status for status, *_ in sessions]
    if all(status == _SUCCEEDED for status in statuses):
        return Run.Status.SUCCEEDED, Reason.OK, ""
    troubled = [(reason, message) for status, reason, message in sessions if status != _SUCCEEDED]
    reasons = {reason for reason, _ in troubled}
    reason = reasons.pop() if len(reasons) == 1 else Reason.SESSIONS_FAILED
    message = troubled[0][1] if len(sessions) == 1 else f"{len(troubled)} of {len(sessions)} sessions did not succeed."
    if _SUCCEEDED in statuses:
        return Run.Status.PARTIAL, reason, message
    if all(status == _CANCELLED for status in statuses):
        return Run.Status.CANCELLED, reason, message
    return Run.Status.FAILED, reason, message
