from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.rendering import durations


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30m", timedelta(minutes=30)),
        ("1h 30m", timedelta(hours=1, minutes=30)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("90 seconds", timedelta(seconds=90)),
        ("1.5h", timedelta(minutes=90)),
        ("2 days, 3 hours", timedelta(days=2, hours=3)),
        ("1w", timedelta(weeks=1)),
        ("00:30:00", timedelta(minutes=30)),
        ("1 day, 2:00:00", timedelta(days=1, hours=2)),
        ("0", timedelta()),
        ("0s", timedelta()),
        ("  45S ", timedelta(seconds=45)),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, duration: timedelta) -> None:
    assert durations.parse(text) == duration


@pytest.mark.parametrize("text", ["30", "soon", "5 parsecs", "-5m", "1h -5m", "m", "1:2", "h5", "5m x"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        durations.parse(text)


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=4000)))
def test_what_is_written_is_read_as_the_same(duration: timedelta) -> None:
    whole = timedelta(days=duration.days, seconds=duration.seconds)

    assert durations.parse(durations.write(whole)) == whole


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (3.21, "3.2s"), (42.4, "42s"), (72, "1m 12s"), (3600, "1h"), (7512, "2h 5m"), (200000, "2d 7h")],
)
def test_what_something_took_is_told_in_two_places(seconds: float, text: str) -> None:
    assert durations.measure(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "now"),
        (59, "in 59 s"),
        (60, "in 1 min"),
        (3 * 3600 + 60, "in 3 h"),
        (86400, "in 1 day"),
        (-3 * 86400, "3 days ago"),
        (-5, "5 s ago"),
    ],
)
def test_a_distance_from_now_has_one_unit(seconds: float, text: str) -> None:
    assert durations.distance(timedelta(seconds=seconds)) == text
