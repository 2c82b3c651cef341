"""A cron line: reads it, refuses it in a sentence, finds the times it matches, puts it in words.

Times in this module are readings of a clock on the wall, without a zone; schedules.timetable turns
them into instants. The rules are Debian cron's (docs/decisions/0002-cron-semantics.md).

croniter reads the fields. What it reads differently from cron is refused or respelled first: ranges
that run backwards or from a value to itself, a step from 7 on, and everything that cron does not
have (L, W, #, ?, H, R, seconds, years). The same fields come again in other lines: each is read once,
and so are most of the lines.
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from croniter import croniter

LONGEST_LINE = 200
"""Characters of the longest line that is read; all 60 minutes written out take 170."""

FIRST_YEAR, LAST_YEAR = 2, 9998
"""One year inside the years of datetime, so that no UTC offset leads out of them."""

Direction = Literal[1, -1]

# 10,000 schedules due at once, each with a line of its own, find theirs already read.
_LINES_KEPT = 16_384
_FIELDS_KEPT = 4096

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_LONGEST_MONTH = {month: monthrange(2000, month)[1] for month in range(1, 13)}  # 2000: leap

_EVERY_MONTH = 0b1_1111_1111_1110
_SIX_WEEKS = sum(1 << 7 * week for week in range(6))


class TimetableError(ValueError):
    """A cron line or a time zone that is refused, in a sentence for the person who wrote it.

    ``field`` says which of the two, by the name that the field has in forms.
    """

    def __init__(self, message: str, *, field: Literal["cron", "time_zone"]) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class CronLine:
    """A line that was read. The five fields are sets of numbers: bit n stands for n."""

    minutes: int
    hours: int
    days: int
    months: int
    weekdays: int
    """Sunday is 0 and never 7."""
    either_day: bool
    """Whether a day has to match one of the two day fields, and not both."""
    follows_clock: bool
    """Whether the line is a wildcard line, which follows real time when the clock is changed."""

    def nearest(self, reading: datetime, direction: Direction) -> datetime | None:
        """The nearest matching reading, forward or back, from ``reading`` on, itself included.

        ``reading`` is naive and a whole minute. None where the calendar ends.
        """
        year, month = reading.year, reading.month
        day = self._nearest_day(year, month, reading.day, direction)
        if day is not None and day.date() == reading.date():
            if self.hours >> reading.hour & 1:
                minute = _seek(self.minutes, reading.minute, direction)
                if minute >= 0:
                    return reading.replace(minute=minute)
            hour = _seek(self.hours, reading.hour + direction, direction)
            if hour >= 0:
                return day.replace(hour=hour, minute=_outermost(self.minutes, direction))
            day = self._nearest_day(year, month, reading.day + direction, direction)
        if day is None:
            return None
        return day.replace(hour=_outermost(self.hours, direction), minute=_outermost(self.minutes, direction))

    def days_between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Midnight of each matching day from that of ``first`` to that of ``last``, both included."""
        day = self._nearest_day(first.year, first.month, first.day, 1)
        while day is not None and day <= last:
            yield day
            day = self._nearest_day(day.year, day.month, day.day + 1, 1)

    def days_within(self, first: datetime, last: datetime) -> int:
        """How many days match in the months after that of ``first`` and before that of ``last``."""
        months = range(12 * first.year + first.month, 12 * last.year + last.month - 1)  # counted from 0
        return sum(
            self._days_in(month // 12, month % 12 + 1).bit_count()
            for month in months
            if self.months >> (month % 12 + 1) & 1
        )

    @property
    def times_a_day(self) -> int:
        return self.hours.bit_count() * self.minutes.bit_count()

    def times_until(self, reading: datetime) -> int:
        """How many of a matching day's readings are not after ``reading``."""
        before = (self.hours & ((1 << reading.hour) - 1)).bit_count() * self.minutes.bit_count()
        if self.hours >> reading.hour & 1:
            before += (self.minutes & ((2 << reading.minute) - 1)).bit_count()
        return before

    def _nearest_day(self, year: int, month: int, day: int, direction: Direction) -> datetime | None:
        """Midnight of the nearest matching day. ``day`` may lie one beyond its month."""
        while FIRST_YEAR <= year <= LAST_YEAR:
            if self.months >> month & 1:
                found = _seek(self._days_in(year, month), day, direction)
                if found >= 0:
                    return datetime(year, month, found)  # noqa: DTZ001 (a reading has no zone)
            month += direction
            if not 1 <= month <= 12:
                year += direction
                month = 1 if direction > 0 else 12
            day = 1 if direction > 0 else 31
        return None

    def _days_in(self, year: int, month: int) -> int:
        monday_is_0, length = monthrange(year, month)
        on_weekday = (self.weekdays * _SIX_WEEKS >> (monday_is_0 + 1) % 7) << 1
        matching = self.days | on_weekday if self.either_day else self.days & on_weekday
        return matching & ((2 << length) - 2)


def _seek(bits: int, start: int, direction: Direction) -> int:
    """The first number of the set from ``start`` on, up or down; -1 if there is none."""
    if direction > 0:
        rest = bits >> start
        return start + (rest & -rest).bit_length() - 1 if rest else -1
    return (bits & ((1 << start + 1) - 1)).bit_length() - 1


def _outermost(bits: int, direction: Direction) -> int:
    """The number of the set that one meets first in that direction."""
    return _seek(bits, 0 if direction > 0 else bits.bit_length(), direction)


def _members(bits: int) -> list[int]:
    return [number for number in range(bits.bit_length()) if bits >> number & 1]


# --- Reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: its title for people, its bounds, the names of its numbers."""

    title: str
    low: int
    high: int
    names: Mapping[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day-of-month", 1, 31, {}),
    _Field("month", 1, 12, {name[:3].lower(): n for n, name in enumerate(_MONTHS, 1)}),
    _Field("day-of-week", 0, 7, {name[:3].lower(): n for n, name in enumerate(_WEEKDAYS)}),
)
_FIVE = f"5 fields ({', '.join(field.title for field in _FIELDS)})"
_TERM = re.compile(r"(?:\*|(?P<low>[a-z0-9]+)(?:-(?P<high>[a-z0-9]+))?)(?:/(?P<step>[0-9]+))?")


@lru_cache(maxsize=_LINES_KEPT)
def read_line(cron: str) -> CronLine:
    """Read a line of five fields or an alias; raise TimetableError unless cron reads it too."""
    texts = _split(cron)
    minutes, hours, days, months, weekdays = map(_read_field, texts, range(len(_FIELDS)))
    line = CronLine(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays & 0b111_1111,
        # As in cron, the first character decides: "*/2" is a wildcard, "1-31/2" is none.
        either_day=texts[2][0] != "*" and texts[4][0] != "*",
        follows_clock=texts[0][0] == "*" or texts[1][0] == "*",
    )
    _require_a_day(line)
    return line


def _split(cron: str) -> list[str]:
    text = cron.strip(" \t\r\n")
    if not text:
        raise refused(f"The cron line is empty. Write {_FIVE}, such as 0 9 * * MON-FRI.")
    if len(text) > LONGEST_LINE:
        raise refused(
            f"The cron line has {len(text)} characters, more than {LONGEST_LINE}. "
            "Use ranges and steps, or several schedules."
        )
    if strange := re.search(r"[^\t\x20-\x7e]", text):
        raise refused(
            f"The cron line has the character {strange[0]!a} at position {strange.start() + 1}. "
            "Type it with plain letters, digits and spaces."
        )
    text = text.lower()
    if text == "@reboot":
        raise refused(
            "@reboot is not a time, and Rota has no boot to wait for. "
            "Choose a time, or trigger the run when the machine is up."
        )
    if text.startswith("@") and text not in _ALIASES:
        raise refused(f"{text} is not an alias. Use one of {', '.join(_ALIASES)}, or {_FIVE}.")
    texts = _ALIASES.get(text, text).split()
    if len(texts) != len(_FIELDS):
        extra = " Leave out seconds, years and commands." if len(texts) > len(_FIELDS) else ""
        raise refused(f"A cron line has {_FIVE}; this one has {len(texts)}.{extra}")
    return texts


@lru_cache(maxsize=_FIELDS_KEPT)
def _read_field(text: str, place: int) -> int:
    """The set of its numbers, as bits. Refused unless cron reads it."""
    line = ["*"] * len(_FIELDS)
    line[place] = _respelled(text, _FIELDS[place])
    expanded, _ = croniter.expand(" ".join(line))
    return _bits(expanded[place], _FIELDS[place])


def _respelled(text: str, field: _Field) -> str:
    return ",".join(_checked(term, field) for term in text.split(","))


def _checked(term: str, field: _Field) -> str:
    """The term, refused unless cron reads it, in a spelling that croniter reads as cron does."""
    if not term:
        raise refused(f"The {field.title} field has an empty entry. Take out the extra comma.")
    match = _TERM.fullmatch(term)
    if match is None:
        raise _unreadable(term, field)
    low, high, step = match["low"], match["high"], match["step"]
    if step is not None and int(step) == 0:
        raise _refused_term(term, field, "steps by 0. Use a step of 1 or more.")
    if low is None:
        return term
    first = last = _number(low, term, field)
    if high is not None:
        last = _number(high, term, field)
    elif step is not None:
        last = field.high
    if last < first:
        raise _backwards(term, field, first, last)
    # croniter takes a range of one number, such as 5-5 or 7/2, for the whole cycle.
    return str(first) if first == last else term


def _number(text: str, term: str, field: _Field) -> int:
    number = int(text) if text.isdecimal() else field.names.get(text)
    if number is None:
        raise _unreadable(term, field)
    if not field.low <= number <= field.high:
        raise _refused_term(text, field, f"is out of range. Use {field.low} to {field.high}.")
    return number


def _bits(numbers: Sequence[int | Literal["*", "l"]], field: _Field) -> int:
    members = range(field.low, field.high + 1) if "*" in numbers else map(int, numbers)
    return sum(1 << member for member in members)


def _require_a_day(line: CronLine) -> None:
    """Refuse a line whose months are all too short for its days.

    Every other line has its day: 29 February falls on each weekday once in 40 years at least.
    """
    months, days = _members(line.months), _members(line.days)
    if line.either_day or any(days[0] <= _LONGEST_MONTH[month] for month in months):
        return
    raise refused(
        f"This line never fires: {_listed(months, _month)} never has a day "
        f"{_listed(days, str, 'or')}. Choose another day or month."
    )


def _unreadable(term: str, field: _Field) -> TimetableError:
    names = f", names such as {next(iter(field.names)).upper()}" if field.names else ""
    return _refused_term(
        term,
        field,
        f"is not something cron reads. Use numbers{names}, ranges such as 1-5, steps such as */2, "
        "and commas between them (L, W, #, ?, H and R belong to other schedulers).",
    )


def _backwards(term: str, field: _Field, first: int, last: int) -> TimetableError:
    advice = f"Write {last}-{first}, or {first}-{field.high},{field.low}-{last} to start over."
    if field is _FIELDS[-1] and last == 0:
        advice = f"Write {first}-7: as the end of a range, Sunday is 7."
    return _refused_term(term, field, f"runs backwards. {advice}")


def _refused_term(term: str, field: _Field, problem: str) -> TimetableError:
    return refused(f"{term.upper()} in the {field.title} field {problem}")


def refused(message: str) -> TimetableError:
    """The error for a line that can't be used."""
    return TimetableError(message, field="cron")


# --- Words ---------------------------------------------------------------------------------------


def describe(cron: str) -> str:
    """The line in words for people, made from the same reading that fires it.

    Words leave out time zones and changed clocks: show the next times beside them.
    Raises TimetableError like read_line.
    """
    line = read_line(cron)
    when, days = _time_words(line), _day_words(line)
    if when.startswith("at ") and not days:
        days = "every day"
    months = _members(line.months)
    words = [when, days, _span(months, _month, "in") if line.months != _EVERY_MONTH else ""]
    sentence = ", ".join(filter(None, words))
    return sentence[0].upper() + sentence[1:]


def _time_words(line: CronLine) -> str:
    hours, minutes = _members(line.hours), _members(line.minutes)
    times = [60 * hour + minute for hour in hours for minute in minutes]
    if len(times) <= 4:
        return f"at {_listed(times, _clock)}"
    step = _even_step(times)
    if step and times[0] == 0 and times[-1] + step == 24 * 60:
        return f"every {_duration(step)}"
    if len(hours) == 24:
        return f"every hour at {_listed(minutes, _past_the_hour)}"
    if step:
        return f"every {_duration(step)} from {_clock(times[0])} to {_clock(times[-1])}"
    at_minutes = "every minute" if len(minutes) == 60 else f"at {_listed(minutes, _past_the_hour)}"
    return f"{at_minutes} of hour{'s' if len(hours) > 1 else ''} {_listed(hours, str)}"


def _day_words(line: CronLine) -> str:
    dates, weekdays = _members(line.days), _members(line.weekdays)
    any_date, any_weekday = len(dates) == 31, len(weekdays) == 7
    if (any_date and any_weekday) or (line.either_day and (any_date or any_weekday)):
        return ""
    # Monday first, so that a week that ends on Sunday reads as one span.
    weekdays = sorted(day or 7 for day in weekdays)
    if any_date:
        return _span(weekdays, _weekday, "on")
    of_month = " of the month" if line.months == _EVERY_MONTH else ""
    on_dates = f"on day{'s' if len(dates) > 1 else ''} {_listed(dates, str)}{of_month}"
    if any_weekday:
        return on_dates
    if line.either_day:
        return f"{on_dates} or {_span(weekdays, _weekday, 'on')}"
    return f"{on_dates} if that is a {_listed(weekdays, _weekday, 'or')}"


def _listed(numbers: Sequence[int], show: Callable[[int], str], conjunction: str = "and") -> str:
    """``1, 2 and 5``, ``1 to 5`` or ``1, 3, 5 … 31``."""
    words = [show(number) for number in numbers]
    step = _even_step(numbers)
    if step == 1:
        return f"{words[0]} to {words[-1]}"
    if step and len(words) > 5:
        return f"{', '.join(words[:3])} … {words[-1]}"
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _span(numbers: Sequence[int], show: Callable[[int], str], preposition: str) -> str:
    start = "from" if _even_step(numbers) == 1 else preposition
    return f"{start} {_listed(numbers, show)}"


def _even_step(numbers: Sequence[int]) -> int | None:
    """The distance between neighbours where there are three or more, evenly spaced."""
    steps = {after - before for before, after in pairwise(numbers)}
    return steps.pop() if len(numbers) > 2 and len(steps) == 1 else None


def _duration(minutes: int) -> str:
    count, unit = (minutes, "minute") if minutes % 60 else (minutes // 60, "hour")
    return unit if count == 1 else f"{count} {unit}s"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _past_the_hour(minute: int) -> str:
    return f":{minute:02}"


def _month(number: int) -> str:
    return _MONTHS[number - 1]


def _weekday(number: int) -> str:
    return _WEEKDAYS[number % 7]
