"""The oracles of the timetable: Debian's daemon minute by minute, the cronsim package, and what always holds."""

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules import timetable
from schedules.timetable import between, next_after, previous_at_or_before, upcoming

MINUTE = timedelta(minutes=1)
# Whole-hour changes, never at midnight.
PLAIN_ZONES = ("Europe/Paris", "America/New_York", "Antarctica/Troll", "Africa/Casablanca", "Europe/Dublin", "UTC")
ODD_ZONES = (
    "Africa/Cairo",
    "America/Asuncion",
    "America/Caracas",
    "America/Havana",
    "America/Santiago",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
)
# The clock moved by three hours and more.
CORRECTED_ZONES = ("Antarctica/Casey", "Pacific/Apia", "Pacific/Fakaofo")
ZONES = PLAIN_ZONES + ODD_ZONES + CORRECTED_ZONES


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[arg-type, misc]


MINUTES = ("0", "30", "59", "5,35", "0-59/20", "15/20", "*/15", "*/7", "*", "*,5", "1-3", "0-59")
HOURS = ("*", "*/2", "0", "1", "2", "3", "23", "1-3", "2,3", "0,12", "22-23", "0-23", "5/6")
DAYS = ("*", "*", "*", "*/2", "1-31/2", "28", "1,29,30,31", "*,1")
MONTHS = ("*", "*", "*", "*/3", "3,10", "APR-OCT")
WEEKDAYS = ("*", "*", "*", "0", "7", "1-5", "*/2", "SUN", "sat,sun", "5-7")


def some_line(choice: random.Random) -> str:
    return " ".join(map(choice.choice, (MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS)))


def follows_clock(cron: str) -> bool:
    minute, hour, *_ = cron.split()
    return minute.startswith("*") or hour.startswith("*")


@cache
def changes(time_zone: str) -> list[datetime]:
    """The instants, 2005 to 2029, at which the zone's offset changes."""
    zone = ZoneInfo(time_zone)
    found = []
    days = [utc(2005, 1, 1) + timedelta(hours=12 * n) for n in range(2 * 365 * 25)]
    offsets = [(day, day.astimezone(zone).utcoffset()) for day in days]
    for (low, before), (high, after) in pairwise(offsets):
        if before == after:
            continue
        while high - low > MINUTE:
            middle = low + (high - low) // (2 * MINUTE) * MINUTE
            same = middle.astimezone(zone).utcoffset() == before
            low, high = (middle, high) if same else (low, middle)
        found.append(high)
    return found


def debian_fires(cron: str, minutes: list[tuple[datetime, datetime]]) -> list[datetime]:
    """What Debian's cron daemon starts while it wakes at each of these minutes (instant, wall clock).

    A model of the main loop of its cron.c: `virtual` is the wall clock it has worked off. It tells a change of the
    clock by its size, runs wildcard lines by the new clock, and for fixed times makes up for what was skipped and
    waits until what is repeated is over. Changes of more than three hours it takes as they come.
    """
    line = CronSim(cron, datetime(2020, 1, 1))  # noqa: DTZ001 (for the fields alone)
    wildcard = follows_clock(cron)

    def matches(wall: datetime) -> bool:
        return (
            wall.minute in line.minutes
            and wall.hour in line.hours
            and wall.month in line.months
            and line.match_day(wall.date())
        )

    fires = []
    virtual = minutes[0][1]
    for instant, wall in minutes[1:]:
        ahead = (wall - virtual) // MINUTE
        if ahead == 1 or not -180 < ahead <= 180:
            virtual, fire = wall, matches(wall)
        elif ahead <= 0:
            fire = wildcard and matches(wall)
        else:
            skipped = [virtual + n * MINUTE for n in range(1, ahead + 1)]
            virtual, fire = wall, matches(wall) if wildcard else any(map(matches, skipped))
        if fire:
            fires.append(instant)
    return fires


@pytest.mark.no_cover
def test_around_every_kind_of_change_it_does_what_debians_daemon_does() -> None:
    choice = random.Random(20270328)
    places = [(time_zone, change) for time_zone in ZONES for change in changes(time_zone)]
    for time_zone, change in choice.sample(places, 120):
        zone = ZoneInfo(time_zone)
        instants = [change + n * MINUTE for n in range(-240, 300)]
        clock = [(instant, instant.astimezone(zone).replace(tzinfo=None)) for instant in instants]
        for cron in [some_line(choice) for _ in range(8)]:
            expected = debian_fires(cron, clock)
            assert between(cron, time_zone, instants[0], instants[-1], 1000) == expected, (cron, time_zone, change)
            at, backwards = instants[-1], []
            while (found := previous_at_or_before(cron, time_zone, at)) is not None and found > instants[0]:
                backwards.append(found)
                at = found - datetime.resolution
            assert backwards[::-1] == expected, (cron, time_zone, change)


