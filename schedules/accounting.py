"""Due times that nothing ran for go on record all the same: missed, or passed while a schedule was off the rota.

One row in each of a schedule's repositories, however many due times it stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import Max
from django.db.models.functions import Coalesce

from schedules import timetable
from schedules.models import Reason, Repository, Run, Schedule
from schedules.occasions import Missed, occasions, passed
from schedules.rendering import durations
from schedules.timetable import TimetableError

_OFF = {
    Schedule.Status.PAUSED: Reason.PAUSED,
    Schedule.Status.DISABLED: Reason.DISABLED,
    Schedule.Status.BROKEN: Reason.BROKEN,
}


def places_of(schedules: Collection[Schedule]) -> dict[int, list[Repository | None]]:
    """Schedule → its repositories by name; one that has none is left out: it runs nowhere in particular."""
    places: dict[int, list[Repository | None]] = {}
    links = Schedule.repositories.through.objects.filter(schedule__in=[schedule.pk for schedule in schedules])
    for link in links.select_related("repository").order_by("repository__slug"):
        places.setdefault(link.schedule_id, []).append(link.repository)
    return places


def recorded(times: Iterable[tuple[Schedule, datetime]]) -> set[tuple[int, int | None, datetime]]:
    """Those of the nominal times that are on record already, each as (schedule, repository, time).

    The clock jumped back, or an edit went to and fro.
    """
    wanted = list(times)
    fired = Run.objects.filter(
        trigger=Run.Trigger.SCHEDULE,
        schedule__in={schedule.pk for schedule, _ in wanted},
        scheduled_for__in={time for _, time in wanted},
    )
    return set(fired.values_list("schedule_id", "repository_id", "scheduled_for"))


def rest_of(schedule: Schedule, repository: Repository | None, missed: Missed) -> Missed | None:
    """Of due times whose first one is on record: those after the last one that is. None: all are."""
    rows = Run.objects.filter(
        trigger=Run.Trigger.SCHEDULE,
        schedule=schedule,
        repository=repository,
        scheduled_for__range=(missed.first, missed.last),
    )
    last = rows.aggregate(last=Max(Coalesce("missed_until", "scheduled_for")))["last"]
    if last is None or last >= missed.last:
        return None
    cron, zone = schedule.cron, schedule.time_zone
    count = timetable.count(cron, zone, last, missed.last, missed.count)
    return replace(missed, first=timetable.next_after(cron, zone, last), count=count)


def unrun(
    schedule: Schedule, repository: Repository | None, missed: Missed, *, status: Run.Status, why: str, now: datetime
) -> Run:
    """The row, not saved, of due times that nothing ran for. `why` follows a colon and ends without a full stop."""
    times = "1 due time" if missed.count == 1 else f"{missed.count} due times"
    return Run(
        schedule=schedule,
        repository=repository,
        scheduled_for=missed.first,
        missed_until=missed.last,
        missed_count=missed.count,
        status=status,
        reason=missed.reason,
        message=f"{'More than ' if missed.more else ''}{times} {status}: {why}.",
        overlap=schedule.overlap,
        queued_at=now,
        finished_at=now,
    )


def missed_run(schedule: Schedule, repository: Repository | None, missed: Missed, now: datetime) -> Run:
    window = durations.write(schedule.catch_up)
    why = {
        Reason.OUTSIDE_WINDOW: f"Rota came to it later than the catch-up window of {window} allows",
        Reason.SUPERSEDED: "a later one was due by the time Rota came to it",
        Reason.CLOCK_JUMPED: "so many at once come of a clock that is wrong. Resume the schedule when it is right",
    }[missed.reason]
    return unrun(schedule, repository, missed, status=Run.Status.MISSED, why=why, now=now)


def record_take_off(schedule: Schedule, status: Schedule.Status, *, by: str, now: datetime) -> datetime:
    """A schedule is about to leave the rota: what is due and not fired goes on record, for it will not be.

    Returns up to when its due times are on record: its `accounted_at`. The caller holds the row.
    """
    if schedule.status != Schedule.Status.ACTIVE:
        record_passed(schedule, now=now)
        return now
    first = schedule.next_run_at
    if first is None:
        return now
    if schedule.due_at is None or schedule.due_at > now:
        return min(now, first - datetime.resolution)
    reason = Reason.DISABLED if status == Schedule.Status.DISABLED else Reason.PAUSED
    try:
        plan = occasions(schedule, now)
    except TimetableError:
        return _recorded_alone(schedule, first, reason, now)
    groups = [(missed, Run.Status.MISSED, "") for missed in plan.missed]
    if plan.run_for:
        last = Missed(first=plan.run_for, last=plan.run_for, count=1, reason=reason)
        groups.append((last, Run.Status.SKIPPED, f"the schedule was {status} by {by or 'Rota'} before it was fired"))
    _save(schedule, groups, now)
    return plan.last


def _recorded_alone(schedule: Schedule, first: datetime, reason: Reason, now: datetime) -> datetime:
    """Its times can't be read: of all that is due only the first one is known."""
    missed = Missed(first=first, last=first, count=1, reason=reason)
    _save(schedule, [(missed, Run.Status.SKIPPED, "its times can't be read")], now)
    return now


def record_passed(schedule: Schedule, *, now: datetime) -> None:
    """What passed since a schedule left the rota goes on record, by the settings that it had. Never run.

    Whoever brings it back, or changes when it runs, calls this before. The caller holds the row.
    """
    after = _take_back_jump(schedule, now)
    if after is None or schedule.status not in _OFF:
        return
    try:
        missed = passed(schedule, after, now, reason=_OFF[Schedule.Status(schedule.status)])
    except TimetableError:
        return  # nobody knows which times those were
    if missed:
        why = f"the schedule was {schedule.status} by {schedule.status_by or 'Rota'}"
        if schedule.status_reason:
            why += f" ({schedule.status_reason.rstrip('.')})"
        _save(schedule, [(missed, Run.Status.SKIPPED, why)], now)


def _take_back_jump(schedule: Schedule, now: datetime) -> datetime | None:
    """Times that were recorded as missed while the clock was wrong have not come yet: these rows go.

    Returns up to when the due times are on record then.
    """
    ahead = Run.objects.filter(
        schedule=schedule, trigger=Run.Trigger.SCHEDULE, reason=Reason.CLOCK_JUMPED, missed_until__gt=now
    )
    first = ahead.order_by("scheduled_for").values_list("scheduled_for", flat=True).first()
    if first is None:
        return schedule.accounted_at
    ahead.delete()
    return first - datetime.resolution


def _save(schedule: Schedule, groups: Sequence[tuple[Missed, Run.Status, str]], now: datetime) -> None:
    on_record = recorded((schedule, missed.first) for missed, *_ in groups)
    rows = []
    for repository in places_of([schedule]).get(schedule.pk, [None]):
        for group, status, why in groups:
            missed: Missed | None = group
            if (schedule.pk, repository.pk if repository else None, group.first) in on_record:
                missed = rest_of(schedule, repository, group)
            if missed and why:
                rows.append(unrun(schedule, repository, missed, status=status, why=why, now=now))
            elif missed:
                rows.append(missed_run(schedule, repository, missed, now))
    Run.objects.bulk_create(rows)
