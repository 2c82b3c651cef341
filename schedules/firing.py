"""Due schedules become runs, once; and a run by hand.

A due time is recorded in one transaction: its runs, their sessions and the schedule's next time. Two processes that
fire at once take turns by row locks, and the table's unique constraints hold against everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, transaction

from schedules import timetable
from schedules.models import Reason, Repository, Run, Schedule, Session
from schedules.models.schedule import ScheduleQuerySet
from schedules.occasions import Missed, Occasions, occasions
from schedules.steering import cancel_run, pause
from schedules.targets import load_target

logger = logging.getLogger(__name__)

Place = tuple[int, int | None]  # schedule, repository


class Refused(Exception):
    """A run by hand that policy does not allow. `reason` is a reason code; the message is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """What one call recorded. `more`: it took as many as it may at once, and there may be others."""

    schedules: int
    runs: int
    more: bool


def fire_due(*, now: datetime, limit: int = 1000) -> Fired:
    """Record the runs of up to `limit` schedules that are due, and move these on.

    One that can't be fired is paused with the reason, and the others go on.
    """
    try:
        return _fire(Schedule.objects.due(now), now=now, limit=limit)
    except (OperationalError, InterfaceError):
        raise  # the database, and no schedule
    except Exception:
        logger.exception("Not all that is due can be fired at once: one by one", extra={"action": "fire_failed"})
        return _fire_each(now=now, limit=limit)


def _fire(due: ScheduleQuerySet, *, now: datetime, limit: int) -> Fired:
    with transaction.atomic():
        rows = due.select_related("command").order_by("due_at")
        schedules = list(rows.select_for_update(of=("self",))[:limit])
        if not schedules:
            return Fired(schedules=0, runs=0, more=False)
        planned = [(schedule, plan) for schedule in schedules if (plan := _plan(schedule, now))]
        runs = _fired_runs(planned, now)
        Run.objects.bulk_create(runs)
        _queue_sessions(runs)
        Schedule.objects.bulk_update([schedule for schedule, _ in planned], Schedule.PLAN_FIELDS)
    return Fired(schedules=len(schedules), runs=len(runs), more=len(schedules) == limit)


def _fire_each(*, now: datetime, limit: int) -> Fired:
    """The same in a transaction each, for there is one among them that fails: it is paused."""
    schedules = list(Schedule.objects.due(now).order_by("due_at")[:limit])
    runs = 0
    for schedule in schedules:
        try:
            runs += _fire(Schedule.objects.due(now).filter(pk=schedule.pk), now=now, limit=1).runs
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.exception("%s can't be fired: paused", schedule, extra={"action": "schedule_unfit"})
            _pause(schedule, f"It can't be fired: {type(error).__name__}: {error}", now)
    return Fired(schedules=len(schedules), runs=runs, more=len(schedules) == limit)


def _plan(schedule: Schedule, now: datetime) -> Occasions | None:
    """Its occasions, the schedule moved on. None for one whose time can't be read: it is paused."""
    try:
        plan = occasions(schedule, now)
        schedule.plan(plan.last)
    except timetable.TimetableError as error:
        logger.exception("%s can't be planned: paused", schedule, extra={"action": "schedule_unreadable"})
        _pause(schedule, f"Its time can't be read: {error}", now)
        return None
    return plan


def _pause(schedule: Schedule, reason: str, now: datetime) -> None:
    pause([schedule], by="rota", reason=reason, now=now)


def _fired_runs(planned: Sequence[tuple[Schedule, Occasions]], now: datetime) -> list[Run]:
    schedules = [schedule for schedule, _ in planned]
    places = _places(schedules)
    open_runs = _open_runs(schedules)
    recorded = _recorded(planned)
    runs: list[Run] = []
    for schedule, plan in planned:
        for repository in places.get(schedule.pk, [None]):
            place = (schedule.pk, repository.pk if repository else None)
            fired = [_missed_run(schedule, repository, missed, now) for missed in plan.missed]
            if plan.run_for:
                fired.append(_due_run(schedule, repository, plan.run_for, open_runs.get(place, []), now))
            runs += [run for run in fired if (*place, run.scheduled_for) not in recorded]
    return runs


def _places(schedules: Collection[Schedule]) -> dict[int, list[Repository | None]]:
    places: dict[int, list[Repository | None]] = {}
    links = Schedule.repositories.through.objects.filter(schedule__in=[schedule.pk for schedule in schedules])
    for link in links.select_related("repository").order_by("repository__slug"):
        places.setdefault(link.schedule_id, []).append(link.repository)
    return places


def _open_runs(schedules: Collection[Schedule]) -> dict[Place, list[Run]]:
    found: dict[Place, list[Run]] = {}
    for run in Run.objects.open().filter(schedule__in=[schedule.pk for schedule in schedules]).order_by("id"):
        found.setdefault((run.schedule_id, run.repository_id), []).append(run)
    return found


def _recorded(
    planned: Sequence[tuple[Schedule, Occasions]],
) -> set[tuple[int, int | None, datetime]]:
    """Those of the nominal times that are on record already: the clock jumped back, or an edit went to and fro."""
    times = {missed.times[0] for _, plan in planned for missed in plan.missed}
    fired = Run.objects.filter(
        trigger=Run.Trigger.SCHEDULE,
        schedule__in=[schedule.pk for schedule, _ in planned],
        scheduled_for__in=times | {plan.run_for for _, plan in planned if plan.run_for},
    )
    return set(fired.values_list("schedule_id", "repository_id", "scheduled_for"))


