"""What keeps the house."""

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import Settings

from schedules.models import Run, Session, SessionEvent, WorkerHeartbeat
from schedules.upkeep import declare_forgotten, keep_up, prune
from tests.schedules.factories import make_event, make_run, make_session, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def test_what_was_admitted_and_never_claimed_waits_again() -> None:
    forgotten = make_session(now=NOW, admitted_at=NOW - 30 * SECOND)
    fresh = make_session(now=NOW, admitted_at=NOW - SECOND)

    assert keep_up(now=NOW) == {"released": 1, "lost": 0, "settled": 0}

    forgotten.refresh_from_db()
    fresh.refresh_from_db()
    assert (forgotten.admitted_at, fresh.admitted_at) == (None, NOW - SECOND)


def test_a_session_whose_worker_is_silent_is_lost_and_its_run_failed() -> None:
    silent, alive = make_worker(now=NOW - 90 * SECOND), make_worker(now=NOW)
    lost = make_session(now=NOW, status="running", worker=silent, worker_name=silent.name)
    make_session(now=NOW, status="running", worker=alive)

    assert keep_up(now=NOW)["lost"] == 1

    lost.refresh_from_db()
    assert (lost.status, lost.reason) == ("lost", "worker_died")
    assert silent.name in lost.message
    assert (lost.run.status, lost.run.reason) == ("failed", "worker_died")


def test_a_worker_that_stopped_just_now_leaves_time_to_take_over() -> None:
    left = make_worker(now=NOW - 5 * SECOND, stopped_at=NOW - 5 * SECOND)
    make_session(now=NOW, status="running", worker=left)
    assert keep_up(now=NOW)["lost"] == 0
    assert keep_up(now=NOW + 60 * SECOND)["lost"] == 1


def test_a_run_that_nobody_settled_is_settled() -> None:
    run = make_run(now=NOW, status="running")
    make_session(run, now=NOW, status="succeeded")
    assert keep_up(now=NOW)["settled"] == 1
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_pruning_deletes_what_is_past_its_time_and_nothing_else(settings: Settings) -> None:
    settings.ROTA_RETENTION_DAYS = 30
    old = make_run(now=NOW - 40 * DAY, status="succeeded")
    make_event(make_session(old, now=NOW - 40 * DAY, status="succeeded"), now=NOW - 40 * DAY)
    kept = make_session(now=NOW - 20 * DAY, status="succeeded")
    make_event(kept, now=NOW - 20 * DAY)
    make_event(make_session(now=NOW - 20 * DAY, status="running"), now=NOW - 20 * DAY)
    make_worker(now=NOW - 8 * DAY)
    make_worker(now=NOW)

    assert prune(now=NOW) == {"events": 2, "runs": 1, "workers": 1}

    assert not Run.objects.filter(pk=old.pk).exists()
    assert Session.objects.filter(pk=kept.pk).exists()
    assert SessionEvent.objects.count() == 1
    assert WorkerHeartbeat.objects.count() == 1


def test_an_open_run_is_never_pruned(settings: Settings) -> None:
    settings.ROTA_RETENTION_DAYS = 1
    make_session(now=NOW - 40 * DAY, status="running")
    assert prune(now=NOW)["runs"] == 0


def test_pruning_takes_more_than_one_batch() -> None:
    session = make_session(now=NOW, status="succeeded")
    SessionEvent.objects.bulk_create(
        [SessionEvent(session=session, seq=seq, at=NOW - 20 * DAY, kind="text") for seq in range(1201)]
    )
    assert prune(now=NOW)["events"] == 1201


def test_what_a_worker_lost_hold_of_is_lost_and_nobody_elses() -> None:
    worker, other = make_worker(now=NOW), make_worker(now=NOW)
    session = make_session(now=NOW, status="running", worker=worker)

    assert not declare_forgotten(session.pk, worker=other, now=NOW)
    assert declare_forgotten(session.pk, worker=worker, now=NOW)

    session.refresh_from_db()
    assert (session.status, session.reason, session.run.status) == ("lost", "internal", "failed")


def test_where_runs_are_kept_shortly_their_events_go_before_them(settings: Settings) -> None:
    settings.ROTA_RETENTION_DAYS = 1
    make_event(make_session(now=NOW - 2 * DAY, status="succeeded"), now=NOW - 2 * DAY)
    assert prune(now=NOW)["events"] == 1
