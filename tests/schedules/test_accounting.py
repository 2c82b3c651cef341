"""Nothing is lost around a pause."""

from datetime import UTC, datetime, timedelta

import pytest

from schedules import steering
from schedules.firing import fire_due
from schedules.models import Run, Schedule
from tests.schedules.factories import make_repository, make_run, make_schedule

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_what_passed_during_a_pause_is_one_row_that_says_by_whom() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    steering.pause([schedule], by="bob", reason="too noisy.", now=NINE - HOUR)

    steering.resume([schedule], by="ada", now=NINE + 2 * DAY + HOUR)

    run = Run.objects.get()
    assert (run.status, run.reason, run.missed_count) == ("skipped", "paused", 3)
    assert (run.scheduled_for, run.missed_until) == (NINE, NINE + 2 * DAY)
    assert run.message == "3 due times skipped: the schedule was paused by bob (too noisy)."
    assert fire_due(now=NINE + 2 * DAY + 2 * HOUR).runs == 0


def test_a_pause_and_then_a_disabling_are_one_row_each() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    steering.pause([schedule], by="bob", reason="", now=NINE - HOUR)
    steering.disable([schedule], by="ada", reason="", now=NINE + HOUR)
    steering.resume([schedule], by="ada", now=NINE + DAY + HOUR)

    rows = Run.objects.order_by("scheduled_for").values_list("scheduled_for", "reason", "missed_count")
    assert list(rows) == [(NINE, "paused", 1), (NINE + DAY, "disabled", 1)]


def test_where_nothing_passed_there_is_no_row() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    steering.pause([schedule], by="bob", reason="", now=NINE - HOUR)
    steering.resume([schedule], by="bob", now=NINE - MINUTE)
    assert not Run.objects.exists()


@pytest.mark.parametrize("verb", ["pause", "disable"])
def test_what_is_due_and_not_fired_when_it_is_taken_off_is_on_record(verb: str) -> None:
    shops = [make_repository(), make_repository()]
    schedule = make_schedule(now=NINE - HOUR, cron="*/30 * * * *", repositories=shops)

    getattr(steering, verb)([schedule], by="bob", reason="", now=NINE + timedelta(seconds=1))

    due = Run.objects.filter(scheduled_for=NINE)
    assert {(run.status, run.reason) for run in due} == {("skipped", "paused" if verb == "pause" else "disabled")}
    assert due.count() == 2
    assert "before it was fired" in due[0].message
    assert Run.objects.filter(scheduled_for=NINE - 30 * MINUTE, status="missed").count() == 2
    steering.resume([schedule], by="bob", now=NINE + MINUTE)
    assert Run.objects.count() == 4


def test_what_only_jitter_held_back_at_the_pause_is_counted_at_the_resume() -> None:
    schedule = make_schedule("spread", now=NINE - HOUR, jitter=HOUR)
    assert schedule.due_at is not None
    steering.pause([schedule], by="bob", reason="", now=NINE + timedelta(seconds=1))
    assert not Run.objects.exists()

    steering.resume([schedule], by="bob", now=NINE + HOUR)

    assert Run.objects.get().scheduled_for == NINE


def test_one_that_was_made_paused_counts_from_then() -> None:
    schedule = make_schedule(now=NINE - HOUR, status="paused", status_by="bob")
    steering.resume([schedule], by="ada", now=NINE + HOUR)
    assert Run.objects.get().scheduled_for == NINE


def test_a_row_that_is_there_already_is_not_made_again() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    make_run(schedule, now=NINE, trigger="schedule", status="succeeded")
    steering.pause([schedule], by="bob", reason="", now=NINE + MINUTE)
    steering.resume([schedule], by="bob", now=NINE + HOUR)
    assert Run.objects.count() == 1


def test_one_that_can_not_be_read_can_be_paused() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    Schedule.objects.filter(pk=schedule.pk).update(cron="61 * * * *")
    assert steering.pause([schedule], by="bob", reason="", now=NINE + MINUTE) == 1
    assert Run.objects.get().reason == "paused"
    Schedule.objects.filter(pk=schedule.pk).update(cron="0 10 * * *")
    assert steering.resume([schedule], by="bob", now=NINE + 2 * HOUR) == 1
    assert Run.objects.count() == 2


def test_a_broken_one_can_be_paused_and_stays_so() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    Schedule.objects.filter(pk=schedule.pk).update(cron="61 * * * *")
    fire_due(now=NINE)
    assert steering.pause([schedule], by="bob", reason="later", now=NINE + HOUR) == 1
    schedule.refresh_from_db()
    assert (schedule.status, schedule.status_by) == ("paused", "bob")
