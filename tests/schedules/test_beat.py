"""The clock: beat fires what is due, whatever else is down."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config.celery import app
from schedules import steering
from schedules.beat import LOOK_EVERY, Scheduler
from schedules.models import Incident, Run, Schedule, Session, WorkerHeartbeat
from tests.schedules.factories import make_schedule, make_session, make_worker
from tests.schedules.faults import failing

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2027, 1, 4, 8, tzinfo=UTC)
NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler(app=app, lazy=True)
    yield made
    connection.close()


def test_with_nothing_to_do_it_looks_again_within_a_second(scheduler: Scheduler) -> None:
    assert scheduler.look(NOW) == LOOK_EVERY < 1


def test_it_wakes_up_when_the_next_schedule_is_due(scheduler: Scheduler) -> None:
    make_schedule(now=NOW)
    assert scheduler.look(NINE - timedelta(milliseconds=300)) == pytest.approx(0.3)


def test_it_fires_what_is_due_when_the_broker_does_not_answer(scheduler: Scheduler, frozen_broker: None) -> None:
    make_worker(now=timezone.now())
    make_schedule(now=NOW)

    scheduler.look(NINE)

    assert Run.objects.get().status == "queued"
    assert Session.objects.get().admitted_at is None


def test_it_publishes_what_is_due_with_the_broker_up(scheduler: Scheduler, broker: str) -> None:
    make_worker(now=timezone.now())
    make_schedule(now=NOW)

    scheduler.look(NINE)

    session = Session.objects.get()
    assert session.admitted_at is not None
    with app.connection_for_read() as channel:
        message = channel.SimpleQueue("sessions").get(timeout=2)
        assert message.payload[0] == [session.pk]


def test_an_idle_look_takes_one_query_however_many_schedules_there_are(scheduler: Scheduler) -> None:
    for _ in range(50):
        make_schedule(now=NOW)
    scheduler.look(NOW)  # registers
    with CaptureQueriesContext(connection) as queries:
        scheduler.look(NOW + timedelta(seconds=1))
    assert len(queries) == 1


def test_the_read_uses_the_index_on_what_is_due() -> None:
    waiting = Schedule.objects.filter(status="active", due_at__isnull=False).order_by("due_at")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
    assert "schedule_due" in waiting.values_list("due_at").explain()


def test_a_pause_and_a_resume_are_seen_at_the_next_look(scheduler: Scheduler) -> None:
    schedule = make_schedule(now=NOW)
    steering.pause([schedule], by="ada", reason="", now=NOW)
    scheduler.look(NINE)
    assert not Run.objects.exists()

    steering.resume([schedule], by="ada", now=NINE - timedelta(seconds=1))
    scheduler.look(NINE)
    assert Run.objects.count() == 1


def test_it_says_that_it_is_alive_and_that_it_stopped(scheduler: Scheduler) -> None:
    scheduler.look(NOW)
    scheduler.look(NOW + timedelta(seconds=30))
    row = WorkerHeartbeat.objects.get()
    assert (row.kind, row.last_seen_at, row.stopped_at) == ("beat", NOW + timedelta(seconds=30), None)

    scheduler.close()
    row.refresh_from_db()
    assert row.stopped_at is not None


def test_a_row_that_was_pruned_is_made_again(scheduler: Scheduler) -> None:
    scheduler.look(NOW)
    WorkerHeartbeat.objects.all().delete()
    scheduler.look(NOW + timedelta(seconds=30))
    assert WorkerHeartbeat.objects.count() == 1


def test_ordinary_periodic_tasks_go_on(broker: str) -> None:
    scheduler = Scheduler(app=app)
    assert {"rota-upkeep", "rota-retention", "celery.backend_cleanup"} <= set(scheduler.schedule)
    with CaptureQueriesContext(connection):
        assert 0 <= scheduler.tick() <= 1
    connection.close()


def test_a_broker_that_does_not_answer_does_not_hold_the_tick(frozen_broker: None) -> None:
    scheduler = Scheduler(app=app)
    began = timezone.now()
    for _ in range(3):
        scheduler.tick()
    assert timezone.now() - began < timedelta(seconds=5)
    connection.close()


def test_while_the_broker_is_away_that_is_a_line_in_the_log(
    frozen_broker: None, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(app=app)
    for entry in scheduler.schedule.values():
        scheduler.apply_entry(entry)
        break
    (record,) = [record for record in caplog.records if record.name == "schedules.beat"]
    assert "The broker is away" in record.message
    assert record.exc_info is None
    connection.close()


def test_a_database_that_is_away_when_periodic_tasks_are_read_anew_does_not_end_it(broker: str) -> None:
    scheduler = Scheduler(app=app)
    scheduler._last_full_sync = datetime(2026, 1, 1)  # noqa: DTZ001 - as it keeps it
    with failing("SELECT", "UPDATE", "INSERT") as failed:
        assert 0 <= scheduler.tick() <= LOOK_EVERY
    assert failed
    connection.close()


def test_it_watches_whether_workers_live(scheduler: Scheduler) -> None:
    make_session(now=NOW)
    for seconds in range(0, 125, 5):
        scheduler.look(NOW + timedelta(seconds=seconds))
        scheduler._look_around(NOW + timedelta(seconds=seconds), 1e9 + seconds)
    assert set(Incident.objects.values_list("kind", flat=True)) == {"no_worker"}
    assert Incident.objects.get().count == 1


def test_a_fault_of_what_it_watches_with_keeps_no_schedule_from_firing(scheduler: Scheduler) -> None:
    make_schedule(now=NOW)
    scheduler._look_around(NOW, 1e9)
    scheduler._look_around(NOW, 1e9 + 50)
    with failing("SELECT", error=ValueError("a bug")):
        scheduler._look_around(NOW, 1e9 + 100)
    scheduler.look(NINE)
    assert Run.objects.exists()
