"""Once, so many times, until then: which nominal times run, and which were missed."""

from datetime import UTC, datetime, timedelta
from time import perf_counter

import pytest

from schedules.firing import fire_due
from schedules.models import Incident, Run, Schedule
from schedules.occasions import occasions, passed
from tests.schedules.factories import make_run, make_schedule

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def once(**fields: object) -> Schedule:
    return make_schedule(now=NINE - HOUR, cron="", at=NINE, **fields)  # type: ignore[arg-type]


def test_a_time_of_its_own_comes_once() -> None:
    schedule = once()
    assert (schedule.next_run_at, schedule.upcoming(NINE - HOUR)) == (NINE, [NINE])

    assert fire_due(now=NINE).runs == 1
    assert fire_due(now=NINE + DAY).schedules == 0

    schedule.refresh_from_db()
    assert (schedule.next_run_at, schedule.due_at, schedule.status) == (None, None, "active")
    assert Run.objects.get().scheduled_for == NINE


@pytest.mark.parametrize(("late", "status"), [(10 * MINUTE, "queued"), (20 * MINUTE, "missed")])
def test_a_time_of_its_own_that_was_due_during_an_outage_heeds_the_window(late: timedelta, status: str) -> None:
    once(catch_up=15 * MINUTE)
    fire_due(now=NINE + late)
    assert Run.objects.get().status == status


def test_a_time_of_its_own_is_spread_by_its_jitter() -> None:
    schedule = once(name="spread", jitter=HOUR)
    assert schedule.due_at is not None
    assert NINE < schedule.due_at < NINE + HOUR
    fire_due(now=schedule.due_at)
    assert Run.objects.get().scheduled_for == NINE


def test_so_many_due_times_run_and_then_no_more() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="0 * * * *", max_runs=2, overlap="allow")
    assert schedule.upcoming(NINE - HOUR) == [NINE, NINE + HOUR]

    for hour in range(4):
        fire_due(now=NINE + hour * HOUR)

    schedule.refresh_from_db()
    assert (schedule.fired_count, schedule.runs_left, schedule.due_at) == (2, 0, None)
    assert Run.objects.count() == 2


def test_a_due_time_that_did_not_run_does_not_count() -> None:
    schedule = make_schedule(now=NINE - HOUR, max_runs=1)
    make_run(schedule, now=NINE - HOUR, status="running")
    fire_due(now=NINE)
    schedule.refresh_from_db()
    assert (schedule.fired_count, schedule.next_run_at) == (0, NINE + DAY)


def test_no_jitter_leads_beyond_the_end() -> None:
    schedule = make_schedule("spread", now=NINE - HOUR, jitter=HOUR, ends_at=NINE + MINUTE)
    assert schedule.due_at is not None
    assert NINE < schedule.due_at <= NINE + MINUTE


@pytest.mark.parametrize(
    ("line", "zone", "nominal"),
    [
        ("30 2 * * *", "Europe/Paris", datetime(2027, 3, 28, 1, tzinfo=UTC)),  # in the gap
        ("30 2 * * *", "Europe/Paris", datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),  # in the repeated hour
        ("*/30 * * * *", "Australia/Lord_Howe", datetime(2027, 4, 3, 15, tzinfo=UTC)),
    ],
)
def test_where_the_clock_changes_the_nominal_time_stays_and_the_jitter_before_the_next(
    line: str, zone: str, nominal: datetime
) -> None:
    before = nominal - timedelta(seconds=1)
    schedule = make_schedule("spread", now=before, cron=line, time_zone=zone, jitter=3 * HOUR)
    assert schedule.next_run_at == nominal
    assert schedule.due_at is not None
    following = schedule.next_after(nominal)
    assert following is not None
    assert nominal <= schedule.due_at < min(following, nominal + 3 * HOUR)

    fire_due(now=schedule.due_at)

    assert Run.objects.get().scheduled_for == nominal


def test_a_minutely_schedule_recovers_from_a_long_night_at_once() -> None:
    schedule = make_schedule(now=NINE, cron="* * * * *")
    began = perf_counter()
    found = occasions(schedule, NINE + 500 * MINUTE)
    assert perf_counter() - began < 2
    assert found.run_for == NINE + 500 * MINUTE
    assert sum(missed.count for missed in found.missed) == 499


def test_a_thousand_and_one_due_times_are_too_many() -> None:
    schedule = make_schedule(now=NINE, cron="* * * * *")
    assert not occasions(schedule, NINE + 1000 * MINUTE).jumped
    assert occasions(schedule, NINE + 1001 * MINUTE).jumped


def test_a_later_time_that_took_its_place_is_no_alarm() -> None:
    make_schedule(now=NINE, cron="* * * * *")
    fire_due(now=NINE + 10 * MINUTE)
    assert not Incident.objects.exists()


def test_what_passed_is_counted_between_start_and_end() -> None:
    schedule = make_schedule(now=NINE - DAY, cron="0 * * * *", starts_at=NINE, ends_at=NINE + 3 * HOUR, status="paused")
    found = passed(schedule, NINE - DAY, NINE + DAY, reason="paused")  # type: ignore[arg-type]
    assert found is not None
    assert (found.first, found.last, found.count) == (NINE, NINE + 3 * HOUR, 4)
    assert passed(schedule, NINE + 3 * HOUR, NINE + DAY, reason="paused") is None  # type: ignore[arg-type]