@pytest.mark.no_cover
def test_it_agrees_with_cronsim() -> None:
    """But for what the decision record lists: cronsim steps by whole hours, starts anew in a repeated hour, and says
    the same instant once for each fixed time that meets there.
    """
    choice = random.Random(19870501)
    compared = 0
    while compared < 2000:
        cron, time_zone = some_line(choice), choice.choice(PLAIN_ZONES + ODD_ZONES)
        if time_zone in ODD_ZONES and follows_clock(cron):
            continue
        after = utc(choice.randrange(2005, 2035), 1, 1) + timedelta(minutes=choice.randrange(365 * 24 * 60))
        if choice.random() < 0.5 and changes(time_zone):
            after = choice.choice(changes(time_zone)) + choice.randrange(-400, 200) * MINUTE
        start = after.astimezone(ZoneInfo(time_zone))
        if start.fold:
            continue
        expected = [fire.astimezone(UTC) for fire in islice(CronSim(cron, start), 6)]
        found = upcoming(cron, time_zone, after, 6)
        assert found[: len(set(expected))] == sorted(set(expected)), (cron, time_zone, start)
        compared += 1


def changes_to_come() -> dict[tuple[datetime, timedelta, timedelta], str]:
    """Every change of a clock from 2026 to 2037: when, the offsets before and after, and one of its zones."""
    weeks = [utc(2026, 1, 1) + timedelta(weeks=n) for n in range(628)]
    found: dict[tuple[datetime, timedelta, timedelta], str] = {}
    for time_zone in sorted(available_timezones() - {"Factory", "localtime"}):
        zone = ZoneInfo(time_zone)
        offsets = [(week, week.astimezone(zone).utcoffset() or timedelta()) for week in weeks]
        for (low, before), (high, after) in pairwise(offsets):
            if before == after:
                continue
            while high - low > MINUTE:
                middle = low + (high - low) // (2 * MINUTE) * MINUTE
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
            if high.year < 2038:
                found.setdefault((high, before, after), time_zone)
    return found


@pytest.mark.no_cover
def test_around_every_change_of_the_years_to_come_it_agrees_with_both() -> None:
    """In all zones: those that share a change also share the clocks around it. What the decision record lists is left
    out: cronsim, for wildcard lines where the clock changes at midnight or within an hour.
    """
    choice = random.Random(20262037)
    changes_of_all = changes_to_come()
    assert {change.year for change, *_ in changes_of_all} == set(range(2026, 2038))
    assert len(changes_of_all) > 500
    compared = 0
    for (change, before, after), time_zone in changes_of_all.items():
        zone = ZoneInfo(time_zone)
        instants = [change + n * MINUTE for n in range(-200, 301)]
        clock = [(instant, instant.astimezone(zone).replace(tzinfo=None)) for instant in instants]
        begin, last = instants[0], instants[-1]
        walls = [change + offset for offset in (before, after)]
        is_plain = all(wall.hour > 0 and wall.minute == 0 for wall in walls)
        for cron in (f"{choice.choice(MINUTES)} {choice.choice(HOURS)} * * *", some_line(choice)):
            found = between(cron, time_zone, begin, last, 1000)
            assert found == debian_fires(cron, clock), (cron, time_zone, change)
            if follows_clock(cron) and not is_plain:
                continue
            fires = (fire.astimezone(UTC) for fire in CronSim(cron, begin.astimezone(zone)))
            said = takewhile(lambda fire, last=last: fire <= last, fires)  # type: ignore[misc]
            assert found == sorted(set(said)), (cron, time_zone, change)
            compared += 1
    assert compared > 1000


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spread = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high).map("/{}".format)
    term = st.one_of(
        number.map(str), spread, st.tuples(st.one_of(spread, number.map(str), st.just("*")), step).map("".join)
    )
    return st.one_of(st.just("*"), st.lists(term, min_size=1, max_size=3).map(",".join))


