"""The small pieces that every screen is made of: status pills, instants, durations, amounts. All escaped."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.html import format_html
from django.utils.safestring import SafeString

from schedules.models import Reason, Schedule, Session
from schedules.rendering import durations
from schedules.timetable import TimetableError

NOTHING = "–"
# Where a label says more than is so of every row: a cancel may be the overlap policy's, the later time be skipped.
_WORDS: dict[str, str] = {Reason.CANCELLED: "cancelled", Reason.SUPERSEDED: "a later time was due by then"}


def pill(status: str, *, label: str = "", title: str = "") -> SafeString:
    """A status as a coloured word; `title` is what hovering tells."""
    words = label or status.replace("_", " ")
    return format_html('<span class="rota-pill rota-is-{}" title="{}">{}</span>', status, title, words)


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def reason_words(code: str) -> str:
    """What a reason code means, for people; empty for `ok` and for none."""
    if not code or code == Reason.OK:
        return ""
    return _WORDS.get(code) or (str(Reason(code).label) if code in Reason.values else code)


def instant(at: datetime | None, now: datetime) -> SafeString | str:
    """Its distance from now in words; hovering tells it in UTC, and the browser adds the viewer's own time."""
    if at is None:
        return NOTHING
    return format_html(
        '<time datetime="{}" title="{}" data-rota-relative>{}</time>',
        _iso(at),
        utc(at),
        durations.distance(at - now),
    )


def viewer_time(at: datetime) -> SafeString:
    """An instant that the browser rewrites in the viewer's own zone; UTC without JavaScript."""
    return format_html('<time datetime="{}" title="{}" data-rota-local>{}</time>', _iso(at), utc(at), utc(at))


def utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def zoned(at: datetime, time_zone: str, *, year: bool = True) -> str:
    """In a zone, with its offset: `Fri 20 Nov 2026 09:00 +01:00`. UTC where the zone is not known."""
    try:
        local = at.astimezone(ZoneInfo(time_zone))
    except (KeyError, ValueError, OSError):
        local = at.astimezone(UTC)
    offset = f"{local:%z}"
    day = f"{local:%a %-d %b %Y}" if year else f"{local:%a %-d %b}"
    return f"{day} {local:%H:%M} {offset[:3]}:{offset[3:5]}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def took(duration: timedelta | None) -> str:
    return NOTHING if duration is None else durations.measure(duration)


def money(amount: Decimal | float | None) -> str:
    """US dollars: cents, and more places where it is less than a cent."""
    if not amount:
        return "$0"
    return f"${amount:.4f}" if amount < Decimal("0.01") else f"${amount:,.2f}"


def cost(usd: Decimal | float | None, source: str) -> str:
    """What a session cost, and whether its program said so: `$0.42`, `$0.42 reckoned`, `not known`."""
    if source == Session.CostSource.UNKNOWN:
        return f"more than {money(usd)}" if usd else "not known"
    return f"{money(usd)} reckoned" if source == Session.CostSource.RECKONED else money(usd)


def amount(number: int | None) -> str:
    """A count in few characters: `940`, `12.3k`, `1.2M`."""
    number = number or 0
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + letter
    return str(number)


def when(schedule: Schedule) -> str:
    """When it runs, in words."""
    try:
        return schedule.in_words()
    except TimetableError:
        return "Can't be read"


def no_further(schedule: Schedule) -> str:
    """Why nothing more is due of one that is on the rota, a clause; empty where there is, or it only runs by hand."""
    if schedule.next_run_at or schedule.status != Schedule.Status.ACTIVE:
        return ""
    if schedule.runs_left == 0:
        return f"it ran {schedule.fired_count} of {counted(schedule.max_runs or 0, 'time')}"
    if schedule.at:
        return "its one time has passed"
    if schedule.cron and schedule.ends_at:
        return f"no time is left before its end, {zoned(schedule.ends_at, schedule.time_zone)}"
    return ""


def held_back(schedule: Schedule) -> str:
    """By how much its jitter is later than the next nominal time: `12m 30s later, by its jitter`. Empty for none."""
    if schedule.next_run_at is None or schedule.due_at is None:
        return ""
    share = timedelta(seconds=round((schedule.due_at - schedule.next_run_at).total_seconds()))
    return f"{durations.write(share)} later, by its jitter" if share > timedelta() else ""


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
