"""Rows in bulk: as many as the database takes, and each as it should be."""

from datetime import UTC, datetime, timedelta

import pytest
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
    one, two, other = (make_schedule(now=NOW) for _ in range(3))
    columns = ("next_run_at", "due_at", "fired_count")
    later = bulk.prepared(Schedule, columns, [NOW + timedelta(days=2, microseconds=7), NOW + timedelta(days=3), 4])
    never = bulk.prepared(Schedule, columns, [None, None, 0])

    bulk.update_each(Schedule, columns, [(one.pk, *later), (two.pk, *never)])
    bulk.update_each(Schedule, columns, [])

    found = {row.pk: row for row in Schedule.objects.all()}
    assert found[one.pk].next_run_at == NOW + timedelta(days=2, microseconds=7)
    assert (found[one.pk].due_at, found[one.pk].fired_count) == (NOW + timedelta(days=3), 4)
    assert (found[two.pk].next_run_at, found[two.pk].due_at) == (None, None)
    assert found[other.pk].due_at == other.due_at


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
