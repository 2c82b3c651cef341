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

    times: Sequence[datetime]
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
    further = timetable.between(schedule.cron, schedule.time_zone, first, now, MOST_COUNTED)
    more = len(further) == MOST_COUNTED
    if more:
        latest = timetable.previous_at_or_before(schedule.cron, schedule.time_zone, now)
        further = [*further[:-1], latest or further[-1]]
    times = [first] + [time for time in further if _counts(schedule, time, now)]
    in_time = now - schedule.due_for(times[-1]) <= max(schedule.catch_up, ON_TIME)
    run_for = times[-1] if in_time else None
    return Occasions(run_for=run_for, missed=_missed(schedule, times, run_for, now, more=more), last=times[-1])


def _counts(schedule: Schedule, time: datetime, now: datetime) -> bool:
    if schedule.ends_at and time > schedule.ends_at:
        return False
    return not schedule.jitter or schedule.due_for(time) <= now


def _missed(
    schedule: Schedule,
    times: Sequence[datetime],
    run_for: datetime | None,
    now: datetime,
    *,
    more: bool,
) -> list[Missed]:
    passed = [time for time in times if time != run_for]
    window = max(schedule.catch_up, ON_TIME)
    outside = [time for time in passed if now - time > window]
    superseded = [time for time in passed if now - time <= window]
    groups = []
    if outside:
        groups.append(Missed(times=outside, reason=Reason.OUTSIDE_WINDOW, more=more))
    if superseded:
        groups.append(Missed(times=superseded, reason=Reason.SUPERSEDED))
    return groups
