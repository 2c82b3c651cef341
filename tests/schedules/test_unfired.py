"""What can't be fired: broken schedules, missed times, and their alarms."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from schedules.firing import Fired, fire_due
from schedules.limits import admit
from schedules.models import Incident, Run, Schedule, Session
from schedules.unfired import recover_missed
from tests.schedules.factories import make_repository, make_run, make_schedule, make_worker

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_one_schedule_that_cannot_be_fired_is_broken_and_the_others_fire() -> None:
    shop = make_repository(forge="github")
    unfit = make_schedule(now=NINE - HOUR, target="prs", repositories=[shop])  # no target of this Rota
    fit = make_schedule(now=NINE - HOUR)

    assert fire_due(now=NINE) == Fired(schedules=2, runs=2, more=False)

    unfit.refresh_from_db()
    assert (unfit.status, unfit.status_by, unfit.due_at) == ("broken", "rota", None)
    assert "can't be fired: KeyError: 'prs'" in unfit.status_reason
    assert Run.objects.get(status="queued").schedule == fit
    assert Run.objects.get(status="skipped").reason == "broken"


@pytest.mark.parametrize(
    ("column", "value"),
    [("cron", "61 * * * *"), ("time_zone", "Mars/Olympus"), ("cron", "0 0 31 2 *")],
)
def test_what_sql_broke_is_broken_with_an_alarm_and_every_other_fires(column: str, value: str) -> None:
    broken = make_schedule(now=NINE - HOUR)
    make_schedule(now=NINE - HOUR)
    Schedule.objects.filter(pk=broken.pk).update(**{column: value})

    assert fire_due(now=NINE).schedules == 2

    broken.refresh_from_db()
    assert (broken.status, broken.status_by, broken.due_at) == ("broken", "rota", None)
    assert Run.objects.exclude(schedule=broken).get().status == "queued"
    skipped = Run.objects.get(schedule=broken)
    assert (skipped.status, skipped.reason, skipped.scheduled_for) == ("skipped", "broken", NINE)
    alarm = Incident.objects.get()
    assert (alarm.kind, alarm.schedule, alarm.count) == ("schedule_broken", broken, 1)
    assert broken.status_reason in alarm.message


def test_a_row_that_can_not_even_be_read_is_broken_and_every_other_fires() -> None:
    broken, fit = make_schedule(now=NINE - HOUR), make_schedule(now=NINE - HOUR)
    with connection.cursor() as cursor:
        unread = "ends_at = 'infinity'" if connection.vendor == "postgresql" else "jitter = 'soon'"
        cursor.execute(f"UPDATE schedules_schedule SET {unread} WHERE id = %s", [broken.pk])

    assert fire_due(now=NINE).schedules == 2

    assert Schedule.objects.filter(status="broken").values_list("pk", flat=True).get() == broken.pk
    assert Run.objects.get().schedule == fit
    assert Incident.objects.get().schedule_id == broken.pk


def test_what_a_schedule_fired_before_it_broke_runs_all_the_same() -> None:
    schedule = make_schedule(now=NINE - DAY - HOUR, overlap="allow")
    make_worker(now=NINE)
    fire_due(now=NINE - DAY)
    Schedule.objects.filter(pk=schedule.pk).update(cron="61 * * * *")
    fire_due(now=NINE)
    assert admit(now=NINE) == [Session.objects.get().pk]


def test_beyond_the_window_there_is_one_alarm_for_a_schedule_until_it_runs_again() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    fire_due(now=NINE + 5 * HOUR)
    fire_due(now=NINE + DAY + 5 * HOUR)

    alarm = Incident.objects.get()
    assert (alarm.kind, alarm.subject, alarm.schedule, alarm.count) == ("missed", schedule.name, schedule, 2)

    assert recover_missed(now=NINE + 2 * DAY) == 0
    make_run(schedule, now=NINE + 2 * DAY, status="running")
    assert recover_missed(now=NINE + 2 * DAY) == 1
    assert recover_missed(now=NINE + 2 * DAY) == 0
