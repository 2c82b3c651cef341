"""What may happen to a schedule that a machine lets live, and when: strategies for Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from schedules.models import Schedule

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

# Nights on which a clock changes: Paris, New York, Lord Howe (by half an hour), Cairo (at midnight).
NIGHTS = [
    datetime.fromisoformat(f"2027-{night}:00Z")
    for night in (
        *("03-28T01:00", "10-31T01:00", "03-14T07:00", "11-07T06:00"),
        *("04-03T15:00", "10-02T15:30", "04-29T22:00", "10-28T21:00"),
    )
]
FOLLOWING = ("* * * * *", "*/5 * * * *", "*/20 * * * *", "0 * * * *", "*/30 2 * * *")
FIXED = ("0 2 * * *", "30 2 * * *", "15,45 1-3 * * *", "7 0-23 * * *", "0,30 0,23 * * *", "0 9 * * 1")
PLAIN_ZONES = ("UTC", "Europe/Paris", "America/New_York")
ODD_ZONES = ("Australia/Lord_Howe", "Africa/Cairo")  # where cronsim is no oracle for lines that follow the clock


def spans(*minutes: float) -> st.SearchStrategy[timedelta]:
    return st.sampled_from([timedelta(minutes=number) for number in minutes])


def _by_line(lines: Sequence[str], zones: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"cron": st.sampled_from(lines), "time_zone": st.sampled_from(zones), "at": st.none()})


LINES = _by_line(FOLLOWING + FIXED, PLAIN_ZONES) | _by_line(FIXED, ODD_ZONES)
ONCE = st.fixed_dictionaries({"cron": st.just(""), "time_zone": st.just("UTC"), "at": spans(1, 7, 60, 125)})
WHEN = LINES | LINES | LINES | ONCE
MINUTELY = {"cron": "* * * * *", "at": None, "starts_at": None, "ends_at": None, "max_runs": None}
# Spans where the model has instants: from the moment on at which they are chosen.
LATER = {"at", "starts_at", "ends_at"}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "jitter": spans(0, 0, 0.3, 3, 60),
    "catch_up": spans(0, 15, 15, 60, 360),
    "overlap": st.sampled_from(Schedule.Overlap.values),
    "max_runs": st.sampled_from([None, None, 1, 3]),
    "starts_at": st.none() | st.none() | spans(30, 180),
    "ends_at": st.none() | st.none() | spans(45, 300),
    "pause_after": st.sampled_from([None, 1, 1, 2]),
    "retry": st.sampled_from(["none", "none", "all", "infrastructure"]),
}
NAMES = st.sampled_from(["swift", "calm", "bright", "plain"])
CHANGES = (
    WHEN
    | st.fixed_dictionaries({}, optional=FIELDS | {"name": NAMES})
    | st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.fixed_dictionaries({name: FIELDS[name]}))
    | st.fixed_dictionaries({"name": NAMES})
)
ANY = st.integers(0, 5)
# To the moment at which a schedule is due, and so much later.
TO_DUE = st.tuples(
    ANY, st.sampled_from([-timedelta.resolution, timedelta(), timedelta(), SECOND, 10 * SECOND, 70 * SECOND])
)
TO_EDGE = st.tuples(ANY, st.sampled_from([timedelta(), timedelta.resolution]))
ON = spans(0.2, 1, 1, 5, 20, 60, 180, 420, 1230)
OUTCOMES = st.sampled_from([("succeeded", "ok"), ("failed", "exit_code"), ("failed", "no_result")])
