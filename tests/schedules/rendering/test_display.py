from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from schedules.models import Schedule
from schedules.rendering import display, durations

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def test_an_instant_tells_its_distance_and_hovering_the_rest() -> None:
    html = display.instant(NOON + timedelta(hours=3), NOON)

    assert ">in 3 h<" in html
    assert 'datetime="2026-11-20T15:00:00Z"' in html
    assert 'title="2026-11-20 15:00:00 UTC"' in html


def test_what_is_counted_is_one_or_many() -> None:
    assert [display.counted(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_no_instant_is_a_dash() -> None:
    assert display.instant(None, NOON) == "–"


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("Europe/Paris", "Fri 20 Nov 2026 13:00 +01:00"),
        ("Asia/Kolkata", "Fri 20 Nov 2026 17:30 +05:30"),
        ("Nowhere/At-all", "Fri 20 Nov 2026 12:00 +00:00"),
        ("../etc/passwd", "Fri 20 Nov 2026 12:00 +00:00"),
    ],
)
def test_an_instant_in_a_zone_has_its_offset(zone: str, text: str) -> None:
    assert display.zoned(NOON, zone) == text


def test_the_year_can_be_left_out() -> None:
    assert display.zoned(NOON, "UTC", year=False) == "Fri 20 Nov 12:00 +00:00"


def test_a_pill_escapes_what_it_is_given() -> None:
    html = display.pill('"><script>', label="<b>", title="<i>")

    assert "<script" not in html
    assert "<b>" not in html
    assert "<i>" not in html


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "$0"), (Decimal(0), "$0"), (Decimal("0.0034"), "$0.0034"), (Decimal("1234.5"), "$1,234.50")],
)
def test_money(amount: Decimal | None, text: str) -> None:
    assert display.money(amount) == text


@pytest.mark.parametrize(("number", "text"), [(None, "0"), (940, "940"), (12_345, "12.3k"), (1_000_000, "1M")])
def test_amounts_are_short(number: int | None, text: str) -> None:
    assert display.amount(number) == text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ok", ""),
        ("", ""),
        ("overlap", "the run before was still open"),
        ("cancelled", "cancelled"),  # by whom, its message says
        ("superseded", "a later time was due by then"),  # which may have been skipped
        ("new_one", "new_one"),
    ],
)
def test_a_reason_is_told_in_words(code: str, words: str) -> None:
    assert display.reason_words(code) == words


@pytest.mark.parametrize(
    ("cron", "words"),
    [("", "Only by hand"), ("*/15 * * * *", "Every 15 minutes"), ("nonsense", "Can't be read")],
)
def test_when_a_schedule_runs_is_told_in_words(cron: str, words: str) -> None:
    assert display.when(Schedule(cron=cron)) == words


@pytest.mark.parametrize(
    ("usd", "source", "text"),
    [
        (Decimal("0.42"), "reported", "$0.42"),
        (Decimal("0.42"), "reckoned", "$0.42 reckoned"),
        (Decimal("0.42"), "unknown", "more than $0.42"),
        (Decimal(0), "unknown", "not known"),
        (Decimal(0), "", "$0"),
    ],
)
def test_a_cost_says_who_says_so(usd: Decimal, source: str, text: str) -> None:
    assert display.cost(usd, source) == text


def planned(**fields: Any) -> Schedule:
    schedule = Schedule(**{"name": "daily", "cron": "0 9 * * *", **fields})
    schedule.plan(NOON)
    return schedule


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"max_runs": 3, "fired_count": 2}, ""),
        ({"max_runs": 2, "fired_count": 2}, "it ran 2 of 2 times"),
        ({"cron": "", "at": NOON - timedelta(hours=1)}, "its one time has passed"),
        (
            {"ends_at": NOON - timedelta(days=1)},
            "no time is left before its end, Thu 19 Nov 2026 12:00 +00:00",
        ),
        ({"cron": ""}, ""),  # only by hand
        ({"status": Schedule.Status.PAUSED}, ""),  # which says why itself
    ],
)
def test_a_schedule_without_a_further_time_says_why(fields: dict[str, Any], why: str) -> None:
    assert display.no_further(planned(**fields)) == why


def test_what_jitter_adds_to_the_next_time_is_told() -> None:
    plain, spread = planned(), planned(jitter=timedelta(hours=1))
    assert spread.due_at
    assert spread.next_run_at
    seconds = timedelta(seconds=round((spread.due_at - spread.next_run_at).total_seconds()))

    assert display.held_back(spread) == f"{durations.write(seconds)} later, by its jitter"
    assert display.held_back(plain) == display.held_back(planned(cron="")) == ""
