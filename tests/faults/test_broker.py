"""The broker only carries hints: it may be away, forget, hang up or say a thing ten times."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
from django.utils import timezone
from kombu import Connection

from config.celery import app
from schedules.firing import trigger
from schedules.models import Run, Schedule, Session
from tests.faults.house import House, all_ended, bounded_part, every_session_once, house, last_start
from tests.faults.test_firing import once
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]


@pytest.fixture
def rota() -> Iterator[House]:
    with house() as made:
        yield made


@pytest.mark.slow
def test_what_comes_due_while_the_broker_is_away_starts_when_it_is_back(rota: House) -> None:
    rota.worker(concurrency=8)
    rota.worker("control")
    rota.beat()
    rota.stop_broker()
    first = timezone.now() + timedelta(seconds=2)
    due = [first + timedelta(seconds=number) for number in range(5)]
    for at in due:
        once(rota, at)
    away = timedelta(seconds=bounded_part(120, 15))
    until(lambda: Run.objects.count() == 5, within=30, what="they are recorded all the same")
    assert list(Run.objects.order_by("scheduled_for").values_list("scheduled_for", flat=True)) == due
    until(lambda: timezone.now() > first + away, within=away.total_seconds() + 10, what="the broker stays away")
    assert not rota.starts()

    rota.start_broker()
    back_at = timezone.now()
    until(lambda: all_ended(5), within=90, what="all have run")
    assert rota.starts() == every_session_once()
    assert list(Run.objects.order_by("scheduled_for").values_list("scheduled_for", flat=True)) == due
    assert last_start() - back_at < timedelta(seconds=30)


@pytest.mark.slow
def test_a_broker_that_forgets_everything_loses_nothing(rota: House) -> None:
    worker = rota.worker(concurrency=30)
    rota.worker("control")
    rota.beat()
    worker.send_signal(signal.SIGSTOP)  # so that messages wait
    schedule = rota.schedule(overlap=Schedule.Overlap.ALLOW)
    count = bounded_part(30, 6)
    for _ in range(count):
        trigger(schedule, now=timezone.now())
    until(lambda: Session.objects.filter(admitted_at__isnull=False).count() == count, within=30, what="all are sent")
    with rota.broker() as broker:
        # What the worker was waiting for when it was stopped has left the queue: one message.
        until(lambda: broker.llen("sessions") >= count - 1, within=30, what="all wait in the broker")
        broker.flushall()
    worker.send_signal(signal.SIGCONT)
    flushed_at = timezone.now()
    until(lambda: all_ended(count), within=120, what="all have run")
    assert rota.starts() == every_session_once()
    assert last_start() - flushed_at < timedelta(seconds=75)


@pytest.mark.slow
def test_connections_that_are_cut_in_the_middle_of_a_session_start_nothing_twice(rota: House) -> None:
    rota.worker(concurrency=2)
    rota.worker("control")
    rota.beat()
    trigger(rota.schedule(script="sleep 6"), now=timezone.now())
    until(lambda: rota.starts(), within=60, what="it runs")
    with rota.broker() as broker:
        for _ in range(3):
            until(lambda: _cut(broker), within=30, what="somebody was connected")
    until(lambda: all_ended(1), within=60, what="it has run")
    assert rota.starts() == every_session_once()
    assert Session.objects.get().status == Session.Status.SUCCEEDED


def _cut(broker: redis.Redis) -> int:
    """Returns how many connections were."""
    return sum(int(broker.client_kill_filter(_type=kind, skipme=True)) for kind in ("normal", "pubsub"))


def test_a_message_that_comes_ten_times_starts_one_process(rota: House) -> None:
    """All of them at once, and to workers that may claim it."""
    workers = [rota.worker(concurrency=4) for _ in range(bounded_part(4, 2))]
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    trigger(rota.schedule(script="sleep 2"), now=timezone.now())
    session = Session.objects.get()
    rota.worker("control")
    until(lambda: Session.objects.get().admitted_at, within=30, what="it is admitted")
    with Connection(rota.broker_url) as connection:
        for _ in range(10):
            app.send_task(
                "schedules.tasks.execute_session", args=(session.pk,), queue="sessions", connection=connection
            )
    for worker in workers:
        worker.send_signal(signal.SIGCONT)
    until(lambda: all_ended(1), within=60, what="it has run")
    with rota.broker() as broker:
        until(lambda: not broker.llen("sessions"), within=30, what="every message was taken")
    assert rota.starts() == every_session_once()
    assert Session.objects.get().status == Session.Status.SUCCEEDED
