"""The dead-man's switch over workers: who waits for one, and what waits by intent."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import Settings

from schedules import quota
from schedules.models import Budget, Incident, WorkerHeartbeat
from schedules.stopping import freeze, lift, stop
from schedules.watch import look
from tests.schedules.factories import make_pool, make_run, make_schedule, make_session, make_worker
from tests.schedules.watching import alarms

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def beat() -> WorkerHeartbeat:
    return make_worker("beat@here", kind="beat", now=NOW, started_at=NOW - DAY)


def test_sessions_that_wait_without_a_worker_are_told(beat: WorkerHeartbeat) -> None:
    make_session(now=NOW - 61 * SECOND)
    look(now=NOW)
    assert alarms() == {("no_worker", ""): "1 session waits: no worker that runs sessions is alive. Start one."}
    make_worker(now=NOW)
    look(now=NOW)
    assert alarms() == {}


def test_without_a_worker_that_is_the_one_cause(beat: WorkerHeartbeat) -> None:
    worker = make_worker(now=NOW)
    make_session(now=NOW - HOUR)
    look(now=NOW)
    assert set(alarms()) == {("queue_stuck", "")}
    WorkerHeartbeat.objects.filter(pk=worker.pk).update(stopped_at=NOW)
    look(now=NOW)
    assert set(alarms()) == {("no_worker", "")}


def test_a_worker_that_holds_back_is_none(beat: WorkerHeartbeat) -> None:
    make_worker(now=NOW, holds_back="/var has 3 MB free.")
    make_session(now=NOW - 61 * SECOND)
    look(now=NOW)
    assert "every worker holds back. /var has 3 MB free." in alarms()["no_worker", ""]


def test_a_session_that_waits_for_too_long_is_told_with_why(beat: WorkerHeartbeat, settings: Settings) -> None:
    make_worker(now=NOW)
    ahead = make_run(make_schedule("slow", now=NOW - DAY), now=NOW - DAY, status="running")
    make_session(ahead, now=NOW - DAY, status="running", worker=None)
    session = make_session(make_run(ahead.schedule, now=NOW - 16 * MINUTE), now=NOW - 16 * MINUTE)
    look(now=NOW)
    told = alarms()["queue_stuck", ""]
    assert told.startswith(f"Session {session.pk} of slow has waited for 16 minutes.")
    assert "its schedule: 1 of 1 sessions at once run" in told

    settings.ROTA_QUEUE_ALARM = timedelta(hours=1)
    look(now=NOW)
    assert alarms() == {}


def test_an_attempt_that_waits_for_its_time_is_not_stuck(beat: WorkerHeartbeat) -> None:
    make_worker(now=NOW)
    make_session(now=NOW - DAY, not_before=NOW + MINUTE)
    make_session(now=NOW - DAY, not_before=NOW - MINUTE)
    look(now=NOW)
    assert alarms() == {}


def test_a_full_disk_whose_worker_is_gone_is_not_told_for_ever(beat: WorkerHeartbeat) -> None:
    Incident.objects.alarm("disk_full", "host-1", message="Full.", now=NOW)
    full = make_worker(now=NOW, holds_back="Full.")
    look(now=NOW)
    assert ("disk_full", "host-1") in alarms()
    WorkerHeartbeat.objects.filter(pk=full.pk).update(stopped_at=NOW)
    look(now=NOW)
    assert alarms() == {}


def _behind_its_own_run(overlap: str, trigger: str) -> None:
    ahead = make_run(now=NOW - 2 * HOUR, status="running", overlap="skip")
    make_session(ahead, now=NOW - 2 * HOUR, status="running", worker=None)
    behind = make_run(ahead.schedule, now=NOW - HOUR, overlap=overlap, trigger=trigger)
    make_session(behind, now=NOW - HOUR)


def _whose_turn_has_just_come() -> None:
    ahead = make_run(now=NOW - 2 * HOUR, status="succeeded", finished_at=NOW - MINUTE)
    make_session(make_run(ahead.schedule, now=NOW - HOUR, overlap="queue_one"), now=NOW - HOUR)


def _after_a_stop() -> None:
    make_session(now=NOW - HOUR)
    stop(by="ada", reason="!", now=NOW - HOUR)
    lift(by="ada", now=NOW - MINUTE)


def _after_a_freeze() -> None:
    make_session(now=NOW - HOUR)
    freeze(starts_at=NOW - HOUR, ends_at=NOW - MINUTE, reason="moves", by="ada")


def _held() -> None:
    make_session(now=NOW - HOUR, credential="anthropic")
    quota.hold_until("anthropic", NOW + HOUR, now=NOW - HOUR)


def _held_until_a_moment_ago() -> None:
    make_session(now=NOW - HOUR, credential="anthropic")
    quota.hold_until("anthropic", NOW - 2 * MINUTE, now=NOW - HOUR)
    quota.recover(now=NOW - MINUTE)


def _in_a_shut_pool() -> None:
    session = make_session(now=NOW - HOUR)
    session.schedule.pools.add(make_pool(places=0))


def _short_of_money() -> None:
    Budget.objects.create(period="day", limit_usd="0.50")
    make_session(now=NOW - HOUR, reserved_usd="1.00")


@pytest.mark.parametrize(
    "waits",
    [
        lambda: _behind_its_own_run("queue_one", "schedule"),
        lambda: _behind_its_own_run("cancel_other", "schedule"),
        lambda: _behind_its_own_run("allow", "backfill"),
        _whose_turn_has_just_come,
        _after_a_stop,
        _after_a_freeze,
        _held,
        _held_until_a_moment_ago,
        _in_a_shut_pool,
        _short_of_money,
    ],
)
def test_what_waits_by_intent_is_not_stuck(beat: WorkerHeartbeat, waits: Callable[[], None]) -> None:
    make_worker(now=NOW)
    waits()
    look(now=NOW)
    assert ("queue_stuck", "") not in alarms()


def test_one_that_is_stuck_is_told_also_behind_those_that_are_not(beat: WorkerHeartbeat) -> None:
    make_worker(now=NOW)
    _held()
    _behind_its_own_run("queue_one", "schedule")
    stuck = make_session(now=NOW - 20 * MINUTE)
    look(now=NOW)
    assert alarms()["queue_stuck", ""].startswith(f"Session {stuck.pk} ")
