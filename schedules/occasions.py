"""Which of a schedule's nominal times run now, and which were missed. Pure: rows in, values out, nothing saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schedules import timetable
from schedules.models import Reason, Schedule

# A tick can be this late without being a catch-up, so that a window of zero still runs what is on time.
ON_TIME = timedelta(seconds=10)
# More than so many due times of one schedule at once: no outage, but a clock that is wrong.
MOST_DUE = 1000
# What passed while a schedule was off the rota is counted up to this: a minutely one for two years.
MOST_PASSED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Nominal times that nothing runs for, and why."""

    first: datetime
    last: datetime
    count: int
    reason: Reason
    more: bool = False  # there were more than are counted; `last` is the last all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasions:
    """What one recovery of a schedule comes to.

    `last` is the latest nominal time that it covers, `following` the one after it. `jumped`: there are so many that the
    clock can't be right.
    """

    run_for: datetime | None
    missed: Sequence[Missed]
    last: datetime
    following: datetime | None
    jumped: bool = False


def occasions(schedule: Schedule, now: datetime, *, early: bool = False) -> Occasions:
    """The nominal times that are due by `now`: at most the latest one runs, if the catch-up window still holds it.

    The schedule is due: `next_run_at` is set. `early`: so is what its jitter alone still holds back. Raises
    TimetableError for a cron line or zone that can't be read.
    """
    first = schedule.next_run_at
    if first is None:
        raise ValueError(f"{schedule} has no nominal time")
    following = schedule.next_after(first)
    if following is None or following > now:
        last = first
    else:
        last = _last_due(schedule, first, now, early=early)
        following = schedule.next_after(last)
    window = max(schedule.catch_up, ON_TIME)
    run_for = last if now - schedule.due_for(last) <= window else None
    if last == first:
        alone = [] if run_for else [Missed(first=first, last=first, count=1, reason=Reason.OUTSIDE_WINDOW)]
        return Occasions(run_for=run_for, missed=alone, last=last, following=following)
    if timetable.count(schedule.cron, schedule.time_zone, first, last, MOST_DUE) == MOST_DUE:
        jump = Missed(first=first, last=last, count=MOST_DUE, reason=Reason.CLOCK_JUMPED, more=True)
        return Occasions(run_for=None, missed=(jump,), last=last, following=following, jumped=True)
    until = last - datetime.resolution if run_for else last
    too_late = now - window - datetime.resolution  # the last instant that the window does not hold
    is_late = first <= too_late
    groups = (
        _missed(schedule, Reason.OUTSIDE_WINDOW, first if is_late else None, first, min(until, too_late)),
        _missed(schedule, Reason.SUPERSEDED, None if is_late else first, max(first, too_late), until),
    )
    return Occasions(run_for=run_for, missed=[group for group in groups if group], last=last, following=following)


def passed(schedule: Schedule, after: datetime, until: datetime, *, reason: Reason) -> Missed | None:
    """The nominal times in `(after, until]`, whatever its status; None where there is none. Raises TimetableError."""
    first = schedule.next_after(after)
    if first is None or first > until:
        return None
    if schedule.at:
        return Missed(first=first, last=first, count=1, reason=reason)
    until = min(until, schedule.ends_at) if schedule.ends_at else until
    cron, zone = schedule.cron, schedule.time_zone
    count = 1 + timetable.count(cron, zone, first, until, MOST_PASSED)
    last = timetable.previous_at_or_before(cron, zone, until) or first
    return Missed(first=first, last=last, count=count, reason=reason, more=count > MOST_PASSED)


def _last_due(schedule: Schedule, first: datetime, now: datetime, *, early: bool) -> datetime:
    """The latest nominal time that is due by `now`. The first one is."""
    cron, zone = schedule.cron, schedule.time_zone
    until = min(now, schedule.ends_at) if schedule.ends_at else now
    last = timetable.previous_at_or_before(cron, zone, until) or first
    if not early and schedule.due_for(last) > now:  # its jitter is not over; that of the one before is
        last = timetable.previous_at_or_before(cron, zone, last - datetime.resolution) or first
    return max(first, last)


def _missed(
    schedule: Schedule, reason: Reason, begin: datetime | None, after: datetime, until: datetime
) -> Missed | None:
    """`begin` and the nominal times in `(after, until]`."""
    cron, zone = schedule.cron, schedule.time_zone
    count = timetable.count(cron, zone, after, until, MOST_DUE) if until > after else 0
    last = timetable.previous_at_or_before(cron, zone, until) if count else begin
    if last is None:
        return None
    first = begin or timetable.next_after(cron, zone, after)
    return Missed(first=first, last=last, count=count + (begin is not None), reason=reason)
