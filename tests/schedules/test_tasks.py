"""Celery's way in: what is published, and what happens when the broker is away."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from config.celery import app
from schedules import tasks
from schedules.models import Session
from tests.schedules.factories import make_session, make_worker
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


def test_a_worker_that_can_not_say_that_it_is_there_ends() -> None:
    sender = SimpleNamespace(app=app, pool=SimpleNamespace(num_processes=2), hostname="sessions@here")
    with failing("SELECT", "INSERT"), pytest.raises(SystemExit):
        tasks._start(sender)
    assert not tasks._here
