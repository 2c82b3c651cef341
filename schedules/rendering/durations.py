"""Durations as people write and read them: `30m`, `1h 30m`, `00:30:00`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_SPELLINGS = {
    **dict.fromkeys(("w", "wk", "week", "weeks"), "w"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
}
_CLOCK = re.compile(
    r"(?:(?P<days>\d{1,4}) (?:days?,? )?)?(?P<hours>\d{1,3}):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d)"
)
_PART = re.compile(r"(?P<number>\d{1,7}(?:\.\d{1,3})?)\s*(?P<unit>[a-z]+)[\s,]*")


def parse(text: str) -> timedelta:
    """The duration that a person wrote. Raises ValueError with a sentence for that person."""
    text = text.strip().lower()
    if text == "0":
        return timedelta()
    if clock := _CLOCK.fullmatch(text):
        return timedelta(**{unit: int(number or 0) for unit, number in clock.groupdict().items()})
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise ValueError(f"Give “{text}” a unit, such as {text}m or {text}s.")
    total, at = timedelta(), 0
    while at < len(text):
        part = _PART.match(text, at)
        unit = part and _SPELLINGS.get(part["unit"])
        if not part or not unit:
            raise ValueError("Write a time such as 30m, 1h 30m, 45s, 2d or 00:30:00.")
        total += float(part["number"]) * _UNITS[unit]
        at = part.end()
    return total


def write(duration: timedelta) -> str:
    """The shortest text that `parse` reads as the same duration: `1h 30m`, `45s`, `0`."""
    if duration < timedelta():
        return str(duration)
    left, parts = duration, []
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if left:
        parts.append(f"{left.total_seconds():g}s")
    return " ".join(parts) or "0"


def measure(duration: timedelta) -> str:
    """How long something took, in two places at most: `3.2s`, `1m 12s`, `2h 5m`."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    parts = write(timedelta(seconds=round(seconds))).split()
    return " ".join(parts[:2])


def distance(delta: timedelta) -> str:
    """A distance from now in words of one unit: `in 3 h`, `5 min ago`, `now`. Positive is to come."""
    seconds = delta.total_seconds()
    size = abs(seconds)
    if size < 1:
        return "now"
    steps = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (float("inf"), 86400, "days"))
    count, unit = next((int(size / one), unit) for limit, one, unit in steps if size < limit)
    unit = "day" if (count, unit) == (1, "days") else unit
    return f"in {count} {unit}" if seconds > 0 else f"{count} {unit} ago"
