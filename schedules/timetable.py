"""When a cron line fires in a time zone: pure arithmetic with lines, zones and instants.

No Django, no database, and no clock: instants come in as aware arguments and go out as aware UTC.
The preview in the admin and the firing of schedules call the same functions.

The semantics are Debian cron's (docs/decisions/0002-cron-semantics.md has the reasons):

- When neither the day-of-month nor the day-of-week field starts with ``*``, a day has to match
  *either*; otherwise *both*. ``0 0 1 * 1`` fires on the first and on every Monday, ``0 0 */2 * 1``
  on Mondays with an odd date.
- A line whose minute or hour field starts with ``*`` follows real time: it fires whenever the clock
  on the wall shows a matching time, twice in a repeated hour and never in a skipped one.
- Any other line names fixed times, and each happens once a day: in a repeated hour the first time
  round, and when the clock skips it, at the first instant after the gap. Times that meet at one
  instant are one.
- A clock that moves by more than three hours (a whole day, where the date line was moved) was
  corrected: fixed times that it skips do not happen.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

from schedules.cronline import (
    FIRST_YEAR,
    LAST_YEAR,
    LONGEST_LINE,
    CronLine,
    Direction,
    TimetableError,
    describe,
    read_line,
    refused,
)

__all__ = [
    "LONGEST_LINE",
    "TimetableError",
    "between",
    "count",
    "describe",
    "next_after",
    "previous_at_or_before",
    "upcoming",
    "validate",
]

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_CORRECTION = timedelta(hours=3)
_DAYS_OF_CHANGE = 10  # more than any zone has in a year, with the days beside them
_LONGEST_ZONE_NAME = 64


def validate(cron: str, time_zone: str) -> None:
    """Raise TimetableError unless line and zone are known and the line ever fires in the zone."""
    line, zone = read_line(cron), _zone(time_zone)
    # A line can be impossible in one zone only: Europe's clocks always skip 02:00 on a Sunday that
    # is 28 March. By 2100 every zone follows the last rule that is known for it.
    if _nearest(line, zone, datetime(2100, 1, 1, tzinfo=UTC), 1) is None:
        raise refused(
            f"This line never fires in {time_zone}, where the clock always skips its times. Choose another hour."
        )


def next_after(cron: str, time_zone: str, after: datetime) -> datetime:
    """The first instant strictly after ``after`` at which the line fires.

    Raises TimetableError for a line or a zone that is refused, and where nothing is left to fire
    before the year 9999; ValueError where ``after`` is naive or outside the years 2 to 9998.
    """
    found = next(_walk(cron, time_zone, after), None)
    if found is None:
        raise refused(f"This line does not fire again between {after} and the year 9999.")
    return found


def upcoming(cron: str, time_zone: str, after: datetime, count: int) -> list[datetime]:
    """The first ``count`` instants after ``after``, earliest first; errors as in next_after.

    Fewer where the calendar ends.
    """
    return list(islice(_walk(cron, time_zone, after), count))


def between(cron: str, time_zone: str, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The instants in ``(after, until]``, earliest first, and of these the first ``limit``."""
    _require_aware(until)
    walk = _walk(cron, time_zone, after)
    return list(islice(takewhile(lambda instant: instant <= until, walk), limit))


def count(cron: str, time_zone: str, after: datetime, until: datetime, limit: int) -> int:
    """How many instants are in ``(after, until]``, and ``limit`` where there are more; errors as in next_after.

    It takes a step for each day and not for each instant, but for days on which the clock changes.
    """
    line, zone = read_line(cron), _zone(time_zone)
    after, until = _in_utc(after), _in_utc(until)
    first, last = _reading(zone, after), _reading(zone, until)
    sure_days = line.days_within(first, last) - _DAYS_OF_CHANGE * (last.year - first.year + 1)
    if sure_days * line.times_a_day >= limit:
        return limit
    found = 0
    for day in line.days_between(first, last):
        begin, end = (midnight.replace(tzinfo=zone).astimezone(UTC) for midnight in (day, day + _DAY))
        if (begin - _SECOND).astimezone(zone).utcoffset() == end.astimezone(zone).utcoffset():
            later = line.times_a_day if until >= end else line.times_until(_reading(zone, until)) * (until >= begin)
            found += max(0, later - (line.times_until(_reading(zone, after)) if after >= begin else 0))
        else:
            just_before = timedelta.resolution
            span = max(after, begin - just_before), min(until, end - just_before)
            found += len(between(cron, time_zone, *span, limit))
        if found >= limit:
            return limit
    return found


