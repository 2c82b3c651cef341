"""A burst in two transactions at once: on PostgreSQL, where each connection has a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from schedules import punctual, side_by_side
from schedules.firing import fire_due
from schedules.models import Run, Schedule, Session
from schedules.side_by_side import in_halves
from tests.processes import until
from tests.schedules.factories import make_repository, make_schedule

pytestmark = pytest.mark.django_db(transaction=True)

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(side_by_side, "MANY", 10)
    yield
    assert not [one for one in threading.enumerate() if one.name.startswith("rota-half")]
    until(lambda: _connections() == 1, within=20, what="the second connection is closed")


def _connections() -> int:
    if connection.vendor != "postgresql":
        return 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()")
        (count,) = cursor.fetchone()
    return int(count)


def _parts(ids: Sequence[int]) -> list[tuple[list[int], int]]:
    """What each part was of, and in which thread."""
    with in_halves(len(ids)) as halves:
        return halves.of(ids, lambda part: (list(part), threading.get_ident()))


def test_each_half_has_a_connection_where_the_database_has_processes() -> None:
    (first, here), *others = _parts(range(11))

    assert here == threading.get_ident()
    if connection.vendor == "postgresql":
        ((second, elsewhere),) = others
        assert (first, second) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10])
        assert elsewhere != here
    else:
        assert (first, others) == (list(range(11)), [])


def test_few_are_not_divided_nor_what_others_cannot_see() -> None:
    assert [part for part, _ in _parts(range(9))] == [list(range(9))]
    with transaction.atomic():
        assert [part for part, _ in _parts(range(11))] == [list(range(11))]


def test_a_burst_is_recorded_once_and_whole() -> None:
    places = [make_repository() for _ in range(2)]
    for number in range(24):
        schedule = make_schedule(name=f"one-{number}", cron=f"{number % 7} 9 * * *", now=NINE - timedelta(hours=1))
        schedule.repositories.set(places[: number % 3])

    fired = fire_due(now=NINE + timedelta(minutes=10))

    runs = sum(max(1, number % 3) for number in range(24))
    assert (fired.schedules, fired.runs, fired.more) == (24, runs, False)
    assert Run.objects.count() == Session.objects.count() == runs
    assert set(Schedule.objects.values_list("fired_count", flat=True)) == {1}
    assert fire_due(now=NINE + timedelta(minutes=10)).schedules == 0


def test_a_half_that_fails_is_recorded_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        make_schedule(name=f"one-{number}", cron="0 9 * * *", now=NINE - timedelta(hours=1))
    write, main = punctual._write, threading.main_thread()

    def fails_elsewhere(*args: object) -> int:
        if threading.current_thread() is not main or connection.vendor != "postgresql":
            raise DatabaseError("The server is gone.")
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(punctual, "_write", fails_elsewhere)
    fired = fire_due(now=NINE)

    assert fired.schedules == (10 if connection.vendor == "postgresql" else 20)  # by those who came after
    assert Run.objects.count() == 20
    assert set(Schedule.objects.values_list("fired_count", flat=True)) == {1}
