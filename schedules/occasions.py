"""Which of a schedule's nominal times run now, and which were missed. Pure: rows in, values out, nothing saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schedules import timetable
from schedules.models import Reason, Schedule

# A tick can be this late without being a catch-up, so that a window of zero still runs what is on time.
ON_TIME = timedelta(seconds=10)
# How many due times one recovery counts; where there are more, the row says so.
MOST_COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Nominal times that nothing runs for, in their order, and why."""

    times: Sequence[datetime]  # the last one is the last, also where there were more
    reason: Reason
    more: bool = False  # there were more than are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasions:
    """What one recovery of a schedule comes to. `last` is the latest nominal time that it covers."""

    run_for: datetime | None
    missed: Sequence[Missed]
    last: datetime


def occasions(schedule: Schedule, now: datetime) -> Occasions:
    """The nominal times that are due by `now`: at most the latest one runs, if the catch-up window still holds it.

    The schedule is due: `next_run_at` is set. Raises TimetableError for a cron line or zone that can't be read.
    """
    first = schedule.next_run_at
    if first is None:
        raise ValueError(f"{schedule} has no nominal time")
    last = _last_due(schedule, first, now)
    window = max(schedule.catch_up, ON_TIME)
    run_for = last if now - schedule.due_for(last) <= window else None
    if run_for == first:
        return Occasions(run_for=run_for, missed=(), last=last)
    until = last - datetime.resolution if run_for else last
    too_late = now - window - datetime.resolution  # the last instant that the window does not hold
    is_late = first <= too_late
    groups = (
        _missed(schedule, Reason.OUTSIDE_WINDOW, [first] if is_late else [], first, min(until, too_late)),
        _missed(schedule, Reason.SUPERSEDED, [] if is_late else [first], max(first, too_late), until),
    )
    return Occasions(run_for=run_for, missed=[missed for missed in groups if missed.times], last=last)


def _last_due(schedule: Schedule, first: datetime, now: datetime) -> datetime:
    """The latest nominal time that is due by `now`. The first one is."""
    cron, zone = schedule.cron, schedule.time_zone
    until = min(now, schedule.ends_at) if schedule.ends_at else now
    if not timetable.between(cron, zone, first, until, 1):
        return first
    last = timetable.previous_at_or_before(cron, zone, until) or first
    if schedule.due_for(last) > now:  # its jitter is not over; that of the one before is
        last = timetable.previous_at_or_before(cron, zone, last - datetime.resolution) or first
    return max(first, last)


def _missed(schedule: Schedule, reason: Reason, begin: list[datetime], after: datetime, until: datetime) -> Missed:
    """`begin` and the nominal times in `(after, until]`."""
    cron, zone = schedule.cron, schedule.time_zone
    times = timetable.between(cron, zone, after, until, MOST_COUNTED + 1)
    more = len(times) > MOST_COUNTED
    if more:
        times = [*times[: MOST_COUNTED - 1], timetable.previous_at_or_before(cron, zone, until) or times[-1]]
    return Missed(times=begin + times, reason=reason, more=more)
