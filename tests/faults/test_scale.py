"""Ten thousand schedules, no two alike: they load, fire and list, and an idle tick asks no more than with ten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from config.celery import app
from schedules.beat import LOOK_EVERY, Scheduler
from schedules.models import Run, Schedule
from tests.faults.house import bounded_part

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

MIDNIGHT = datetime(2027, 1, 12, tzinfo=UTC)


def distinct(count: int) -> list[Schedule]:
    """No two with the same line, and all of them due within a week."""
    made = []
    for number in range(count):
        minute, hour, day = number % 60, number // 60 % 24, number // 1440 % 7
        schedule = Schedule(name=f"s{number}", runner="script", argv=["true"], cron=f"{minute} {hour} * * {day}")
        schedule.plan(MIDNIGHT)
        made.append(schedule)
    return Schedule.objects.bulk_create(made, batch_size=1000)


@pytest.mark.no_cover
def test_ten_thousand_distinct_schedules_load_and_fire_and_list(broker: str) -> None:
    count = bounded_part(10_000, 300)
    distinct(count)
    assert Schedule.objects.order_by().values("cron").distinct().count() == count
    now = MIDNIGHT + timedelta(days=8)
    Schedule.objects.update(catch_up=timedelta(days=9))
    scheduler = Scheduler(app=app)
    while Schedule.objects.due(now).exists():
        assert scheduler.look(now) <= LOOK_EVERY
    scheduler.close()
    assert Run.objects.filter(status=Run.Status.QUEUED).count() == count

    client = Client()
    client.force_login(get_user_model().objects.create_superuser("ada"))
    for path in (
        *(f"/admin/schedules/{name}/" for name in ("schedule", "run", "session")),
        "/admin/schedules/schedule/?p=2",
    ):
        response = client.get(path)
        assert (response.status_code, len(response.context["cl"].result_list) > 0) == (200, True), path


def test_an_idle_tick_asks_the_same_with_ten_and_with_very_many(broker: str) -> None:
    scheduler = Scheduler(app=app, lazy=True)
    asked = []
    for count in (10, bounded_part(100_000, 1000)):
        Schedule.objects.all().delete()
        distinct(count)
        scheduler.look(MIDNIGHT)
        with CaptureQueriesContext(connection) as queries:
            scheduler.look(MIDNIGHT + timedelta(seconds=1))
        asked.append(len(queries))
    assert 1 <= asked[0] == asked[1] <= 2
