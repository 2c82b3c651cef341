"""The timetable, by tables written by hand."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from schedules.timetable import TimetableError, between, next_after, previous_at_or_before, upcoming, validate


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type, misc]


def fired_on(cron: str, time_zone: str, day: str) -> list[str]:
    """The instants of one local day, as `HH:MM` in UTC."""
    midnight = datetime.fromisoformat(day)
    zone = ZoneInfo(time_zone)
    after, until = (
        moment.replace(tzinfo=zone).astimezone(UTC) - datetime.resolution
        for moment in (midnight, midnight + timedelta(days=1))
    )
    return [f"{instant:%H:%M}" for instant in between(cron, time_zone, after, until, 2000)]


@pytest.mark.parametrize(
    ("time_zone", "day", "cron", "count"),
    [
        ("Europe/Paris", "2027-03-28", "0 * * * *", 23),
        ("Europe/Paris", "2027-03-28", "*/15 * * * *", 92),
        ("Europe/Paris", "2027-03-28", "0 2,3 * * *", 1),
        ("Europe/Paris", "2027-03-28", "0,30 2 * * *", 1),
        ("Europe/Paris", "2027-10-31", "0 * * * *", 25),
        ("Europe/Paris", "2027-10-31", "*/15 * * * *", 100),
        ("Europe/Paris", "2027-10-31", "0 2,3 * * *", 2),
        ("America/New_York", "2027-03-14", "*/5 * * * *", 276),
        ("America/New_York", "2027-11-07", "*/5 * * * *", 300),
        ("Australia/Lord_Howe", "2027-04-04", "*/10 * * * *", 147),
        ("Australia/Lord_Howe", "2027-10-03", "*/10 * * * *", 141),
        ("Antarctica/Troll", "2027-03-28", "0 * * * *", 22),
        ("Antarctica/Troll", "2027-10-31", "0 * * * *", 26),
        ("Asia/Kathmandu", "2027-03-28", "0 * * * *", 24),
    ],
)
def test_a_day_has_as_many_fires_as_its_clock_shows(time_zone: str, day: str, cron: str, count: int) -> None:
    assert len(fired_on(cron, time_zone, day)) == count


@pytest.mark.parametrize(
    ("time_zone", "day", "cron", "instants"),
    [
        # Paris skips 02:00-03:00 at 01:00Z and repeats it at 01:00Z.
        ("Europe/Paris", "2027-03-28", "30 2 * * *", ["01:00"]),
        ("Europe/Paris", "2027-03-28", "30 1,2,3 * * *", ["00:30", "01:00", "01:30"]),
        ("Europe/Paris", "2027-03-28", "*/30 2 * * *", []),
        ("Europe/Paris", "2027-10-31", "30 2 * * *", ["00:30"]),
        ("Europe/Paris", "2027-10-31", "*/30 2 * * *", ["00:00", "00:30", "01:00", "01:30"]),
        ("Europe/Paris", "2027-10-31", "0-59/30 2 * * *", ["00:00", "00:30"]),
        ("America/New_York", "2027-03-14", "30 2 * * *", ["07:00"]),
        ("America/New_York", "2027-11-07", "30 1 * * *", ["05:30"]),
        # Half an hour: 02:00 becomes 02:30 in October, and 02:00 becomes 01:30 in April.
        ("Australia/Lord_Howe", "2027-10-03", "15 2 * * *", ["15:30"]),
        ("Australia/Lord_Howe", "2027-10-03", "0,15,30,45 2 * * *", ["15:30", "15:45"]),
        ("Australia/Lord_Howe", "2027-10-03", "*/15 2 * * *", ["15:30", "15:45"]),
        ("Australia/Lord_Howe", "2027-04-04", "45 1 * * *", ["14:45"]),
        ("Australia/Lord_Howe", "2027-04-04", "*/15 1 * * *", ["14:00", "14:15", "14:30", "14:45", "15:00", "15:15"]),
        # Two hours: 01:00 becomes 03:00 in March, and 03:00 becomes 01:00 in October.
        ("Antarctica/Troll", "2027-03-28", "30 1,2 * * *", ["01:00"]),
        ("Antarctica/Troll", "2027-10-31", "30 1,2 * * *", ["23:30", "00:30"]),
        # Midnight itself is skipped, and the night before ends twice.
        ("Africa/Cairo", "2027-04-30", "0 0 * * *", ["22:00"]),
        ("Africa/Cairo", "2027-04-30", "@daily", ["22:00"]),
        ("Africa/Cairo", "2027-04-30", "*/30 0 * * *", []),
        ("Africa/Cairo", "2027-10-28", "30 23 * * *", ["20:30"]),
        ("America/Havana", "2027-03-14", "0 0 * * *", ["05:00"]),
        ("America/Havana", "2027-11-07", "0 0 * * *", ["04:00"]),
        ("America/Havana", "2027-11-07", "30 * * * *", ["04:30", *(f"{hour % 24:02}:30" for hour in range(5, 29))]),
        ("America/Santiago", "2027-09-05", "15 0 * * 0", ["04:00"]),
        ("America/Santiago", "2027-04-03", "0,30 23 * * *", ["02:00", "02:30"]),
        # Winter time in the summer of the rest of the year: Ramadan 2026 began on 15 February.
        ("Africa/Casablanca", "2026-02-15", "30 2 * * *", ["01:30"]),
        (
            "Africa/Casablanca",
            "2026-02-15",
            "*/30 2 * * *",
            ["01:00", "01:30", "02:00", "02:30"],
        ),
        ("Africa/Casablanca", "2026-03-22", "30 2 * * *", ["02:00"]),
        # Three hours skipped at once are a correction; so is a whole day that came again, and noon with it, when the
        # date line moved across Kwajalein.
        ("Antarctica/Casey", "2009-10-18", "30 1,3,5 * * *", ["17:30", "18:30"]),
        ("Pacific/Kwajalein", "1969-09-30", "0 12 * * *", ["01:00", "00:00"]),
    ],
)
def test_a_time_runs_when_the_table_says(time_zone: str, day: str, cron: str, instants: list[str]) -> None:
    assert fired_on(cron, time_zone, day) == instants


def test_a_day_that_never_was_is_left_out() -> None:
    """The date line moved across Samoa: 29 December 2011 was followed by 31 December."""
    noons = between("0 12 * * *", "Pacific/Apia", utc(2011, 12, 29), utc(2012, 1, 2), 9)
    assert noons == [utc(2011, 12, 29, 22), utc(2011, 12, 30, 22), utc(2011, 12, 31, 22), utc(2012, 1, 1, 22)]
    local = [f"{noon.astimezone(ZoneInfo('Pacific/Apia')):%d %b}" for noon in noons]
    assert local == ["29 Dec", "31 Dec", "01 Jan", "02 Jan"]
    assert next_after("0 12 30 * *", "Pacific/Apia", utc(2011, 12, 29)) == utc(2012, 1, 29, 22)
    assert previous_at_or_before("0 12 30 * *", "Pacific/Apia", utc(2012, 1, 1)) == utc(2011, 11, 30, 22)


@pytest.mark.parametrize(
    ("cron", "count"),
    [("0 0 1 * 1", 312), ("0 0 */2 * 1", 133), ("0 0 1-31/2 * 1", 1059), ("0 0 29 2 *", 1), ("0 0 29 2 1", 21)],
)
def test_the_days_of_five_years(cron: str, count: int) -> None:
    assert len(between(cron, "UTC", utc(2025, 12, 31, 23, 59), utc(2030, 12, 31), 5000)) == count


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 0 29 2 *", utc(2096, 2, 29), utc(2104, 2, 29)),
        ("0 0 29 2 */7", utc(2088, 2, 29), utc(2128, 2, 29)),  # 29 February, if that is a Sunday
        ("59 23 31 12 *", utc(2026, 12, 31, 23, 59), utc(2027, 12, 31, 23, 59)),
        ("* * * * *", utc(2026, 12, 31, 23, 59, 59, 999_999), utc(2027, 1, 1)),
        ("* * * * *", utc(2027, 1, 1), utc(2027, 1, 1, 0, 1)),
        ("0 0 1 1 *", utc(2026, 12, 31, 23, 59, 59), utc(2027, 1, 1)),
    ],
)
def test_next_is_the_first_one_strictly_after(cron: str, after: datetime, expected: datetime) -> None:
    assert next_after(cron, "UTC", after) == expected
    assert previous_at_or_before(cron, "UTC", expected) == expected
    assert previous_at_or_before(cron, "UTC", expected + timedelta(seconds=59)) == expected
    before = previous_at_or_before(cron, "UTC", expected - datetime.resolution)
    assert before is not None
    assert before <= after


def test_instants_come_out_in_utc_whatever_the_zone_they_come_in() -> None:
    second_time_round = datetime(2027, 10, 31, 2, 15, tzinfo=ZoneInfo("Europe/Paris"), fold=1)
    found = next_after("*/30 * * * *", "Europe/Paris", second_time_round)
    assert (found, found.tzinfo) == (utc(2027, 10, 31, 1, 30), UTC)
    back = previous_at_or_before("*/30 * * * *", "Europe/Paris", second_time_round)
    assert (back, back and back.tzinfo) == (utc(2027, 10, 31, 1), UTC)


def test_a_line_that_one_zone_alone_makes_impossible_is_refused_there() -> None:
    """A Sunday 28 March is the last one of its month, when Europe skips 02:00 to 03:00."""
    validate("*/5 2 28 3 */7", "America/New_York")
    with pytest.raises(TimetableError, match="never fires in Europe/Paris") as caught:
        validate("*/5 2 28 3 */7", "Europe/Paris")
    assert caught.value.field == "cron"
    validate("5 2 28 3 */7", "Europe/Paris")  # a fixed time runs after the gap


@pytest.mark.parametrize(
    ("time_zone", "message"),
    [
        ("", "The time zone is empty"),
        (" ", "The time zone is empty"),
        ("Europe/Pariss", "no time zone 'Europe/Pariss'. Did you mean Europe/Paris?"),
        ("europe/paris", "Did you mean Europe/Paris?"),
        ("UTC+2", "no time zone 'UTC+2'. Give a name such as"),
        ("America", "no time zone 'America'"),
        ("localtime", "no time zone 'localtime'"),
        ("../../etc/localtime", "no time zone"),
        ("/etc/localtime", "no time zone"),
        ("Zürich", r"no time zone 'Z\xfcrich'"),
        ("\0", r"no time zone '\x00'"),
        ("x" * 300, "has 300 characters"),
    ],
)
def test_an_unknown_zone_is_refused_at_its_field(time_zone: str, message: str) -> None:
    with pytest.raises(TimetableError, match=re.escape(message)) as caught:
        validate("@daily", time_zone)
    assert caught.value.field == "time_zone"


def test_every_function_refuses_a_bad_line_and_a_bad_zone() -> None:
    at = utc(2026, 1, 1)
    for cron, zone in (("0 0 31 2 *", "UTC"), ("@daily", "Nowhere")):
        for call in (
            lambda c, z: validate(c, z),
            lambda c, z: next_after(c, z, at),
            lambda c, z: upcoming(c, z, at, 3),
            lambda c, z: between(c, z, at, at, 3),
            lambda c, z: previous_at_or_before(c, z, at),
        ):
            with pytest.raises(TimetableError):
                call(cron, zone)


def test_a_naive_instant_is_a_mistake_of_the_caller() -> None:
    naive, aware = datetime(2026, 1, 1), utc(2026, 1, 1)  # noqa: DTZ001
    for call in (
        lambda: next_after("@daily", "UTC", naive),
        lambda: upcoming("@daily", "UTC", naive, 1),
        lambda: between("@daily", "UTC", naive, aware, 1),
        lambda: between("@daily", "UTC", aware, naive, 1),
        lambda: previous_at_or_before("@daily", "UTC", naive),
    ):
        with pytest.raises(ValueError, match="is naive"):
            call()


def test_the_calendar_ends() -> None:
    late = utc(9998, 12, 31, 22)
    assert upcoming("0 * * * *", "UTC", late, 5) == [utc(9998, 12, 31, 23)]
    with pytest.raises(TimetableError, match="does not fire again"):
        next_after("0 0 1 1 *", "UTC", late)
    assert previous_at_or_before("0 0 29 2 *", "UTC", utc(4, 2, 28)) is None
    for outside in (utc(1, 12, 31), utc(9999, 1, 1)):
        with pytest.raises(ValueError, match="outside the years 2 to 9998"):
            next_after("@daily", "UTC", outside)
    assert between("@daily", "UTC", utc(2026, 1, 1), utc(9999, 12, 31), 1) == [utc(2026, 1, 2)]


def test_between_takes_the_end_and_not_the_start_and_stops_at_its_limit() -> None:
    start, end = utc(2026, 1, 1), utc(2026, 1, 1, 4)
    assert between("0 * * * *", "UTC", start, end, 10) == [utc(2026, 1, 1, hour) for hour in (1, 2, 3, 4)]
    assert between("0 * * * *", "UTC", start, end, 2) == [utc(2026, 1, 1, 1), utc(2026, 1, 1, 2)]
    assert between("0 * * * *", "UTC", end, start, 10) == []
    assert between("0 * * * *", "UTC", start, end, 0) == []
