"""Runs for times that have passed, by hand: a list first, then so many at once, one after another behind the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from schedules import timetable
from schedules.firing import Refused, require_runnable
from schedules.models import Reason, Repository, Run, Schedule, Session
from schedules.models.run import RunQuerySet
from schedules.new_runs import new_run, new_session
from schedules.steering import cancel_run

MOST_AT_ONCE = 100
"""Runs that one call makes."""
MOST_TIMES = 10_000
"""Due times of one range. Who wants more takes a shorter one first."""
_BEHIND = 1000  # its priority is so much lower than the schedule's
_LOWEST = -32768

Place = tuple[datetime, Repository | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """What a range comes to: the runs that one call makes, by time, and what it does not make."""

    runs: Sequence[Place]
    left: int  # for the next call
    done: int  # succeeded, or open already


def preview(
    schedule: Schedule,
    *,
    since: datetime,
    until: datetime,
    repositories: Sequence[Repository] | None = None,
    now: datetime,
) -> Backfill:
    """The due times of `[since, until]` that passed and neither succeeded nor are open, by default everywhere.

    None before the schedule's start or after its end: nothing is due there.

    Raises Refused for a range that can't be filled, and TimetableError.
    """
    times = _times(schedule, since, until, now)
    places: Sequence[Repository | None] = list(schedule.repositories.filter(enabled=True))
    if repositories is not None:
        places = repositories
    if not places and schedule.repositories.exists():
        raise Refused(Reason.DISABLED, "All of its repositories are off.")
    all_of_them = [(time, place) for time in times for place in places or [None]]
    done = _done(schedule, times)
    wanted = [(time, place) for time, place in all_of_them if (time, place.pk if place else None) not in done]
    return Backfill(runs=wanted[:MOST_AT_ONCE], left=len(wanted[MOST_AT_ONCE:]), done=len(all_of_them) - len(wanted))


def backfill(
    schedule: Schedule,
    *,
    since: datetime,
    until: datetime,
    repositories: Sequence[Repository] | None = None,
    by: str = "",
    now: datetime,
) -> tuple[list[Run], int]:
    """Make the runs of `preview`, with the schedule as it is now. Returns them, and how many are left.

    They run one after another, behind the schedule's other runs, and no due time is skipped for them. Raises Refused,
    and then nothing is recorded; and TimetableError.
    """
    with transaction.atomic():
        schedule = Schedule.objects.select_related("command").select_for_update(of=("self",)).get(pk=schedule.pk)
        require_runnable(schedule, {}, now=now)
        plan = preview(schedule, since=since, until=until, repositories=repositories, now=now)
        runs = [_run(schedule, place, time, by=by, now=now) for time, place in plan.runs]
        Run.objects.bulk_create(runs)
        sessions = [new_session(run) for run in runs]
        for session in sessions:
            session.priority = max(_LOWEST, schedule.priority - _BEHIND)
        Session.objects.bulk_create(sessions)
    return runs, plan.left


def cancel_backfill(schedule: Schedule, *, by: str, now: datetime) -> int:
    """Ask for the end of all of a schedule's backfill that is open. Returns how many runs that were."""
    open_runs = backfill_runs(schedule).order_by("-pk").values_list("pk", flat=True)  # what waits goes first
    return sum(cancel_run(pk, by=by, now=now) for pk in list(open_runs))


def backfill_runs(schedule: Schedule) -> RunQuerySet:
    return Run.objects.open().filter(schedule=schedule, trigger=Run.Trigger.BACKFILL, cancel_requested_at=None)


def _run(schedule: Schedule, place: Repository | None, time: datetime, *, by: str, now: datetime) -> Run:
    run = new_run(schedule, place, scheduled_for=time, now=now)
    run.trigger, run.triggered_by, run.overlap = Run.Trigger.BACKFILL, by, Schedule.Overlap.ALLOW
    return run


def _times(schedule: Schedule, since: datetime, until: datetime, now: datetime) -> list[datetime]:
    if since > now:
        raise Refused(Reason.INVALID_OPTIONS, "The range has not begun: only times that have passed are filled in.")
    if until < since:
        raise Refused(Reason.INVALID_OPTIONS, "The range ends before it begins.")
    since = max(filter(None, (since, schedule.starts_at)))
    until = min(filter(None, (until, schedule.ends_at, now)))
    if schedule.at:
        return [schedule.at] if since <= schedule.at <= until else []
    if not schedule.cron:
        raise Refused(Reason.INVALID_OPTIONS, f"{schedule} has no cron line: there are no times to fill in.")
    after = since - datetime.resolution
    if until <= after:
        return []
    times = timetable.between(schedule.cron, schedule.time_zone, after, until, MOST_TIMES + 1)
    if len(times) > MOST_TIMES:
        raise Refused(
            Reason.INVALID_OPTIONS, f"The range has more than {MOST_TIMES} due times. Take a shorter one first."
        )
    return times


def _done(schedule: Schedule, times: Sequence[datetime]) -> set[tuple[datetime, int | None]]:
    if not times:
        return set()
    runs = Run.objects.filter(
        schedule=schedule,
        trigger__in=(Run.Trigger.SCHEDULE, Run.Trigger.BACKFILL),
        status__in=(*Run.OPEN, Run.Status.SUCCEEDED),
        scheduled_for__range=(times[0], times[-1]),
    )
    return set(runs.values_list("scheduled_for", "repository_id"))
