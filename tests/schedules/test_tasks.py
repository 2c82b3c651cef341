"""Celery's way in: what is published, and what happens when the broker is away."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from config.celery import app
from schedules import tasks
from schedules.firing import trigger
from schedules.models import Session, WorkerHeartbeat
from schedules.worker import Worker
from tests.schedules.factories import make_schedule, make_session, make_worker
from tests.schedules.faults import failing

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_admitted_is_published_with_its_id_and_nothing_else(broker: str) -> None:
    make_worker(now=timezone.now())
    session = make_session(now=timezone.now())

    assert tasks.dispatch() == 1
    assert tasks.dispatch() == 0

    with app.connection_for_read() as channel:
        message = channel.SimpleQueue("sessions").get(timeout=2)
    assert message.headers["task"] == "schedules.tasks.execute_session"
    assert message.payload[:2] == [[session.pk], {}]


def test_with_a_broker_that_does_not_answer_sessions_go_on_waiting(frozen_broker: None) -> None:
    make_worker(now=timezone.now())
    for _ in range(3):
        make_session(now=timezone.now())
    began = timezone.now()

    assert tasks.dispatch() == 0

    assert Session.objects.filter(status="queued", admitted_at=None).count() == 3
    assert timezone.now() - began < timedelta(seconds=4)


def test_upkeep_publishes_what_was_lost_on_its_way(broker: str) -> None:
    make_worker(now=timezone.now())
    make_session(now=timezone.now(), admitted_at=timezone.now() - timedelta(minutes=1))
    done = tasks.upkeep()
    assert (done["released"], done["published"]) == (1, 1)


def test_pruning_an_empty_house_is_nothing() -> None:
    assert tasks.prune() == {"events": 0, "runs": 0, "incidents": 0, "workers": 0}


def test_a_session_outside_of_a_worker_is_refused() -> None:
    with pytest.raises(RuntimeError, match="start one with -Q sessions"):
        tasks.execute_session(1)


@pytest.fixture
def worker(tmp_path: Path, settings: Settings) -> Iterator[Worker]:
    """The one of this process, with one slot."""
    settings.ROTA_SESSIONS_DIR, settings.ROTA_WORKSPACES_DIR = tmp_path / "sessions", tmp_path / "workspaces"
    made = Worker(kind="sessions", name="here", concurrency=1, version="test", dispatch=tasks.dispatch)
    tasks._here.append(made)
    yield made
    tasks._here.clear()


def in_the_queue() -> int:
    """How many messages; they are gone then."""
    with app.connection_for_read() as channel:
        size: int = channel.SimpleQueue("sessions").clear()
        return size


def waiting(count: int, **fields: Any) -> list[int]:
    made = [make_schedule(now=timezone.now(), argv=["true"], **fields) for _ in range(count)]
    return [trigger(schedule, now=timezone.now())[0].sessions.get().pk for schedule in made]


def test_a_slot_goes_on_with_what_may_start_next_and_needs_no_message(broker: str, worker: Worker) -> None:
    first, *_ = waiting(3)
    assert tasks.dispatch() == 1
    assert in_the_queue() == 1

    assert tasks.execute_session(first) == "3 succeeded"
    assert in_the_queue() == 0
    assert set(Session.objects.values_list("status", flat=True)) == {"succeeded"}


def test_a_slot_of_a_worker_that_leaves_goes_on_with_nothing(broker: str, worker: Worker) -> None:
    first, *_ = waiting(2)
    tasks.dispatch()
    in_the_queue()
    worker.leave(end_sessions=False, drain=True)

    assert "leaving" in tasks.execute_session(first)
    assert set(Session.objects.values_list("status", flat=True)) == {"queued"}


def test_a_message_that_finds_nothing_ends_there(broker: str, worker: Worker) -> None:
    first, second = waiting(2)
    tasks.dispatch()
    in_the_queue()
    Session.objects.filter(pk=first).update(admitted_at=None, cancel_requested_at=timezone.now())

    assert tasks.execute_session(first) == "not claimed"
    assert in_the_queue() == 1, "the other one has its place"
    assert Session.objects.get(pk=second).admitted_at


SENDER = SimpleNamespace(app=app, pool=SimpleNamespace(num_processes=2), hostname="sessions@here")


def test_a_worker_that_starts_while_the_database_is_locked_for_a_moment_goes_on(broker: str) -> None:
    with failing("INSERT", times=1) as failed:
        tasks._start(SENDER)
    tasks._stop()
    assert failed
    assert WorkerHeartbeat.objects.get().stopped_at


def test_a_worker_whose_database_goes_away_as_it_starts_lives_on(broker: str) -> None:
    with failing('SELECT "schedules_session"', times=2) as failed:
        tasks._start(SENDER)
    assert failed
    [worker] = tasks._here
    assert all(thread.is_alive() for thread in worker._threads)
    tasks._stop()


def test_a_worker_that_can_not_say_that_it_is_there_ends() -> None:
    with failing("SELECT", "INSERT"), pytest.raises(SystemExit):
        tasks._start(SENDER)
    assert not tasks._here
