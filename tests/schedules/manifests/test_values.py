"""Durations and the other values of a manifest, as people write them."""

from datetime import timedelta

import pytest

from schedules.manifests.values import Unreadable, duration


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("0s", timedelta()),
        (" 5m ", timedelta(minutes=5)),
    ],
)
def test_a_duration_is_read(text: str, span: timedelta) -> None:
    assert duration(text) == span


@pytest.mark.parametrize("text", ["", "m", "30 minutes", "-5m", "1.5h", "5m1h", "5M", "00:30:00", "9" * 30 + "d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Unreadable, match="Write it like 90s, 30m, 1h30m or 2d"):
        duration(text)


def test_a_bare_number_lacks_its_unit() -> None:
    with pytest.raises(Unreadable, match="Say its unit"):
        duration("30")
