"""When the last session of a run ends, the run's outcome follows from theirs: from the last attempt of each number."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from schedules.models import Reason, Run, Schedule, Session, source_of_sum
from schedules.prepared import Select, Update, given

_SUCCEEDED = Session.Status.SUCCEEDED
_CANCELLED = Session.Status.CANCELLED
_SUMMED = ("turns", "input_tokens", "output_tokens", "cached_tokens", "cost_usd")
_TOLD = ("number", "status", "reason", "message", "summary", "cost_source", *_SUMMED)

_ATTEMPTS = Select(
    lambda: Session.objects.filter(run=given("run", Run)).order_by("number", "attempt").values_list(*_TOLD)
)


def settle_run(run_id: int, *, now: datetime) -> Run.Status | None:
    """Give the run its final status if all its sessions ended. Returns it to the one caller that did it."""
    attempts = [dict(zip(_TOLD, row, strict=True)) for row in _ATTEMPTS.all(run=run_id)]
    if not attempts or any(attempt["status"] in Session.OPEN for attempt in attempts):
        return None
    sessions = _deciding(attempts)
    status, reason, message = outcome([(one["status"], one["reason"], one["message"]) for one in sessions])
    facts: dict[str, Any] = {name: sum(attempt[name] for attempt in attempts) for name in _SUMMED}
    settled = Run.objects.finish(
        run_id,
        status=status,
        reason=reason,
        now=now,
        message=message,
        summary=next((one["summary"] for one in sessions if one["summary"]), ""),
        items_processed=len(sessions),
        items_failed=sum(one["status"] != _SUCCEEDED for one in sessions),
        cost_source=source_of_sum({attempt["cost_source"] for attempt in attempts}),
        **facts,
    )
    if not settled:
        return None
    _tell_schedule(run_id, status, now)
    return status


def _deciding(attempts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last attempt of each number; the one before it, where money kept the last one from beginning."""
    last: dict[int, dict[str, Any]] = {}
    for attempt in attempts:
        unaffordable = attempt["status"] == _CANCELLED and attempt["reason"] == Reason.BUDGET
        if not (unaffordable and attempt["number"] in last):
            last[attempt["number"]] = attempt
    return list(last.values())


def _tell_schedule(run_id: int, status: Run.Status, now: datetime) -> None:
    """A success answers the dead-man's switch; a rehearsal by hand does not."""
    told = {"last_status": status, "last_success_at": now}
    is_success = status in (Run.Status.SUCCEEDED, Run.Status.PARTIAL)
    if not (is_success and _ANSWERED.carry_out(told, run=run_id)):
        _TELLING.carry_out(told, run=run_id)


def _of_run(*conditions: Q) -> QuerySet[Schedule]:
    return Schedule.objects.filter(pk__in=Run.objects.filter(*conditions, pk=given("run", Run)).values("schedule"))


_ANSWERED = Update(
    lambda: _of_run(Q(is_rehearsal=False) | Q(trigger=Run.Trigger.SCHEDULE)),
    Schedule,
    *("last_status", "last_success_at"),
    overdue_at=None,
)
_TELLING = Update(_of_run, Schedule, "last_status")


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
