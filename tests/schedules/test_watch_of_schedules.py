"""The dead-man's switch over schedules: who has no time, and who should have succeeded by now."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from schedules.firing import fire_due
from schedules.models import Incident, Schedule, WorkerHeartbeat
from schedules.steering import disable, pause, resume
from schedules.watch import look
from tests.schedules.factories import make_run, make_schedule, make_worker
from tests.schedules.watching import alarms, lived

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def beat() -> WorkerHeartbeat:
    return make_worker("beat@here", kind="beat", now=NOW, started_at=NOW - DAY)


def test_a_row_that_was_put_in_by_sql_gets_its_next_time(beat: WorkerHeartbeat) -> None:
    schedule = make_schedule(now=NOW)
    over = make_schedule(now=NOW, ends_at=NOW - DAY)
    Schedule.objects.update(next_run_at=None, due_at=None)
    look(now=NOW)
    schedule.refresh_from_db()
    over.refresh_from_db()
    assert (schedule.next_run_at, schedule.due_at) == (NOW + DAY, NOW + DAY)
    assert over.due_at is None


def put_in_by_sql(**fields: Any) -> Schedule:
    """One that nobody planned."""
    schedule = make_schedule(now=NOW - DAY, cron="", **fields)
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=None, due_at=None)
    return schedule


@pytest.mark.parametrize("at", [NOW + HOUR, NOW - MINUTE, NOW - HOUR])
def test_a_single_time_that_was_put_in_by_sql_comes_to_a_run_or_is_missed(beat: WorkerHeartbeat, at: datetime) -> None:
    schedule = put_in_by_sql(at=at)
    look(now=NOW)
    schedule.refresh_from_db()
    assert (schedule.next_run_at, schedule.due_at) == (at, at)

    for _ in range(2):
        fire_due(now=max(at, NOW))
        look(now=max(at, NOW) + SECOND)
    assert [run.status for run in schedule.runs.all()] == ["missed" if at == NOW - HOUR else "queued"]
    assert (("missed", schedule.name) in alarms()) == (at == NOW - HOUR)


def test_a_single_time_may_be_written_as_a_person_writes_it(beat: WorkerHeartbeat) -> None:
    schedule = put_in_by_sql(at=NOW - HOUR)
    with connection.cursor() as cursor:  # which SQLite keeps as it is written
        cursor.execute("UPDATE schedules_schedule SET at = %s WHERE id = %s", [f"{NOW:%Y-%m-%d %H:%M}", schedule.pk])

    for seconds in range(0, 60, 15):
        look(now=NOW + seconds * SECOND)
        fire_due(now=NOW + seconds * SECOND)

    assert [(run.scheduled_for, run.status) for run in schedule.runs.all()] == [(NOW, "queued")]


@pytest.mark.parametrize(
    "fields",
    [
        {"at": NOW - MINUTE, "fired_count": 1},
        {"at": NOW - MINUTE, "status_at": NOW},
        {"at": NOW + HOUR, "ends_at": NOW + MINUTE},
        {"at": NOW + HOUR, "starts_at": NOW + DAY},
        {"at": NOW - 32 * DAY},
        {"at": NOW + HOUR, "status": "disabled"},
    ],
)
def test_a_single_time_that_is_over_or_never_comes_is_left_alone(beat: WorkerHeartbeat, fields: dict[str, Any]) -> None:
    schedule = put_in_by_sql(**fields)
    look(now=NOW)
    schedule.refresh_from_db()
    assert schedule.due_at is None


def test_a_single_time_that_passed_in_a_pause_is_not_run_by_a_resume(beat: WorkerHeartbeat) -> None:
    schedule = make_schedule(now=NOW - DAY, cron="", at=NOW - MINUTE)
    pause([schedule], by="ada", reason="", now=NOW - HOUR)
    resume([schedule], by="ada", now=NOW)
    look(now=NOW)
    fire_due(now=NOW)
    assert [(run.status, run.reason) for run in schedule.runs.all()] == [("skipped", "paused")]


def test_a_look_for_single_times_reads_an_index(beat: WorkerHeartbeat) -> None:
    with CaptureQueriesContext(connection) as queries:
        look(now=NOW)
    [looked] = [query["sql"] for query in queries if '"at" >' in query["sql"]]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {looked}")
            assert "schedule_once_unplanned" in str(cursor.fetchall())


def test_one_that_can_not_be_read_is_left_to_beat_at_once(beat: WorkerHeartbeat) -> None:
    broken, fit = make_schedule(now=NOW), make_schedule(now=NOW)
    Schedule.objects.update(next_run_at=None, due_at=None)
    Schedule.objects.filter(pk=broken.pk).update(cron="not a line")
    look(now=NOW)
    broken.refresh_from_db()
    fit.refresh_from_db()
    assert (broken.due_at, fit.due_at) == (NOW, NOW + DAY)


def test_a_schedule_that_should_have_succeeded_by_now_is_told_until_it_does(beat: WorkerHeartbeat) -> None:
    schedule = make_schedule("nightly", now=NOW, last_success_at=NOW - 3 * DAY, overdue_at=NOW - SECOND)
    make_schedule(now=NOW, overdue_at=NOW + SECOND)
    look(now=NOW)
    assert alarms() == {
        ("no_success", "nightly"): "nightly succeeded last at 2027-01-01 09:00:00 UTC: it should have by now."
    }
    assert Incident.objects.get().schedule == schedule

    Schedule.objects.update(overdue_at=None)
    look(now=NOW + SECOND)
    assert alarms() == {}


def test_many_that_did_not_succeed_are_one_cause(beat: WorkerHeartbeat) -> None:
    for number in range(25):
        make_schedule(f"s{number:02}", now=NOW, overdue_at=NOW - SECOND)
    look(now=NOW)
    assert list(alarms()) == [("no_success", "")]
    assert "s00, s01, s02, s03, s04 and at least 16 others" in alarms()["no_success", ""]


def test_whoever_is_off_the_rota_need_not_succeed(beat: WorkerHeartbeat) -> None:
    schedule = make_schedule(now=NOW, overdue_at=NOW - SECOND)
    disable([schedule], by="ada", reason="", now=NOW)
    look(now=NOW)
    assert alarms() == {}


def message_of(kind: str) -> str:
    return Incident.objects.filter(kind=kind).order_by("pk").values_list("message", flat=True).last() or ""


def without_further_times(**fields: Any) -> Schedule:
    schedule = make_schedule("done", now=NOW - DAY, **fields)
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=None, due_at=None)
    return schedule


@pytest.mark.parametrize("kind", ["no_success", "missed"])
def test_what_nothing_to_come_can_mend_is_told_for_a_day_and_says_why_it_is_over(
    beat: WorkerHeartbeat, kind: str
) -> None:
    schedule = without_further_times(at=NOW - HOUR, cron="", fired_count=1, overdue_at=NOW - SECOND)
    Incident.objects.alarm("missed", "done", message="A due time of done.", schedule=schedule, now=NOW)
    for minutes in range(0, 1441, 60):
        lived(until=NOW + minutes * MINUTE)
        look(now=NOW + minutes * MINUTE)
        assert ((kind, "done") in alarms()) == (minutes < 1440)
    assert message_of(kind).endswith(" Over: the schedule has no further times.")
    lived(until=NOW + 2 * DAY)
    look(now=NOW + 2 * DAY)
    assert alarms() == {}


def test_who_acknowledged_what_nothing_can_mend_is_done_with_it(beat: WorkerHeartbeat) -> None:
    schedule = without_further_times(at=NOW - HOUR, cron="", fired_count=1, overdue_at=NOW - SECOND)
    look(now=NOW)
    run = make_run(schedule, now=NOW, status="running")
    for alarm in Incident.objects.all():
        Incident.objects.acknowledge(alarm.pk, by="ada", now=NOW)
    for seconds in (1, 2 * 86400):
        lived(until=NOW + seconds * SECOND)
        look(now=NOW + seconds * SECOND)
        assert list(alarms()) == [("no_success", "done")], "its run may succeed still"
    type(run).objects.filter(pk=run.pk).update(status="failed", reason="exit_code", finished_at=NOW)
    for _ in range(2):
        look(now=NOW + 2 * SECOND)
        assert alarms() == {}


@pytest.mark.parametrize(("off", "word"), [(pause, "paused"), (disable, "disabled")])
def test_an_alarm_of_what_was_taken_off_the_rota_says_so(
    beat: WorkerHeartbeat, off: Callable[..., int], word: str
) -> None:
    schedule = make_schedule(now=NOW, overdue_at=NOW - SECOND)
    Incident.objects.alarm("missed", schedule.name, message="Missed.", schedule=schedule, now=NOW)
    look(now=NOW)
    off([schedule], by="ada", reason="", now=NOW)
    look(now=NOW)
    assert alarms() == {}
    assert message_of("missed") == f"Missed. Over: the schedule is {word}."
    assert message_of("no_success").endswith(f"by now. Over: the schedule is {word}.")


def test_a_pause_by_rota_is_seen_to_by_a_resume(beat: WorkerHeartbeat) -> None:
    fields: dict[str, Any] = {"status": "paused", "status_by": "rota"}
    schedule = make_schedule(now=NOW, **fields)
    Incident.objects.alarm("paused_by_rota", schedule.name, message="Paused.", schedule=schedule, now=NOW)
    look(now=NOW)
    assert ("paused_by_rota", schedule.name) in alarms()
    resume([schedule], by="ada", now=NOW)
    look(now=NOW)
    assert alarms() == {}


@pytest.mark.parametrize("off", [pause, disable])
def test_what_is_taken_off_the_rota_is_not_told_of_for_ever(beat: WorkerHeartbeat, off: Callable[..., int]) -> None:
    late = make_schedule("late", now=NOW - DAY, catch_up=timedelta())
    unreadable = make_schedule("unreadable", now=NOW - DAY)
    jumped = make_schedule("jumped", now=NOW - 2 * DAY, cron="* * * * *")
    Schedule.objects.filter(pk=unreadable.pk).update(cron="broken")
    fire_due(now=NOW + HOUR)
    kinds = ("missed", "schedule_broken", "clock_jumped")
    assert sorted(kind for kind, _ in alarms()) == sorted(kinds)
    look(now=NOW)
    assert {kind for kind, _ in alarms()} >= set(kinds)

    off([late, unreadable, jumped], by="ada", reason="not now", now=NOW)
    look(now=NOW)

    assert alarms() == {}


def test_a_clock_that_no_schedule_distrusts_is_not_told_of(beat: WorkerHeartbeat) -> None:
    jumped = make_schedule(now=NOW - 2 * DAY, cron="* * * * *")
    fire_due(now=NOW)
    assert list(alarms()) == [("clock_jumped", "")]
    jumped.delete()
    look(now=NOW)
    assert alarms() == {}