def _missed_run(schedule: Schedule, repository: Repository | None, missed: Missed, now: datetime) -> Run:
    count = len(missed.times)
    times = "1 due time" if count == 1 else f"{'more than ' if missed.more else ''}{count} due times"
    why = {
        Reason.OUTSIDE_WINDOW: f"Rota came to it later than the catch-up window of {schedule.catch_up} allows",
        Reason.SUPERSEDED: "a later one ran instead",
    }[missed.reason]
    return Run(
        schedule=schedule,
        repository=repository,
        scheduled_for=missed.times[0],
        missed_until=missed.times[-1],
        missed_count=count,
        status=Run.Status.MISSED,
        reason=missed.reason,
        message=f"{times} missed: {why}.",
        queued_at=now,
        finished_at=now,
    )


def _due_run(
    schedule: Schedule,
    repository: Repository | None,
    nominal: datetime,
    open_runs: Sequence[Run],
    now: datetime,
) -> Run:
    run = _new_run(schedule, repository, scheduled_for=nominal, now=now)
    refusal = _refusal(schedule, repository, open_runs)
    if refusal:
        run.reason, run.message = refusal
        run.status, run.finished_at, run.items_found = Run.Status.SKIPPED, now, 0
    elif schedule.overlap == Schedule.Overlap.CANCEL_OTHER:
        _ask_to_cancel(open_runs, now)
    return run


def _new_run(schedule: Schedule, repository: Repository | None, *, scheduled_for: datetime, now: datetime) -> Run:
    return Run(
        schedule=schedule,
        repository=repository,
        scheduled_for=scheduled_for,
        snapshot=schedule.snapshot(),
        variables=schedule.variables,
        is_rehearsal=settings.ROTA_REHEARSE and schedule.is_agent,
        items_found=1,
        queued_at=now,
    )


def _refusal(schedule: Schedule, repository: Repository | None, open_runs: Sequence[Run]) -> tuple[Reason, str] | None:
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
            f"Run {open_runs[0].pk} is still {open_runs[0].status}; the overlap policy is to skip.",
        )
    waiting = [run for run in open_runs if run.status == Run.Status.QUEUED]
    if schedule.overlap == Schedule.Overlap.QUEUE_ONE and waiting:
        return (
            Reason.OVERLAP,
            f"Run {waiting[0].pk} waits already; the overlap policy is to queue one.",
        )
    return None


def _ask_to_cancel(runs: Sequence[Run], now: datetime) -> None:
    """What waits ends at once, what runs a little later; until then the new run waits."""
    for run in runs:
        if run.cancel_requested_at is None:
            cancel_run(run.pk, by="overlap policy", now=now)


def _queue_sessions(runs: Sequence[Run]) -> list[Session]:
    sessions = []
    for run in runs:
        if run.status == Run.Status.QUEUED:
            item = load_target(run.snapshot["target"]).item()
            sessions.append(
                Session(
                    run=run,
                    schedule_id=run.schedule_id,
                    repository_id=run.repository_id,
                    item_key=item.key,
                    item=dict(item.data),
                    priority=run.snapshot["priority"],
                    is_rehearsal=run.is_rehearsal,
                    model_asked=run.snapshot["options"]["model"],
                    queued_at=run.queued_at,
                )
            )
    return Session.objects.bulk_create(sessions)


def trigger(
    schedule: Schedule,
    *,
    repositories: Sequence[Repository] | None = None,
    trigger: str = Run.Trigger.MANUAL,
    by: str = "",
    variables: Mapping[str, str] | None = None,
    rehearse: bool = False,
    retry_of: Run | None = None,
    now: datetime,
) -> list[Run]:
    """One run in each repository (by default, all of the schedule's), for another reason than the clock.

    A paused schedule can be run by hand, a disabled one can't. Raises Refused, and then nothing is recorded.
    """
    with transaction.atomic():
        schedule = Schedule.objects.select_related("command").select_for_update(of=("self",)).get(pk=schedule.pk)
        _require_runnable(schedule, variables or {})
        places: Sequence[Repository | None] = (
            list(schedule.repositories.all()) if repositories is None else list(repositories)
        ) or [None]
        open_runs = _open_runs([schedule])
        runs = []
        for repository in places:
            ahead = open_runs.get((schedule.pk, repository.pk if repository else None), [])
            refusal = _refusal(schedule, repository, ahead)
            if refusal:
                raise Refused(*refusal)
            if schedule.overlap == Schedule.Overlap.CANCEL_OTHER:
                _ask_to_cancel(ahead, now)
            run = _new_run(schedule, repository, scheduled_for=now, now=now)
            run.trigger, run.triggered_by, run.retry_of = trigger, by, retry_of
            run.variables = {**schedule.variables, **(variables or {})}
            run.is_rehearsal = run.is_rehearsal or (rehearse and schedule.is_agent)
            runs.append(run)
        Run.objects.bulk_create(runs)
        _queue_sessions(runs)
    return runs


def _require_runnable(schedule: Schedule, variables: Mapping[str, Any]) -> None:
    if schedule.status == Schedule.Status.DISABLED:
        why = f": {schedule.status_reason}" if schedule.status_reason else ""
        raise Refused(Reason.DISABLED, f"{schedule} is disabled{why}. Enable it to run it.")
    unknown = sorted(set(variables) - set(schedule.variables))
    if unknown:
        known = ", ".join(schedule.variables) or "none"
        raise Refused(
            Reason.INVALID_OPTIONS,
            f"{schedule} has no variable {', '.join(unknown)}. There are: {known}.",
        )
    try:
        schedule.clean()
    except ValidationError as error:
        problems = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in error.message_dict.items())
        raise Refused(Reason.INVALID_OPTIONS, f"{schedule} can't be run as it is. {problems}") from error
