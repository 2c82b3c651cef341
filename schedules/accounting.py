"""Due times that nothing ran for go on record all the same: missed, or passed while a schedule was off the rota.

One row in each of a schedule's repositories, however many due times it stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import Max, Q

from schedules import timetable
from schedules.models import Reason, Repository, Run, Schedule
from schedules.occasions import MOST_PASSED, Missed, occasions, passed
from schedules.rendering import durations
from schedules.timetable import TimetableError

Place = tuple[int, int | None]  # schedule, repository
Span = tuple[datetime, datetime]  # the first and the last nominal time that a row stands for

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


def recorded(spans: Iterable[tuple[Schedule, datetime, datetime]]) -> dict[Place, list[Span]]:
    """What is on record already of nominal times from … to …, earliest first: the clock jumped back, or an edit went to
    and fro.

    All spans in one query. It may tell of more than was asked for, but of nothing that began before them.
    """
    wanted = list(spans)
    if not wanted:
        return {}
    rows = Run.objects.filter(
        trigger=Run.Trigger.SCHEDULE,
        schedule__in={schedule.pk for schedule, *_ in wanted},
        scheduled_for__range=(min(first for _, first, _ in wanted), max(last for *_, last in wanted)),
    ).order_by("scheduled_for")
    found: dict[Place, list[Span]] = {}
    for schedule, repository, first, until in rows.values_list(
        "schedule_id", "repository_id", "scheduled_for", "missed_until"
    ):
        found.setdefault((schedule, repository), []).append((first, until or first))
    return found


def covers(known: Sequence[Span], time: datetime) -> bool:
    return any(first <= time <= last for first, last in known)


def rest_of(schedule: Schedule, missed: Missed, known: Sequence[Span]) -> list[Missed]:
    """Of these due times those that are not on record: before, between and after what is."""
    among = [span for span in known if span[1] >= missed.first and span[0] <= missed.last]
    if not among:
        return [missed]
    rest, after = [], missed.first - datetime.resolution
    for first, last in among:
        rest.append(_between(schedule, missed, after, first - datetime.resolution))
        after = max(after, last)
    rest.append(_between(schedule, missed, after, missed.last))
    return [group for group in rest if group]


def _between(schedule: Schedule, missed: Missed, after: datetime, until: datetime) -> Missed | None:
    """Those of them in `(after, until]`."""
    if until <= after or missed.first == missed.last:
        return None
    cron, zone = schedule.cron, schedule.time_zone
    count = timetable.count(cron, zone, after, until, missed.count)
    if not count:
        return None
    last = timetable.previous_at_or_before(cron, zone, until) or until
    more = missed.more and count == missed.count
    return replace(missed, first=timetable.next_after(cron, zone, after), last=last, count=count, more=more)


def unrun(
    schedule: Schedule, repository: Repository | None, missed: Missed, *, status: Run.Status, why: str, now: datetime
) -> Run:
    """The row, not saved, of due times that nothing ran for. `why` follows a colon and ends without a full stop."""
    return Run(
        schedule=schedule,
        repository=repository,
        scheduled_for=missed.first,
        missed_until=missed.last,
        missed_count=missed.count,
        status=status,
        reason=missed.reason,
        message=f"{'More than ' if missed.more else ''}{_told(missed.count)} {status}: {why}.",
        overlap=schedule.overlap,
        queued_at=now,
        finished_at=now,
    )


def _told(count: int) -> str:
    return "1 due time" if count == 1 else f"{count} due times"


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
        return settled_until(schedule, now)
    first = schedule.next_run_at
    if first is None:
        return settled_until(schedule, now)
    if schedule.due_at is None or schedule.due_at > now:
        return min(settled_until(schedule, now), first - datetime.resolution)
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
    after = schedule.accounted_at
    jumped = Run.objects.filter(schedule=schedule, trigger=Run.Trigger.SCHEDULE, reason=Reason.CLOCK_JUMPED)
    ahead = jumped.filter(missed_until__gt=now)
    first = ahead.order_by("scheduled_for").values_list("scheduled_for", flat=True).first()
    if first is not None:
        ahead.delete()
        before = first - datetime.resolution
        after = before if after is None else min(after, before)
    if after is None:
        return None
    # Where the clock was put right, and since then times have come that it had passed over, their row tells of them.
    last = jumped.filter(scheduled_for__lte=after).aggregate(last=Max("missed_until"))["last"]
    return max(after, last or after)


def _save(schedule: Schedule, groups: Sequence[tuple[Missed, Run.Status, str]], now: datetime) -> None:
    on_record = recorded((schedule, missed.first, missed.last) for missed, *_ in groups)
    rows = []
    for repository in places_of([schedule]).get(schedule.pk, [None]):
        known = on_record.get((schedule.pk, repository.pk if repository else None), ())
        for group, status, why in groups:
            for missed in rest_of(schedule, group, known):
                if why:
                    rows.append(unrun(schedule, repository, missed, status=status, why=why, now=now))
                else:
                    rows.append(missed_run(schedule, repository, missed, now))
    Run.objects.bulk_create(rows)


# --- A clock that was set back ----------------------------------------------------------------------------------------


def settled_until(schedule: Schedule, now: datetime) -> datetime:
    """`now`; or, where the clock was corrected, the last due time after it that is on record as not run."""
    # By when it was recorded, for that has an index, and no due time is on record before it came.
    rows = Run.objects.filter(schedule=schedule, trigger=Run.Trigger.SCHEDULE, finished_at__gt=now)
    return max(now, rows.aggregate(last=Max("missed_until"))["last"] or now)


def forget_what_is_to_come(*, now: datetime) -> None:
    """Due times that are on record as not run, and come again: their rows go, or tell only of those before `now`.

    But for those of a clock that jumped: whoever resumes their schedule takes them back, or finds that they have come.
    """
    stands = Run.objects.filter(trigger=Run.Trigger.SCHEDULE, finished_at__gt=now, missed_until__gt=now)
    stands = stands.exclude(~Q(schedule__status=Schedule.Status.ACTIVE), reason=Reason.CLOCK_JUMPED)
    stands.filter(scheduled_for__gt=now).delete()
    for run in stands.select_related("schedule").defer("snapshot"):
        _cut(run, now)


def _cut(run: Run, now: datetime) -> None:
    """Where its schedule was edited since, nobody knows which times it stands for: its count is the most it can be."""
    left = _left_of(run, now)
    if left:
        run.missed_until, run.missed_count = left
    else:
        run.missed_until = now
    told = f"{'' if left else 'Up to '}{_told(run.missed_count)}"
    run.message = f"{told} {run.status}:{run.message.partition(':')[2]}"
    run.save(update_fields=["missed_until", "missed_count", "message"])


def _left_of(run: Run, now: datetime) -> tuple[datetime, int] | None:
    """The last one up to `now`, and how many; None where its times are not those of its schedule's line any more."""
    cron, zone, first, until = run.schedule.cron, run.schedule.time_zone, run.scheduled_for, run.missed_until
    try:
        if until is None or any(timetable.previous_at_or_before(cron, zone, end) != end for end in (first, until)):
            return None
        count = 1 + timetable.count(cron, zone, first, until, MOST_PASSED)
        last = timetable.previous_at_or_before(cron, zone, now)
        left = 1 + timetable.count(cron, zone, first, now, run.missed_count)
    except TimetableError:
        return None
    same = count == run.missed_count or (count > run.missed_count and run.reason == Reason.CLOCK_JUMPED)
    return (last, min(left, run.missed_count)) if last and same else None
