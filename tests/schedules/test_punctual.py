"""What the database records in bulk is what is recorded one by one; and what it leaves to that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examined
from hypothesis import strategies as st

from schedules import punctual
from schedules.firing import fire_due, fire_one
from schedules.models import Budget, Freeze, Run, Schedule, Session, Stop
from tests.schedules.factories import make_command, make_pool, make_repository, make_run, make_schedule
from tests.schedules.models.test_snapshot import FIELDS

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OURS = {"id", "run_id", "agent_session_id"}

# What decides about its times has to let it be on time.
ANYTHING = {name: values for name, values in FIELDS.items() if name not in ("time_zone", "jitter", "max_runs")}
TIMES = {
    "jitter": st.just(timedelta()) | st.timedeltas(timedelta(seconds=1), timedelta(hours=2)),
    "max_runs": st.none() | st.integers(1, 3),
    "ends_at": st.none() | st.just(NINE + 2 * DAY),
}
KINDS = st.sampled_from(
    [
        {"runner": "script", "argv": ["true"]},
        {"runner": "function", "function": "todo-report"},
        {"runner": "claude", "model": "haiku", "target": "codebase"},
        {"runner": "codex", "model": "gpt-5"},
    ]
)


@examined(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.fixed_dictionaries({}, optional=ANYTHING | TIMES),
    kind=KINDS,
    repositories=st.integers(0, 2),
    with_command=st.booleans(),
)
@pytest.mark.no_cover
def test_both_ways_record_the_same(
    values: dict[str, Any], kind: dict[str, Any], repositories: int, with_command: bool
) -> None:
    with _undone():
        values = values | kind | {"cron": "0 9 * * *", "silence": HOUR, "secrets": [], "fired_count": 0}
        if with_command and kind["runner"] == "claude":
            values |= {"command": make_command(), "prompt": ""}
        places = [make_repository() for _ in range(max(repositories, kind.get("target") == "codebase"))]
        schedule = make_schedule(now=NINE - HOUR, repositories=places, **values)
        schedule.refresh_from_db()
        now = (schedule.due_at or NINE) + 5 * timedelta(seconds=1)

        one_by_one = _recorded(lambda: fire_one(schedule.pk, now=now))
        in_bulk = _recorded(lambda: punctual.record(Schedule.objects.due(now), now=now, limit=10))

        assert in_bulk == one_by_one
        assert len(in_bulk[1]) == max(1, len(places))


def test_each_session_has_an_id_of_its_own_that_an_agent_takes() -> None:
    for _ in range(3):
        make_schedule(now=NINE - HOUR)
    assert punctual.record(Schedule.objects.due(NINE), now=NINE, limit=10).runs == 3
    ids = set(Session.objects.values_list("agent_session_id", flat=True))
    assert len(ids) == 3
    assert {found.version for found in ids} == {4}


def test_thousands_take_no_more_queries_than_a_few(django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        make_schedule(now=NINE - HOUR, cron=f"{number} 9 * * *", next_run_at=NINE, due_at=NINE)
    with django_assert_max_num_queries(22):
        done = punctual.record(Schedule.objects.due(NINE), now=NINE, limit=1000)
    assert (done.schedules, done.runs, done.left, done.more) == (30, 30, [], False)


def test_of_many_that_are_nearly_alike_each_has_its_own_snapshot() -> None:
    schedules = [
        Schedule(
            name=f"many-{number}",
            runner="script",
            argv=["echo", f"{number} %s"],
            cron=f"{number % 60} 9 * * *",
            environment={"NUMBER": str(number)} if number % 10 == 0 else {},
            next_run_at=NINE,
            due_at=NINE,
        )
        for number in range(150)
    ]
    Schedule.objects.bulk_create(schedules)
    assert punctual.record(Schedule.objects.due(NINE), now=NINE, limit=1000).runs == 150
    snapshots = dict(Run.objects.values_list("schedule__name", "snapshot"))
    assert snapshots == {schedule.name: schedule.snapshot() for schedule in schedules}


def _late(schedule: Schedule) -> None:
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=NINE - 2 * DAY, due_at=NINE - 2 * DAY)


def _overlapping(schedule: Schedule) -> None:
    make_run(schedule, now=NINE - MINUTE)


def _nowhere(schedule: Schedule) -> None:
    schedule.repositories.add(make_repository(enabled=False))


def _stopped(schedule: Schedule) -> None:
    Stop.objects.create(set_at=NINE - HOUR, set_by="ann", reason="fire")


def _frozen(schedule: Schedule) -> None:
    freeze = Freeze.objects.create(starts_at=NINE - HOUR, ends_at=NINE + HOUR, reason="release")
    freeze.schedules.add(schedule)


def _broken(schedule: Schedule) -> None:
    Schedule.objects.filter(pk=schedule.pk).update(cron="no line")


def _without_place(schedule: Schedule) -> None:
    Schedule.objects.filter(pk=schedule.pk).update(target="codebase")


@pytest.mark.parametrize(
    "meets", [_late, _overlapping, _nowhere, _stopped, _frozen, _broken, _without_place], ids=lambda case: case.__name__
)
def test_what_meets_something_is_left_and_the_others_are_not(meets: Callable[[Schedule], None]) -> None:
    schedule = make_schedule("meets", now=NINE - HOUR)
    meets(schedule)
    other = make_schedule("other", now=NINE - HOUR)

    done = punctual.record(Schedule.objects.due(NINE), now=NINE, limit=10)

    left = {schedule.pk, other.pk} if meets is _stopped else {schedule.pk}
    assert set(done.left) == left
    fire_due(now=NINE)
    assert not Schedule.objects.due(NINE).exists()
    assert Run.objects.filter(schedule=other, scheduled_for=NINE).count() == 1


def test_without_money_it_is_left(settings: Any) -> None:
    settings.ROTA_REHEARSE = False
    Budget.objects.create(period="day", limit_usd=1)
    dear = make_schedule("dear", now=NINE - HOUR, runner="claude", max_budget_usd=2)
    make_schedule("cheap", now=NINE - HOUR, runner="claude", max_budget_usd=1)
    make_schedule("free", now=NINE - HOUR)

    done = punctual.record(Schedule.objects.due(NINE), now=NINE, limit=10)

    assert done.left == [dear.pk]


def test_runs_side_by_side_are_none_that_it_meets() -> None:
    schedule = make_schedule(now=NINE - HOUR, overlap="allow")
    make_run(schedule, now=NINE - MINUTE)
    assert punctual.record(Schedule.objects.due(NINE), now=NINE, limit=10).runs == 1


def test_pools_are_for_admission() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    schedule.pools.add(make_pool(places=0))
    assert punctual.record(Schedule.objects.due(NINE), now=NINE, limit=10).runs == 1


# --- Parts of the tests -----------------------------------------------------------------------------------------------


@contextmanager
def _undone() -> Iterator[None]:
    """A savepoint that is taken back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _recorded(fire: Callable[[], object]) -> tuple[Any, Any, Any]:
    """What it leaves in the tables, which is then undone."""
    with _undone():
        fire()
        return (
            list(Schedule.objects.values()),
            [_without_ids(row) for row in Run.objects.order_by("repository_id").values()],
            [_without_ids(row) for row in Session.objects.order_by("repository_id").values()],
        )


def _without_ids(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in OURS}
