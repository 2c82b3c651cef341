"""Many rows, each with values of its own."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from schedules.models import Schedule
from schedules.models.write_back import write_back
from tests.schedules.factories import make_schedule

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)


def test_each_row_has_its_own_values_and_the_other_fields_stay() -> None:
    schedules = [make_schedule(now=NINE) for _ in range(30)]
    Schedule.objects.update(description="meanwhile")
    for number, schedule in enumerate(schedules):
        schedule.jitter, schedule.overdue_at = timedelta(seconds=number), NINE if number % 2 else None

    write_back(schedules, ("jitter", "overdue_at"))

    rows = Schedule.objects.order_by("pk").values_list("jitter", "overdue_at", "description")
    assert list(rows) == [
        (timedelta(seconds=number), NINE if number % 2 else None, "meanwhile") for number in range(30)
    ]


def test_nothing_to_write_asks_nothing() -> None:
    with CaptureQueriesContext(connection) as queries:
        write_back([], ("jitter",))
    assert not queries
