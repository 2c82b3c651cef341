"""Rows in bulk: as many as the database takes, and each as it should be."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import F

from schedules import bulk
from schedules.models import Run, Schedule
from tests.schedules.factories import make_schedule

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)


def test_rows_are_among_thousands_of_ids() -> None:
    schedules = [make_schedule(now=NOW) for _ in range(3)]
    wanted = [schedules[0].pk, schedules[2].pk, *range(10**6, 10**6 + 40_000)]
    found = Schedule.objects.filter(bulk.Among("pk", wanted)).order_by("pk")
    assert list(found) == [schedules[0], schedules[2]]
    assert not Schedule.objects.filter(bulk.Among("pk", [])).exists()


def test_each_row_is_given_its_own_values_and_the_others_none() -> None:
    one, like_it, two, other = (make_schedule(now=NOW, fired_count=number) for number in range(4))
    columns = ("next_run_at", "due_at")
    later = bulk.prepared(Schedule, columns, [NOW + timedelta(days=2, microseconds=7), NOW + timedelta(days=3)])
    never = bulk.prepared(Schedule, columns, [None, None])

    bulk.update_alike(Schedule, columns, [(later, [one.pk, like_it.pk]), (never, [two.pk])], counted="fired_count")
    bulk.update_alike(Schedule, columns, [], counted="fired_count")

    found = {row.pk: row for row in Schedule.objects.all()}
    for pk in (one.pk, like_it.pk):
        assert found[pk].next_run_at == NOW + timedelta(days=2, microseconds=7)
        assert found[pk].due_at == NOW + timedelta(days=3)
    assert (found[two.pk].next_run_at, found[two.pk].due_at) == (None, None)
    assert found[other.pk].due_at == other.due_at
    assert [found[row.pk].fired_count for row in (one, like_it, two, other)] == [1, 2, 3, 3]


def test_what_is_not_read_of_the_source_is_as_in_the_pattern() -> None:
    for name in ("one", "two"):
        make_schedule(name, now=NOW, variables={"a": [1, "é"]})
    like = Run(scheduled_for=NOW, queued_at=NOW, items_found=3, snapshot={"b": None}, cost_usd="1.5")

    ids = bulk.insert_selected(
        like, Schedule.objects.order_by("pk"), {"schedule_id": F("pk"), "variables": F("variables")}
    )

    runs = list(Run.objects.select_related("schedule").order_by("pk"))
    assert [run.pk for run in runs] == sorted(ids)
    assert [run.schedule.name for run in runs] == ["one", "two"]
    assert {run.items_found for run in runs} == {3}
    assert runs[0].snapshot == {"b": None}
    assert runs[0].variables == {"a": [1, "é"]}
    assert (runs[0].status, float(runs[0].cost_usd), runs[0].scheduled_for) == ("queued", 1.5, NOW)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite is told how much memory it has")
@pytest.mark.parametrize("rows", [1, bulk.MANY])
def test_room_is_given_back_also_when_it_fails(rows: int) -> None:
    before = _memory()
    with pytest.raises(ZeroDivisionError), bulk.room(rows):
        _fail(_memory() != before, expected=rows == bulk.MANY)
    assert _memory() == before


def _fail(found: bool, *, expected: bool) -> None:
    assert found == expected
    raise ZeroDivisionError


def _memory() -> list[object]:
    with connection.cursor() as cursor:
        return [cursor.execute(f"PRAGMA {name}").fetchone() for name in ("cache_size", "temp_store")]
