"""The dead-man's switch: over beat, and who looks when."""

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from schedules.models import Incident, Schedule, WorkerHeartbeat
from schedules.watch import Watch, look, open_incidents
from tests.schedules.factories import make_schedule, make_session, make_worker
from tests.schedules.watching import alarms, lived

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
def beat() -> WorkerHeartbeat:
    return make_worker("beat@here", kind="beat", now=NOW, started_at=NOW - DAY)


def test_all_is_well_in_a_house_at_work(beat: WorkerHeartbeat) -> None:
    make_worker(now=NOW)
    make_session(now=NOW - SECOND)
    make_schedule(now=NOW)
    look(now=NOW)
    assert alarms() == {}


# --- beat ---


def test_a_beat_that_is_silent_is_one_cause_with_examples(beat: WorkerHeartbeat) -> None:
    for number in range(8):
        make_schedule(f"s{number}", now=NOW - DAY, next_run_at=NOW - 5 * MINUTE, due_at=NOW - 5 * MINUTE)
    lived(until=NOW - 61 * SECOND)
    look(now=NOW)

    assert list(alarms()) == [("beat_silent", "")]
    assert "s0, s1, s2, s3, s4 and 3 others should have fired and did not" in alarms()["beat_silent", ""]
    assert "last heard of at 2027-01-04 08:58:59 UTC" in alarms()["beat_silent", ""]


def test_it_recovers_with_beat(beat: WorkerHeartbeat) -> None:
    lived(until=NOW - 61 * SECOND)
    look(now=NOW)
    lived(until=NOW + 15 * SECOND)
    look(now=NOW + 15 * SECOND)
    assert Incident.objects.get().recovered_at == NOW + 15 * SECOND


def test_a_beat_that_was_told_to_end_is_silent_after_a_minute_and_not_at_once(beat: WorkerHeartbeat) -> None:
    WorkerHeartbeat.objects.update(stopped_at=NOW, last_seen_at=NOW)
    look(now=NOW + SECOND)
    assert alarms() == {}
    look(now=NOW + 61 * SECOND)
    assert list(alarms()) == [("beat_silent", "")]


def test_a_house_without_a_beat_says_so() -> None:
    look(now=NOW)
    assert "was never heard of" in alarms()["beat_silent", ""]


def test_a_beat_that_lives_and_does_not_fire_is_another_cause(beat: WorkerHeartbeat) -> None:
    schedule = make_schedule("late", now=NOW - DAY, next_run_at=NOW - 61 * SECOND, due_at=NOW - 61 * SECOND)
    look(now=NOW)
    assert list(alarms()) == [("not_fired", "")]
    assert "late should have fired" in alarms()["not_fired", ""]

    Schedule.objects.filter(pk=schedule.pk).update(due_at=NOW + DAY)
    look(now=NOW + SECOND)
    assert alarms() == {}


def test_a_beat_that_has_just_come_back_is_given_its_time(beat: WorkerHeartbeat) -> None:
    make_schedule(now=NOW - DAY, next_run_at=NOW - 10 * MINUTE, due_at=NOW - 10 * MINUTE)
    WorkerHeartbeat.objects.update(started_at=NOW - 10 * SECOND)
    look(now=NOW)
    assert alarms() == {}


def test_what_lasts_is_counted_once_a_minute_whoever_looks(beat: WorkerHeartbeat) -> None:
    lived(until=NOW - 61 * SECOND)
    for seconds in range(0, 121, 5):
        look(now=NOW + seconds * SECOND)
    assert Incident.objects.get().count == 3


# --- who looks ---


def test_who_has_just_started_or_slept_judges_nobody() -> None:
    watch = Watch()
    watch.look(now=NOW, at=1000.0)
    watch.look(now=NOW, at=1059.0)
    assert not Incident.objects.exists()
    watch.look(now=NOW, at=1061.0)
    assert Incident.objects.count() == 1

    Incident.objects.all().delete()
    watch.look(now=NOW, at=5000.0)
    assert not Incident.objects.exists()


def test_a_look_at_a_house_at_work_costs_the_same_whatever_its_size(
    beat: WorkerHeartbeat, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    make_worker(now=NOW)
    for _ in range(30):
        make_session(now=NOW)
    with django_assert_max_num_queries(20):
        look(now=NOW)


def test_incidents_are_listed_those_that_nobody_has_seen_first() -> None:
    for minutes, kind in enumerate(("missed", "disk_full", "no_worker")):
        Incident.objects.alarm(kind, message="!", now=NOW + minutes * MINUTE)
    newest = Incident.objects.get(kind="no_worker")
    assert Incident.objects.acknowledge(newest.pk, by="ada", now=NOW)
    assert not Incident.objects.acknowledge(newest.pk, by="bob", now=NOW)
    assert [one.kind for one in open_incidents()] == ["disk_full", "missed", "no_worker"]
    assert len(open_incidents(limit=2)) == 2
