"""Who may start, and who waits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from schedules.limits import admit
from schedules.models import Budget, Hold, Pool, Run, Schedule, Session
from tests.schedules.factories import make_pool, make_repository, make_run, make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _limits(settings: Settings) -> None:
    settings.ROTA_MAX_SESSIONS = 4
    settings.ROTA_MAX_SESSIONS_PER_REPOSITORY = 2


def waiting(count: int, **fields: Any) -> list[Session]:
    """Sessions of as many schedules and runs, without a repository."""
    return [make_session(make_run(make_schedule(now=NOW), now=NOW), now=NOW, **fields) for _ in range(count)]


def ids(sessions: list[Session]) -> list[int]:
    return [session.pk for session in sessions]


def test_without_a_worker_everybody_waits() -> None:
    waiting(2)
    assert admit(now=NOW) == []


@pytest.mark.parametrize(
    "fields", [{"last_seen_at": NOW - timedelta(minutes=5)}, {"stopped_at": NOW}, {"kind": "control"}]
)
def test_a_worker_that_is_silent_stopped_or_of_another_kind_has_no_place(fields: dict[str, object]) -> None:
    make_worker(now=NOW, **fields)  # type: ignore[arg-type]
    waiting(1)
    assert admit(now=NOW) == []


def test_as_many_are_admitted_as_the_workers_have_places() -> None:
    make_worker(now=NOW, concurrency=1)
    make_worker(now=NOW, concurrency=2)
    sessions = waiting(5)

    assert admit(now=NOW) == ids(sessions[:3])
    assert admit(now=NOW) == []
    assert Session.objects.filter(admitted_at=NOW).count() == 3


@pytest.mark.parametrize("column", ["schedule", "repository"])
def test_what_is_full_keeps_nobody_else_while_something_is_shut(column: str) -> None:
    """Of the two that are told apart here one's id is written with a digit that is the other one's."""
    make_worker(now=NOW, concurrency=9)
    make_pool(places=0)
    sessions = []
    for pk in (13, 3):
        repository = make_repository(pk=pk, max_sessions=1) if column == "repository" else None
        named: dict[str, Any] = {"pk": pk} if column == "schedule" else {}
        schedule = make_schedule(now=NOW, max_sessions=1, **named)
        sessions.append(make_session(make_run(schedule, now=NOW, repository=repository), now=NOW))
    full, free = sessions
    Session.objects.filter(pk=full.pk).update(status="running", claimed_at=NOW)
    make_session(full.run, now=NOW)
    assert admit(now=NOW) == [free.pk]


def test_the_limit_of_all_holds_over_the_places() -> None:
    make_worker(now=NOW, concurrency=50)
    sessions = waiting(6)
    assert admit(now=NOW) == ids(sessions[:4])


def test_who_runs_or_was_admitted_holds_a_place() -> None:
    make_worker(now=NOW, concurrency=50)
    waiting(2, status="running")
    waiting(1, admitted_at=NOW)
    late = waiting(2)
    assert admit(now=NOW) == ids(late[:1])


def test_what_runs_on_a_worker_that_holds_back_takes_no_place_of_the_others() -> None:
    leaving = make_worker(now=NOW, concurrency=2, holds_back="It was told to end.")
    waiting(2, status="running", worker=leaving)
    make_worker(now=NOW, concurrency=1)
    late = waiting(3)
    assert admit(now=NOW) == ids(late[:1])
    make_worker(now=NOW, concurrency=50)
    assert admit(now=NOW) == ids(late[1:2]), "the limit of all holds for those, too"


def test_what_a_worker_left_to_the_next_one_takes_its_place() -> None:
    gone = make_worker(now=NOW, concurrency=2, holds_back="It was told to end.", stopped_at=NOW)
    waiting(1, status="running", worker=gone)
    make_worker(now=NOW, concurrency=2)
    late = waiting(2)
    assert admit(now=NOW) == ids(late[:1])


def test_priority_goes_first_and_then_age() -> None:
    make_worker(now=NOW)
    old, young = waiting(2)
    urgent = waiting(1, priority=5)[0]
    assert admit(now=NOW) == ids([urgent, old, young])


def test_a_full_schedule_waits_and_blocks_nobody_behind_it() -> None:
    make_worker(now=NOW)
    run = make_run(make_schedule(now=NOW, max_sessions=2), now=NOW)
    crowd = [make_session(run, now=NOW, priority=9) for _ in range(300)]
    other = waiting(1)[0]
    assert admit(now=NOW) == ids([*crowd[:2], other])


def test_a_full_repository_waits_and_blocks_nobody_behind_it() -> None:
    make_worker(now=NOW)
    shop = make_repository()
    busy = [
        make_session(make_run(make_schedule(now=NOW, repositories=[shop]), now=NOW, repository=shop), now=NOW)
        for _ in range(3)
    ]
    other = waiting(1)[0]
    assert admit(now=NOW) == ids([*busy[:2], other])


@pytest.mark.parametrize(("overlap", "admitted"), [("queue_one", 0), ("cancel_other", 0), ("allow", 1)])
def test_a_run_waits_for_the_one_before_unless_they_may_overlap(overlap: str, admitted: int) -> None:
    make_worker(now=NOW)
    schedule = make_schedule(now=NOW, overlap=overlap, max_sessions=5)
    make_run(schedule, now=NOW, status="running", overlap=overlap)
    make_session(make_run(schedule, now=NOW, overlap=overlap), now=NOW)
    assert len(admit(now=NOW)) == admitted


def test_nobody_waits_for_a_run_that_goes_beside_the_others() -> None:
    make_worker(now=NOW)
    schedule = make_schedule(now=NOW, overlap="queue_one", max_sessions=5)
    make_run(schedule, now=NOW, status="running", trigger="backfill", overlap="allow")
    session = make_session(make_run(schedule, now=NOW, overlap="queue_one"), now=NOW)
    assert admit(now=NOW) == [session.pk]


def test_a_retry_is_not_admitted_before_its_time() -> None:
    make_worker(now=NOW)
    session = waiting(1, not_before=NOW + timedelta(seconds=30))[0]
    assert admit(now=NOW) == []
    assert admit(now=NOW + timedelta(seconds=30)) == [session.pk]


def test_a_run_in_another_repository_is_not_waited_for() -> None:
    make_worker(now=NOW)
    here, there = make_repository(), make_repository()
    schedule = make_schedule(now=NOW, repositories=[here, there], overlap="queue_one", max_sessions=5)
    make_run(schedule, now=NOW, status="running", repository=here, overlap="queue_one")
    session = make_session(make_run(schedule, now=NOW, repository=there, overlap="queue_one"), now=NOW)
    assert admit(now=NOW) == [session.pk]


def test_what_a_paused_schedule_fired_is_not_admitted_but_a_run_by_hand_is() -> None:
    make_worker(now=NOW)
    schedule = make_schedule(now=NOW, status="paused", overlap="allow", max_sessions=5)
    make_session(make_run(schedule, now=NOW, trigger="schedule"), now=NOW)
    by_hand = make_session(make_run(schedule, now=NOW), now=NOW)
    assert admit(now=NOW) == [by_hand.pk]


def test_who_is_to_be_cancelled_is_not_admitted() -> None:
    make_worker(now=NOW)
    waiting(1, cancel_requested_at=NOW)
    assert admit(now=NOW) == []


def test_a_disabled_schedule_starts_nothing_not_even_by_hand() -> None:
    make_worker(now=NOW)
    schedule = make_schedule(now=NOW, status="disabled")
    make_session(make_run(schedule, now=NOW), now=NOW)
    assert admit(now=NOW) == []


def test_nothing_starts_in_a_repository_that_was_switched_off_meanwhile() -> None:
    worker = make_worker(now=NOW)
    shop = make_repository("shop", enabled=False)
    waits = make_session(make_run(make_schedule(now=NOW), now=NOW, repository=shop), now=NOW)
    assert admit(now=NOW) == []
    Session.objects.filter(pk=waits.pk).update(admitted_at=NOW)
    assert not Session.objects.claim(waits.pk, worker=worker, task_id="", now=NOW)


@pytest.mark.no_cover
def test_a_fleet_of_running_sessions_does_not_make_the_query_too_large(settings: Settings) -> None:
    settings.ROTA_MAX_SESSIONS = 2000
    make_worker(now=NOW, concurrency=2000)
    late = waiting(1)
    names = [f"fleet-{number}" for number in range(1001)]
    schedules = Schedule.objects.bulk_create([Schedule(name=name, runner="script") for name in names])
    runs = [Run(schedule=one, scheduled_for=NOW, queued_at=NOW, trigger="manual") for one in schedules]
    Run.objects.bulk_create(runs)
    Session.objects.bulk_create(
        [Session(run=run, schedule=run.schedule, status="running", queued_at=NOW, claimed_at=NOW) for run in runs]
    )
    assert admit(now=NOW) == ids(late)


def test_a_repository_has_a_limit_of_its_own() -> None:
    make_worker(now=NOW)
    shop = make_repository(max_sessions=3)
    busy = [
        make_session(make_run(make_schedule(now=NOW, repositories=[shop]), now=NOW, repository=shop), now=NOW)
        for _ in range(4)
    ]
    assert admit(now=NOW) == ids(busy[:3])


# --- Pools --------------------------------------------------------------------------------------


def in_pool(pool: Pool, count: int, *, weight: int = 1, **fields: Any) -> list[Session]:
    """Sessions of as many schedules that name the pool."""
    sessions = waiting(count, **fields)
    for session in sessions:
        session.schedule.pools.add(pool)
    Schedule.objects.filter(pools=pool, pk__in=[session.schedule_id for session in sessions]).update(weight=weight)
    return sessions


def test_a_pool_lets_in_as_many_as_it_has_places_and_blocks_nobody_else() -> None:
    make_worker(now=NOW)
    deploys = make_pool("deploys", places=2)
    crowd = in_pool(deploys, 5, priority=9)
    other = waiting(1)[0]

    assert admit(now=NOW) == ids([*crowd[:2], other])
    assert admit(now=NOW) == []

    Session.objects.finish(crowd[0].pk, status="succeeded", reason="ok", now=NOW)
    assert admit(now=NOW) == [crowd[2].pk]


def test_a_session_takes_the_weight_of_its_schedule_of_each_pool_and_a_lighter_one_may_go_before_it() -> None:
    make_worker(now=NOW)
    memory = make_pool("memory", places=5)
    first, second = in_pool(memory, 2, weight=3)
    light = in_pool(memory, 1, weight=2)[0]

    assert admit(now=NOW) == ids([first, light])
    assert admit(now=NOW) == []
    Session.objects.filter(pk=first.pk).update(status="running", claimed_at=NOW)
    Session.objects.finish(light.pk, status="succeeded", reason="ok", now=NOW)
    assert admit(now=NOW) == []
    Session.objects.finish(first.pk, status="succeeded", reason="ok", now=NOW)
    assert admit(now=NOW) == [second.pk]


def test_a_session_needs_a_place_in_every_pool_that_it_is_in() -> None:
    make_worker(now=NOW)
    wide, shut = make_pool("wide", places=9), make_pool("shut", places=0)
    session = in_pool(wide, 1)[0]
    session.schedule.pools.add(shut)
    assert admit(now=NOW) == []


@pytest.mark.parametrize("pool", [{"provider": "anthropic"}, {"model": "claude-opus-*"}])
def test_a_pool_of_a_provider_or_a_model_holds_without_being_named(pool: dict[str, str]) -> None:
    make_worker(now=NOW)
    make_pool("dear", places=1, **pool)
    asking = {"credential": "anthropic", "model_asked": "claude-opus-4-5"}
    first = waiting(1, **asking)[0]
    waiting(1, **{**asking, "credential": "anthropic/ANTHROPIC_API_KEY"})
    other = waiting(1, credential="openai", model_asked="gpt-5")[0]
    rehearsal = waiting(1, credential="", model_asked="claude-opus-4-5", is_rehearsal=True)[0]

    assert admit(now=NOW) == ids([first, other, rehearsal])


# --- How much is read ---------------------------------------------------------------------------


def crowd(count: int, **fields: Any) -> list[Schedule]:
    """That many waiting sessions, each of a schedule of its own."""
    names = [f"crowd-{number}" for number in range(count)]
    schedules = Schedule.objects.bulk_create([Schedule(name=name, runner="script") for name in names])
    runs = Run.objects.bulk_create(
        [Run(schedule=one, scheduled_for=NOW, queued_at=NOW, trigger="manual") for one in schedules]
    )
    Session.objects.bulk_create(
        [Session(run=run, schedule=run.schedule, queued_at=NOW, priority=1, **fields) for run in runs]
    )
    return schedules


@pytest.mark.parametrize("limit", ["pool", "provider", "model", "hold", "budget", "repository"])
@pytest.mark.no_cover
def test_a_thousand_that_a_full_limit_blocks_are_not_read(
    limit: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    make_worker(now=NOW)
    fields: dict[str, Any] = {"credential": "anthropic", "model_asked": "opus", "reserved_usd": 1}
    if limit == "repository":
        fields["repository"] = make_repository(max_sessions=1)
        running = make_run(make_schedule(now=NOW), now=NOW, repository=fields["repository"], status="running")
        make_session(running, now=NOW, status="running")
    schedules = crowd(1_000, **fields)
    named = make_pool("full", places=0) if limit == "pool" else None
    if named:
        through = Schedule.pools.through
        through.objects.bulk_create([through(schedule=one, pool=named) for one in schedules])
    elif limit in ("provider", "model"):
        make_pool("full", places=0, **{limit: "anthropic" if limit == "provider" else "claude-opus-*"})
    elif limit == "hold":
        Hold.objects.create(credential="anthropic", until=NOW + timedelta(hours=1), reason="Used up.")
    elif limit == "budget":
        Budget.objects.create(period="day", limit_usd=0)
    late = waiting(2)

    with django_assert_max_num_queries(24):
        assert admit(now=NOW) == ids(late)


def test_without_pools_holds_and_budgets_an_admission_takes_few_queries(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    make_worker(now=NOW)
    waiting(2)
    with django_assert_max_num_queries(12):
        assert len(admit(now=NOW)) == 2
