"""Freeze windows, and the stop of everything."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from schedules import halts
from schedules.firing import Refused, fire_due, trigger
from schedules.limits import admit
from schedules.models import Freeze, Incident, Run, Schedule, Session, Stop
from schedules.stopping import StoppedAlready, freeze, hold_starts, lift, stop, thaw
from tests.schedules.factories import make_run, make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_while_all_is_stopped_a_due_time_is_skipped_and_says_who_and_why() -> None:
    make_schedule(now=NINE - HOUR)
    stop(by="ada", reason="bad model", now=NINE - MINUTE)

    fire_due(now=NINE)

    run = Run.objects.get()
    assert (run.status, run.reason, run.sessions.count()) == ("skipped", "stopped", 0)
    assert "stopped by ada" in run.message
    assert "bad model" in run.message
    assert "until somebody lifts it" in run.message


def test_a_stop_holds_also_when_the_clock_was_turned_back_since() -> None:
    make_schedule(now=NINE - HOUR)
    stop(by="ada", reason="bad model", now=NINE + DAY)
    fire_due(now=NINE)
    assert Run.objects.get().reason == "stopped"


def test_by_hand_it_is_refused_with_the_same_sentence() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    stop(by="ada", reason="bad model", now=NINE - MINUTE)

    with pytest.raises(Refused, match=r"stopped by ada .* until somebody lifts it: bad model") as refused:
        trigger(schedule, now=NINE)

    assert refused.value.reason == "stopped"
    assert not Run.objects.exists()


def test_what_waits_is_neither_admitted_nor_claimed_until_it_is_lifted() -> None:
    worker = make_worker(now=NINE)
    waiting = make_session(make_run(now=NINE), now=NINE)
    admitted = make_session(make_run(now=NINE), now=NINE, admitted_at=NINE)
    stop(by="ada", reason="x", now=NINE)

    assert admit(now=NINE) == []
    assert not Session.objects.claim(admitted.pk, worker=worker, task_id="", now=NINE)

    assert lift(by="bob", reason="fixed", now=NINE)
    assert not lift(by="bob", now=NINE)
    assert Session.objects.claim(admitted.pk, worker=worker, task_id="", now=NINE)
    assert admit(now=NINE) == [waiting.pk]
    assert Stop.objects.values_list("lifted_by", "lift_reason").get() == ("bob", "fixed")


def test_what_runs_goes_on_or_is_cancelled_with_it() -> None:
    running = make_session(now=NINE, status="running")
    stop(by="ada", reason="x", now=NINE)
    running.refresh_from_db()
    assert running.cancel_requested_by == ""

    lift(by="ada", now=NINE)
    assert stop(by="ada", reason="y", cancel_running=True, now=NINE) == 1
    running.refresh_from_db()
    assert running.cancel_requested_by == "ada"


def test_a_second_stop_is_refused_with_the_first_one() -> None:
    stop(by="ada", reason="bad model", now=NINE)
    with pytest.raises(StoppedAlready, match=r"by ada .* bad model"):
        stop(by="bob", reason="me too", now=NINE)
    assert Stop.objects.count() == 1


def test_a_time_that_was_due_while_all_was_stopped_is_skipped_also_when_beat_comes_late() -> None:
    make_schedule(now=NINE - HOUR)
    stop(by="ada", reason="x", now=NINE - MINUTE)
    lift(by="bob", now=NINE + MINUTE)

    fire_due(now=NINE + 5 * MINUTE)

    run = Run.objects.get()
    assert (run.status, run.reason) == ("skipped", "stopped")
    assert "until bob lifted it" in run.message


@pytest.mark.parametrize("named", [True, False])
def test_a_freeze_skips_what_it_names_or_all(named: bool) -> None:
    frozen, other = make_schedule(now=NINE - HOUR), make_schedule(now=NINE - HOUR)
    freeze(
        starts_at=NINE,
        ends_at=NINE + HOUR,
        reason="release",
        schedules=[frozen] if named else [],
        by="ada",
    )

    fire_due(now=NINE)

    statuses = dict(Run.objects.values_list("schedule", "status"))
    assert statuses == {frozen.pk: "skipped", other.pk: "queued" if named else "skipped"}
    run = Run.objects.get(schedule=frozen)
    assert run.reason == "frozen"
    assert "Frozen by ada from 2027-01-04 09:00:00 UTC until 2027-01-04 10:00:00 UTC: release" in run.message
    with pytest.raises(Refused, match="release"):
        trigger(frozen, now=NINE)


def test_a_freeze_ends_by_itself_and_what_was_queued_before_waited() -> None:
    worker = make_worker(now=NINE)
    schedule = make_schedule(now=NINE - HOUR)
    session = make_session(make_run(schedule, now=NINE), now=NINE, admitted_at=NINE)
    other = make_session(make_run(now=NINE), now=NINE, admitted_at=NINE)
    freeze(starts_at=NINE, ends_at=NINE + HOUR, reason="x", schedules=[schedule], by="ada")

    assert not Session.objects.claim(session.pk, worker=worker, task_id="", now=NINE)
    assert Session.objects.claim(other.pk, worker=worker, task_id="", now=NINE)
    assert Session.objects.claim(session.pk, worker=worker, task_id="", now=NINE + HOUR)


def test_a_freeze_is_ended_early_and_one_to_come_goes_altogether() -> None:
    now_on = freeze(starts_at=NINE, ends_at=NINE + DAY, reason="x", by="ada")
    to_come = freeze(starts_at=NINE + DAY, ends_at=NINE + 2 * DAY, reason="y", by="ada")

    assert thaw(now_on.pk, now=NINE + HOUR)
    assert thaw(to_come.pk, now=NINE + HOUR)
    assert not thaw(now_on.pk, now=NINE + HOUR)

    assert Freeze.objects.get().ends_at == NINE + HOUR


def test_a_freeze_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValidationError, match="after the start"):
        freeze(starts_at=NINE, ends_at=NINE, reason="x", by="ada")


def test_they_are_read_in_a_few_queries_however_many_there_are() -> None:
    schedules = [make_schedule(now=NINE) for _ in range(10)]
    for schedule in schedules:
        freeze(starts_at=NINE, ends_at=NINE + HOUR, reason="x", schedules=[schedule], by="ada")
    with CaptureQueriesContext(connection) as queries:
        found = halts.Halts.read(since=NINE, now=NINE)
    assert len(queries) == 3
    assert all(found.refusal(schedule.pk, NINE) for schedule in schedules)
    assert found.refusal(0, NINE) is None


def test_a_window_goes_with_the_last_schedule_that_it_names_and_is_never_one_of_all() -> None:
    named = [make_schedule(now=NINE - HOUR) for _ in range(2)]
    other = make_schedule(now=NINE - HOUR)
    freeze(starts_at=NINE - HOUR, ends_at=NINE + HOUR, reason="moves", schedules=named, by="ada")

    Schedule.objects.get(pk=named[0].pk).delete()
    assert Freeze.objects.get().schedules.get() == named[1]
    Schedule.objects.filter(pk=named[1].pk).delete()

    assert not Freeze.objects.exists()
    fire_due(now=NINE)
    assert Run.objects.get(schedule=other).status == "queued"


def test_two_that_are_deleted_at_once_leave_no_window_of_all_behind() -> None:
    named = [make_schedule(now=NINE - HOUR) for _ in range(2)]
    freeze(starts_at=NINE - HOUR, ends_at=NINE + HOUR, reason="moves", schedules=named, by="ada")
    freeze(starts_at=NINE, ends_at=NINE + HOUR, reason="of all", by="ada")
    Schedule.objects.all().delete()
    assert Freeze.objects.get().reason == "of all"


@pytest.mark.parametrize("halt", ["stop", "freeze"])
def test_what_could_not_succeed_meanwhile_is_not_overdue(halt: str) -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="0 * * * *")
    if halt == "stop":
        stop(by="ada", reason="bad model", now=NINE - MINUTE)
    else:
        freeze(starts_at=NINE - HOUR, ends_at=NINE + DAY, reason="moves", by="ada")
    for hours in range(4):
        fire_due(now=NINE + hours * HOUR)
    schedule.refresh_from_db()
    assert schedule.overdue_at == NINE + 4 * HOUR + schedule.timeout + schedule.catch_up


def test_what_was_stopped_is_not_missed_when_beat_comes_later_than_the_window() -> None:
    make_schedule(now=NINE - HOUR)
    stop(by="ada", reason="bad model", now=NINE - MINUTE)
    lift(by="ada", now=NINE + MINUTE)
    fire_due(now=NINE + 2 * HOUR)
    run = Run.objects.get()
    assert (run.status, run.reason, run.missed_count) == ("skipped", "stopped", 1)
    assert "Everything was stopped by ada" in run.message
    assert not Incident.objects.exists()


def test_many_that_a_freeze_covered_are_skipped_in_one_row_and_others_are_missed() -> None:
    make_schedule(now=NINE - MINUTE, cron="*/10 * * * *")
    freeze(starts_at=NINE - HOUR, ends_at=NINE + 3 * HOUR, reason="moves", by="ada")
    fire_due(now=NINE + 2 * HOUR + MINUTE)
    rows = {(run.status, run.reason, run.missed_count) for run in Run.objects.all()}
    assert rows == {("skipped", "frozen", 11), ("skipped", "frozen", 1), ("skipped", "frozen", 0)}

    fire_due(now=NINE + 5 * HOUR + MINUTE)
    assert Run.objects.filter(status="missed", reason="outside_window").exists()
    assert Incident.objects.get().kind == "missed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("halt", ["stop", "freeze"])
def test_a_claim_that_began_before_a_halt_lands_before_it_or_not_at_all(halt: str) -> None:
    now = timezone.now()
    worker, session = make_worker(now=now), make_session(now=now, admitted_at=now)
    found: dict[str, object] = {}

    def claim() -> None:
        found["claimed"] = Session.objects.claim(session.pk, worker=worker, task_id="", now=timezone.now())

    def set_it() -> None:
        if halt == "stop":
            stop(by="ada", reason="x", now=timezone.now())
        else:
            freeze(starts_at=now - DAY, ends_at=now + DAY, reason="x", by="ada")
        found["status"] = Session.objects.values_list("status", flat=True).get(pk=session.pk)

    with transaction.atomic():  # keeps the claim from landing
        Session.objects.select_for_update().get(pk=session.pk)
        threads = [in_thread(claim)]
        time.sleep(0.3)
        threads.append(in_thread(set_it))
        time.sleep(0.3)
    for thread in threads:
        thread.join(timeout=30)

    assert found["status"] == ("running" if found["claimed"] else "queued")


def in_thread(work: Callable[[], None]) -> threading.Thread:
    def body() -> None:
        work()
        connection.close()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
def test_a_halt_does_not_wait_for_ever_for_who_holds_what_starts() -> None:
    session = make_session(now=NINE)
    over = threading.Event()

    def hold() -> None:
        with transaction.atomic():
            hold_starts(seconds=0.2)
            over.set()

    with transaction.atomic():
        Session.objects.filter(pk=session.pk).update(message="held")
        thread = in_thread(hold)
        waited = over.wait(timeout=20 if connection.vendor == "postgresql" else 0.1)
    thread.join(timeout=30)
    assert waited or connection.vendor != "postgresql"
