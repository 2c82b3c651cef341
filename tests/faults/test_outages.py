"""Hours in which Rota was not there, pauses that race with firing, and a database that goes away."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from schedules.firing import fire_due
from schedules.models import Incident, Reason, Run, Schedule, Session
from schedules.steering import pause, resume
from schedules.stopping import lift, stop
from tests.faults.house import House, all_ended, bounded_part, every_session_once, house
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
        for number, now in enumerate(instants):
            begin.wait(timeout=60)
            _let_the_other_begin(number % 4 == 0)
            fire_due(now=now)
            begin.wait(timeout=60)
        connection.close()

    def claimed(now: datetime) -> list[int]:
        queued = Session.objects.filter(status=Session.Status.QUEUED)
        queued.update(admitted_at=now)
        return [pk for pk in list(queued.values_list("pk", flat=True)) if _claimed(pk, worker, now)]

    def state() -> tuple[str, datetime | None, datetime | None]:
        return Schedule.objects.values_list("status", "next_run_at", "due_at").get(pk=schedule.pk)

    other = threading.Thread(target=fire)
    other.start()
    for number, now in enumerate(instants):
        begin.wait(timeout=60)
        _let_the_other_begin(number % 4 == 1)
        pause([Schedule.objects.get(pk=schedule.pk)], by="ada", reason="race", now=now)
        assert (state(), claimed(now)) == (("paused", None, None), [])
        begin.wait(timeout=60)  # what was firing has fired
        assert (state(), claimed(now)) == (("paused", None, None), [])
        resume([Schedule.objects.get(pk=schedule.pk)], by="ada", now=now)
    other.join(timeout=60)
    times = Counter(Run.objects.values_list("scheduled_for", flat=True))
    assert set(times.values()) == {1}
    assert 0 < Session.objects.count() < rounds, "both came first at times"


def test_a_stop_that_races_with_claims_comes_before_or_after_each_of_them() -> None:
    worker = make_worker(now=timezone.now(), concurrency=1000)
    rounds = bounded_part(1000, 25)
    sessions = [make_session(now=at(0), admitted_at=at(0)).pk for _ in range(rounds)]
    landed_as: Counter[str] = Counter()
    begin = threading.Barrier(2)

    def claim() -> None:
        for number, pk in enumerate(sessions):
            begin.wait(timeout=60)
            _let_the_other_begin(number % 4 == 0)
            _claimed(pk, worker, at(1))
            begin.wait(timeout=60)
        connection.close()

    other = threading.Thread(target=claim)
    other.start()
    for number, pk in enumerate(sessions):
        begin.wait(timeout=60)
        _let_the_other_begin(number % 4 == 1)
        stop(by="ada", reason="race", now=at(1))
        landed = Session.objects.get(pk=pk).status
        begin.wait(timeout=60)
        assert Session.objects.get(pk=pk).status == landed
        landed_as[landed] += 1
        lift(by="ada", now=at(1))
    other.join(timeout=60)
    assert set(landed_as) == {Session.Status.QUEUED, Session.Status.RUNNING}, "both came first at times"


@pytest.mark.parametrize("now", [at(0, 1), at(0, 5)], ids=["on time", "late"])
def test_a_pause_between_any_two_steps_of_firing_is_not_undone(now: datetime) -> None:
    worker = make_worker(now=timezone.now(), concurrency=1000)
    for point in itertools.count(1):
        schedule = make_schedule(now=at(0), cron="* * * * *")
        if not _fire_and_pause(schedule, now, after=point):
            break
        found = Schedule.objects.get(pk=schedule.pk)
        assert (found.status, found.next_run_at, found.due_at) == (Schedule.Status.PAUSED, None, None), point
        sessions = Session.objects.filter(schedule=schedule)
        sessions.update(admitted_at=now)
        assert [pk for pk in list(sessions.values_list("pk", flat=True)) if _claimed(pk, worker, now)] == []
        schedule.delete()
    assert point > 2


def _fire_and_pause(schedule: Schedule, now: datetime, *, after: int) -> bool:
    """Fire, and pause at the moment of this number in which nothing is held. Whether there were as many."""
    left = after

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            pause([schedule], by="ada", reason="race", now=now)

    def watched(execute: Callable[..., Any], sql: str, *given: Any) -> Any:
        if connection.in_atomic_block:
            return execute(sql, *given)
        pass_by()
        answer = execute(sql, *given)
        if not sql.startswith("BEGIN"):
            pass_by()
        return answer

    with connection.execute_wrapper(watched):
        fire_due(now=now)
    return left <= 0


@pytest.mark.parametrize("halt", ["pause", "stop"])
def test_a_halt_waits_for_a_claim_that_is_just_being_made(halt: str) -> None:
    worker = make_worker(now=timezone.now(), concurrency=1000)
    schedule = make_schedule(now=at(0), cron="* * * * *")
    fire_due(now=at(0, 1))
    session = Session.objects.get()
    Session.objects.update(admitted_at=at(0, 1))
    claimed = threading.Event()

    def claim() -> None:
        with transaction.atomic():
            assert _claimed(session.pk, worker, at(0, 1))
            claimed.set()
            time.sleep(0.3)
        connection.close()

    other = threading.Thread(target=claim)
    other.start()
    assert claimed.wait(timeout=30)
    if halt == "pause":
        pause([schedule], by="ada", reason="race", now=at(0, 1))
    else:
        stop(by="ada", reason="race", now=at(0, 1))
    session.refresh_from_db()
    assert session.status == Session.Status.RUNNING, "it is on record before the halt is"
    other.join(timeout=30)


def _let_the_other_begin(wait: bool) -> None:
    """In half of the rounds both begin at once; in the others one is first, and each of them in as many."""
    if wait:
        time.sleep(0.02)


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
    due = [first + timedelta(seconds=number) for number in range(seconds)]
    for time_due in due:
        once(rota, time_due)
    rota.beat(harm=LOCKED)
    until(lambda: all_ended(seconds), within=seconds + 120, what="all have run")
    assert rota.starts() == every_session_once()
    assert list(Run.objects.order_by("scheduled_for").values_list("scheduled_for", flat=True)) == due
    assert Counter(Session.objects.values_list("status", "reason")) == {("succeeded", "ok"): seconds}
    until(lambda: not Run.objects.open().exists(), within=60, what="every run is settled")
    assert any("refuses to write" in rota.log(name) for name in ("sessions1", "sessions2", "control1", "beat"))
