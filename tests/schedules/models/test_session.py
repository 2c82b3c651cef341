"""Claiming, adopting, reporting, finishing: each a conditional UPDATE whose count is read."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from schedules.models import Session
from tests.schedules.factories import make_event, make_run, make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)


def test_a_session_is_claimed_once() -> None:
    session, worker = make_session(now=NOW, admitted_at=NOW), make_worker(now=NOW)

    assert Session.objects.claim(session.pk, worker=worker, task_id="t1", now=NOW)
    assert not Session.objects.claim(session.pk, worker=worker, task_id="t2", now=NOW)

    session.refresh_from_db()
    assert (session.status, session.task_id, session.claimed_at) == ("running", "t1", NOW)
    assert (session.worker, session.hostname) == (worker, worker.hostname)


@pytest.mark.parametrize("status", ["running", "succeeded", "cancelled", "lost"])
def test_only_what_is_queued_is_claimed(status: str) -> None:
    session = make_session(now=NOW, status=status)
    assert not Session.objects.claim(session.pk, worker=make_worker(now=NOW), task_id="", now=NOW)


def test_a_message_that_comes_after_its_session_was_released_is_too_late() -> None:
    session = make_session(now=NOW, admitted_at=NOW)
    Session.objects.release([session.pk])
    assert not Session.objects.claim(session.pk, worker=make_worker(now=NOW), task_id="", now=NOW)


@pytest.mark.parametrize(
    ("status", "trigger", "claimed"),
    [
        ("paused", "schedule", False),
        ("paused", "manual", True),
        ("disabled", "schedule", False),
        ("disabled", "manual", False),
    ],
)
def test_the_status_of_its_schedule_decides(status: str, trigger: str, claimed: bool) -> None:
    run = make_run(make_schedule(now=NOW, status=status), now=NOW, trigger=trigger)
    session = make_session(run, now=NOW, admitted_at=NOW)
    assert Session.objects.claim(session.pk, worker=make_worker(now=NOW), task_id="", now=NOW) == claimed


def test_what_is_to_be_cancelled_is_not_claimed() -> None:
    session = make_session(now=NOW, admitted_at=NOW, cancel_requested_at=NOW)
    assert not Session.objects.claim(session.pk, worker=make_worker(now=NOW), task_id="", now=NOW)


def test_only_its_own_worker_reports_progress() -> None:
    mine, other = make_worker(now=NOW), make_worker(now=NOW)
    session = make_session(now=NOW, status="running", worker=mine)
    assert Session.objects.progress(session.pk, worker=mine, turns=3)
    assert not Session.objects.progress(session.pk, worker=other, turns=9)
    session.refresh_from_db()
    assert session.turns == 3


def test_an_orphan_is_adopted_once() -> None:
    gone, one, two = make_worker(now=NOW), make_worker(now=NOW), make_worker(now=NOW)
    session = make_session(now=NOW, status="running", worker=gone)
    assert Session.objects.adopt(session.pk, of=gone.pk, worker=one)
    assert not Session.objects.adopt(session.pk, of=gone.pk, worker=two)


def test_what_was_adopted_since_it_was_found_is_not_lost() -> None:
    gone, heir = make_worker(now=NOW - timedelta(hours=1)), make_worker(now=NOW)
    session = make_session(now=NOW, status="running", worker=gone)
    lost = Session.objects.lost(now=NOW, silent_after=timedelta(minutes=1))
    assert list(lost) == [session]

    Session.objects.adopt(session.pk, of=gone.pk, worker=heir)

    assert not lost.finish(session.pk, status="lost", reason="worker_died", now=NOW)


def test_a_late_report_changes_nothing() -> None:
    session = make_session(now=NOW, status="lost")
    assert not Session.objects.finish(session.pk, status="succeeded", reason="ok", now=NOW)
    session.refresh_from_db()
    assert session.status == "lost"


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "dozing"},
        {"status": "succeeded"},  # without time and reason
        {"finished_at": NOW},  # while queued
        {"status": "running"},  # unclaimed
    ],
)
def test_the_database_refuses_a_state_that_can_not_be(fields: dict[str, object]) -> None:
    session = make_session(now=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        Session.objects.filter(pk=session.pk).update(**fields)


def test_numbers_and_sequences_are_unique() -> None:
    session = make_session(now=NOW)
    make_event(session, now=NOW, seq=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_event(session, now=NOW, seq=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_session(session.run, now=NOW, number=session.number)


def test_the_last_success_is_the_newest_of_the_same_place_and_kind() -> None:
    schedule = make_schedule(now=NOW)

    def ended(status: str, **fields: object) -> Session:
        return make_session(make_run(schedule, now=NOW, status="running"), now=NOW, status=status, **fields)

    ended("succeeded")
    wanted = ended("succeeded")
    ended("failed")
    ended("succeeded", is_rehearsal=True)
    make_session(now=NOW, status="succeeded")  # of another schedule
    session = ended("running")
    ended("succeeded")  # after it

    assert Session.objects.last_success(session) == wanted


def test_lost_are_those_whose_lease_ran_out() -> None:
    silent_after = timedelta(seconds=60)
    silent = make_session(now=NOW, status="running", worker=make_worker(now=NOW - silent_after))
    unowned = make_session(now=NOW, status="running")
    make_session(now=NOW, status="running", worker=make_worker(now=NOW - silent_after / 2))
    make_session(now=NOW)
    assert set(Session.objects.lost(now=NOW, silent_after=silent_after)) == {silent, unowned}
