"""Hours in which Rota was not there, pauses that race with firing, and a database that goes away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from schedules.firing import fire_due
from schedules.models import Incident, Reason, Run, Schedule, Session
from schedules.steering import pause, resume
from schedules.stopping import lift, stop
from tests.faults.house import House, all_ended, bounded_part, house
from tests.faults.saboteur import LOCKED
from tests.faults.test_firing import once
from tests.processes import until
from tests.schedules.factories import make_schedule, make_session, make_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

DAY = datetime(2027, 1, 12, tzinfo=UTC)


def at(hour: int, minute: int = 0, *, day: int = 0) -> datetime:
    return DAY + timedelta(days=day, hours=hour, minutes=minute)


def test_a_daily_time_missed_by_less_than_its_window_runs_once_and_late() -> None:
    make_schedule("daily", now=at(8, 50), cron="0 9 * * *", catch_up=timedelta(minutes=30))
    fire_due(now=at(9, 20))
    fire_due(now=at(9, 21))
    run = Run.objects.get()
    assert (run.status, run.scheduled_for, run.queued_at) == (Run.Status.QUEUED, at(9), at(9, 20))


def test_a_daily_time_missed_by_more_is_on_record_with_one_alarm_and_the_next_day_is_as_ever() -> None:
    make_schedule("daily", now=at(8), cron="0 9 * * *", catch_up=timedelta(minutes=30))
    for minute in range(0, 30, 10):
        fire_due(now=at(14, minute))
    missed = Run.objects.get()
    assert (missed.status, missed.reason, missed.scheduled_for) == (
        Run.Status.MISSED,
        Reason.OUTSIDE_WINDOW,
        at(9),
    )
    assert Incident.objects.filter(kind=Incident.Kind.MISSED).count() == 1
    for hour in range(7, 12):
        fire_due(now=at(hour, 0, day=1))
    assert list(Run.objects.exclude(pk=missed.pk).values_list("scheduled_for", "status")) == [
        (at(9, day=1), Run.Status.QUEUED)
    ]


@pytest.mark.no_cover
def test_a_pause_that_races_with_firing_is_never_undone_and_nothing_new_is_claimed_after_it() -> None:
    worker = make_worker(now=timezone.now(), concurrency=1000)
    schedule = make_schedule("racer", now=at(0), cron="* * * * *", overlap=Schedule.Overlap.ALLOW)
    begin = threading.Barrier(2)
    rounds = bounded_part(1000, 40)
    instants = [at(0) + timedelta(minutes=minute + 1) for minute in range(rounds)]

    def fire() -> None:
        for now in instants:
            begin.wait(timeout=60)
            fire_due(now=now)
        connection.close()

    other = threading.Thread(target=fire)
    other.start()
    for now in instants:
        begin.wait(timeout=60)
        pause([Schedule.objects.get(pk=schedule.pk)], by="ada", reason="race", now=now)
        assert Schedule.objects.get(pk=schedule.pk).status == Schedule.Status.PAUSED
        queued = Session.objects.filter(status=Session.Status.QUEUED)
        queued.update(admitted_at=now)
        claimed = [pk for pk in list(queued.values_list("pk", flat=True)) if _claimed(pk, worker, now)]
        assert claimed == []
        assert Schedule.objects.get(pk=schedule.pk).due_at is None
        resume([Schedule.objects.get(pk=schedule.pk)], by="ada", now=now)
    other.join(timeout=60)
    times = Counter(Run.objects.values_list("scheduled_for", flat=True))
    assert set(times.values()) <= {1}


def test_a_stop_that_races_with_claims_comes_before_or_after_each_of_them() -> None:
    worker = make_worker(now=timezone.now(), concurrency=1000)
    rounds = bounded_part(1000, 25)
    sessions = [make_session(now=at(0), admitted_at=at(0)).pk for _ in range(rounds)]
    begin = threading.Barrier(2)

    def claim() -> None:
        for pk in sessions:
            begin.wait(timeout=60)
            _claimed(pk, worker, at(1))
            begin.wait(timeout=60)
        connection.close()

    other = threading.Thread(target=claim)
    other.start()
    for pk in sessions:
        begin.wait(timeout=60)
        stop(by="ada", reason="race", now=at(1))
        landed = Session.objects.get(pk=pk).status
        begin.wait(timeout=60)
        assert Session.objects.get(pk=pk).status == landed
        lift(by="ada", now=at(1))
    other.join(timeout=60)


def _claimed(pk: int, worker: object, now: datetime) -> bool:
    return Session.objects.claim(pk, worker=worker, task_id="t", now=now)  # type: ignore[arg-type]


@pytest.fixture
def rota() -> Iterator[House]:
    with house() as made:
        yield made


@pytest.mark.slow
def test_a_database_that_refuses_a_tenth_of_all_writes_loses_and_doubles_nothing(rota: House) -> None:
    seconds = bounded_part(300, 12)
    for _ in range(2):
        rota.worker(concurrency=4, harm=LOCKED)
    rota.worker("control", harm=LOCKED)
    first = timezone.now() + timedelta(seconds=3)
    for number in range(seconds):
        once(rota, first + timedelta(seconds=number))
    rota.beat(harm=LOCKED)
    until(lambda: all_ended(seconds), within=seconds + 120, what="all have run")
    assert rota.starts() == Counter(Session.objects.values_list("pk", flat=True))
    assert Run.objects.count() == seconds
