"""What keeps the house."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from schedules.models import Incident, Run, Session, SessionEvent, WorkerHeartbeat
from schedules.upkeep import Upkeep, declare_forgotten, keep_up, prune
from tests.schedules.factories import make_event, make_run, make_schedule, make_session, make_worker
from tests.schedules.faults import failing

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def test_what_was_admitted_and_never_claimed_waits_again() -> None:
    forgotten = make_session(now=NOW, admitted_at=NOW - 30 * SECOND)
    fresh = make_session(now=NOW, admitted_at=NOW - SECOND)

    assert keep_up(now=NOW) == {"released": 1, "lost": 0, "settled": 0, "caught_up": 0, "let_in": 0}

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


def silent_since(at: datetime) -> Session:
    worker = make_worker(now=at)
    return make_session(now=at, status="running", worker=worker, worker_name=worker.name)


def rounds(upkeep: Upkeep, *, seconds: range, clock_ahead: float = 0.0) -> int:
    """One round at each of these seconds after NOW. Returns how many sessions were declared lost."""
    return sum(
        upkeep.round(now=NOW + (second + clock_ahead) * SECOND, at=1000.0 + second)["lost"] for second in seconds
    )


def test_a_process_that_has_just_started_leaves_workers_time_to_take_over() -> None:
    silent_since(NOW - 300 * SECOND)
    upkeep = Upkeep()
    assert rounds(upkeep, seconds=range(0, 30, 10)) == 0
    assert rounds(upkeep, seconds=range(30, 40, 10)) == 1


def test_after_a_stall_of_its_own_it_lets_workers_renew_first() -> None:
    upkeep = Upkeep()
    rounds(upkeep, seconds=range(0, 60, 10))
    silent_since(NOW + 50 * SECOND)  # its whole machine slept from then on
    assert rounds(upkeep, seconds=range(3600, 3630, 10)) == 0
    assert rounds(upkeep, seconds=range(3630, 3640, 10)) == 1


def test_a_clock_that_was_set_loses_nobody() -> None:
    upkeep = Upkeep()
    rounds(upkeep, seconds=range(0, 60, 10))
    session = silent_since(NOW + 50 * SECOND)
    assert rounds(upkeep, seconds=range(60, 80, 10), clock_ahead=7200.0) == 0
    WorkerHeartbeat.objects.update(last_seen_at=NOW + 7300 * SECOND)  # it renews by the new clock
    assert rounds(upkeep, seconds=range(80, 150, 10), clock_ahead=7200.0) == 0
    session.refresh_from_db()
    assert session.status == "running"


def test_a_database_that_was_away_is_a_stall() -> None:
    upkeep = Upkeep()
    rounds(upkeep, seconds=range(0, 60, 10))
    with failing("SELECT", "UPDATE"), pytest.raises(OperationalError):
        rounds(upkeep, seconds=range(60, 70, 10))
    silent_since(NOW)
    assert rounds(upkeep, seconds=range(70, 100, 10)) == 0
    assert rounds(upkeep, seconds=range(100, 110, 10)) == 1


def test_a_lost_session_is_tried_anew_by_policy_alone() -> None:
    policies = [make_schedule(now=NOW, retry=retry) for retry in ("none", "infrastructure")]
    silent = make_worker(now=NOW - 90 * SECOND)
    for schedule in policies:
        make_session(make_run(schedule, now=NOW, status="running"), now=NOW, status="running", worker=silent)
    assert keep_up(now=NOW)["lost"] == 2
    assert [schedule.sessions.filter(attempt=2).count() for schedule in policies] == [0, 1]
    assert [schedule.runs.get().status for schedule in policies] == ["failed", "running"]


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

    assert prune(now=NOW) == {"events": 2, "runs": 1, "incidents": 0, "workers": 1}

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
    runs = make_session(now=NOW, status="running")
    SessionEvent.objects.bulk_create(
        [SessionEvent(session=runs, seq=seq, at=NOW - 20 * DAY, kind="text") for seq in range(2500)]
    )
    SessionEvent.objects.bulk_create(
        [SessionEvent(session=session, seq=seq, at=NOW - 20 * DAY, kind="text") for seq in range(4500)]
    )
    assert prune(now=NOW)["events"] == 4500
    assert SessionEvent.objects.count() == 2500


def test_pruning_stops_looking_at_events_where_they_are_young() -> None:
    session = make_session(now=NOW, status="succeeded")
    SessionEvent.objects.bulk_create([SessionEvent(session=session, seq=0, at=NOW - 20 * DAY, kind="text")])
    SessionEvent.objects.bulk_create(
        [SessionEvent(session=session, seq=seq, at=NOW - DAY, kind="text") for seq in range(1, 9000)]
    )
    with CaptureQueriesContext(connection) as queries:
        assert prune(now=NOW)["events"] == 1
    assert len([query for query in queries if "schedules_sessionevent" in query["sql"]]) < 10


def test_pruning_leaps_over_ids_that_are_gone() -> None:
    session = make_session(now=NOW, status="succeeded")
    first = SessionEvent.objects.create(session=session, seq=0, at=NOW - 20 * DAY, kind="text")
    far = first.pk + 300_000_000
    SessionEvent.objects.bulk_create([SessionEvent(pk=far, session=session, seq=1, at=NOW - 20 * DAY, kind="text")])
    assert prune(now=NOW)["events"] == 2


def test_incidents_that_are_over_go_with_the_runs_of_their_time(settings: Settings) -> None:
    settings.ROTA_RETENTION_DAYS = 30
    for kind in ("missed", "disk_full"):
        Incident.objects.alarm(kind, message="!", now=NOW - 40 * DAY)
    Incident.objects.recover("missed", now=NOW - 40 * DAY)
    assert prune(now=NOW)["incidents"] == 1
    assert Incident.objects.get().kind == "disk_full"


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
