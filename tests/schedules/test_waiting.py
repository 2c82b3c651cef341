"""A queued session says what it waits for, and its place."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from schedules.limits import admit
from schedules.models import Budget, Freeze, Hold, Repository, Session, Stop
from schedules.spending import settle
from schedules.waiting import Waiting, waiting
from tests.schedules.factories import (
    make_pool,
    make_repository,
    make_run,
    make_schedule,
    make_session,
    make_worker,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def _limits(settings: Settings) -> None:
    settings.ROTA_MAX_SESSIONS = 4
    settings.ROTA_MAX_SESSIONS_PER_REPOSITORY = 2


def queued(*, schedule: dict[str, Any] | None = None, run: dict[str, Any] | None = None, **fields: Any) -> Session:
    made = make_schedule(now=NOW, **(schedule or {}))
    return make_session(make_run(made, now=NOW, **(run or {})), now=NOW, **fields)


def why(session: Session) -> str:
    session.refresh_from_db()
    return waiting([session], now=NOW)[session.pk].why


def until(session: Session) -> datetime | None:
    return waiting([session], now=NOW)[session.pk].until


def test_what_is_not_queued_waits_for_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    session = make_session(now=NOW, status="running")
    with django_assert_num_queries(0):
        assert waiting([session], now=NOW) == {}


def test_without_a_worker() -> None:
    assert why(queued()) == "no worker takes sessions"


def test_in_a_repository_that_is_off() -> None:
    make_worker(now=NOW)
    assert why(queued(run={"repository": make_repository("shop", enabled=False)})) == "the repository shop is off"


def test_when_all_places_are_taken_it_is_told_its_place_by_priority_and_age() -> None:
    make_worker(now=NOW, concurrency=2)
    for _ in range(2):
        make_session(now=NOW, status="running")
    old, young = queued(), queued()
    urgent = queued(priority=5)
    queued(not_before=LATER)

    found = waiting([old, young, urgent], now=NOW)

    assert found[old.pk] == Waiting(why="all places are taken: 2 of 2", place=2, of=3)
    assert [found[one.pk].place for one in (urgent, old, young)] == [1, 2, 3]
    assert found[young.pk].told == "Waits: all places are taken: 2 of 2. It is 3 of 3 that wait."


def test_with_a_place_free_it_waits_for_its_turn() -> None:
    make_worker(now=NOW)
    assert why(queued()) == "for its turn"


def test_what_was_admitted_is_about_to_be_taken() -> None:
    make_worker(now=NOW)
    session = queued()
    admit(now=NOW)
    session.refresh_from_db()
    assert waiting([session], now=NOW)[session.pk].is_at_once


def test_a_full_schedule() -> None:
    make_worker(now=NOW)
    running = make_session(now=NOW, status="running")
    session = make_session(make_run(running.schedule, now=NOW), now=NOW)
    assert why(session) == "its schedule: 1 of 1 sessions at once run"


def test_a_full_repository() -> None:
    make_worker(now=NOW)
    shop = make_repository(max_sessions=1)
    make_session(make_run(now=NOW, repository=shop, status="running"), now=NOW, status="running")
    assert why(queued(run={"repository": shop})) == "its repository: 1 of 1 sessions at once run"


def test_a_full_pool() -> None:
    make_worker(now=NOW)
    pool = make_pool("deploys", places=3)
    session = queued(schedule={"weight": 2})
    running = make_session(
        make_run(make_schedule(now=NOW, weight=2), now=NOW, status="running"), now=NOW, status="running"
    )
    pool.schedules.set([session.schedule, running.schedule])
    assert why(session) == "pool deploys: 2 of 3 places taken, it needs 2"


def test_a_pool_that_is_shut() -> None:
    make_worker(now=NOW)
    session = queued(schedule={"weight": 2})
    session.schedule.pools.add(make_pool("deploys", places=0))
    assert why(session) == "pool deploys is shut"


def test_a_budget() -> None:
    make_worker(now=NOW)
    Budget.objects.create(period="month", limit_usd=3)
    settle(make_session(now=NOW, status="succeeded"), Decimal("1.50"), now=NOW)
    make_session(now=NOW, status="running", reserved_usd=1)
    session = queued(reserved_usd=1)

    assert (
        why(session)
        == "monthly budget of all: 1.50 of 3.00 USD spent, 1.00 reserved by what runs; a session reserves 1.00"
    )
    assert until(session) is None  # what runs may turn out to cost less

    Session.objects.filter(pk=session.pk).update(reserved_usd=2)
    assert until(session) == datetime(2027, 2, 1, tzinfo=UTC)


def test_the_money_of_its_run() -> None:
    make_worker(now=NOW)
    run = make_run(make_schedule(now=NOW, max_run_usd="1.50", max_sessions=5), now=NOW, status="running")
    make_session(run, now=NOW, status="running", reserved_usd=1)
    session = make_session(run, now=NOW, reserved_usd=1)
    assert why(session) == "money limit of its run: 0.00 of 1.50 USD spent, 1.00 reserved; a session reserves 1.00"


def test_a_provider_that_is_held() -> None:
    Hold.objects.create(credential="anthropic", until=LATER, reason="Its quota is used up.")
    session = queued(credential="anthropic")
    assert why(session) == "anthropic lets nobody in: its quota is used up"
    assert until(session) == LATER


def test_a_provider_that_one_session_tries() -> None:
    make_worker(now=NOW)
    Hold.objects.create(credential="anthropic", until=NOW - timedelta(minutes=1), failures=3)
    first, second = queued(credential="anthropic"), queued(credential="anthropic")
    assert admit(now=NOW) == [first.pk]
    assert why(second) == "anthropic let nobody in: one session tries whether it does again"


@pytest.mark.parametrize("status", ["paused", "disabled"])
def test_a_schedule_that_is_off_the_rota(status: str) -> None:
    schedule = {"name": "look", "status": status, "status_reason": "It failed."}
    assert why(queued(schedule=schedule, run={"trigger": "schedule"})) == f"look is {status}: It failed."


def test_everything_is_stopped() -> None:
    Stop.objects.create(reason="The forge moves.", set_by="ada", set_at=NOW)
    assert why(queued()) == "everything was stopped by ada: The forge moves."


def test_a_freeze_window_of_all_or_of_its_schedule() -> None:
    frozen, other = queued(), queued()
    window = Freeze.objects.create(starts_at=NOW, ends_at=LATER, reason="Release day")
    window.schedules.set([frozen.schedule])
    assert (why(frozen), until(frozen)) == ("a freeze window: Release day", LATER)
    assert why(other) == "no worker takes sessions"

    window.schedules.clear()
    assert why(other) == "a freeze window: Release day"


def test_a_retry_before_its_time_has_no_place() -> None:
    session = queued(not_before=LATER)
    found = waiting([session], now=NOW)[session.pk]
    assert (found.why, found.until, found.place) == ("it is a retry, not tried before its time", LATER, 0)


def test_an_older_run_of_the_same_schedule() -> None:
    schedule = make_schedule(now=NOW, overlap="queue_one")
    older = make_run(schedule, now=NOW, status="running", overlap="queue_one")
    session = make_session(make_run(schedule, now=NOW, overlap="queue_one"), now=NOW)
    assert why(session) == f"run {older.pk} of the same schedule is still open"


def test_the_run_that_is_named_is_one_that_goes_before_it() -> None:
    """Others are older, and go beside it or behind it."""
    schedule = make_schedule(now=NOW, overlap="queue_one")
    past = [make_run(schedule, now=NOW, trigger="backfill", overlap="allow") for _ in range(2)]
    older = make_run(schedule, now=NOW, status="running", overlap="queue_one")
    session = make_session(make_run(schedule, now=NOW, overlap="queue_one"), now=NOW)
    first, second = (make_session(run, now=NOW) for run in past)

    assert why(session) == f"run {older.pk} of the same schedule is still open"
    assert why(first) == f"run {older.pk} of the same schedule is still open"
    assert why(second) == f"run {past[0].pk} of the same schedule is still open"


@pytest.mark.parametrize("halt", ["stop", "freeze", "off"])
def test_what_was_admitted_is_not_told_to_be_taken_while_nothing_starts(halt: str) -> None:
    make_worker(now=NOW)
    shop = make_repository("shop")
    session = queued(run={"repository": shop})
    admit(now=NOW)
    if halt == "stop":
        Stop.objects.create(reason="The forge moves.", set_by="ada", set_at=NOW)
    elif halt == "freeze":
        Freeze.objects.create(starts_at=NOW, ends_at=LATER, reason="Release day")
    else:
        Repository.objects.filter(pk=shop.pk).update(enabled=False)
    session.refresh_from_db()
    found = waiting([session], now=NOW)[session.pk]
    told = {
        "stop": "everything was stopped by ada: The forge moves.",
        "freeze": "a freeze window: Release day",
        "off": "the repository shop is off",
    }
    assert (found.why, found.is_at_once) == (told[halt], False)


def test_one_that_is_being_cancelled() -> None:
    assert why(queued(cancel_requested_at=NOW)) == "it is being cancelled"


def test_fifty_are_told_in_as_many_queries_as_one(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    make_worker(now=NOW)
    Budget.objects.create(period="month", limit_usd=1)
    make_pool("all", places=1, model="opus")
    sessions = [queued(model_asked="opus", reserved_usd=2) for _ in range(50)]
    with django_assert_max_num_queries(18):
        assert len(waiting(sessions, now=NOW)) == 50
