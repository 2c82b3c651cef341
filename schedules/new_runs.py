"""A run and its session as they begin, and what a new run heeds: the run before, the repository, the policy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db.models import Case, Exists, OuterRef, Subquery, When

from schedules import budgets, quota
from schedules.agents import rehearsed
from schedules.models import Reason, Repository, Run, Schedule, Session
from schedules.rendering.display import utc
from schedules.targets import load_target

Place = tuple[int, int | None]  # schedule, repository


def open_runs(schedules: Collection[Schedule]) -> dict[Place, list[Run]]:
    """Those that a due time heeds: a backfill goes behind it and is none of them.

    `retry_at` on each: until when an attempt of it waits, while nothing of it runs.
    """
    sessions = Session.objects.filter(run=OuterRef("pk"))
    attempt = sessions.filter(status=Session.Status.QUEUED, attempt__gt=1).order_by("not_before")
    at_work = Exists(sessions.filter(status=Session.Status.RUNNING))
    retry_at = Case(When(~at_work, then=Subquery(attempt.values("not_before")[:1])))
    found: dict[Place, list[Run]] = {}
    rows = Run.objects.open().filter(schedule__in=[schedule.pk for schedule in schedules])
    rows = rows.exclude(trigger=Run.Trigger.BACKFILL).annotate(retry_at=retry_at)
    for run in rows.defer("snapshot").order_by("id"):
        found.setdefault((run.schedule_id, run.repository_id), []).append(run)
    return found


def new_run(schedule: Schedule, repository: Repository | None, *, scheduled_for: datetime, now: datetime) -> Run:
    return Run(
        schedule=schedule,
        repository=repository,
        scheduled_for=scheduled_for,
        snapshot=schedule.snapshot(),
        variables=schedule.variables,
        is_rehearsal=rehearsed(schedule.runner) is not None,
        overlap=schedule.overlap,
        items_found=1,
        queued_at=now,
    )


def refusal(schedule: Schedule, repository: Repository | None, open_runs: Sequence[Run]) -> tuple[Reason, str] | None:
    """Why nothing may run here now, or None."""
    if repository and not repository.enabled:
        return Reason.DISABLED, f"The repository {repository} is off."
    try:
        schedule.check_repositories([repository] if repository else [])
    except ValidationError as error:
        return Reason.INVALID_OPTIONS, " ".join(error.messages)
    if not open_runs:
        return None
    if schedule.overlap == Schedule.Overlap.SKIP:
        return (
            Reason.OVERLAP,
            f"Run {open_runs[0].pk} is still {_state(open_runs[0])}; the overlap policy is to skip.",
        )
    waiting = [run for run in open_runs if run.status == Run.Status.QUEUED]
    if schedule.overlap == Schedule.Overlap.QUEUE_ONE and waiting:
        return (
            Reason.OVERLAP,
            f"Run {waiting[0].pk} waits already; the overlap policy is to queue one.",
        )
    return None


def _state(run: Run) -> str:
    retry_at: datetime | None = vars(run).get("retry_at")
    return f"open: its next attempt waits until {utc(retry_at)}" if retry_at else run.status


def new_session(run: Run) -> Session:
    item = load_target(run.snapshot["target"]).item()
    return Session(
        run=run,
        schedule_id=run.schedule_id,
        repository_id=run.repository_id,
        item_key=item.key,
        item=dict(item.data),
        priority=run.snapshot["priority"],
        credential=quota.credential_of(run),
        reserved_usd=budgets.reservation(run),
        is_rehearsal=run.is_rehearsal,
        model_asked=run.snapshot["options"]["model"],
        queued_at=run.queued_at,
    )
