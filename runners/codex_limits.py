"""When a usage limit is lifted, as Codex tells it: in the sentence of its error alone. Pure.

    You've hit your usage limit. … or try again at 5:45 PM.                  today
    You've hit your usage limit. … or try again at Nov 23rd, 2026 8:45 PM.   another day
    You've hit your usage limit. Try again in 3 days 4 hours 5 minutes.      older versions
    You've hit your usage limit for GPT-5.3-Codex-Spark. Switch to …         of this model alone

The sentences are those of `UsageLimitReachedError` in Codex's own source. Its clock is that of its time zone, which
`runners.codex` sets to UTC for Codex itself, and it leaves the seconds out: the minute that it names is over before the
limit is taken for lifted. What is not understood says nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_LIMIT: Final = re.compile(r"usage limit(?: for (?P<name>[^.\s]\S*?)\. )?", re.IGNORECASE)
_AT: Final = re.compile(
    r"try again at (?:(?P<month>[A-Z][a-z]{2}) (?P<day>\d{1,2})(?:st|nd|rd|th), (?P<year>\d{4}) )?"
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d) (?P<half>AM|PM)\b",
    re.IGNORECASE,
)
_IN: Final = re.compile(
    r"try again in (?P<span>less than a minute|\d+ (?:day|hour|minute)s?(?: \d+ \w+)*)", re.IGNORECASE
)
_PART: Final = re.compile(r"(\d+) (day|hour|minute)s?\b", re.IGNORECASE)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MODEL: Final = re.compile(r"(gpt-|o\d|codex-)[\w.-]*")
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


def lifted_at(text: str, *, told_at_ms: int) -> int | None:
    """Unix seconds; None where the text is of no usage limit, or does not say. `told_at_ms`: when it was printed."""
    if not _LIMIT.search(text):
        return None
    told_at = datetime.fromtimestamp(told_at_ms / 1000, UTC)
    if match := _IN.search(text):
        parts = {unit.lower() + "s": int(number) for number, unit in _PART.findall(match["span"])}
        if any(number > 10_000 for number in parts.values()):
            return None
        return int((told_at + timedelta(**parts) + _MINUTE).timestamp())
    match = _AT.search(text)
    found = _instant(match, told_at) if match else None
    return None if found is None else int(found.timestamp())


def limited_model(text: str) -> str:
    """The model whose own limit it is; empty where it is the limit of all."""
    match = _LIMIT.search(text)
    name = (match["name"] or "").lower() if match else ""
    return name if _MODEL.fullmatch(name) else ""


def _instant(match: re.Match[str], told_at: datetime) -> datetime | None:
    day = told_at
    try:
        if match["month"]:
            month = _MONTHS.index(match["month"].lower()) + 1
            day = datetime(int(match["year"]), month, int(match["day"]), tzinfo=UTC)
        hour = int(match["hour"]) % 12 + 12 * (match["half"].upper() == "PM")
        found = day.replace(hour=hour, minute=int(match["minute"]), second=0, microsecond=0) + _MINUTE
    except (ValueError, OverflowError):
        return None
    # Said as a day ended, and stamped as the next one began.
    is_of_yesterday = not match["month"] and found - told_at > _DAY - 2 * _MINUTE
    return found - _DAY if is_of_yesterday else found
