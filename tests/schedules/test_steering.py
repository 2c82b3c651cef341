"""Pause, resume, disable, cancel."""

from datetime import UTC, datetime, timedelta

import pytest

from schedules import steering
from schedules.models import Run, Schedule, Session
from tests.schedules.factories import make_run, make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 8, tzinfo=UTC)
NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)


def test_a_pause_takes_it_off_the_rota_with_who_why_and_when() -> None:
    schedule = make_schedule(now=NOW)

    assert steering.pause([schedule], by="ada", reason="too noisy", now=NOW) == 1
    assert steering.pause([schedule], by="bob", reason="again", now=NOW) == 0

    schedule.refresh_from_db()
    assert (schedule.status, schedule.status_reason, schedule.status_by) == ("paused", "too noisy", "ada")
    assert (schedule.status_at, schedule.next_run_at, schedule.due_at) == (NOW, None, None)


def test_what_it_fired_and_nobody_claimed_is_cancelled_what_runs_goes_on() -> None:
    schedule = make_schedule(now=NOW)
    queued = make_session(make_run(schedule, now=NOW, trigger="schedule"), now=NOW)
    by_hand = make_session(make_run(schedule, now=NOW), now=NOW)
    running = make_session(
        make_run(schedule, now=NINE, trigger="schedule", status="running"), now=NOW, status="running"
    )

    steering.pause([schedule], by="ada", reason="", now=NOW)

    for session in (queued, by_hand, running):
        session.refresh_from_db()
    assert (queued.status, queued.reason) == ("cancelled", "paused")
    assert (queued.run.status, queued.run.reason) == ("cancelled", "paused")
    assert (by_hand.status, running.status) == ("queued", "running")


def test_after_a_pause_what_was_fired_can_not_be_claimed() -> None:
    schedule = make_schedule(now=NOW)
    session = make_session(make_run(schedule, now=NOW, trigger="schedule"), now=NOW, admitted_at=NOW)
    Schedule.objects.filter(pk=schedule.pk).update(status="paused", next_run_at=None, due_at=None)

    worker = make_worker(now=NOW)
    assert not Session.objects.claim(session.pk, worker=worker, task_id="", now=NOW)


def test_a_resume_begins_now_and_never_runs_the_past() -> None:
    schedule = make_schedule(now=NOW - timedelta(days=30), status="paused")

    assert steering.resume([schedule], by="ada", now=NOW) == 1
    assert steering.resume([schedule], by="ada", now=NOW) == 0

    schedule.refresh_from_db()
    assert (schedule.status, schedule.status_reason, schedule.next_run_at) == ("active", "", NINE)


def test_disabling_says_so_on_what_waits() -> None:
    schedule = make_schedule(now=NOW)
    fired = make_session(make_run(schedule, now=NOW, trigger="schedule"), now=NOW)
    by_hand = make_session(make_run(schedule, now=NOW), now=NOW)

    assert steering.disable([schedule], by="ada", reason="gone", now=NOW) == 1

    for session in (fired, by_hand):
        session.refresh_from_db()
        assert (session.status, session.reason) == ("cancelled", "disabled")


def test_cancelling_a_run_ends_what_is_queued_and_asks_what_runs() -> None:
    run = make_run(now=NOW, status="running")
    queued = make_session(run, now=NOW)
    running = make_session(run, now=NOW, status="running")

    assert steering.cancel_run(run.pk, by="ada", now=NOW)

    queued.refresh_from_db()
    running.refresh_from_db()
    assert (queued.status, queued.message) == ("cancelled", "Cancelled by ada.")
    assert (running.status, running.cancel_requested_at, running.cancel_requested_by) == ("running", NOW, "ada")
    run.refresh_from_db()
    assert (run.status, run.cancel_requested_at) == ("running", NOW)


def test_a_run_with_nothing_but_queued_sessions_is_cancelled_at_once() -> None:
    session = make_session(now=NOW)
    assert steering.cancel_run(session.run_id, by="ada", now=NOW)
    run = Run.objects.get()
    assert (run.status, run.reason) == ("cancelled", "cancelled")


def test_what_is_over_can_not_be_cancelled() -> None:
    session = make_session(make_run(now=NOW, status="succeeded"), now=NOW, status="succeeded")
    assert not steering.cancel_run(session.run_id, by="ada", now=NOW)
    assert not steering.cancel_session(session.pk, by="ada", now=NOW)


def test_a_disabled_schedule_stays_disabled_when_it_is_paused() -> None:
    schedule = make_schedule(now=NOW, status="disabled")
    assert steering.pause([schedule], by="ada", reason="", now=NOW) == 0
    schedule.refresh_from_db()
    assert schedule.status == "disabled"


def test_a_paused_schedule_can_be_disabled() -> None:
    schedule = make_schedule(now=NOW, status="paused")
    assert steering.disable([schedule], by="ada", reason="", now=NOW) == 1