LINES = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)).map(" ".join)
INSTANTS = st.datetimes(datetime(1975, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
NEAR = st.one_of(
    st.integers(-200, 200).map(lambda minutes: minutes * MINUTE),
    st.sampled_from((-datetime.resolution, timedelta(), datetime.resolution)),
)
# A zone and an instant: any, or one at a change of its clock.
MOMENTS = st.one_of(
    st.tuples(st.sampled_from(ZONES), INSTANTS),
    st.tuples(
        # Deferred: they are looked for by who runs these tests, not by all who read the file.
        st.deferred(lambda: st.sampled_from([(zone, change) for zone in ZONES for change in changes(zone)])),
        NEAR,
    ).map(lambda near: (near[0][0], near[0][1] + near[1])),
)
every_time = settings(max_examples=150, deadline=None, derandomize=True)


@given(LINES, MOMENTS)
@every_time
def test_upcoming_rises_and_is_next_after_again_and_again(cron: str, moment: tuple[str, datetime]) -> None:
    time_zone, after = moment
    times = upcoming(cron, time_zone, after, 6)
    assert len(times) == 6
    for before, time in pairwise([after, *times]):
        assert before < time
        assert next_after(cron, time_zone, before) == time


@given(LINES, MOMENTS)
@every_time
def test_between_and_previous_tell_the_same_story_as_upcoming(cron: str, moment: tuple[str, datetime]) -> None:
    time_zone, after = moment
    times = upcoming(cron, time_zone, after, 6)
    assert between(cron, time_zone, after, times[-1], 10) == times
    assert between(cron, time_zone, after, times[-1] - datetime.resolution, 10) == times[:-1]
    for earlier, later in pairwise(times):
        assert previous_at_or_before(cron, time_zone, later) == later
        assert previous_at_or_before(cron, time_zone, later - datetime.resolution) == earlier
    first = previous_at_or_before(cron, time_zone, times[0] - datetime.resolution)
    assert first is not None
    assert first <= after


@given(LINES, MOMENTS)
@every_time
def test_away_from_changes_of_the_clock_the_clock_shows_what_the_line_says(
    cron: str, moment: tuple[str, datetime]
) -> None:
    time_zone, after = moment
    line = CronSim(cron, datetime(2020, 1, 1))  # noqa: DTZ001 (for the fields alone)
    zone = ZoneInfo(time_zone)
    for time in upcoming(cron, time_zone, after, 6):
        hours_around = [(time + timedelta(hours=n)).astimezone(zone).utcoffset() for n in range(-4, 5)]
        if len(set(hours_around)) > 1:
            continue
        wall = time.astimezone(zone)
        assert wall.minute in line.minutes
        assert wall.hour in line.hours
        assert wall.month in line.months
        assert line.match_day(wall.date())
        assert (wall.second, wall.microsecond) == (0, 0)


@given(st.tuples(st.sampled_from(MINUTES), st.sampled_from(HOURS)), MOMENTS)
@every_time
def test_what_fires_does_not_depend_on_where_one_starts_to_look(
    times: tuple[str, str], moment: tuple[str, datetime]
) -> None:
    cron, (time_zone, middle) = " ".join([*times, "* * *"]), moment
    start, end = middle - timedelta(hours=5), middle + timedelta(hours=5)
    whole = between(cron, time_zone, start, end, 1000)
    parts = between(cron, time_zone, start, middle, 1000) + between(cron, time_zone, middle, end, 1000)
    assert parts == whole
    last = previous_at_or_before(cron, time_zone, middle)
    assert last is not None
    assert [time for time in whole if time <= middle][-1:] in ([last], [])


def test_counting_agrees_with_listing_in_every_zone_and_around_each_change() -> None:
    dice = random.Random(7)
    zones = sorted(available_timezones() - {"Factory", "localtime"})
    minutes, hours = ("*", "*/7", "0", "30", "5,50"), ("*", "*/5", "0", "2", "1-3", "23")
    days, weekdays = ("*", "1,15", "*/2"), ("*", "1-5", "0")
    for _ in range(600):
        line = f"{dice.choice(minutes)} {dice.choice(hours)} {dice.choice(days)} * {dice.choice(weekdays)}"
        zone, limit = dice.choice(zones), dice.choice((3, 200, 1500))
        after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.randrange(11 * 365 * 86_400))
        until = after + timedelta(seconds=dice.randrange(dice.choice((7_200, 200_000, 5_000_000))))
        listed = timetable.between(line, zone, after, until, limit)
        assert timetable.count(line, zone, after, until, limit) == len(listed), (line, zone, after, until)


def test_counting_ten_years_stops_at_its_limit_and_nothing_is_before_it_begins() -> None:
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    assert timetable.count("* * * * *", "Europe/Paris", begin, begin.replace(year=2037), 1000) == 1000
    assert timetable.count("0 0 1 * *", "UTC", begin, begin.replace(year=2037), 1000) == 120
    assert timetable.count("* * * * *", "UTC", begin, begin, 10) == 0
    assert timetable.count("* * * * *", "UTC", begin, begin - timedelta(days=1), 10) == 0