def previous_at_or_before(cron: str, time_zone: str, at: datetime) -> datetime | None:
    """The last instant at or before ``at`` at which the line fires; errors as in next_after.

    Looks back as far as it must, which is 40 years at most. None where the calendar begins.
    """
    return _nearest(read_line(cron), _zone(time_zone), _in_utc(at), -1)


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    if name in _zone_names():
        return ZoneInfo(name)
    if not name.strip():
        problem = "The time zone is empty."
    elif len(name) > _LONGEST_ZONE_NAME:
        problem = f"The time zone has {len(name)} characters; no zone has such a long name."
    else:
        near = get_close_matches(name.title(), _zone_names(), n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        problem = f"There is no time zone {name!a}.{meant}"
    raise TimetableError(f"{problem} Give a name such as Europe/Paris, America/New_York or UTC.", field="time_zone")


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    """The names that mean the same on every machine. Nobody's text becomes a path of a file."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _walk(cron: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    line, zone = read_line(cron), _zone(time_zone)
    at = _in_utc(after)
    while (found := _nearest(line, zone, at, 1)) is not None:
        yield found
        at = found


def _in_utc(instant: datetime) -> datetime:
    _require_aware(instant)
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(f"{instant} is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return instant.astimezone(UTC)


def _require_aware(instant: datetime) -> None:
    if instant.utcoffset() is None:
        raise ValueError(f"{instant!r} is naive: an instant needs a time zone")


def _nearest(line: CronLine, zone: ZoneInfo, at: datetime, direction: Direction) -> datetime | None:
    """Forward the first instant after ``at`` at which the line fires, backward the last one not after it."""
    start = _reading(zone, at)
    if direction > 0:
        start += _MINUTE
    found = _first_fire(line, zone, start, at, direction)
    turn = _turn_ahead(zone, at, direction)
    if turn is None or (found is not None and (found < turn) == (direction > 0)):
        return found
    return _first_fire(line, zone, _reading(zone, turn), at, direction)


def _reading(zone: ZoneInfo, instant: datetime) -> datetime:
    """What the clock on the wall shows, without seconds."""
    return instant.astimezone(zone).replace(second=0, microsecond=0, tzinfo=None, fold=0)


def _first_fire(line: CronLine, zone: ZoneInfo, start: datetime, at: datetime, direction: Direction) -> datetime | None:
    """The nearest instant, seen from ``at``, of the first reading from ``start`` on that has one."""
    reading = line.nearest(start, direction)
    while reading is not None:
        instants = _instants(line, zone, reading)
        if direction > 0:
            ahead = min((instant for instant in instants if instant > at), default=None)
        else:
            ahead = max((instant for instant in instants if instant <= at), default=None)
        if ahead is not None:
            return ahead
        reading = line.nearest(reading + direction * _MINUTE, direction)
    return None


def _turn_ahead(zone: ZoneInfo, at: datetime, direction: Direction) -> datetime | None:
    """Where the clock is turned back, if what it shows at ``at`` lies in a repeated hour.

    Forward that is the first instant of the second time round, ahead of the first; backward the
    last instant of the first time round.
    """
    at = at.replace(microsecond=0)
    local = at.astimezone(zone)
    twin = local.replace(fold=1 - local.fold).astimezone(UTC)
    if twin == at or (twin > at) != (direction > 0):
        return None
    change = _change_between(zone, min(at, twin), max(at, twin))
    return change if direction > 0 else change - datetime.resolution


def _instants(line: CronLine, zone: ZoneInfo, reading: datetime) -> tuple[datetime, ...]:
    """When a matching reading of the wall clock makes the line fire: 0, 1 or 2 instants."""
    first = reading.replace(tzinfo=zone).astimezone(UTC)
    second = reading.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return (first,)
    if first < second:  # the clock is turned back and shows this reading twice
        again = line.follows_clock or second - first > _CORRECTION
        return (first, second) if again else (first,)
    # The clock is turned forward and never shows it. Python then gives what the clock before the
    # change would have meant (after the change) and what the clock after it would have (before).
    if line.follows_clock or first - second >= _CORRECTION:
        return ()
    return (_change_between(zone, second, first),)


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first instant that has the UTC offset of ``after``; the one of ``before`` differs."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
